/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 120 000 lines become 8 bytes and a name for each of some 60 000 functions: the offset from the lowest address and the
 * name's place in the pool. kallsyms is in order within the kernel and again within each module, so the table is sorted once. Of
 * several names for an address one without leading underscores is kept.
 *
 * Invariants: entries are sorted by offset, which are unique; all within 4 GiB of `base`, as kernel text and modules
 * are.
 */
#include "stacks/kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"

#define FUNCTIONS_MAX (1u << 20)
#define NAMES_MAX     (64u << 20)
/* Beyond this behind a function's begin an address is in a gap, or of a module that came later. */
#define FUNCTION_REACH (1u << 20)

struct entry {
	uint32_t at, name;
};

struct kernel_table {
	uint64_t base;
	uint32_t count, room, names_size, names_room;
	struct entry *entries;
	char *names;
};

void kernel_table_free(struct kernel_table *table)
{
	if (!table)
		return;
	free(table->entries);
	free(table->names);
	free(table);
}

static void free_table(struct kernel_table **table)
{
	kernel_table_free(*table);
}

static bool grow(void **array, uint32_t *room, uint32_t needed, size_t width, uint32_t most)
{
	uint32_t wanted = *room ? *room : 4096;
	void *larger;

	if (needed <= *room)
		return true;
	while (wanted < needed)
		wanted *= 2;
	if (wanted > most)
		return false;
	larger = realloc(*array, wanted * width);
	if (!larger)
		return false;
	*array = larger;
	*room = wanted;
	return true;
}

static int add(struct kernel_table *t, uint64_t address, const char *name, size_t length)
{
	/* The first line is the kernel's lowest text; modules lie within 2 GiB of it, above or below. */
	if (!t->count)
		t->base = address - MIN_OF(address, 1ull << 31);
	if (address < t->base || address - t->base > UINT32_MAX)
		return 0;
	if (!grow((void **)&t->entries, &t->room, t->count + 1, sizeof *t->entries, FUNCTIONS_MAX) ||
	    !grow((void **)&t->names, &t->names_room, t->names_size + (uint32_t)length + 1, 1, NAMES_MAX))
		return -ENOMEM;
	t->entries[t->count++] = (struct entry){ (uint32_t)(address - t->base), t->names_size };
	memcpy(t->names + t->names_size, name, length);
	t->names_size += (uint32_t)length;
	t->names[t->names_size++] = 0;
	return 0;
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The room in front of a function that the kernel keeps for patching has a name of its own: half of all names, over code
 * that only a kernel with call depth tracking runs. */
static bool is_padding(const char *name)
{
	return !strncmp(name, "__pfx_", 6) || !strncmp(name, "__cfi_", 6);
}

/* "ffffffff81000000 T _text" or "... t name\t[module]"; only text counts. */
static int take_line(struct kernel_table *t, const char *line)
{
	uint64_t address = 0;

	while (digit(*line) >= 0)
		address = address << 4 | (uint64_t)digit(*line++);
	if (!address || line[0] != ' ' || !line[1] || !strchr("tTwW", line[1]) || line[2] != ' ')
		return 0;

	size_t length = strcspn(line + 3, "\t ");

	if (!length || length > 255 || is_padding(line + 3))
		return 0;
	return add(t, address, line + 3, length);
}

static int read_lines(int fd, struct kernel_table *t)
{
	char buffer[32768];
	size_t filled = 0;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return -EIO;
	for (;;) {
		ssize_t n = read(fd, buffer + filled, sizeof buffer - 1 - filled);
		char *line = buffer, *end;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -EIO;
		if (n == 0)
			return 0;
		filled += (size_t)n;
		while ((end = memchr(line, '\n', filled - (size_t)(line - buffer)))) {
			int r;

			*end = 0;
			r = take_line(t, line);
			if (r < 0)
				return r;
			line = end + 1;
		}
		filled -= (size_t)(line - buffer);
		if (filled == sizeof buffer - 1)
			return -EIO;
		memmove(buffer, line, filled);
	}
}

static int by_address(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->name < y->name ? -1 : x->name > y->name;
}

static void remove_aliases(struct kernel_table *t)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < t->count; i++) {
		struct entry *last = kept ? &t->entries[kept - 1] : NULL;

		if (!last || last->at != t->entries[i].at)
			t->entries[kept++] = t->entries[i];
		else if (t->names[last->name] == '_' && t->names[t->entries[i].name] != '_')
			last->name = t->entries[i].name;
	}
	t->count = kept;
}

static void shrink(struct kernel_table *t)
{
	void *entries = realloc(t->entries, MAX_OF(t->count, 1) * sizeof *t->entries);
	void *names = realloc(t->names, MAX_OF(t->names_size, 1));

	if (entries) {
		t->entries = entries;
		t->room = t->count;
	}
	if (names) {
		t->names = names;
		t->names_room = t->names_size;
	}
}

int kernel_table_read(int fd, struct kernel_table **ret)
{
	_cleanup_(free_table) struct kernel_table *t = calloc(1, sizeof *t);
	int r;

	if (!t)
		return -ENOMEM;
	r = read_lines(fd, t);
	if (r < 0)
		return r;
	if (t->count)
		qsort(t->entries, t->count, sizeof *t->entries, by_address);
	remove_aliases(t);
	shrink(t);
	*ret = t;
	t = NULL;
	return 0;
}

const char *kernel_table_find(const struct kernel_table *t, uint64_t address, uint64_t *ret_delta)
{
	uint32_t low = 0, high = t->count;

	if (address < t->base || address - t->base > UINT32_MAX)
		return NULL;

	uint32_t at = (uint32_t)(address - t->base);

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (t->entries[middle].at <= at)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || at - t->entries[low - 1].at >= FUNCTION_REACH)
		return NULL;
	*ret_delta = at - t->entries[low - 1].at;
	return t->names + t->entries[low - 1].name;
}

size_t kernel_table_bytes(const struct kernel_table *t)
{
	return sizeof *t + t->room * sizeof *t->entries + t->names_room;
}

size_t kernel_table_count(const struct kernel_table *t)
{
	return t->count;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking a function up: by binary search among the symbols, then the best of its names. Names that stay in the file are
 * read when asked for: the asker keeps them.
 */
#include "stacks/elf_table.h"

#include <errno.h>
#include <string.h>

#include "stacks/elf_symbol.h"

/* How far a function without a size may reach; the next function ends it sooner. */
#define UNSIZED_REACH (64u << 10)

/* A name as it is in the pool, up to its NUL. */
static int read_pool(const struct elf_table *table, uint32_t place, char *text)
{
	const char *pool = (const char *)&table->symbols[table->count];
	size_t length;

	if (place >= table->pool)
		return 0;
	length = strnlen(pool + place, table->pool - place);
	if (length > ELF_LINKAGE_MAX - 1)
		length = ELF_LINKAGE_MAX - 1;
	memcpy(text, pool + place, length);
	text[length] = 0;
	return (int)length;
}

/* Go's symbols tell their assembly functions' calling convention, Go's own table does not: the name shall be the same. */
static size_t without_convention(const char *name, size_t length)
{
	static const char convention[] = ".abi0";
	size_t n = sizeof convention - 1;

	return length > n && !memcmp(name + length - n, convention, n) ? length - n : length;
}

/* A name up to its NUL, its symbol version ("@@GLIBC_2.2.5") or ELF_LINKAGE_MAX. Returns its length, 0 when unreadable. */
static int read_name(const struct elf_table *table, const struct elf_file *file, uint32_t name, char *text)
{
	unsigned of = name >> ELF_NAME_BITS;
	uint32_t place = name & ELF_NAME_MASK;
	size_t want, length;

	if (of == ELF_NAMES_POOL)
		return read_pool(table, place, text);
	if (place >= table->names[of].size)
		return 0;
	want = table->names[of].size - place < ELF_LINKAGE_MAX - 1 ? (size_t)(table->names[of].size - place)
								   : ELF_LINKAGE_MAX - 1;
	if (elf_read_at(file, table->names[of].offset + place, text, want) < 0)
		return 0;
	text[want] = 0;
	length = of == ELF_NAMES_GO ? strlen(text) : without_convention(text, strcspn(text, "@"));
	text[length] = 0;
	return (int)length;
}

static bool covers(const struct elf_symbol *s, uint32_t at)
{
	uint32_t size = s->size & ELF_SIZE_MASK;

	return at - s->at < (size ? size : UNSIZED_REACH);
}

/* The best covering function. The nearest that covers wins, as functions do not overlap but for aliases. A label
 * without a size covers only up to the next function, so it counts only as the nearest. */
static const struct elf_symbol *find_symbol(const struct elf_table *table, uint32_t at)
{
	uint32_t low = 0, high = table->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (table->symbols[middle].at <= at)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return NULL;

	uint32_t nearest = table->symbols[low - 1].at;

	for (uint32_t i = low; i-- > 0 && low - i <= 64;) {
		const struct elf_symbol *s = &table->symbols[i];

		if (!(s->size & ELF_SIZE_MASK) && s->at != nearest)
			continue;
		if (covers(s, at))
			return s;
	}
	return NULL;
}

static size_t underscores(const char *name)
{
	return strspn(name, "_");
}

/* Among aliases of one rank, the name with the fewest underscores in front: `write`, not `__write`. */
static int best_name(const struct elf_table *table, const struct elf_file *file, const struct elf_symbol *s, char *name)
{
	char other[ELF_LINKAGE_MAX];
	int length = read_name(table, file, s->name, name);

	for (unsigned tries = 0; tries < 8 && s > table->symbols; tries++) {
		const struct elf_symbol *alias = s - 1 - tries;

		if (alias < table->symbols || alias->at != s->at || alias->size != s->size)
			break;

		int n = read_name(table, file, alias->name, other);

		if (n > 0 && (length <= 0 || underscores(other) < underscores(name))) {
			memcpy(name, other, (size_t)n + 1);
			length = n;
		}
	}
	return length;
}

bool elf_table_address(const struct elf_table *table, uint64_t offset, uint64_t *ret)
{
	for (unsigned i = 0; i < table->n_loads; i++) {
		const struct elf_load *load = &table->loads[i];

		if (offset < load->offset || offset - load->offset >= load->size)
			continue;
		*ret = load->address + (offset - load->offset);
		return true;
	}
	return false;
}

int elf_table_find_linkage(const struct elf_table *table, const struct elf_file *file, uint64_t offset, char *name,
			   uint32_t *ret_delta)
{
	for (unsigned i = 0; i < table->n_loads; i++) {
		const struct elf_load *load = &table->loads[i];

		if (offset < load->offset || offset - load->offset >= load->size)
			continue;

		uint64_t at = load->address + (offset - load->offset) - table->base;
		const struct elf_symbol *s = at <= UINT32_MAX ? find_symbol(table, (uint32_t)at) : NULL;

		if (!s)
			continue;

		int length = best_name(table, file, s, name);

		if (length <= 0)
			return -ENOENT;
		*ret_delta = (uint32_t)at - s->at;
		return length;
	}
	return -ENOENT;
}

int elf_table_find(const struct elf_table *table, const struct elf_file *file, uint64_t offset, char *name,
		   uint32_t *ret_delta)
{
	char linkage[ELF_LINKAGE_MAX];
	int length = elf_table_find_linkage(table, file, offset, linkage, ret_delta);

	return length < 0 ? length : (int)demangle(linkage, name, ELF_NAME_MAX);
}

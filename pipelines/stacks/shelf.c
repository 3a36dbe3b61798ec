/* SPDX-License-Identifier: Apache-2.0 */
#include "stacks/shelf.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/base.h"

#define KEPT_PAGES (256u << 10) /* behind the tables, left in memory for the next one */

void shelf_open(struct shelf *shelf, void *memory, size_t bound)
{
	shelf->memory = memory;
	shelf->bound = bound;
	shelf->size = bound + SHELF_SCRATCH;
	shelf->filled = 0;
	shelf->count = 0;
}

static uint16_t *hint_of(struct shelf *shelf, uint64_t file, enum shelf_kind kind)
{
	return &shelf->hints[(file ^ file >> 32 ^ (uint64_t)kind * 0x9e37) & (SHELF_HINTS - 1)];
}

static bool is_of(const struct shelf_entry *entry, uint64_t file, enum shelf_kind kind)
{
	return entry->file == file && entry->kind == kind;
}

struct shelf_entry *shelf_find(struct shelf *shelf, uint64_t file, enum shelf_kind kind)
{
	uint16_t *hint = hint_of(shelf, file, kind);
	struct shelf_entry *found = NULL;

	if (*hint < shelf->count && is_of(&shelf->entries[*hint], file, kind))
		found = &shelf->entries[*hint];
	for (unsigned i = 0; i < shelf->count && !found; i++)
		if (is_of(&shelf->entries[i], file, kind))
			found = &shelf->entries[ *hint = (uint16_t)i];
	if (found)
		found->used = ++shelf->clock;
	return found;
}

static void remove_entry(struct shelf *shelf, unsigned index)
{
	struct shelf_entry *gone = &shelf->entries[index];
	size_t bytes = gone->bytes, behind = gone->at + bytes;

	memmove(shelf->memory + gone->at, shelf->memory + behind, shelf->filled - behind);
	shelf->filled -= bytes;
	shelf->count--;
	memmove(gone, gone + 1, (shelf->count - index) * sizeof *gone);
	for (unsigned i = index; i < shelf->count; i++)
		shelf->entries[i].at -= bytes;
}

void shelf_forget(struct shelf *shelf, struct shelf_entry *entry)
{
	remove_entry(shelf, (unsigned)(entry - shelf->entries));
}

static unsigned oldest_of(const struct shelf *shelf)
{
	unsigned oldest = 0;

	for (unsigned i = 1; i < shelf->count; i++)
		if (shelf->entries[i].used < shelf->entries[oldest].used)
			oldest = i;
	return oldest;
}

void *shelf_room(const struct shelf *shelf, size_t *ret_size)
{
	*ret_size = shelf->size - shelf->filled;
	return shelf->memory + shelf->filled;
}

/* Pages behind the tables, written while a table was built, go back to the system. */
static void trim(struct shelf *shelf, size_t reached)
{
	size_t keep = ALIGN_UP(shelf->filled, (size_t)4096);

	if (reached > keep + KEPT_PAGES)
		madvise(shelf->memory + keep, ALIGN_UP(reached, (size_t)4096) - keep, MADV_DONTNEED);
}

struct shelf_entry *shelf_keep(struct shelf *shelf, uint64_t file, enum shelf_kind kind, int status, size_t bytes,
			       size_t touched)
{
	size_t reached = shelf->filled + MAX_OF(bytes, touched);
	struct shelf_entry entry = { .file = file, .kind = kind, .status = status, .used = ++shelf->clock };

	if (!status && bytes > shelf->bound)
		entry.status = -EFBIG;
	entry.bytes = entry.status ? 0 : ALIGN_UP(bytes, (size_t)8);
	if (shelf->count == SHELF_MAX) { /* the room moves with what is behind it: the new table is taken along */
		shelf->filled += entry.bytes;
		remove_entry(shelf, oldest_of(shelf));
		shelf->filled -= entry.bytes;
	}
	entry.at = shelf->filled;
	shelf->filled += entry.bytes;
	shelf->entries[shelf->count++] = entry;
	while (shelf->filled > shelf->bound)
		remove_entry(shelf, oldest_of(shelf));
	trim(shelf, reached);
	return &shelf->entries[shelf->count - 1];
}

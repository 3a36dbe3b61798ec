/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's tables: one stretch of memory, mapped before the sandbox closes.
 *
 *	[ table | table | table | .... free .... ]
 *
 * A new table is built at the end, in the scratch room that lies behind the bound. Then the least recently used go until all fit the
 * bound, and the rest move up, which they may, being position-independent. The same file number means the same content, so a table is
 * found again without a look at the file.
 *
 * Invariants: entries[] is in the order of the tables in memory, without gaps; a file that has no table has an entry that says why.
 */
#ifndef SONDE_SHELF_H
#define SONDE_SHELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHELF_MAX     1024u
#define SHELF_HINTS   1024u /* a power of two */
#define SHELF_SCRATCH (16u << 20)

enum shelf_kind { SHELF_SYMBOLS, SHELF_UNWIND, SHELF_INLINES, SHELF_PERF_MAP };

struct shelf_entry {
	uint64_t file, used;
	size_t at, bytes;
	int status; /* 0, or why there is no table: known without reading the file again */
	enum shelf_kind kind;
	bool with_debug; /* a debug file was there when it was made */
};

struct shelf {
	uint8_t *memory;
	size_t size, bound, filled;
	uint64_t clock;
	unsigned count;
	uint16_t hints[SHELF_HINTS];
	struct shelf_entry entries[SHELF_MAX];
};

/* `memory` is of `bound` and SHELF_SCRATCH bytes. */
void shelf_open(struct shelf *shelf, void *memory, size_t bound);

/* NULL: never built, or given up since. */
struct shelf_entry *shelf_find(struct shelf *shelf, uint64_t file, enum shelf_kind kind);
static inline void *shelf_table(const struct shelf *shelf, const struct shelf_entry *entry)
{
	return shelf->memory + entry->at;
}

/* Its table was made of something that there is more of now. */
void shelf_forget(struct shelf *shelf, struct shelf_entry *entry);

/* Where a table can be built now, and how large it may become. Nothing else may be asked of the shelf until shelf_keep(). */
void *shelf_room(const struct shelf *shelf, size_t *ret_size);
/* The table built there has `bytes`; with a `status` there is none. `touched` bytes of the room were written at most. The entry is
 * valid until the next table comes. */
struct shelf_entry *shelf_keep(struct shelf *shelf, uint64_t file, enum shelf_kind kind, int status, size_t bytes,
			       size_t touched);

#endif

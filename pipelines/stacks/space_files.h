/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that are or were mapped: one entry for each content, named by a keyed hash. What a mapping refers to stays;
 * what nobody refers to any more is kept while there is room, for those who still hold its number.
 */
#ifndef SONDE_SPACE_FILES_H
#define SONDE_SPACE_FILES_H

#include "base/siphash.h"
#include "stacks/spaces.h"
#include "stacks/table.h"

struct space_files {
	struct siphash_key key;
	struct table used, idle;
};

int space_files_open(struct space_files *files, uint32_t buckets);
void space_files_close(struct space_files *files);

/* The number of the file that `seen` describes (its number is ignored), which is taken in when it is new. 0: no
 * memory. It stays until space_files_evict(), or for good once referred to. */
uint64_t space_files_take(struct space_files *files, const struct space_file *seen);
/* Numbers without an entry, 0 among them, are passed over. */
void space_files_ref(struct space_files *files, uint64_t number);
void space_files_unref(struct space_files *files, uint64_t number);
const struct space_file *space_files_find(struct space_files *files, uint64_t number);
/* Forgets the file that nobody refers to for longest. False: there is none. */
bool space_files_evict(struct space_files *files);

static inline uint64_t space_files_bytes(const struct space_files *files)
{
	return files->used.bytes + files->idle.bytes +
	       ((uint64_t)files->used.mask + 1 + files->idle.mask + 1) * sizeof(struct node *);
}

static inline uint64_t space_files_count(const struct space_files *files)
{
	return files->used.count + files->idle.count;
}

/* What malloc makes of a size. */
static inline uint32_t space_allocated(size_t size)
{
	return (uint32_t)(size ? MAX_OF(ALIGN_UP(size + 8, (size_t)16), (size_t)32) : 0);
}

#endif

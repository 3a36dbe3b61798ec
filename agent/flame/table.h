/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables that grow up to a common bound: vectors, and maps from 64-bit keys to 32-bit numbers. What they hold comes from
 * hostile processes, so texts are put in by a keyed hash of 64 bits (SipHash), under a key of this run alone: nobody can
 * aim at a collision, and by chance two of a million texts collide once in some 40 million runs.
 */
#ifndef SONDE_FLAME_TABLE_H
#define SONDE_FLAME_TABLE_H

#include "base/base.h"

/* Bytes of all tables that were made over it. */
struct flame_budget {
	size_t used, limit;
};

/* Grows `*items` (of `size` bytes each) so that one more than `n` fits. 0, -ENOMEM, or -ENOBUFS: the budget is spent. */
int flame_grow(struct flame_budget *budget, void *items, size_t *room, size_t n, size_t size);
void flame_release(struct flame_budget *budget, void *items, size_t *room, size_t size);

struct flame_map {
	struct flame_budget *budget;
	uint64_t *keys;
	uint32_t *values; /* one more than the value; 0 is an empty place */
	size_t room, n;
	uint64_t seed;
};

void flame_map_begin(struct flame_map *map, struct flame_budget *budget);
bool flame_map_find(const struct flame_map *map, uint64_t key, uint32_t *ret_value);
/* `key` is not in it yet. 0, -ENOMEM, -ENOBUFS. */
int flame_map_put(struct flame_map *map, uint64_t key, uint32_t value);
void flame_map_free(struct flame_map *map);

struct flame_secret {
	uint64_t words[2];
};
void flame_secret_make(struct flame_secret *ret);
uint64_t flame_hash(const struct flame_secret *secret, const void *bytes, size_t size);

#endif

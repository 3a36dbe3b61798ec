/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing with linear probing, at most three quarters full; SipHash-1-3 (Aumasson and Bernstein, 2012). */
#include "flame/table.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define FIRST_ROOM 1024u

/* While it grows, the old and the new memory are there at once: both count. */
static int resize(struct flame_budget *budget, void *items, size_t *room, size_t more, size_t size)
{
	void *old, *fresh;

	if (budget->used + more * size > budget->limit)
		return -ENOBUFS;
	memcpy(&old, items, sizeof old);
	fresh = realloc(old, more * size);
	if (!fresh)
		return -ENOMEM;
	memcpy(items, &fresh, sizeof fresh);
	budget->used += (more - *room) * size;
	*room = more;
	return 0;
}

int flame_grow(struct flame_budget *budget, void *items, size_t *room, size_t n, size_t size)
{
	return n < *room ? 0 : resize(budget, items, room, *room ? *room * 2 : FIRST_ROOM, size);
}

void flame_release(struct flame_budget *budget, void *items, size_t *room, size_t size)
{
	void *old, *none = NULL;

	memcpy(&old, items, sizeof old);
	free(old);
	memcpy(items, &none, sizeof none);
	budget->used -= *room * size;
	*room = 0;
}

/* The finalizer of MurmurHash3 over the key, which makes any two keys differ in their low bits. */
static size_t place_of(const struct flame_map *map, uint64_t key)
{
	uint64_t h = key ^ map->seed;

	h = (h ^ h >> 33) * 0xff51afd7ed558ccdull;
	h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53ull;
	return (size_t)(h ^ h >> 33) & (map->room - 1);
}

void flame_map_begin(struct flame_map *map, struct flame_budget *budget)
{
	struct flame_secret secret;

	flame_secret_make(&secret);
	*map = (struct flame_map){ .budget = budget, .seed = secret.words[0] };
}

bool flame_map_find(const struct flame_map *map, uint64_t key, uint32_t *ret_value)
{
	if (!map->room)
		return false;
	for (size_t at = place_of(map, key); map->values[at]; at = (at + 1) & (map->room - 1))
		if (map->keys[at] == key) {
			*ret_value = map->values[at] - 1;
			return true;
		}
	return false;
}

static void insert(struct flame_map *map, uint64_t key, uint32_t stored)
{
	size_t at = place_of(map, key);

	while (map->values[at])
		at = (at + 1) & (map->room - 1);
	map->keys[at] = key;
	map->values[at] = stored;
}

static int grow_map(struct flame_map *map)
{
	struct flame_map old = *map;
	size_t more = old.room ? old.room * 2 : FIRST_ROOM, bytes = sizeof *map->keys + sizeof *map->values;

	if (map->budget->used + more * bytes > map->budget->limit)
		return -ENOBUFS;
	map->keys = calloc(more, sizeof *map->keys);
	map->values = calloc(more, sizeof *map->values);
	if (!map->keys || !map->values) {
		free(map->keys);
		free(map->values);
		*map = old;
		return -ENOMEM;
	}
	map->room = more;
	for (size_t i = 0; i < old.room; i++)
		if (old.values[i])
			insert(map, old.keys[i], old.values[i]);
	free(old.keys);
	free(old.values);
	map->budget->used += (more - old.room) * bytes;
	return 0;
}

int flame_map_put(struct flame_map *map, uint64_t key, uint32_t value)
{
	int r = map->n < map->room / 4 * 3 ? 0 : grow_map(map);

	if (r < 0)
		return r;
	insert(map, key, value + 1);
	map->n++;
	return 0;
}

void flame_map_free(struct flame_map *map)
{
	if (!map->budget)
		return;
	free(map->keys);
	free(map->values);
	map->budget->used -= map->room * (sizeof *map->keys + sizeof *map->values);
	map->keys = NULL;
	map->values = NULL;
	map->room = map->n = 0;
}

void flame_secret_make(struct flame_secret *ret)
{
	/* Up to 256 bytes are never cut short; before the pool is ready at boot, the time has to do. */
	if (getrandom(ret, sizeof *ret, GRND_NONBLOCK) != sizeof *ret)
		*ret = (struct flame_secret){ { now_realtime_ns(), now_boottime_ns() * 0x9e3779b97f4a7c15ull } };
}

static inline uint64_t turn(uint64_t word, unsigned bits)
{
	return word << bits | word >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = turn(v[1], 13) ^ v[0];
	v[0] = turn(v[0], 32);
	v[2] += v[3];
	v[3] = turn(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = turn(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = turn(v[1], 17) ^ v[2];
	v[2] = turn(v[2], 32);
}

uint64_t flame_hash(const struct flame_secret *secret, const void *bytes, size_t size)
{
	uint64_t k0 = secret->words[0], k1 = secret->words[1], word;
	uint64_t v[4] = { k0 ^ 0x736f6d6570736575ull, k1 ^ 0x646f72616e646f6dull, k0 ^ 0x6c7967656e657261ull,
			  k1 ^ 0x7465646279746573ull };
	const uint8_t *at = bytes;
	size_t left = size;

	for (; left >= sizeof word; left -= sizeof word, at += sizeof word) {
		memcpy(&word, at, sizeof word);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	word = (uint64_t)size << 56;
	for (size_t i = 0; i < left; i++)
		word |= (uint64_t)at[i] << (8 * i);
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

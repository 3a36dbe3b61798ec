/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First fit over a bitmap, from the lowest free block on: samples live for milliseconds, so the low blocks are used again and again and
 * the pages above stay untouched.
 */
#include "stacks/arena.h"

#include <errno.h>
#include <sys/mman.h>

static uint32_t blocks_of(size_t bytes)
{
	return (uint32_t)MAX_OF((bytes + ARENA_BLOCK - 1) / ARENA_BLOCK, (size_t)1);
}

int arena_open(struct arena *a, size_t bytes)
{
	size_t head = ALIGN_UP(sizeof *a->head, (size_t)4096);
	void *memory;

	*a = (struct arena){ .n_blocks = (uint32_t)(bytes / ARENA_BLOCK), .mapped = head + bytes };
	a->used = calloc(a->n_blocks / 64 + 1, sizeof *a->used);
	if (!a->used)
		return -ENOMEM;
	memory = mmap(NULL, a->mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED) {
		int r = -errno;

		free(a->used);
		*a = (struct arena){ 0 };
		return r;
	}
	a->head = memory;
	a->blocks = (uint8_t *)memory + head;
	return 0;
}

void arena_close(struct arena *a)
{
	if (a->head)
		munmap(a->head, a->mapped);
	free(a->used);
	*a = (struct arena){ 0 };
}

static bool is_used(const struct arena *a, uint32_t block)
{
	return a->used[block / 64] >> block % 64 & 1;
}

static void mark(struct arena *a, uint32_t block, uint32_t count, bool used)
{
	for (uint32_t i = block; i < block + count; i++)
		if (used)
			a->used[i / 64] |= 1ull << i % 64;
		else
			a->used[i / 64] &= ~(1ull << i % 64);
}

uint32_t arena_take(struct arena *a, size_t bytes)
{
	uint32_t wanted = blocks_of(bytes), run = 0;

	for (uint32_t i = a->lowest; i < a->n_blocks; i++) {
		if (!run && a->used[i / 64] == UINT64_MAX && i % 64 == 0) {
			i += 63;
			continue;
		}
		run = is_used(a, i) ? 0 : run + 1;
		if (run < wanted)
			continue;

		uint32_t block = i + 1 - wanted;

		mark(a, block, wanted, true);
		a->n_used += wanted;
		if (block == a->lowest)
			a->lowest = block + wanted;
		return block;
	}
	return ARENA_NONE;
}

void arena_give(struct arena *a, uint32_t block, size_t bytes)
{
	mark(a, block, blocks_of(bytes), false);
	a->n_used -= blocks_of(bytes);
	a->lowest = MIN_OF(a->lowest, block);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory that agent and stack worker share: what the agent asks to unwind lies there, and what the worker found. It is mapped before the
 * keeper is forked, so every worker has it. The agent alone hands out its blocks; nothing that the worker may write is trusted.
 */
#ifndef SONDE_ARENA_H
#define SONDE_ARENA_H

#include "base/base.h"
#include "stacks/unwind.h"

#define ARENA_BLOCK    1024u
#define ARENA_NONE     UINT32_MAX
#define ARENA_SAMPLES  128u   /* unwound by one question */
#define ARENA_MAPPINGS 16384u /* of all of them together */

/* One sample to unwind: where it lies, and which of the mappings are its process's. */
struct arena_sample {
	uint32_t block;
	uint32_t first, n_mappings;
};

/* What lies at the begin of the shared memory. */
struct arena_head {
	struct arena_sample samples[ARENA_SAMPLES];
	struct unwind_result results[ARENA_SAMPLES];
	struct unwind_mapping mappings[ARENA_MAPPINGS];
};

struct arena {
	struct arena_head *head;
	uint8_t *blocks;
	uint32_t n_blocks, n_used;
	uint64_t *used;  /* a bit for each block */
	uint32_t lowest; /* no block below it is free */
	size_t mapped;
};

int arena_open(struct arena *arena, size_t bytes);
void arena_close(struct arena *arena);

/* Room for `bytes`; ARENA_NONE when there is none. */
uint32_t arena_take(struct arena *arena, size_t bytes);
void arena_give(struct arena *arena, uint32_t block, size_t bytes);

static inline void *arena_at(const struct arena *arena, uint32_t block)
{
	return arena->blocks + (size_t)block * ARENA_BLOCK;
}

#endif

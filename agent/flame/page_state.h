/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of struct page_data, for the files that fill, reduce and write it.
 *
 * An amount's place is packed into one number, which is the key of its map and the order in which amounts are written:
 *
 *	side (1 bit) | measure (2) | bucket (10) | thread (22) | node (29)
 *
 * Invariants: thread 0 stands for all that are not told apart; each amount is in exactly one entry, so the sums of a side
 * are those of its rows whatever had to be reduced.
 */
#ifndef SONDE_FLAME_PAGE_STATE_H
#define SONDE_FLAME_PAGE_STATE_H

#include "flame/page_data.h"
#include "flame/tree.h"

#define NODE_BITS    29u
#define THREAD_BITS  22u
#define BUCKET_BITS  10u
#define THREAD_SHIFT NODE_BITS
#define BUCKET_SHIFT (THREAD_SHIFT + THREAD_BITS)
#define GROUP_SHIFT  (BUCKET_SHIFT + BUCKET_BITS)

#define NOTES_MAX 1024u

struct amount {
	uint64_t key, value;
};

struct thread {
	uint64_t pid, tid;
	uint32_t comm, container, cgroup, proc; /* texts */
};

struct side {
	uint32_t label; /* text */
	uint64_t rows, from, to, window_ns;
	uint64_t bucket_ns;
	uint32_t buckets;
	uint64_t totals[FLAME_MEASURES];
};

struct page_data {
	struct page_limits limits;
	struct flame_budget budget;
	struct flame_tree tree;
	struct side sides[PAGE_SIDES];
	struct thread *threads;
	size_t n_threads, threads_room;
	struct flame_map by_thread, by_key;
	struct amount *amounts;
	size_t n_amounts, amounts_room;
	uint64_t period_ns; /* of all samples, 0: several */
	bool sampled;
	uint32_t host, full_node;
	bool several_hosts;
	uint64_t rows_without_room;
	char notes[NOTES_MAX];
	size_t notes_size;
};

static inline uint32_t bucket_in(uint64_t key)
{
	return (uint32_t)(key >> BUCKET_SHIFT) & ((1u << BUCKET_BITS) - 1);
}

static inline uint32_t thread_in(uint64_t key)
{
	return (uint32_t)(key >> THREAD_SHIFT) & ((1u << THREAD_BITS) - 1);
}

static inline uint32_t node_in(uint64_t key)
{
	return (uint32_t)key & ((1u << NODE_BITS) - 1);
}

/* Side and measure. */
static inline unsigned group_in(uint64_t key)
{
	return (unsigned)(key >> GROUP_SHIFT);
}

/* After keys were changed: the amounts in order, equal ones as one. The map is for the old ones. */
void page_data_merge(struct page_data *data);

/* Buckets of twice the time. False when there is one on each side already. */
bool page_data_coarsen(struct page_data *data);

#endif

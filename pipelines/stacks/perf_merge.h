/* SPDX-License-Identifier: Apache-2.0 */
/* The records of several rings as one sequence in the order of time. */
#ifndef SONDE_PERF_MERGE_H
#define SONDE_PERF_MERGE_H

#include "stacks/perf_ring.h"

struct perf_merge_next {
	uint64_t time; /* of the ring's next record */
	struct perf_ring *ring;
};

/* A heap: no entry is earlier than entry (i - 1) / 2 is. */
struct perf_merge {
	struct perf_merge_next *heap; /* room for all rings: the owner's */
	unsigned count;
};

/* Looks at a ring and takes it in when there is something in it. */
void perf_merge_add(struct perf_merge *merge, struct perf_ring *ring);
/* The ring with the earliest record, if that is not later than `until`; else NULL. */
struct perf_ring *perf_merge_first(const struct perf_merge *merge, uint64_t until);
/* The record of perf_merge_first() has been taken. A ring that has no more is released. */
void perf_merge_advance(struct perf_merge *merge);
/* Releases the rings that still have records and forgets all of them. */
void perf_merge_end(struct perf_merge *merge);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What the two files behind pprof.h share: pprof.c sums rows, pprof_write.c makes the file of them. */
#ifndef SONDE_FLAME_PPROF_STATE_H
#define SONDE_FLAME_PPROF_STATE_H

#include "flame/pprof.h"
#include "flame/tree.h"

enum { COMM, CONTAINER, STATE, SYSCALL, WAIT, TEXT_LABELS };

struct labels {
	uint64_t pid, tid;
	uint32_t texts[TEXT_LABELS];
	uint32_t unused;
};

struct sum {
	uint32_t node, labels;
	uint64_t samples, amounts[FLAME_MEASURES];
};

/* Locations: chains of inlined frames from the innermost out, each closed by the function that holds them. */
struct place {
	uint32_t inner; /* the chain before it, or NONE */
	uint32_t frame;
	bool whole; /* a sample has it as a location */
};
#define NONE UINT32_MAX

struct mapping {
	uint32_t library, build_id;
};

struct pprof {
	struct flame_budget budget;
	struct flame_tree tree;
	struct flame_map by_labels, by_sum;
	struct labels *labels;
	size_t n_labels, labels_room;
	struct sum *sums;
	size_t n_sums, sums_room;
	struct place *places;
	size_t n_places, places_room;
	struct flame_map by_place;
	struct mapping *mappings;
	size_t n_mappings, mappings_room;
	struct flame_map by_mapping;
	bool seen[FLAME_MEASURES];
	uint64_t first_ns, last_ns, period_ns, left_out;
	uint32_t full_node, full_labels; /* where rows go that do not fit */
};

#endif

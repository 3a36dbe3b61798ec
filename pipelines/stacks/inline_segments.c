/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From rows, which may lie in each other, to segments, which do not: unit by unit as they are read, and in the end of all units together.
 * There nodes with the same name and the same parent become one, as they are the same chain of names; most do.
 *
 * Invariants: a unit's segments ascend, and the last one ends what the unit says; where segments of two units begin at the same place, one
 * with a node comes after one without, and counts.
 */
#include "stacks/inline_build.h"

#include "base/base.h"

#define OPEN_MAX   128u /* ranges in each other; more are left out */
#define PROBES_MAX 64u  /* a file made for collisions keeps its nodes apart rather than us waiting */

struct flattening {
	uint64_t *segments;
	uint32_t count, n_open;
	struct {
		uint32_t end, node;
	} open[OPEN_MAX];
};

static void add_segment(struct flattening *f, uint32_t at, uint32_t node)
{
	if (f->count && inline_segment_at(f->segments[f->count - 1]) == at)
		f->count--;
	if ((f->count ? inline_segment_node(f->segments[f->count - 1]) : 0) != node)
		f->segments[f->count++] = (uint64_t)at << 32 | node;
}

/* Ends the ranges that reach no further than `at`. Each that was on top makes one segment at most. */
static void end_ranges(struct flattening *f, uint32_t at)
{
	while (f->n_open && f->open[f->n_open - 1].end <= at) {
		uint32_t end = f->open[--f->n_open].end;

		while (f->n_open && f->open[f->n_open - 1].end <= end)
			f->n_open--;
		add_segment(f, end, f->n_open ? f->open[f->n_open - 1].node : 0);
	}
}

/* In place: a row makes two segments at most, which together are as large as the row, and the second one only after it was read. Of
 * ranges that overlap, the one that started last counts. */
static uint32_t flatten(struct inline_builder *b)
{
	const struct inline_entry *rows = inline_rows(b);
	struct flattening f = { .segments = (void *)inline_rows(b) };

	_Static_assert(sizeof(struct inline_entry) == 2 * sizeof(uint64_t), "a row is two segments");
	for (uint32_t i = 0; i < b->room.arrays[INLINE_ROWS].count; i++) {
		struct inline_entry row = rows[i];
		uint32_t start = (uint32_t)(row.key >> 32), end = ~(uint32_t)row.key;

		end_ranges(&f, start);
		if (f.n_open == OPEN_MAX)
			continue;
		f.open[f.n_open].end = end;
		f.open[f.n_open++].node = row.a;
		add_segment(&f, start, row.a);
	}
	end_ranges(&f, UINT32_MAX);
	return f.count;
}

/* Makes nodes that mean the same one node. It needs a map of the old indices and a hash table; without room for them all nodes stay. */
static void merge_nodes(struct inline_builder *b)
{
	uint32_t *map = (void *)inline_room_pack(&b->room), *table, mask = 1023, n = 1;
	struct inline_array *nodes = &b->room.arrays[INLINE_NODES], *segments = &b->room.arrays[INLINE_SEGMENTS];
	struct inline_node *node = inline_nodes(b);
	uint64_t *segment = inline_segments(b);
	size_t free = (size_t)(b->room.end - (uint8_t *)map);

	while (mask / 2 < nodes->count && mask < UINT32_MAX / 2)
		mask = mask * 2 + 1;
	if (free / sizeof *map < (size_t)nodes->count + mask + 1)
		return;
	table = map + nodes->count;
	memset(table, 0, ((size_t)mask + 1) * sizeof *table);
	map[0] = 0;
	for (uint32_t i = 1; i < nodes->count; i++) {
		struct inline_node wanted = { .name = node[i].name, .parent = map[node[i].parent] };
		uint32_t slot = (wanted.name * 2654435761u ^ wanted.parent * 2246822519u) * 2654435761u, probes;

		/* A node without a name says nothing: its place is its parent's. */
		if (!wanted.name) {
			map[i] = wanted.parent;
			continue;
		}
		slot ^= slot >> 15;
		for (probes = 0; probes < PROBES_MAX && table[slot & mask]; slot++, probes++)
			if (!memcmp(&node[table[slot & mask]], &wanted, sizeof wanted))
				break;
		if (probes < PROBES_MAX && table[slot & mask]) {
			map[i] = table[slot & mask];
			continue;
		}
		if (probes < PROBES_MAX)
			table[slot & mask] = n;
		map[i] = n;
		node[n++] = wanted;
	}
	for (uint32_t i = 0; i < segments->count; i++)
		segment[i] = (uint64_t)inline_segment_at(segment[i]) << 32 | map[inline_segment_node(segment[i])];
	nodes->count = n;
}

void inline_flatten_unit(struct inline_builder *b)
{
	struct inline_array *segments = &b->room.arrays[INLINE_SEGMENTS];
	uint32_t count = flatten(b), n;

	b->dwarf.steps += b->room.arrays[INLINE_ROWS].count;
	for (uint32_t i = 0; i < count; i += n) {
		n = MIN_OF(count - i, 512u);
		if (!inline_room_grow(&b->room, INLINE_SEGMENTS, n)) {
			inline_forget_unit(b);
			break;
		}
		memcpy(inline_segments(b) + segments->count, (uint64_t *)(void *)inline_rows(b) + i,
		       n * sizeof(uint64_t));
		segments->count += n;
	}
	b->room.arrays[INLINE_ROWS].count = 0;
}

void inline_join_segments(struct inline_builder *b)
{
	struct flattening f = { 0 };

	merge_nodes(b);
	f.segments = inline_segments(b);
	for (uint32_t i = 0; i < b->room.arrays[INLINE_SEGMENTS].count; i++) {
		uint64_t segment = f.segments[i];

		add_segment(&f, inline_segment_at(segment), inline_segment_node(segment));
	}
	b->room.arrays[INLINE_SEGMENTS].count = f.count;
}

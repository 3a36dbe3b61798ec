/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building the table, and looking up in it. The phases, each of which can pause (inline_phase):
 *
 *	scan .debug_info	-> nodes (origin, parent), origins (offset of an entry), and rows (address range, node) unit by unit,
 *				   each sorted and flattened into segments
 *	sort and follow origins	-> where their names are, then the names
 *	sort all segments	-> no two overlap, so that a look-up is one binary search and a walk to the parents
 *
 * While it is built the room holds: the table's header | arrays that grow side by side | readers of the sections | the builder.
 * In the end: header | segments | nodes | names.
 *
 * Invariants: segments ascend; a node's parent has a lower index, so every walk ends; names end in NUL.
 */
#include "stacks/inline_build.h"

#include <errno.h>

#include "base/base.h"

#define ROOM_LEAST   (64u << 10)
#define ROOM_MOST    (256u << 20)
#define STEPS_LEAST  (16u << 20)
#define STEPS_A_BYTE 16u

static size_t builder_at(size_t size)
{
	return size < sizeof(struct inline_builder) ? 0 : (size - sizeof(struct inline_builder)) & ~(size_t)63;
}

static uint64_t all_bytes(const struct dwarf_file *d)
{
	uint64_t bytes = 0;

	for (unsigned k = 0; k < DWARF_SECTIONS; k++)
		bytes += d->sections[k].size;
	return bytes;
}

int64_t inline_table_room(const struct elf_file *file)
{
	struct dwarf_file d;
	int r = dwarf_find(file, &d);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	/* Enough for what was seen to need most: optimized Rust, and line tables only, where nearly every name is an inlined one. */
	uint64_t content = d.sections[DWARF_INFO].size + d.sections[DWARF_STR].size;
	uint64_t arrays = 2 * ROOM_LEAST + content - content / 8;
	uint64_t room = sizeof(struct inline_table) + dwarf_room(&d) + sizeof(struct inline_builder) + 256 + arrays;

	return (int64_t)MIN_OF(room, (uint64_t)ROOM_MOST);
}

int inline_table_build_begin(const struct elf_file *file, void *room, size_t size)
{
	struct inline_builder *b = (void *)((uint8_t *)room + builder_at(size));
	struct dwarf_file d;
	int r = dwarf_find(file, &d);

	if (r < 0)
		return r;

	size_t readers = ALIGN_UP(dwarf_room(&d), (size_t)64);

	if (builder_at(size) < sizeof(struct inline_table) + readers + ROOM_LEAST)
		return -ENOSPC;
	/* The words of abbreviations are many, and are written before they are read. */
	memset(b, 0, offsetof(struct inline_builder, abbreviations.words));
	b->dwarf = d;
	r = dwarf_open(&b->dwarf, (uint8_t *)b - readers);
	if (r < 0)
		return r;
	inline_room_open(&b->room, (uint8_t *)room + sizeof(struct inline_table), (uint8_t *)b - readers);
	/* Node 0 and name 0 stand for none. */
	*(struct inline_node *)inline_room_add(&b->room, INLINE_NODES) = (struct inline_node){ 0 };
	*(char *)inline_room_add(&b->room, INLINE_NAMES) = 0;
	b->deadline = STEPS_LEAST + all_bytes(&b->dwarf) * STEPS_A_BYTE;
	return 0;
}

static void finish(struct inline_builder *b)
{
	struct inline_table *table = (void *)(b->room.begin - sizeof *table);
	const struct inline_array *arrays = b->room.arrays;

	inline_join_segments(b);
	*table = (struct inline_table){ .base = b->dwarf.base,
					.n_segments = arrays[INLINE_SEGMENTS].count,
					.n_nodes = arrays[INLINE_NODES].count,
					.n_names = arrays[INLINE_NAMES].count,
					.health = b->health };

	uint8_t *end = inline_room_pack(&b->room), *names_end = arrays[INLINE_NAMES].begin + arrays[INLINE_NAMES].count;

	memset(names_end, 0, (size_t)(end - names_end));
	table->bytes = (uint32_t)(end - (uint8_t *)table);
}

/* ---- driving ---- */

static void begin_phase(struct inline_builder *b, enum inline_phase phase)
{
	b->phase = phase;
	if (phase == INLINE_SORT_UNIT)
		inline_sort_begin(&b->sort, inline_rows(b), b->room.arrays[INLINE_ROWS].count);
	/* Reading all units is one phase with one deadline, though their rows are sorted in between. */
	if (phase == INLINE_SCAN || phase == INLINE_SORT_UNIT)
		return;
	b->deadline = b->dwarf.steps + STEPS_LEAST + all_bytes(&b->dwarf) * STEPS_A_BYTE;
	b->index = 0;
	if (phase == INLINE_SORT_ORIGINS) {
		b->room.reserve = 0;
		inline_sort_begin(&b->sort, inline_origins(b), b->room.arrays[INLINE_ORIGINS].count);
	} else if (phase == INLINE_SORT_SEGMENTS) {
		inline_sort_begin_numbers(&b->sort, inline_segments(b), b->room.arrays[INLINE_SEGMENTS].count);
	} else if (phase == INLINE_RESOLVE) {
		b->unit = (struct dwarf_unit){ 0 };
		b->in_unit = false;
	}
}

/* Another round as long as there are origins to follow, which come first. The last round leaves none. */
static enum inline_phase after_sorting(struct inline_builder *b)
{
	bool more = b->room.arrays[INLINE_ORIGINS].count && inline_origins(b)->key >> 32 == INLINE_DIE;

	return more ? INLINE_RESOLVE : INLINE_COPY_NAMES;
}

/* One phase, or a part of it. */
static void go_on(struct inline_builder *b)
{
	switch (b->phase) {
	case INLINE_SCAN:
		begin_phase(b, inline_scan_some(b));
		break;
	case INLINE_SORT_UNIT:
		if (inline_sort_some(&b->sort, inline_rows(b), &b->dwarf.steps, b->limit)) {
			inline_flatten_unit(b);
			begin_phase(b, INLINE_SCAN);
		}
		break;
	case INLINE_SORT_ORIGINS:
		if (inline_sort_some(&b->sort, inline_origins(b), &b->dwarf.steps, b->limit))
			begin_phase(b, after_sorting(b));
		break;
	case INLINE_RESOLVE:
		if (inline_resolve_some(b)) {
			b->rounds++;
			begin_phase(b, INLINE_SORT_ORIGINS);
		}
		break;
	case INLINE_COPY_NAMES:
		if (inline_copy_names_some(b))
			begin_phase(b, INLINE_ASSIGN);
		break;
	case INLINE_ASSIGN:
		inline_assign_names(b);
		begin_phase(b, INLINE_SORT_SEGMENTS);
		break;
	case INLINE_SORT_SEGMENTS:
		if (inline_sort_some_numbers(&b->sort, inline_segments(b), &b->dwarf.steps, b->limit))
			begin_phase(b, INLINE_FINISH);
		break;
	default:
		finish(b);
		b->phase = INLINE_DONE;
	}
}

int inline_table_build_some(const struct elf_file *file, void *room, size_t size, uint64_t steps)
{
	struct inline_builder *b = (void *)((uint8_t *)room + builder_at(size));

	b->dwarf.file.fd = file->fd;
	b->dwarf.file.bytes = file->bytes;
	b->limit = steps < UINT64_MAX - b->dwarf.steps ? b->dwarf.steps + steps : UINT64_MAX;
	while (b->phase != INLINE_DONE && !inline_must_pause(b) && !b->dwarf.status)
		go_on(b);
	if (b->dwarf.status)
		return b->dwarf.status;
	return b->phase != INLINE_DONE;
}

int inline_table_build(const struct elf_file *file, void *room, size_t size)
{
	int r = inline_table_build_begin(file, room, size);

	return r < 0 ? r : inline_table_build_some(file, room, size, UINT64_MAX);
}

/* ---- looking up ---- */

size_t inline_table_bytes(const struct inline_table *table)
{
	return table->bytes;
}

struct inline_health inline_table_health(const struct inline_table *table)
{
	return table->health;
}

unsigned inline_table_find(const struct inline_table *table, uint64_t address, const char **names, unsigned most)
{
	const uint64_t *segments = (const void *)(table + 1);
	const struct inline_node *nodes = (const void *)(segments + table->n_segments);
	const char *texts = (const void *)(nodes + table->n_nodes);
	uint32_t low = 0, high = table->n_segments;
	unsigned n = 0;

	if (address < table->base || address - table->base > UINT32_MAX)
		return 0;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (inline_segment_at(segments[middle]) <= address - table->base)
			low = middle + 1;
		else
			high = middle;
	}
	for (uint32_t node = low ? inline_segment_node(segments[low - 1]) : 0; node && n < most;
	     node = nodes[node].parent)
		if (nodes[node].name)
			names[n++] = texts + nodes[node].name;
	return n;
}

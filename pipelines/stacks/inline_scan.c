/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first phase: one pass over .debug_info that finds the inlined calls. Each becomes a node, which knows the one around it, and as
 * many rows as it has address ranges. What it is called is left for later: a node only refers to an origin, the entry that names it.
 *
 * Rows are of one unit only, and become segments (inline_segments.c) before the next one is read: those are a third as large.
 *
 * Invariants: scopes[nesting] describes where the position is; a unit for which there is no room leaves nothing behind.
 */
#include "stacks/inline_build.h"

/* The index of the origin at `at`. An origin may be kept twice, when another has taken its place among those seen. */
static bool find_origin(struct inline_builder *b, uint32_t at, uint32_t *ret)
{
	uint32_t slot = (at * 2654435761u) >> 20;
	uint32_t id = b->room.arrays[INLINE_ORIGINS].count;
	struct inline_entry *origin;

	if (b->seen[slot].at == at) {
		*ret = b->seen[slot].origin;
		return true;
	}
	origin = inline_room_add(&b->room, INLINE_ORIGINS);
	if (!origin)
		return false;
	*origin = (struct inline_entry){ .key = (uint64_t)INLINE_DIE << 32 | at, .a = id };
	b->seen[slot].at = at;
	b->seen[slot].origin = *ret = id;
	/* Names will need room as well: what linkage names take on average, spread over those that share one. */
	b->room.reserve = (size_t)id * 24;
	return true;
}

/* The node of this origin inlined there. Calls with the same chain of callers are one node, if the other is still remembered. */
static bool find_node(struct inline_builder *b, uint32_t origin, uint32_t parent, uint32_t *ret)
{
	uint32_t slot = (origin * 2654435761u ^ parent * 2246822519u) >> 20;
	struct inline_node *node;

	*ret = b->nodes[slot].node;
	if (*ret && b->nodes[slot].origin == origin && b->nodes[slot].parent == parent)
		return true;
	*ret = b->room.arrays[INLINE_NODES].count;
	node = inline_room_add(&b->room, INLINE_NODES);
	if (!node)
		return false;
	*node = (struct inline_node){ .name = origin, .parent = parent };
	b->nodes[slot].origin = origin;
	b->nodes[slot].parent = parent;
	b->nodes[slot].node = *ret;
	return true;
}

static bool add_rows(struct inline_builder *b, uint32_t node, uint8_t depth)
{
	const struct dwarf_file *d = &b->dwarf;
	struct dwarf_ranges ranges;
	uint64_t start, end;

	dwarf_ranges_begin(&b->dwarf, &b->unit, &b->die, &ranges);
	while (dwarf_ranges_next(&b->dwarf, &b->unit, &ranges, &start, &end)) {
		struct inline_entry *row;

		if (!dwarf_is_code(d, start) || end - d->base > UINT32_MAX)
			continue;
		row = inline_room_add(&b->room, INLINE_ROWS);
		if (!row)
			return false;
		start -= d->base;
		end -= d->base;
		/* By start; of those that start together the widest first, then the outermost. */
		*row = (struct inline_entry){ .key = start << 32 | (uint32_t)~end, .a = node, .b = depth };
	}
	return true;
}

static bool add_inlined(struct inline_builder *b, const struct inline_scope *around, struct inline_scope *ret)
{
	uint32_t origin = INLINE_NONE;

	if (dwarf_has(&b->die, DWARF_ORIGIN) && !find_origin(b, (uint32_t)b->die.value[DWARF_ORIGIN], &origin))
		return false;
	ret->depth = around->depth < UINT8_MAX ? around->depth + 1 : UINT8_MAX;
	return find_node(b, origin, around->node, &ret->node) && add_rows(b, ret->node, ret->depth);
}

/* Linkers leave the entries of functions that they leave out, at addresses that are none. */
static bool has_code(struct inline_builder *b)
{
	uint64_t low;

	return dwarf_has(&b->die, DWARF_RANGE_LIST) ||
	       (dwarf_low_pc(&b->dwarf, &b->unit, &b->die, &low) && dwarf_is_code(&b->dwarf, low));
}

enum progress { GO_ON, UNIT_DONE, UNIT_BAD, NO_ROOM };

static enum progress scan_die(struct inline_builder *b)
{
	struct inline_scope inner = b->scopes[b->nesting];

	if (dwarf_tell(&b->dwarf.sections[DWARF_INFO]) >= b->unit.end)
		return UNIT_DONE;
	if (!dwarf_die_read(&b->dwarf, &b->unit, &b->abbreviations, &b->die))
		return UNIT_BAD;
	if (!b->die.tag)
		return b->nesting-- ? GO_ON : UNIT_DONE;
	if (b->die.tag == DWARF_TAG_SUBPROGRAM)
		inner = (struct inline_scope){ .live = has_code(b) };
	else if (b->die.tag == DWARF_TAG_INLINED && inner.live && !add_inlined(b, &b->scopes[b->nesting], &inner))
		return NO_ROOM;
	/* Every entry is looked at: in gcc's output the code of a lambda may lie in a type in a function that itself has no code. */
	if (!b->die.children)
		return GO_ON;
	if (b->nesting + 1 == INLINE_NESTING_MAX)
		return UNIT_BAD;
	b->scopes[++b->nesting] = inner;
	return GO_ON;
}

/* Opens the unit at `begin`. False when there is none, and no more behind it. */
static bool open_unit(struct inline_builder *b, uint64_t begin)
{
	bool opened;

	if (begin >= b->dwarf.sections[DWARF_INFO].size)
		return false;
	if (dwarf_unit_read(&b->dwarf, begin, &b->unit) < 0) {
		b->health.units_left_out++;
		return false;
	}
	b->dwarf.steps += 16;
	opened = !b->full && dwarf_unit_open(&b->dwarf, &b->unit, &b->abbreviations, &b->die);
	b->in_unit = opened && b->die.children;
	b->health.units_read += opened && !b->in_unit;
	b->health.units_left_out += !opened && b->unit.type != DWARF_UNIT_TYPE;
	b->nesting = 0;
	b->scopes[0] = (struct inline_scope){ 0 };
	for (unsigned k = 0; k < INLINE_ARRAYS; k++)
		b->counts[k] = b->room.arrays[k].count;
	return true;
}

void inline_forget_unit(struct inline_builder *b)
{
	for (unsigned k = 0; k < INLINE_ARRAYS; k++)
		b->room.arrays[k].count = b->counts[k];
	b->full = true;
	b->health.units_read--;
	b->health.units_left_out++;
}

/* All of a unit's entries, or as many as there are steps for. */
static enum progress scan_unit(struct inline_builder *b)
{
	enum progress progress = GO_ON;

	while (progress == GO_ON && !inline_must_pause(b)) {
		uint64_t before = dwarf_tell(&b->dwarf.sections[DWARF_INFO]);

		for (unsigned i = 0; i < 64 && progress == GO_ON && !inline_must_pause(b); i++)
			progress = scan_die(b);
		b->dwarf.steps += dwarf_tell(&b->dwarf.sections[DWARF_INFO]) - before;
	}
	return progress;
}

enum inline_phase inline_scan_some(struct inline_builder *b)
{
	while (!inline_must_pause(b)) {
		enum progress progress;

		if (b->dwarf.status || b->dwarf.steps >= b->deadline)
			return INLINE_SORT_ORIGINS;
		if (!b->in_unit) {
			if (!open_unit(b, b->unit.end))
				return INLINE_SORT_ORIGINS;
			continue;
		}
		progress = scan_unit(b);
		if (progress == GO_ON)
			break;
		b->in_unit = false;
		b->health.units_read += progress != UNIT_BAD;
		b->health.units_left_out += progress == UNIT_BAD;
		if (progress == NO_ROOM)
			inline_forget_unit(b);
		if (b->room.arrays[INLINE_ROWS].count)
			return INLINE_SORT_UNIT;
	}
	return INLINE_SCAN;
}

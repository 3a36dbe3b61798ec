/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of building an inline_table: its layout, and what is known between two calls. Of use to inline_*.c only. */
#ifndef SONDE_INLINE_BUILD_H
#define SONDE_INLINE_BUILD_H

#include "stacks/dwarf_unit.h"
#include "stacks/inline_room.h"
#include "stacks/inline_sort.h"
#include "stacks/inline_table.h"

#define INLINE_NESTING_MAX 256u
#define INLINE_NONE        UINT32_MAX

/* An inlined call: its function's name, and the inlined call around it. Node 0 stands for no inlined call. */
struct inline_node {
	uint32_t name;   /* offset in the names; while building, index of the origin */
	uint32_t parent; /* always a lower index */
};

/* A segment is a number, at << 32 | node: from `at` (from the table's base) up to the next segment the innermost inlined call is `node`. */
static inline uint32_t inline_segment_at(uint64_t segment)
{
	return (uint32_t)(segment >> 32);
}

static inline uint32_t inline_segment_node(uint64_t segment)
{
	return (uint32_t)segment;
}

/* Segments, nodes and names follow. */
struct inline_table {
	uint64_t base;
	uint32_t n_segments, n_nodes, n_names; /* n_names in bytes */
	uint32_t bytes;
	struct inline_health health;
	uint32_t unused; /* segments begin at a multiple of 8 */
};

enum inline_phase {
	INLINE_SCAN,
	INLINE_SORT_UNIT,
	INLINE_SORT_ORIGINS,
	INLINE_RESOLVE,
	INLINE_COPY_NAMES,
	INLINE_ASSIGN,
	INLINE_SORT_SEGMENTS,
	INLINE_FINISH,
	INLINE_DONE
};

/* What kind of thing an origin's value is; the high half of its key. */
enum inline_origin { INLINE_DIE, INLINE_STR, INLINE_LINE_STR, INLINE_TEXT, INLINE_NAMELESS };

struct inline_scope {
	uint32_t node; /* the inlined call that the entry lies in */
	uint8_t depth;
	bool live; /* in a function that has code */
};

struct inline_builder {
	enum inline_phase phase;
	uint64_t limit;    /* steps at which this call ends */
	uint64_t deadline; /* steps at which this phase ends */
	struct inline_health health;
	struct dwarf_file dwarf;
	struct inline_room room;
	struct inline_sort sort;

	struct dwarf_unit unit; /* the unit being read */
	bool in_unit, full;     /* full: the rest is left out */
	struct dwarf_die die;
	uint32_t nesting;
	struct inline_scope scopes[INLINE_NESTING_MAX];
	uint32_t counts[INLINE_ARRAYS]; /* before this unit */

	uint32_t index, rounds; /* of the origins */

	/* The latest origins, nodes and texts, so that most are not kept twice. */
	struct {
		uint32_t at, origin;
	} seen[4096];
	struct {
		uint32_t origin, parent, node;
	} nodes[4096];
	struct {
		uint32_t hash, name;
	} texts[4096];
	struct dwarf_abbreviations abbreviations; /* last: most of it needs no clearing */
};

static inline struct inline_entry *inline_rows(struct inline_builder *b)
{
	return (void *)b->room.arrays[INLINE_ROWS].begin;
}

static inline uint64_t *inline_segments(struct inline_builder *b)
{
	return (void *)b->room.arrays[INLINE_SEGMENTS].begin;
}

static inline struct inline_node *inline_nodes(struct inline_builder *b)
{
	return (void *)b->room.arrays[INLINE_NODES].begin;
}

static inline struct inline_entry *inline_origins(struct inline_builder *b)
{
	return (void *)b->room.arrays[INLINE_ORIGINS].begin;
}

static inline bool inline_must_pause(const struct inline_builder *b)
{
	return b->dwarf.steps >= b->limit;
}

/* Reads on to the end of a unit that has rows (then they are to be sorted), or of the last one. Returns the phase to go on with. */
enum inline_phase inline_scan_some(struct inline_builder *b);

/* Takes back all that came from the unit being read: there is no room for it. */
void inline_forget_unit(struct inline_builder *b);

/* Makes segments of the unit's rows, which are sorted. */
void inline_flatten_unit(struct inline_builder *b);

/* Makes one ascending list of the segments of all units. */
void inline_join_segments(struct inline_builder *b);

/* Each does a part of its phase: true when the phase is over. */
bool inline_resolve_some(struct inline_builder *b);
bool inline_copy_names_some(struct inline_builder *b);

/* Gives the nodes the names of their origins, which are not needed any more. */
void inline_assign_names(struct inline_builder *b);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes an unwind table into a given room, function by function in ascending order of address. Functions come from several sources;
 * where two describe the same address the earlier added wins, and of two at one address the better source.
 */
#ifndef SONDE_UNWIND_BUILDER_H
#define SONDE_UNWIND_BUILDER_H

#include "stacks/unwind_arch.h"
#include "stacks/unwind_rows.h"

/* Where a function is described; the smaller is the better. */
enum unwind_source {
	UNWIND_EH_FRAME,
	UNWIND_GO,
	UNWIND_DEBUG_FRAME,
	UNWIND_CODE, /* nowhere: its instructions are followed */
};
#define UNWIND_PLACE_BITS 30

/* A function to describe: begin relative to the base, and its source and place there. Lies at the end of the room until its turn. */
struct unwind_entry {
	uint32_t begin;
	uint32_t source; /* enum unwind_source << UNWIND_PLACE_BITS | place */
};

/* A list of values that are kept once: `slots` is a hash table of 1 + index. */
struct unwind_pool {
	uint16_t *slots;
	uint32_t mask, count, most;
};

struct unwind_builder {
	const struct unwind_arch *arch;
	struct unwind_table *table;
	uint32_t *buckets, *rows;
	uint32_t *rows_end; /* entries[0] that is not yet consumed */
	uint64_t span;      /* of addresses from the base */
	uint32_t bucket;    /* buckets up to this one have begun */
	uint32_t last;      /* address of the last row */
	uint32_t covered;   /* end of the last function */
	uint32_t limit;     /* end of the function in work */
	uint16_t last_recipe;
	uint64_t described; /* bytes of code that .eh_frame speaks of */
	bool any;           /* there is a row */
	bool stopped;       /* rows met the entries: no room */

	struct unwind_entry *entries;
	uint32_t n_entries, most_entries;

	struct unwind_pool recipe_pool, rule_pool;
	struct unwind_recipe *recipes;
	struct unwind_rule *rules;
	uint8_t *bytes;
	uint32_t n_bytes, most_bytes;
};

/* Room that all of the parts take while a table of `weight` bytes of unwind information is built. */
size_t unwind_builder_room(uint64_t span, uint64_t weight, uint64_t n_functions);

/* Divides the room behind table->segments. False when it is too small for any row. */
bool unwind_builder_open(struct unwind_builder *b, const struct unwind_arch *arch, struct unwind_table *table,
			 size_t size, uint64_t span, uint64_t weight);

/* First all functions are announced, in any order ... */
void unwind_builder_announce(struct unwind_builder *b, uint64_t address, enum unwind_source source, uint64_t place);
void unwind_builder_sort(struct unwind_builder *b);
/* ... then each begins, has rows of ascending addresses, and the next begins. False: these addresses are described already. */
bool unwind_builder_begin(struct unwind_builder *b, uint64_t begin, uint64_t end);
void unwind_builder_row(struct unwind_builder *b, uint64_t address, uint16_t recipe);
void unwind_builder_close(struct unwind_builder *b);

/* Numbers for what rows hold. Negative: no room. `count` without the end mark. */
int unwind_builder_rules(struct unwind_builder *b, const struct unwind_rule *rules, uint32_t count);
int unwind_builder_recipe(struct unwind_builder *b, struct unwind_recipe recipe);
int unwind_builder_expression(struct unwind_builder *b, const uint8_t *bytes, size_t size);
/* The recipe of a signal handler's return, from the kernel's frame alone. */
int unwind_builder_sigreturn(struct unwind_builder *b);

static inline bool unwind_builder_holds(const struct unwind_builder *b, uint64_t address)
{
	for (unsigned i = 0; i < b->table->n_segments; i++)
		if (address - b->table->segments[i].address < b->table->segments[i].size)
			return true;
	return false;
}

#endif

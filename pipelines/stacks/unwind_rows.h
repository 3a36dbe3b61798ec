/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of an unwind table, for those who build and read it.
 *
 *	struct unwind_table | buckets | rows | recipes | rules | bytes
 *
 * A row is 4 bytes: the low half of its address and the number of a recipe; it holds up to the next row. Each 64 KiB of addresses is a
 * bucket that says where its rows begin. A recipe is how to find the CFA (the caller's stack pointer) and which rules then find the
 * registers. Few recipes and very few lists of rules are different, so both are kept once.
 *
 * Invariants, by construction: rows ascend; every index in rows, recipes and rules is inside its array; every list of rules ends.
 */
#ifndef SONDE_UNWIND_ROWS_H
#define SONDE_UNWIND_ROWS_H

#include "stacks/elf_file.h"
#include "stacks/elf_table.h"

#define UNWIND_NO_RECIPE 0xffffu

/* Flags of a recipe. */
#define UNWIND_CFA_EXPRESSION 1u /* `offset` is that of an expression in the bytes */
#define UNWIND_SIGNAL         2u /* a signal handler's return: the caller was interrupted, not calling */
#define UNWIND_END            4u /* nobody called this */
#define UNWIND_SWITCH         8u /* runs on another stack than its caller */

struct unwind_recipe {
	int32_t offset;
	uint8_t reg, flags;
	uint16_t rules; /* index of the first */
};

enum unwind_rule_kind {
	UNWIND_RULE_LAST, /* ends the list */
	UNWIND_RULE_UNDEFINED,
	UNWIND_RULE_SAME,
	UNWIND_RULE_AT,            /* in memory at CFA + value */
	UNWIND_RULE_IS,            /* CFA + value */
	UNWIND_RULE_REGISTER,      /* in register `value` */
	UNWIND_RULE_AT_EXPRESSION, /* in memory where the expression at `value` of the bytes says */
	UNWIND_RULE_IS_EXPRESSION, /* what the expression says */
};

struct unwind_rule {
	uint8_t reg, kind;
	uint16_t value; /* signed for AT and IS */
};

struct unwind_table {
	uint16_t machine;
	uint8_t n_segments;
	uint8_t full; /* not all rows had room */
	uint32_t n_rows, n_buckets, n_recipes, n_rules, n_bytes;
	uint64_t base; /* rows count from this virtual address */
	struct elf_load segments[ELF_LOADS_MAX];
	uint32_t data[];
};

/* Pointers into one table. */
struct unwind_parts {
	const uint32_t *buckets, *rows;
	const struct unwind_recipe *recipes;
	const struct unwind_rule *rules;
	const uint8_t *bytes; /* an expression is { u16 length | bytes } */
};

static inline struct unwind_parts unwind_table_parts(const struct unwind_table *table)
{
	struct unwind_parts p = { .buckets = table->data };

	p.rows = p.buckets + table->n_buckets + 1;
	p.recipes = (const struct unwind_recipe *)(p.rows + table->n_rows);
	p.rules = (const struct unwind_rule *)(p.recipes + table->n_recipes);
	p.bytes = (const uint8_t *)(p.rules + table->n_rules);
	return p;
}

/* The virtual address of the byte at `offset` of the file; false when it is in no executable segment. */
bool unwind_table_address(const struct unwind_table *table, uint64_t offset, uint64_t *ret_address);

/* The recipe at a virtual address, or NULL. With `called` the address is where a call returns to, so that what holds is the byte before
 * it; but a signal handler returns to the first byte of code that nobody called. */
const struct unwind_recipe *unwind_table_find(const struct unwind_table *table, const struct unwind_parts *parts,
					      uint64_t address, bool called);

#endif

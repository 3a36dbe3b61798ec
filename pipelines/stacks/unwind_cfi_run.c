/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter of call frame programs. Its state is one row: the CFA and a rule for each register. Registers that unwinding never needs
 * (vector registers) are stepped over.
 *
 * Compilers do not say that an epilogue has popped a register: its rule goes on naming a place that is below the stack pointer by then. The
 * copy of a stack begins at the stack pointer, but the register has its value back, so that such a rule is turned into "same". Only a
 * rule whose place was once on the stack: a function that calls nobody may save registers below the stack pointer in the first place.
 *
 * From a state to a recipe: kept registers without a rule are as they were, others are lost with a call, so that only what differs from
 * that is written down. Source: DWARF 5, section 6.4.2 and 6.4.3; .cfi_* as GNU as and LLVM emit them.
 */
#include "stacks/unwind_cfi_run.h"

#include <limits.h>

#include "base/base.h"

enum {
	CFA_ADVANCE_LOC = 0x40, /* these three with an operand in their low 6 bits */
	CFA_OFFSET = 0x80,
	CFA_RESTORE = 0xc0,
	CFA_NOP = 0,
	CFA_SET_LOC,
	CFA_ADVANCE_LOC1,
	CFA_ADVANCE_LOC2,
	CFA_ADVANCE_LOC4,
	CFA_OFFSET_EXTENDED,
	CFA_RESTORE_EXTENDED,
	CFA_UNDEFINED,
	CFA_SAME_VALUE,
	CFA_REGISTER,
	CFA_REMEMBER_STATE,
	CFA_RESTORE_STATE,
	CFA_DEF_CFA,
	CFA_DEF_CFA_REGISTER,
	CFA_DEF_CFA_OFFSET,
	CFA_DEF_CFA_EXPRESSION,
	CFA_EXPRESSION,
	CFA_OFFSET_EXTENDED_SF,
	CFA_DEF_CFA_SF,
	CFA_DEF_CFA_OFFSET_SF,
	CFA_VAL_OFFSET,
	CFA_VAL_OFFSET_SF,
	CFA_VAL_EXPRESSION,
	CFA_AARCH64_NEGATE_RA_STATE_PC = 0x2c,
	CFA_AARCH64_NEGATE_RA_STATE = 0x2d,
	CFA_GNU_ARGS_SIZE = 0x2e,
	CFA_GNU_NEGATIVE_OFFSET = 0x2f,
};

struct run {
	struct cfi_reader *reader;
	const struct cfi_cie *cie;
	struct unwind_bytes program;
	struct cfi_state state;
	uint64_t at, end;
	bool bad, initial;
	unsigned depth; /* of reader->remembered */
};

static void set_rule(struct run *run, uint64_t reg, uint8_t kind, int64_t value)
{
	if (reg >= run->reader->builder->arch->n_registers)
		return;
	if (value < INT32_MIN || value > INT32_MAX) {
		kind = UNWIND_RULE_UNDEFINED;
		value = 0;
	}
	run->state.rules[reg] = (struct cfi_rule){ .kind = kind, .value = (int32_t)value };
	run->reader->rules_changed = true;
}

/* Offsets multiply as unsigned numbers: a hostile one wraps, and is refused by its range. */
static int64_t scaled(const struct run *run, int64_t factored)
{
	return (int64_t)((uint64_t)factored * (uint64_t)run->cie->data_align);
}

static int take_expression(struct run *run)
{
	uint64_t size = bytes_uleb(&run->program);
	const uint8_t *bytes = bytes_take(&run->program, size);
	int at = bytes ? unwind_builder_expression(run->reader->builder, bytes, (size_t)size) : -1;

	if (at < 0)
		run->bad = true;
	return at;
}

static void set_expression(struct run *run, uint8_t kind)
{
	uint64_t reg = bytes_uleb(&run->program);

	set_rule(run, reg, kind, take_expression(run));
}

static void set_cfa_offset(struct run *run, int64_t offset)
{
	/* An expression has no offset: what stands there is where its bytes are. */
	if (run->state.cfa_expression || offset < INT32_MIN || offset > INT32_MAX) {
		run->bad = true;
		return;
	}
	/* The stack shrinks: something may have been popped. */
	if (offset < run->state.cfa_offset)
		run->reader->rules_changed = true;
	run->state.cfa_offset = (int32_t)offset;
}

static void set_cfa_register(struct run *run, uint64_t reg)
{
	if (reg >= run->reader->builder->arch->n_registers)
		run->bad = true;
	run->reader->rules_changed = true;
	run->state.cfa_register = (uint8_t)reg;
	run->state.cfa_expression = false;
}

/* Has the place of this rule been popped? Remembers that it was on the stack. */
static bool is_popped(struct run *run, struct cfi_rule *rule)
{
	const struct cfi_state *s = &run->state;
	bool below = !s->cfa_expression && s->cfa_register == run->reader->builder->arch->sp &&
		     rule->value < -(int64_t)s->cfa_offset;

	if (rule->kind != UNWIND_RULE_AT)
		return false;
	if (!below)
		rule->pushed = true;
	return below && rule->pushed;
}

/* Rules of the state as the table has them. Returns their index, negative without room. */
static int intern_rules(struct run *run)
{
	const struct unwind_arch *arch = run->reader->builder->arch;
	struct unwind_rule list[UNWIND_REGISTERS_MAX];
	uint32_t count = 0;

	for (unsigned i = 0; i < arch->n_registers; i++) {
		struct cfi_rule *rule = &run->state.rules[i];
		bool kept = arch->kept >> i & 1, is_return = i == arch->return_column;
		uint8_t kind = is_popped(run, rule) ? UNWIND_RULE_SAME : rule->kind;

		if (kind == CFI_UNSPECIFIED && is_return)
			kind = UNWIND_RULE_SAME;
		if (kind == CFI_UNSPECIFIED || (kind == UNWIND_RULE_SAME && kept && !is_return) ||
		    (kind == UNWIND_RULE_UNDEFINED && !kept && !is_return))
			continue;
		if ((kind == UNWIND_RULE_AT || kind == UNWIND_RULE_IS) &&
		    (rule->value < INT16_MIN || rule->value > INT16_MAX))
			kind = UNWIND_RULE_UNDEFINED;
		list[count++] =
			(struct unwind_rule){ (uint8_t)i, kind, kind == UNWIND_RULE_SAME ? 0 : (uint16_t)rule->value };
	}
	return unwind_builder_rules(run->reader->builder, list, count);
}

static void add_row(struct run *run)
{
	struct cfi_reader *r = run->reader;
	const struct cfi_state *s = &run->state;
	int recipe = -1;

	if (run->initial)
		return;
	if (r->rules_changed) {
		r->rules = intern_rules(run);
		r->end = s->rules[r->builder->arch->return_column].kind == UNWIND_RULE_UNDEFINED;
		r->rules_changed = false;
	}
	if (r->rules >= 0)
		recipe = unwind_builder_recipe(
			r->builder, (struct unwind_recipe){ .offset = s->cfa_offset,
							    .reg = s->cfa_register,
							    .flags = (s->cfa_expression ? UNWIND_CFA_EXPRESSION : 0) |
								     (run->cie->signal ? UNWIND_SIGNAL : 0) |
								     (r->end ? UNWIND_END : 0),
							    .rules = (uint16_t)r->rules });
	unwind_builder_row(r->builder, run->at, recipe < 0 ? UNWIND_NO_RECIPE : (uint16_t)recipe);
}

static void advance(struct run *run, uint64_t steps)
{
	uint64_t by = steps * run->cie->code_align;

	if (!by)
		return;
	add_row(run);
	/* Past the end nothing counts any more. */
	run->at = by > run->end - run->at ? run->end : run->at + by;
}

static void restore_rule(struct run *run, uint64_t reg)
{
	if (reg < run->reader->builder->arch->n_registers)
		set_rule(run, reg, run->cie->initial.rules[reg].kind, run->cie->initial.rules[reg].value);
}

static void remember(struct run *run)
{
	if (run->depth == CFI_REMEMBERED)
		run->bad = true;
	else
		run->reader->remembered[run->depth++] = run->state;
}

static void recall(struct run *run)
{
	if (!run->depth) {
		run->bad = true;
		return;
	}
	run->state = run->reader->remembered[--run->depth];
	run->reader->rules_changed = true;
}

static void run_cfa(struct run *run, uint8_t op)
{
	struct unwind_bytes *p = &run->program;

	switch (op) {
	case CFA_DEF_CFA:
		set_cfa_register(run, bytes_uleb(p));
		set_cfa_offset(run, (int64_t)bytes_uleb(p));
		return;
	case CFA_DEF_CFA_SF:
		set_cfa_register(run, bytes_uleb(p));
		set_cfa_offset(run, scaled(run, bytes_sleb(p)));
		return;
	case CFA_DEF_CFA_REGISTER:
		run->bad |= run->state.cfa_expression;
		set_cfa_register(run, bytes_uleb(p));
		return;
	case CFA_DEF_CFA_OFFSET:
		set_cfa_offset(run, (int64_t)bytes_uleb(p));
		return;
	case CFA_DEF_CFA_OFFSET_SF:
		set_cfa_offset(run, scaled(run, bytes_sleb(p)));
		return;
	case CFA_DEF_CFA_EXPRESSION:
		run->state.cfa_offset = take_expression(run);
		run->state.cfa_register = 0;
		run->state.cfa_expression = true;
		return;
	}
}

static void run_rule(struct run *run, uint8_t op)
{
	struct unwind_bytes *p = &run->program;
	uint64_t reg = bytes_uleb(p);

	switch (op) {
	case CFA_OFFSET_EXTENDED:
		set_rule(run, reg, UNWIND_RULE_AT, scaled(run, (int64_t)bytes_uleb(p)));
		return;
	case CFA_OFFSET_EXTENDED_SF:
		set_rule(run, reg, UNWIND_RULE_AT, scaled(run, bytes_sleb(p)));
		return;
	case CFA_GNU_NEGATIVE_OFFSET:
		set_rule(run, reg, UNWIND_RULE_AT, scaled(run, (int64_t)(0 - bytes_uleb(p))));
		return;
	case CFA_VAL_OFFSET:
		set_rule(run, reg, UNWIND_RULE_IS, scaled(run, (int64_t)bytes_uleb(p)));
		return;
	case CFA_VAL_OFFSET_SF:
		set_rule(run, reg, UNWIND_RULE_IS, scaled(run, bytes_sleb(p)));
		return;
	case CFA_REGISTER: {
		uint64_t from = bytes_uleb(p);

		if (from < run->reader->builder->arch->n_registers)
			set_rule(run, reg, UNWIND_RULE_REGISTER, (int64_t)from);
		else
			set_rule(run, reg, UNWIND_RULE_UNDEFINED, 0);
		return;
	}
	case CFA_UNDEFINED:
		set_rule(run, reg, UNWIND_RULE_UNDEFINED, 0);
		return;
	case CFA_SAME_VALUE:
		set_rule(run, reg, UNWIND_RULE_SAME, 0);
		return;
	case CFA_RESTORE_EXTENDED:
		restore_rule(run, reg);
		return;
	}
}

static void run_location(struct run *run, uint8_t op)
{
	struct unwind_bytes *p = &run->program;
	uint64_t to;

	switch (op) {
	case CFA_ADVANCE_LOC1:
		advance(run, bytes_u8(p));
		return;
	case CFA_ADVANCE_LOC2:
		advance(run, bytes_unsigned(p, 2));
		return;
	case CFA_ADVANCE_LOC4:
		advance(run, bytes_unsigned(p, 4));
		return;
	case CFA_SET_LOC:
		/* Only with plain addresses, as .debug_frame has them; nothing emits it otherwise. */
		to = bytes_unsigned(p, 8);
		if (run->cie->pointer_encoding || to < run->at || to > run->end) {
			run->bad = true;
			return;
		}
		add_row(run);
		run->at = to;
		return;
	}
}

static void run_one(struct run *run)
{
	struct unwind_bytes *p = &run->program;
	uint8_t op = bytes_u8(p), low = op & 0x3f;

	if ((op & 0xc0) == CFA_ADVANCE_LOC)
		advance(run, low);
	else if ((op & 0xc0) == CFA_OFFSET)
		set_rule(run, low, UNWIND_RULE_AT, scaled(run, (int64_t)bytes_uleb(p)));
	else if ((op & 0xc0) == CFA_RESTORE)
		restore_rule(run, low);
	else if (op >= CFA_SET_LOC && op <= CFA_ADVANCE_LOC4)
		run_location(run, op);
	else if (op == CFA_REMEMBER_STATE)
		remember(run);
	else if (op == CFA_RESTORE_STATE)
		recall(run);
	else if ((op >= CFA_DEF_CFA && op <= CFA_DEF_CFA_EXPRESSION) || op == CFA_DEF_CFA_SF ||
		 op == CFA_DEF_CFA_OFFSET_SF)
		run_cfa(run, op);
	else if (op == CFA_EXPRESSION)
		set_expression(run, UNWIND_RULE_AT_EXPRESSION);
	else if (op == CFA_VAL_EXPRESSION)
		set_expression(run, UNWIND_RULE_IS_EXPRESSION);
	else if ((op >= CFA_OFFSET_EXTENDED && op <= CFA_REGISTER) || op == CFA_OFFSET_EXTENDED_SF ||
		 op == CFA_VAL_OFFSET || op == CFA_VAL_OFFSET_SF || op == CFA_GNU_NEGATIVE_OFFSET)
		run_rule(run, op);
	else if (op == CFA_GNU_ARGS_SIZE)
		bytes_uleb(p);
	else if (op != CFA_NOP && op != CFA_AARCH64_NEGATE_RA_STATE && op != CFA_AARCH64_NEGATE_RA_STATE_PC)
		run->bad = true;
}

static void run_all(struct run *run)
{
	while (run->program.at < run->program.end && !run->bad && !run->program.bad &&
	       (run->initial || run->at < run->end))
		run_one(run);
	if (run->program.bad)
		run->bad = true;
}

bool cfi_run_initial(struct cfi_reader *reader, struct cfi_cie *cie, struct unwind_bytes program)
{
	struct run run = { .reader = reader,
			   .cie = cie,
			   .program = program,
			   .state = cie->initial,
			   .end = UINT64_MAX,
			   .initial = true };

	run_all(&run);
	cie->initial = run.state;
	return !run.bad;
}

void cfi_run(struct cfi_reader *reader, const struct cfi_cie *cie, struct unwind_bytes program, uint64_t begin,
	     uint64_t end)
{
	struct run run = {
		.reader = reader, .cie = cie, .program = program, .state = cie->initial, .at = begin, .end = end
	};

	reader->rules_changed = true;
	if (cie->signal && reader->builder->arch->link) {
		/* With a link register CFI cannot say both it and the interrupted address; the kernel's frame has both. */
		int recipe = unwind_builder_sigreturn(reader->builder);

		unwind_builder_row(reader->builder, begin, recipe < 0 ? UNWIND_NO_RECIPE : (uint16_t)recipe);
		return;
	}
	run_all(&run);
	if (run.bad)
		unwind_builder_row(reader->builder, run.at, UNWIND_NO_RECIPE);
	else if (run.at < end)
		add_row(&run);
}

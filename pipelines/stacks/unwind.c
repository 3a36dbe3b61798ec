/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One step after the other: the program counter leads to a mapping, its file to a table, the table to a recipe, and the recipe to the
 * caller's registers. Where there is no recipe the frame pointer is tried: code that is generated at run time keeps it, mostly.
 *
 * Invariants: nothing outside the slice is read; but for signal frames the CFA ascends; at most UNWIND_FRAMES_MAX steps; an address is a
 * frame only when executable memory is mapped there.
 */
#include "stacks/unwind.h"

#include <errno.h>
#include <string.h>

#include "stacks/unwind_arch.h"
#include "stacks/unwind_expr.h"
#include "stacks/unwind_rows.h"

struct walk {
	const struct unwind_arch *arch;
	const struct unwind_input *input;
	struct unwind_result *result;
	struct unwind_registers registers;
	struct unwind_memory memory;
	const struct unwind_mapping *mapping; /* of the frame in work */
	/* The table asked for last. */
	const struct unwind_table *table;
	struct unwind_parts parts;
	uint64_t table_file;
	bool has_table;
	bool exact; /* the pc was not left by a call */
	bool done;
};

static void end(struct walk *w, enum unwind_end how)
{
	w->result->end = how;
	w->done = true;
}

/* Why a read failed says how the walk ends: the slice may have been too short for it. */
static void end_by(struct walk *w, int error)
{
	end(w, error == -ENODATA && w->input->slice_cut ? UNWIND_CUT : UNWIND_BROKEN);
}

static const struct unwind_mapping *find_mapping(struct walk *w, uint64_t address)
{
	const struct unwind_mapping *m = w->input->mappings;
	uint32_t low = 0, high = w->input->n_mappings;

	if (w->mapping && address - w->mapping->start < w->mapping->end - w->mapping->start)
		return w->mapping;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (m[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < w->input->n_mappings && m[low].start <= address ? &m[low] : NULL;
}

static bool known(const struct walk *w, unsigned reg)
{
	return w->registers.known >> reg & 1;
}

/* The caller's registers are set but for its pc: goes on there, or ends. */
static void go_on(struct walk *w, uint64_t cfa, uint64_t pc, bool exact)
{
	struct unwind_registers *r = &w->registers;

	pc &= w->arch->code_mask;
	r->values[w->arch->sp] = cfa;
	r->values[w->arch->pc] = pc;
	r->known |= 1ull << w->arch->sp | 1ull << w->arch->pc;
	w->exact = exact;
	if (!pc) {
		end(w, UNWIND_WHOLE);
		return;
	}
	w->mapping = find_mapping(w, pc - !exact);
	if (!w->mapping)
		end(w, UNWIND_BROKEN);
}

/* The next frame up must lie higher. Only what was interrupted may have the same, in a function without a frame (a link register, vfork()),
 * and with signals anything may be. */
static bool ascends(const struct walk *w, uint64_t cfa)
{
	uint64_t sp = w->registers.values[w->arch->sp];

	return cfa > sp || (cfa == sp && w->exact);
}

/* A function of which only its begin is known to have run: the return address is where the call has put it. */
static void step_stub(struct walk *w)
{
	struct unwind_registers *r = &w->registers;
	uint64_t sp = r->values[w->arch->sp], pc;
	int error;

	if (w->arch->link) {
		if (w->exact)
			go_on(w, sp, r->values[w->arch->return_column], false);
		else
			end(w, UNWIND_BROKEN);
		return;
	}
	error = unwind_read(&w->memory, sp, &pc);
	if (error < 0) {
		end_by(w, error);
		return;
	}
	r->known &= w->arch->kept;
	go_on(w, sp + (uint64_t)w->arch->call_bytes, pc, false);
}

static bool is_of_file(struct walk *w, uint64_t address)
{
	const struct unwind_mapping *m = find_mapping(w, address);

	return m && m->file;
}

/* Made code without a frame of its own: CPython's perf trampolines keep 8 bytes and the return address, whatever the frame pointer is used
 * for by the interpreter around them. Tried only where frame pointers lead nowhere, and believed only when it leads into a file's code. */
static bool step_trampoline(struct walk *w)
{
	uint64_t sp = w->registers.values[w->arch->sp], pc;

	if (w->arch->link || w->exact || w->mapping->file || unwind_read(&w->memory, sp + 8, &pc) < 0 || !pc)
		return false;
	if (!is_of_file(w, pc - 1))
		return false;
	w->registers.known &= w->arch->kept;
	go_on(w, sp + 16, pc, false);
	return true;
}

/* What the frame pointer points at: 0, or why it does not. */
static int read_frame(struct walk *w, uint64_t *ret_fp, uint64_t *ret_pc)
{
	struct unwind_registers *r = &w->registers;
	uint64_t fp = r->values[w->arch->fp];
	int error;

	if (!known(w, w->arch->fp) || fp < r->values[w->arch->sp] || fp % 8)
		return -ENOENT;
	error = unwind_read(&w->memory, fp, ret_fp);
	if (!error)
		error = unwind_read(&w->memory, fp + 8, ret_pc);
	if (error < 0)
		return error;
	/* The caller may use the register for something else; then it is code that a file has tables for. */
	return *ret_fp && *ret_fp <= fp && !is_of_file(w, *ret_pc - 1) ? -ENOENT : 0;
}

/* The frame pointer points at the caller's frame pointer, with the return address behind it, on both processors. */
static void step_frame_pointer(struct walk *w)
{
	struct unwind_registers *r = &w->registers;
	uint64_t fp = r->values[w->arch->fp], next, pc;
	int error = read_frame(w, &next, &pc);

	if (error < 0 && step_trampoline(w))
		return;
	/* A process begins with a frame pointer of zero, and so does a thread: the ABI's mark of the outermost frame. */
	if (known(w, w->arch->fp) && !fp && w->result->n_frames > 1) {
		end(w, UNWIND_WHOLE);
		return;
	}
	if (error < 0) {
		end_by(w, error);
		return;
	}
	/* Other kept registers may have been changed and saved anywhere. */
	r->known = 1ull << w->arch->fp;
	r->values[w->arch->fp] = next;
	go_on(w, fp + 16, pc, false);
}

static int compute_expression(struct walk *w, uint32_t at, const uint64_t *cfa, uint64_t *ret)
{
	const uint8_t *bytes = w->parts.bytes + at;
	uint32_t size = bytes[0] | (uint32_t)bytes[1] << 8;

	return unwind_expression(bytes + 2, size, &w->registers, &w->memory, cfa, ret);
}

/* The value of one register in the caller. */
static int compute_rule(struct walk *w, const struct unwind_rule *rule, uint64_t cfa, uint64_t *ret)
{
	uint64_t address;
	int error;

	switch ((enum unwind_rule_kind)rule->kind) {
	case UNWIND_RULE_AT:
		return unwind_read(&w->memory, cfa + (uint64_t)(int16_t)rule->value, ret);
	case UNWIND_RULE_IS:
		*ret = cfa + (uint64_t)(int16_t)rule->value;
		return 0;
	case UNWIND_RULE_SAME:
	case UNWIND_RULE_REGISTER: {
		unsigned from = rule->kind == UNWIND_RULE_SAME ? rule->reg : rule->value;

		*ret = w->registers.values[from];
		return known(w, from) ? 0 : -ENOENT;
	}
	case UNWIND_RULE_AT_EXPRESSION:
		error = compute_expression(w, rule->value, &cfa, &address);
		return error < 0 ? error : unwind_read(&w->memory, address, ret);
	case UNWIND_RULE_IS_EXPRESSION:
		return compute_expression(w, rule->value, &cfa, ret);
	case UNWIND_RULE_UNDEFINED:
	case UNWIND_RULE_LAST:
		break;
	}
	return -ENOENT;
}

static int compute_cfa(struct walk *w, const struct unwind_recipe *recipe, uint64_t *ret)
{
	if (recipe->flags & UNWIND_CFA_EXPRESSION)
		return compute_expression(w, (uint32_t)recipe->offset, NULL, ret);
	*ret = w->registers.values[recipe->reg] + (uint64_t)(int64_t)recipe->offset;
	return known(w, recipe->reg) ? 0 : -ENOENT;
}

/* All the caller's registers but for sp and pc, which come back in `ret_pc`. A register that cannot be had is unknown, and matters only
 * once something needs it; but the pc does. Rules look at the callee's registers, so that these change only when all is computed. */
static int apply_rules(struct walk *w, const struct unwind_recipe *recipe, uint64_t cfa, uint64_t *ret_pc)
{
	struct unwind_registers *r = &w->registers;
	unsigned column = w->arch->return_column, pc = w->arch->pc;
	uint64_t values[UNWIND_REGISTERS_MAX], ruled = 0, found = 0;
	const struct unwind_rule *rules = &w->parts.rules[recipe->rules], *rule;
	int missing = -ENOENT;

	for (rule = rules; rule->kind != UNWIND_RULE_LAST; rule++) {
		int error = compute_rule(w, rule, cfa, &values[rule->reg]);

		ruled |= 1ull << rule->reg;
		found |= (uint64_t)(error == 0) << rule->reg;
		if (rule->reg == column)
			missing = error;
	}
	r->known = (r->known & w->arch->kept & ~ruled) | found;
	for (rule = rules; rule->kind != UNWIND_RULE_LAST; rule++)
		r->values[rule->reg] = values[rule->reg];
	if (r->known >> pc & 1)
		*ret_pc = r->values[pc];
	else if (r->known >> column & 1)
		*ret_pc = r->values[column];
	else
		return missing;
	return 0;
}

static void step_recipe(struct walk *w, const struct unwind_recipe *recipe)
{
	bool interrupted = recipe->flags & UNWIND_SIGNAL;
	uint64_t cfa, pc = 0;
	int error;

	if (recipe->flags & (UNWIND_END | UNWIND_SWITCH)) {
		end(w, recipe->flags & UNWIND_END ? UNWIND_WHOLE : UNWIND_CUT);
		return;
	}
	error = compute_cfa(w, recipe, &cfa);
	if (error < 0 || (!interrupted && !ascends(w, cfa))) {
		end_by(w, error);
		return;
	}
	error = apply_rules(w, recipe, cfa, &pc);
	if (error < 0) {
		end_by(w, error);
		return;
	}
	/* What a signal interrupted on another stack is known, but not what called it: that stack is not here. */
	go_on(w, cfa, pc, interrupted);
}

/* The table of the mapping's file into w->table. False: there is none now. */
static bool get_table(struct walk *w)
{
	uint64_t file = w->mapping->file;
	bool none = false;

	if (w->has_table && w->table_file == file)
		return w->table;
	w->table = w->input->table(w->input->context, file, &none);
	w->table_file = file;
	w->has_table = true;
	if (w->table && w->table->machine != w->arch->machine)
		w->table = NULL;
	else if (!w->table && !none) {
		w->result->missing = file;
		end(w, UNWIND_MISSING);
		return false;
	}
	if (w->table)
		w->parts = unwind_table_parts(w->table);
	return w->table;
}

static void step(struct walk *w)
{
	const struct unwind_recipe *recipe = NULL;
	uint64_t pc = w->registers.values[w->arch->pc], address;

	if (w->arch->is_kernel_stub(pc) || !w->mapping) {
		/* A jump to where there is no code: most likely a call. */
		step_stub(w);
		return;
	}
	if (w->mapping->file && get_table(w) &&
	    unwind_table_address(w->table, pc - w->mapping->start + w->mapping->offset, &address))
		recipe = unwind_table_find(w->table, &w->parts, address, !w->exact);
	if (w->done)
		return;
	if (recipe)
		step_recipe(w, recipe);
	else
		step_frame_pointer(w);
}

void unwind_for(const struct unwind_arch *arch, const struct unwind_input *input, struct unwind_result *ret)
{
	struct walk w = { .arch = arch, .input = input, .result = ret, .exact = true };

	ret->n_frames = 0;
	ret->missing = 0;
	ret->end = UNWIND_CUT;
	memcpy(w.registers.values, input->registers, arch->n_registers * sizeof input->registers[0]);
	w.registers.known = (1ull << arch->n_registers) - 1;
	w.memory = (struct unwind_memory){ input->slice, input->registers[arch->sp] - input->n_below, input->n_slice };
	w.mapping = find_mapping(&w, input->registers[arch->pc]);
	while (!w.done) {
		if (ret->n_frames == UNWIND_FRAMES_MAX) {
			end(&w, UNWIND_CUT);
			break;
		}
		ret->frames[ret->n_frames++] = w.registers.values[arch->pc] | (w.exact ? UNWIND_EXACT : 0);
		step(&w);
	}
}

void unwind(const struct unwind_input *input, struct unwind_result *ret)
{
	unwind_for(&unwind_native, input, ret);
}

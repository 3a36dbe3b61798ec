/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stack machine of 32 words. Every operation checks the depth it needs; a budget of steps bounds loops. What it cannot know (threads,
 * objects, frame bases) is no part of call frame information. Source: DWARF 5, section 2.5.1; 6.4.2 for what is not allowed.
 */
#include "stacks/unwind_expr.h"

#include <errno.h>

#include "stacks/unwind_bytes.h"

#define DEPTH 32u
#define STEPS 256u

enum {
	OP_ADDR = 0x03,
	OP_DEREF = 0x06,
	OP_CONST1U = 0x08,
	OP_CONST8S = 0x0f,
	OP_CONSTU = 0x10,
	OP_CONSTS,
	OP_DUP,
	OP_DROP,
	OP_OVER,
	OP_PICK,
	OP_SWAP,
	OP_ROT,
	OP_ABS = 0x19,
	OP_AND,
	OP_DIV,
	OP_MINUS,
	OP_MOD,
	OP_MUL,
	OP_NEG,
	OP_NOT,
	OP_OR,
	OP_PLUS,
	OP_PLUS_UCONST,
	OP_SHL,
	OP_SHR,
	OP_SHRA,
	OP_XOR,
	OP_BRA,
	OP_EQ,
	OP_GE,
	OP_GT,
	OP_LE,
	OP_LT,
	OP_NE,
	OP_SKIP,
	OP_LIT0 = 0x30,
	OP_LIT31 = 0x4f,
	OP_BREG0 = 0x70,
	OP_BREG31 = 0x8f,
	OP_BREGX = 0x92,
	OP_DEREF_SIZE = 0x94,
	OP_NOP = 0x96,
	OP_CALL_FRAME_CFA = 0x9c,
};

struct machine {
	struct unwind_bytes code;
	const uint8_t *begin;
	const struct unwind_registers *registers;
	const struct unwind_memory *memory;
	const uint64_t *cfa;
	uint32_t depth;
	int error;
	uint64_t stack[DEPTH];
};

int unwind_read(const struct unwind_memory *memory, uint64_t address, uint64_t *ret)
{
	uint64_t at = address - memory->base;

	if (address < memory->base)
		return -EFAULT;
	if (memory->size < sizeof *ret || at > memory->size - sizeof *ret)
		return -ENODATA;
	memcpy(ret, memory->bytes + at, sizeof *ret);
	return 0;
}

static void fail(struct machine *m, int error)
{
	if (!m->error)
		m->error = error;
}

static void push(struct machine *m, uint64_t value)
{
	if (m->depth == DEPTH)
		fail(m, -EBADMSG);
	else
		m->stack[m->depth++] = value;
}

static uint64_t pop(struct machine *m)
{
	if (!m->depth) {
		fail(m, -EBADMSG);
		return 0;
	}
	return m->stack[--m->depth];
}

static void push_register(struct machine *m, uint64_t number, int64_t offset)
{
	if (number >= 33 || !(m->registers->known >> number & 1))
		fail(m, -ENOENT);
	else
		push(m, m->registers->values[number] + (uint64_t)offset);
}

static void dereference(struct machine *m, unsigned size)
{
	uint64_t address = pop(m), value = 0;
	int r = unwind_read(m->memory, address, &value);

	if (r < 0)
		fail(m, r);
	else if (size != 1 && size != 2 && size != 4 && size != 8)
		fail(m, -EBADMSG);
	push(m, size < 8 ? value & ((1ull << 8 * size) - 1) : value);
}

static void pick(struct machine *m, unsigned from_top)
{
	if (from_top >= m->depth)
		fail(m, -EBADMSG);
	else
		push(m, m->stack[m->depth - 1 - from_top]);
}

static void jump(struct machine *m, int16_t distance)
{
	int64_t to = m->code.at - m->begin + distance;

	if (to < 0 || to > m->code.end - m->begin)
		fail(m, -EBADMSG);
	else
		m->code.at = m->begin + to;
}

static uint64_t shift_arithmetic(int64_t value, uint64_t by)
{
	return (uint64_t)(value >> (by > 63 ? 63 : by));
}

static uint64_t divide(struct machine *m, int64_t a, int64_t b)
{
	if (!b)
		fail(m, -EBADMSG);
	return !b || b == -1 ? -(uint64_t)a : (uint64_t)(a / b);
}

static uint64_t compute(struct machine *m, uint8_t op, uint64_t a, uint64_t b)
{
	int64_t sa = (int64_t)a, sb = (int64_t)b;

	switch (op) {
	case OP_AND:
		return a & b;
	case OP_DIV:
		return divide(m, sa, sb);
	case OP_MINUS:
		return a - b;
	case OP_MOD:
		if (!b)
			fail(m, -EBADMSG);
		return b ? a % b : 0;
	case OP_MUL:
		return a * b;
	case OP_OR:
		return a | b;
	case OP_PLUS:
		return a + b;
	case OP_SHL:
		return b > 63 ? 0 : a << b;
	case OP_SHR:
		return b > 63 ? 0 : a >> b;
	case OP_SHRA:
		return shift_arithmetic(sa, b);
	case OP_XOR:
		return a ^ b;
	case OP_EQ:
		return sa == sb;
	case OP_GE:
		return sa >= sb;
	case OP_GT:
		return sa > sb;
	case OP_LE:
		return sa <= sb;
	case OP_LT:
		return sa < sb;
	case OP_NE:
		return sa != sb;
	}
	fail(m, -EBADMSG);
	return 0;
}

static void reorder(struct machine *m, uint8_t op)
{
	uint64_t a = pop(m), b = pop(m);

	if (op == OP_SWAP) {
		push(m, a);
		push(m, b);
		return;
	}
	uint64_t c = pop(m);

	push(m, a);
	push(m, c);
	push(m, b);
}

static void push_constant(struct machine *m, uint8_t op)
{
	unsigned size = 1u << (op - OP_CONST1U) / 2;

	push(m, (op - OP_CONST1U) % 2 ? (uint64_t)bytes_signed(&m->code, size) : bytes_unsigned(&m->code, size));
}

static void step_unary(struct machine *m, uint8_t op)
{
	uint64_t a;

	switch (op) {
	case OP_ABS:
		a = pop(m);
		push(m, (int64_t)a < 0 ? -a : a);
		return;
	case OP_NEG:
		push(m, -pop(m));
		return;
	case OP_NOT:
		push(m, ~pop(m));
		return;
	case OP_PLUS_UCONST:
		a = pop(m);
		push(m, a + bytes_uleb(&m->code));
		return;
	}
}

static void step_memory(struct machine *m, uint8_t op)
{
	uint64_t number;

	switch (op) {
	case OP_DEREF:
		dereference(m, 8);
		return;
	case OP_DEREF_SIZE:
		dereference(m, bytes_u8(&m->code));
		return;
	case OP_BREGX:
		number = bytes_uleb(&m->code);
		push_register(m, number, bytes_sleb(&m->code));
		return;
	case OP_CALL_FRAME_CFA:
		if (m->cfa)
			push(m, *m->cfa);
		else
			fail(m, -EBADMSG);
		return;
	}
}

static void step_stack(struct machine *m, uint8_t op)
{
	switch (op) {
	case OP_DUP:
		pick(m, 0);
		return;
	case OP_OVER:
		pick(m, 1);
		return;
	case OP_PICK:
		pick(m, bytes_u8(&m->code));
		return;
	case OP_DROP:
		pop(m);
		return;
	default:
		reorder(m, op);
	}
}

static void step_jump(struct machine *m, uint8_t op)
{
	int16_t distance = (int16_t)bytes_signed(&m->code, 2);

	if (op == OP_SKIP || pop(m))
		jump(m, distance);
}

static void step(struct machine *m)
{
	uint8_t op = bytes_u8(&m->code);

	if (op >= OP_LIT0 && op <= OP_LIT31)
		push(m, op - OP_LIT0);
	else if (op >= OP_BREG0 && op <= OP_BREG31)
		push_register(m, op - OP_BREG0, bytes_sleb(&m->code));
	else if (op >= OP_CONST1U && op <= OP_CONST8S)
		push_constant(m, op);
	else if (op >= OP_DUP && op <= OP_ROT)
		step_stack(m, op);
	else if (op == OP_CONSTU)
		push(m, bytes_uleb(&m->code));
	else if (op == OP_CONSTS)
		push(m, (uint64_t)bytes_sleb(&m->code));
	else if (op == OP_ABS || op == OP_NEG || op == OP_NOT || op == OP_PLUS_UCONST)
		step_unary(m, op);
	else if (op == OP_DEREF || op == OP_DEREF_SIZE || op == OP_BREGX || op == OP_CALL_FRAME_CFA)
		step_memory(m, op);
	else if (op == OP_BRA || op == OP_SKIP)
		step_jump(m, op);
	else if ((op >= OP_AND && op <= OP_XOR) || (op >= OP_EQ && op <= OP_NE)) {
		uint64_t b = pop(m), a = pop(m);

		push(m, compute(m, op, a, b));
	} else if (op != OP_NOP)
		fail(m, -EBADMSG);
}

int unwind_expression(const uint8_t *bytes, size_t size, const struct unwind_registers *registers,
		      const struct unwind_memory *memory, const uint64_t *cfa, uint64_t *ret)
{
	struct machine m = { .code = { bytes, bytes + size, false },
			     .begin = bytes,
			     .registers = registers,
			     .memory = memory,
			     .cfa = cfa };

	if (cfa)
		push(&m, *cfa);
	for (uint32_t steps = 0; m.code.at < m.code.end && !m.error; steps++) {
		if (steps == STEPS)
			return -EBADMSG;
		step(&m);
	}
	if (m.code.bad || (!m.error && !m.depth))
		return -EBADMSG;
	if (m.error)
		return m.error;
	*ret = m.stack[m.depth - 1];
	return 0;
}

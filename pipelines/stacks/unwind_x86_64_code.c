/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following the stack pointer through x86-64 instructions: for functions that no table describes.
 *
 * The instructions are gone through in their order, a few times to learn what the state is where jumps lead, and once to add rows. Of most
 * instructions only the length matters. Behind one that never goes on (a return, a jump) the state is what jumps have brought there, or,
 * where a switch may have led there through a table, what it was at the indirect jump; else it is not known, and there is no row.
 * Sources: Intel SDM, volume 2, appendix A (opcode maps) and 2.1 (formats).
 *
 * State: `depth` is how far the stack pointer lies below the return address, `fp_depth` the same of rbp where rbp is a frame pointer, and for
 * each kept register the depth at which it was pushed.
 */
#include "stacks/unwind_x86_64.h"

#include <string.h>

#include "stacks/unwind_builder.h"
#include "stacks/unwind_bytes.h"
#include "stacks/unwind_code.h"

#define TARGETS_MAX 256u
#define DEPTH_MAX   30000
#define UNKNOWN     (-1)
#define LEARN       3u

enum { KEPT = 6 };

static const uint8_t kept[KEPT] = { UNWIND_X86_RBX, UNWIND_X86_RBP, UNWIND_X86_R12,
				    UNWIND_X86_R13, UNWIND_X86_R14, UNWIND_X86_R15 };
/* By the number that instructions use. */
static const int8_t kept_of[16] = { -1, -1, -1, 0, -1, 1, -1, -1, -1, -1, -1, -1, 2, 3, 4, 5 };

enum { SP = 4, BP = 5 }; /* as instructions number them */

struct state {
	int32_t depth, fp_depth;
	int32_t saved[KEPT];
};

struct target {
	uint32_t at;
	struct state state;
};

struct follow {
	struct unwind_builder *builder;
	const struct unwind_code *code;
	struct state state;
	struct state at_switch;
	bool has_switch, emit;
	uint32_t n_targets;
	uint64_t is_target[CODE_FUNCTION_MAX / 64]; /* a bit for each byte of the function */
	struct target targets[TARGETS_MAX];
};

/* One instruction taken apart. */
struct instruction {
	uint8_t map, opcode; /* map 0: one byte; 1: behind 0F; 2, 3: behind 0F38, 0F3A */
	uint8_t rex;
	bool narrow; /* an operand size prefix */
	bool vector; /* VEX or EVEX */
	bool has_modrm;
	uint8_t mod, reg, rm;
	uint8_t base; /* of memory operands; 0xff: none or with an index */
	int32_t displacement;
	int64_t immediate;
};

/* ---- taking apart ---- */

/* A bit for each opcode, lowest first, 32 in a word. */
static bool in_set(const uint32_t set[8], uint8_t opcode)
{
	return set[opcode / 32] >> opcode % 32 & 1;
}

static const uint32_t one_modrm[8] = { 0x0f0f0f0f, 0x0f0f0f0f, 0, 0x00000a08, 0x0000fffb, 0, 0xff0f00c3, 0xc0c00000 };
static const uint32_t one_bad[8] = { 0xc0c040c0, 0x80808080, 0, 0x00000003, 0x04000004, 0, 0x00704000, 0x00000400 };
static const uint32_t two_no_modrm[8] = {
	0x0000dff0, 0x00ff0000, 0, 0x00800000, 0x0000ffff, 0x00000707, 0x0000ff00, 0
};
static const uint32_t two_imm8[8] = { 0, 0, 0, 0x000f0000, 0, 0x04001010, 0x00000074, 0 };

static void read_modrm(struct unwind_bytes *b, struct instruction *i)
{
	uint8_t byte = bytes_u8(b);

	i->has_modrm = true;
	i->mod = byte >> 6;
	i->reg = (uint8_t)((byte >> 3 & 7) | (i->rex & 4) << 1);
	i->rm = (uint8_t)((byte & 7) | (i->rex & 1) << 3);
	i->base = i->rm;
	if (i->mod == 3)
		return;

	bool wide = i->mod == 2;

	if ((byte & 7) == 4) {
		uint8_t sib = bytes_u8(b);

		i->base = (sib >> 3 & 7) == 4 && !(i->rex & 2) ? (uint8_t)((sib & 7) | (i->rex & 1) << 3) : 0xff;
		if (i->mod == 0 && (sib & 7) == 5) {
			i->base = 0xff;
			wide = true;
		}
	} else if (i->mod == 0 && (byte & 7) == 5) {
		i->base = 0xff;
		wide = true;
	}
	if (wide)
		i->displacement = (int32_t)bytes_signed(b, 4);
	else if (i->mod == 1)
		i->displacement = (int32_t)bytes_signed(b, 1);
}

/* Bytes of the immediate of a one-byte opcode. */
static unsigned immediate_of_one(const struct instruction *i)
{
	uint8_t op = i->opcode;
	unsigned full = i->narrow ? 2 : 4;

	if (op < 0x40)
		return (op & 7) == 4 ? 1 : (op & 7) == 5 ? full : 0;
	if ((op >= 0x70 && op <= 0x7f) || (op >= 0xb0 && op <= 0xb7) || (op >= 0xe0 && op <= 0xe7))
		return 1;
	if (op >= 0xb8 && op <= 0xbf)
		return i->rex & 8 ? 8 : full;
	if (op >= 0xa0 && op <= 0xa3)
		return 8;
	switch (op) {
	case 0x6a:
	case 0x6b:
	case 0x80:
	case 0x83:
	case 0xa8:
	case 0xc0:
	case 0xc1:
	case 0xc6:
	case 0xcd:
	case 0xeb:
		return 1;
	case 0x68:
	case 0x69:
	case 0x81:
	case 0xa9:
	case 0xc7:
		return full;
	case 0xe8:
	case 0xe9:
		return 4;
	case 0xc2:
	case 0xca:
		return 2;
	case 0xc8:
		return 3;
	case 0xf6:
		return (i->reg & 7) < 2 ? 1 : 0;
	case 0xf7:
		return (i->reg & 7) < 2 ? full : 0;
	}
	return 0;
}

static bool read_operands(struct unwind_bytes *b, struct instruction *i)
{
	unsigned size = 0;

	if (i->map == 0) {
		if (in_set(one_bad, i->opcode))
			return false;
		if (in_set(one_modrm, i->opcode))
			read_modrm(b, i);
		size = immediate_of_one(i);
	} else if (i->map == 1) {
		if (i->vector ? i->opcode != 0x77 : !in_set(two_no_modrm, i->opcode))
			read_modrm(b, i);
		if (in_set(two_imm8, i->opcode))
			size = 1;
		else if (i->opcode >= 0x80 && i->opcode <= 0x8f && !i->vector)
			size = 4;
	} else {
		read_modrm(b, i);
		size = i->map == 3 ? 1 : 0;
	}
	if (size == 3)
		bytes_take(b, 3);
	else if (size)
		i->immediate = bytes_signed(b, size);
	return !b->bad;
}

/* The prefixes of a vector instruction; the register bits in them do not matter here, as general registers are rarely written. */
static void read_vector(struct unwind_bytes *b, struct instruction *i, uint8_t first)
{
	uint8_t payload = bytes_u8(b);

	i->vector = true;
	i->map = first == 0xc5 ? 1 : payload & 7;
	if (first == 0xc4)
		bytes_u8(b);
	else if (first == 0x62)
		bytes_take(b, 2);
	i->opcode = bytes_u8(b);
}

static bool is_prefix(uint8_t byte)
{
	return byte == 0x66 || byte == 0xf2 || byte == 0xf3 || byte == 0xf0 || byte == 0x64 || byte == 0x65 ||
	       (byte & 0xe7) == 0x26;
}

static bool read_instruction(struct unwind_bytes *b, struct instruction *i)
{
	uint8_t byte = bytes_u8(b);

	memset(i, 0, sizeof *i);
	i->base = 0xff;
	for (unsigned n = 0; is_prefix(byte) && n < 14; n++) {
		i->narrow |= byte == 0x66;
		byte = bytes_u8(b);
	}
	if ((byte & 0xf0) == 0x40) {
		i->rex = byte;
		byte = bytes_u8(b);
	}
	if (byte == 0xc4 || byte == 0xc5 || byte == 0x62) {
		read_vector(b, i, byte);
		if (i->map == 0 || i->map > 3)
			return false;
		return read_operands(b, i);
	}
	i->opcode = byte;
	if (byte == 0x0f) {
		i->map = 1;
		i->opcode = bytes_u8(b);
		if (i->opcode == 0x38 || i->opcode == 0x3a) {
			i->map = i->opcode == 0x38 ? 2 : 3;
			i->opcode = bytes_u8(b);
		}
	}
	return read_operands(b, i);
}

/* ---- states ---- */

static bool known(const struct state *s)
{
	return s->depth >= 0 || s->fp_depth >= 0;
}

static void forget(struct state *s)
{
	s->depth = s->fp_depth = UNKNOWN;
}

static void move_sp(struct state *s, int64_t by)
{
	int64_t depth = s->depth + by;

	if (s->depth >= 0)
		s->depth = depth >= 0 && depth <= DEPTH_MAX ? (int32_t)depth : UNKNOWN;
}

static void push(struct state *s, uint8_t reg)
{
	int8_t index = reg < 16 ? kept_of[reg] : -1;

	move_sp(s, 8);
	if (index >= 0 && s->saved[index] == UNKNOWN)
		s->saved[index] = s->depth;
}

static void pop(struct state *s, uint8_t reg)
{
	int8_t index = reg < 16 ? kept_of[reg] : -1;

	if (index >= 0 && s->saved[index] == s->depth)
		s->saved[index] = UNKNOWN;
	if (reg == BP)
		s->fp_depth = UNKNOWN;
	move_sp(s, -8);
	if (reg == SP)
		s->depth = UNKNOWN;
}

static void leave(struct state *s)
{
	s->depth = s->fp_depth;
	pop(s, BP);
}

/* The register that an ordinary instruction writes, as far as that may be rsp or rbp; 0xff otherwise. */
static uint8_t written(const struct instruction *i)
{
	uint8_t op = i->opcode;
	bool to_reg = false, to_rm = false;

	if (!i->has_modrm || i->vector)
		return 0xff;
	if (i->map == 1) {
		to_reg = (op >= 0x40 && op <= 0x4f) || op == 0xaf || (op >= 0xb6 && op <= 0xbf && op != 0xba);
	} else if (i->map == 0) {
		/* compares (38 to 3b, group 7 of 80 to 83) and tests write nothing */
		to_rm = (op < 0x38 && (op & 7) < 2) || (op >= 0x80 && op <= 0x83 && (i->reg & 7) != 7) || op == 0x86 ||
			op == 0x87 || op == 0x88 || op == 0x89 || op == 0xc0 || op == 0xc1 ||
			(op >= 0xc6 && op <= 0xc7) || (op >= 0xd0 && op <= 0xd3) ||
			(op == 0xf7 && ((i->reg & 7) == 2 || (i->reg & 7) == 3)) || (op == 0xff && (i->reg & 7) < 2);
		to_reg = (op < 0x38 && ((op & 7) == 2 || (op & 7) == 3)) || op == 0x63 || op == 0x69 || op == 0x6b ||
			 op == 0x8a || op == 0x8b || op == 0x8d;
	}
	if (to_reg)
		return i->reg;
	return to_rm && i->mod == 3 ? i->rm : 0xff;
}

/* Writes of the stack pointer that are understood. */
static bool set_sp(struct state *s, const struct instruction *i)
{
	bool group = (i->opcode == 0x81 || i->opcode == 0x83) && i->mod == 3;

	if (group && (i->reg & 7) == 5)
		move_sp(s, i->immediate);
	else if (group && (i->reg & 7) == 0)
		move_sp(s, -i->immediate);
	else if (i->opcode == 0x8d && i->mod != 3 && i->base == SP)
		move_sp(s, -(int64_t)i->displacement);
	else if (i->opcode == 0x8d && i->mod != 3 && i->base == BP && s->fp_depth >= 0 && i->displacement <= 0 &&
		 i->displacement >= -DEPTH_MAX)
		s->depth = s->fp_depth - i->displacement;
	else if (i->mod == 3 && ((i->opcode == 0x89 && i->reg == BP) || (i->opcode == 0x8b && i->rm == BP)))
		s->depth = s->fp_depth;
	else
		return false;
	return true;
}

static void write_register(struct state *s, const struct instruction *i)
{
	uint8_t reg = written(i);

	if (reg == SP && !set_sp(s, i))
		s->depth = UNKNOWN;
	else if (reg == BP && i->mod == 3 &&
		 ((i->opcode == 0x89 && i->reg == SP) || (i->opcode == 0x8b && i->rm == SP)) && i->map == 0)
		s->fp_depth = s->depth;
	else if (reg == BP)
		s->fp_depth = UNKNOWN;
}

static void apply(struct state *s, const struct instruction *i)
{
	uint8_t op = i->opcode, low = (uint8_t)((op & 7) | (i->rex & 1) << 3);

	if (i->map == 0 && op >= 0x50 && op <= 0x57)
		push(s, low);
	else if (i->map == 0 && op >= 0x58 && op <= 0x5f)
		pop(s, low);
	else if (i->map == 0 && (op == 0x68 || op == 0x6a || op == 0x9c || (op == 0xff && (i->reg & 7) == 6)))
		move_sp(s, 8);
	else if (i->map == 0 && (op == 0x9d || op == 0x8f))
		move_sp(s, -8);
	else if (i->map == 0 && op == 0xc9)
		leave(s);
	else if (i->map == 0 && op == 0xc8)
		forget(s);
	else if (i->map == 0 && op >= 0xb8 && op <= 0xbf && low == BP)
		s->fp_depth = UNKNOWN;
	else
		write_register(s, i);
}

/* ---- flow ---- */

static struct target *find_target(struct follow *f, uint32_t at)
{
	if (!(f->is_target[at / 64] >> at % 64 & 1))
		return NULL;
	for (uint32_t i = 0; i < f->n_targets; i++)
		if (f->targets[i].at == at)
			return &f->targets[i];
	return NULL;
}

/* A later pass knows better than the one before. */
static void jump_to(struct follow *f, int64_t at)
{
	struct target *target;

	if (at < 0 || (uint64_t)at >= f->code->end - f->code->begin || !known(&f->state))
		return;
	target = find_target(f, (uint32_t)at);
	if (!target && f->n_targets < TARGETS_MAX)
		target = &f->targets[f->n_targets++];
	if (!target)
		return;
	f->is_target[at / 64] |= 1ull << at % 64;
	*target = (struct target){ (uint32_t)at, f->state };
}

/* Jumps leave the state where they lead. Returns whether the next instruction is reached from this one. */
static bool goes_on(struct follow *f, const struct instruction *i, uint32_t next)
{
	uint8_t op = i->opcode;

	if (i->map == 1) {
		if (op >= 0x80 && op <= 0x8f && !i->vector)
			jump_to(f, (int64_t)next + i->immediate);
		return op != 0x0b || i->vector;
	}
	if (i->map)
		return true;
	if ((op >= 0x70 && op <= 0x7f) || (op >= 0xe0 && op <= 0xe3))
		jump_to(f, (int64_t)next + i->immediate);
	if (op == 0xe9 || op == 0xeb) {
		jump_to(f, (int64_t)next + i->immediate);
		return false;
	}
	if (op == 0xff && (i->reg & 7) == 4) {
		f->at_switch = f->state;
		f->has_switch = true;
		return false;
	}
	return op != 0xc2 && op != 0xc3 && op != 0xcc && op != 0xf4;
}

/* ---- rows ---- */

static int recipe_of(struct unwind_builder *b, const struct state *s, bool entry)
{
	struct unwind_rule list[KEPT + 1];
	struct unwind_recipe recipe = { .reg = UNWIND_X86_RSP,
					.offset = s->depth + 8,
					.flags = entry ? UNWIND_END : 0 };
	uint32_t count = 0;
	int rules;

	/* The frame pointer is surer: a loop may push what nobody can count. */
	if (s->fp_depth >= 0) {
		recipe.reg = UNWIND_X86_RBP;
		recipe.offset = s->fp_depth + 8;
	}
	for (unsigned i = 0; i < KEPT; i++)
		if (s->saved[i] >= 0)
			list[count++] = (struct unwind_rule){ kept[i], UNWIND_RULE_AT, (uint16_t) - (s->saved[i] + 8) };
	list[count++] = (struct unwind_rule){ UNWIND_X86_RIP, UNWIND_RULE_AT, (uint16_t)-8 };
	rules = unwind_builder_rules(b, list, count);
	if (rules < 0)
		return -1;
	recipe.rules = (uint16_t)rules;
	return unwind_builder_recipe(b, recipe);
}

static void add_row(struct follow *f, uint32_t at)
{
	int recipe = -1;

	if (!f->emit)
		return;
	if (known(&f->state) || f->code->entry)
		recipe = recipe_of(f->builder, &f->state, f->code->entry);
	unwind_builder_row(f->builder, f->code->begin + at, recipe < 0 ? UNWIND_NO_RECIPE : (uint16_t)recipe);
}

static void pass(struct follow *f)
{
	const uint8_t *begin = f->code->bytes;
	struct unwind_bytes b = { begin, begin + (f->code->end - f->code->begin), false };
	bool reached = true;

	f->state = (struct state){ .depth = 0, .fp_depth = UNKNOWN };
	for (unsigned i = 0; i < KEPT; i++)
		f->state.saved[i] = UNKNOWN;
	while (b.at < b.end) {
		uint32_t at = (uint32_t)(b.at - begin);
		const struct target *jumped = find_target(f, at);
		struct instruction i;

		if (jumped)
			f->state = jumped->state;
		else if (!reached && f->has_switch)
			f->state = f->at_switch;
		else if (!reached)
			forget(&f->state);
		add_row(f, at);
		if (!read_instruction(&b, &i)) {
			forget(&f->state);
			add_row(f, at);
			return;
		}
		apply(&f->state, &i);
		reached = goes_on(f, &i, (uint32_t)(b.at - begin));
	}
}

void unwind_x86_64_follow(struct unwind_builder *builder, const struct unwind_code *code)
{
	struct follow f;

	f.builder = builder;
	f.code = code;
	f.n_targets = 0;
	memset(f.is_target, 0, (size_t)(code->end - code->begin + 63) / 64 * sizeof f.is_target[0]);
	for (unsigned i = 0; i <= LEARN; i++) {
		f.emit = i == LEARN;
		f.has_switch = false;
		pass(&f);
	}
}

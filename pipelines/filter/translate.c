/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Classic BPF becomes the body of an eBPF function.
 *
 *   r6      the packet: context, address or pointer
 *   r7, r8  A and X, always 32 bits and no more
 *   r9      bytes that are there; of FILTER_SKB where the packet begins
 *   fp-8    what a helper read       fp-16   length of the packet       fp-80...fp-17   M[0] to M[15]
 *
 * One instruction follows the other as in the classic program, each becomes a few; jumps are resolved at the end. The ways of
 * access differ in how a load gets its bytes, and nothing else does.
 *
 * Nothing here gives the verifier much to think: A and X are numbers of which it need not know anything, offsets go to helpers
 * (which check them), and where memory is loaded directly the offset is compared with constants first. The kernel refuses code
 * that no way leads to, so what cannot be reached is left out; what is always outside of a packet ends the filter right there.
 */
#include "filter/program.h"

#include <errno.h>
#include <string.h>

#define FP_BYTES  (-8)
#define FP_LENGTH (-16)
#define FP_MEMORY (-80)

#define OFFSET_MAX 0x7fff0000u /* no packet is as long: loads from there on are always outside */
#define START_MASK 0xffff

enum { R0, R1, R2, R3, R4, R5, PACKET, A, X, CAPTURED, FP, START = CAPTURED };

struct translator {
	const struct filter *filter;
	enum filter_access access;
	struct bpf_insn *out;
	uint32_t n_out, room; /* n_out may go past room: nothing is written there */
	uint32_t *targets; /* of each jump in `out`: a classic instruction, or `reject`; FILTER_PROGRAM_MAX + 1: none */
	uint32_t *places;  /* of each classic instruction, and of `reject`: where it begins in `out` */
	bool *reached;     /* of the same */
	uint32_t reject;
};

#define NO_TARGET (FILTER_PROGRAM_MAX + 1)

/* --- instructions --- */

static void emit(struct translator *t, uint8_t code, uint8_t dst, uint8_t src, int16_t off, uint32_t imm)
{
	if (t->n_out < t->room) {
		t->out[t->n_out] = (struct bpf_insn){
			.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = (int32_t)imm
		};
		t->targets[t->n_out] = NO_TARGET;
	}
	t->n_out++;
}

static void emit_jump(struct translator *t, uint8_t code, uint8_t dst, uint8_t src, uint32_t imm, uint32_t target)
{
	emit(t, code, dst, src, 0, imm);
	if (t->n_out <= t->room)
		t->targets[t->n_out - 1] = target;
	t->reached[target] = true;
}

static void move32(struct translator *t, uint8_t dst, uint32_t value)
{
	emit(t, BPF_ALU | BPF_MOV | BPF_K, dst, 0, 0, value);
}

static void move(struct translator *t, uint8_t dst, uint8_t src)
{
	emit(t, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
}

static void add(struct translator *t, uint8_t dst, uint32_t value)
{
	if (value)
		emit(t, BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, value);
}

static void load(struct translator *t, uint8_t size, uint8_t dst, uint8_t base, int16_t off)
{
	emit(t, BPF_LDX | BPF_MEM | size, dst, base, off, 0);
}

static void store(struct translator *t, int16_t off, uint8_t src)
{
	emit(t, BPF_STX | BPF_MEM | BPF_W, FP, src, off, 0);
}

/* Calls a helper that fills fp-8; no packet has what it fails to read. */
static void read_by(struct translator *t, uint32_t helper)
{
	emit(t, BPF_JMP | BPF_CALL, 0, 0, 0, helper);
	emit_jump(t, BPF_JMP | BPF_JNE | BPF_K, R0, 0, 0, t->reject);
}

static int16_t memory_slot(uint32_t k)
{
	return (int16_t)(FP_MEMORY + 4 * (int)k);
}

/* --- loads: `bytes` at k, or at X + k, into r0 as they lie there --- */

/* bpf_skb_load_bytes(skb, offset, to, n) refuses what is outside, and wants an offset below 2 GiB. */
static void fetch_skb(struct translator *t, uint8_t bytes, uint32_t k, bool indirect)
{
	move(t, R2, START);
	add(t, R2, k);
	if (indirect) {
		emit(t, BPF_ALU64 | BPF_ADD | BPF_X, R2, X, 0, 0);
		emit_jump(t, BPF_JMP | BPF_JGT | BPF_K, R2, 0, INT32_MAX, t->reject);
	}
	move(t, R1, PACKET);
	move(t, R3, FP);
	add(t, R3, (uint32_t)FP_BYTES);
	move32(t, R4, bytes);
	read_by(t, BPF_FUNC_skb_load_bytes);
}

/* bpf_probe_read_kernel(to, n, address), which knows nothing of where the packet ends. */
static void fetch_kernel(struct translator *t, uint8_t bytes, uint32_t k, bool indirect)
{
	if (indirect) {
		move(t, R3, X);
		add(t, R3, k);
		move(t, R1, R3);
		add(t, R1, bytes);
		emit_jump(t, BPF_JMP | BPF_JGT | BPF_X, R1, CAPTURED, 0, t->reject);
		emit(t, BPF_ALU64 | BPF_ADD | BPF_X, R3, PACKET, 0, 0);
	} else {
		emit_jump(t, BPF_JMP32 | BPF_JLT | BPF_K, CAPTURED, 0, k + bytes, t->reject);
		move(t, R3, PACKET);
		add(t, R3, k);
	}
	move(t, R1, FP);
	add(t, R1, (uint32_t)FP_BYTES);
	move32(t, R2, bytes);
	read_by(t, BPF_FUNC_probe_read_kernel);
}

/* The verifier wants the offset below a constant, the packet wants it below what is there. Known bits of X, such as those of a header's
 * length, together with that constant can leave nothing that X may be, and the verifier goes on with a wrong number: what it
 * knows of X is taken away first, by a number of which it knows nothing. */
static void fetch_memory(struct translator *t, uint8_t bytes, uint8_t size, uint32_t k, bool indirect)
{
	if (!indirect) {
		emit_jump(t, BPF_JMP32 | BPF_JLT | BPF_K, CAPTURED, 0, k + bytes, t->reject);
		load(t, size, R0, PACKET, (int16_t)k);
		return;
	}
	move(t, R2, X);
	emit(t, BPF_ALU64 | BPF_XOR | BPF_X, R2, CAPTURED, 0, 0);
	emit(t, BPF_ALU64 | BPF_XOR | BPF_X, R2, CAPTURED, 0, 0);
	add(t, R2, k);
	emit_jump(t, BPF_JMP | BPF_JGT | BPF_K, R2, 0, SONDE_FILTER_BYTES - bytes, t->reject);
	move(t, R1, R2);
	add(t, R1, bytes);
	emit_jump(t, BPF_JMP | BPF_JGT | BPF_X, R1, CAPTURED, 0, t->reject);
	emit(t, BPF_ALU64 | BPF_ADD | BPF_X, R2, PACKET, 0, 0);
	load(t, size, R0, R2, 0);
}

static bool is_outside(const struct translator *t, const struct sock_filter *in)
{
	uint32_t most = t->access == FILTER_MEMORY ? SONDE_FILTER_BYTES - filter_load_bytes(in->code) : OFFSET_MAX;

	return in->k > most;
}

static bool reads_packet(uint16_t code)
{
	return (BPF_CLASS(code) == BPF_LD && (BPF_MODE(code) == BPF_ABS || BPF_MODE(code) == BPF_IND)) ||
	       code == (BPF_LDX | BPF_B | BPF_MSH);
}

static void emit_packet_load(struct translator *t, const struct sock_filter *in)
{
	uint8_t size = BPF_SIZE(in->code), bytes = (uint8_t)filter_load_bytes(in->code);
	bool indirect = BPF_MODE(in->code) == BPF_IND, msh = BPF_CLASS(in->code) == BPF_LDX;

	if (is_outside(t, in)) {
		emit_jump(t, BPF_JMP | BPF_JA, 0, 0, 0, t->reject);
		return;
	}
	if (t->access == FILTER_MEMORY)
		fetch_memory(t, bytes, size, in->k, indirect);
	else if (t->access == FILTER_KERNEL)
		fetch_kernel(t, bytes, in->k, indirect);
	else
		fetch_skb(t, bytes, in->k, indirect);
	if (t->access == FILTER_MEMORY)
		move(t, msh ? X : A, R0);
	else
		load(t, size, msh ? X : A, FP, FP_BYTES);
	if (bytes > 1)
		emit(t, BPF_ALU | BPF_END | BPF_TO_BE, A, 0, 0, 8u * bytes);
	if (msh) {
		emit(t, BPF_ALU | BPF_AND | BPF_K, X, 0, 0, 0xf);
		emit(t, BPF_ALU | BPF_LSH | BPF_K, X, 0, 0, 2);
	}
}

/* What a packet's loads do not read. */
static void emit_load(struct translator *t, const struct sock_filter *in)
{
	uint8_t to = BPF_CLASS(in->code) == BPF_LD ? A : X;

	if (reads_packet(in->code)) {
		emit_packet_load(t, in);
	} else if (BPF_MODE(in->code) == BPF_IMM) {
		move32(t, to, in->k);
	} else if (BPF_MODE(in->code) == BPF_MEM) {
		load(t, BPF_W, to, FP, memory_slot(in->k));
	} else if (t->access == FILTER_SKB) {
		load(t, BPF_W, to, PACKET, offsetof(struct __sk_buff, len));
		emit(t, BPF_ALU | BPF_SUB | BPF_X, to, START, 0, 0);
	} else {
		load(t, BPF_W, to, FP, FP_LENGTH);
	}
}

/* --- arithmetic --- */

static void emit_alu(struct translator *t, const struct sock_filter *in)
{
	uint8_t op = BPF_OP(in->code), source = BPF_SRC(in->code);

	if (op == BPF_NEG) {
		emit(t, BPF_ALU | BPF_NEG, A, 0, 0, 0);
		return;
	}
	if (source == BPF_K) {
		emit(t, BPF_ALU | op | BPF_K, A, 0, 0, in->k);
		return;
	}
	if (op == BPF_DIV || op == BPF_MOD)
		emit_jump(t, BPF_JMP32 | BPF_JEQ | BPF_K, X, 0, 0, t->reject);
	if (op == BPF_LSH || op == BPF_RSH) { /* eBPF shifts by X % 32; classic BPF shifts everything out */
		emit(t, BPF_JMP32 | BPF_JLT | BPF_K, X, 0, 2, 32);
		move32(t, A, 0);
		emit(t, BPF_JMP | BPF_JA, 0, 0, 1, 0);
	}
	emit(t, BPF_ALU | op | BPF_X, A, X, 0, 0);
}

/* --- jumps and returns --- */

/* The condition that holds when this one does not, or 0. */
static uint8_t opposite(uint8_t op)
{
	return op == BPF_JEQ ? BPF_JNE : op == BPF_JGT ? BPF_JLE : op == BPF_JGE ? BPF_JLT : 0;
}

static void emit_branch(struct translator *t, const struct sock_filter *in, uint32_t next)
{
	uint8_t op = BPF_OP(in->code), code = BPF_JMP32 | BPF_SRC(in->code);
	uint32_t imm = BPF_SRC(in->code) == BPF_K ? in->k : 0, yes = next + in->jt, no = next + in->jf;
	uint8_t source = BPF_SRC(in->code) == BPF_X ? X : 0;

	if (yes == no) {
		emit_jump(t, BPF_JMP | BPF_JA, 0, 0, 0, yes);
		return;
	}
	if (yes == next && opposite(op)) {
		emit_jump(t, code | opposite(op), A, source, imm, no);
		t->reached[next] = true;
		return;
	}
	emit_jump(t, code | op, A, source, imm, yes);
	if (no != next)
		emit_jump(t, BPF_JMP | BPF_JA, 0, 0, 0, no);
	t->reached[no] = true;
}

static void emit_return(struct translator *t, const struct sock_filter *in)
{
	if (in->code == (BPF_RET | BPF_A))
		emit(t, BPF_ALU | BPF_MOV | BPF_X, R0, A, 0, 0);
	else
		move32(t, R0, in->k);
	emit(t, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void emit_instruction(struct translator *t, const struct sock_filter *in, uint32_t next)
{
	bool falls_through = true;

	switch (BPF_CLASS(in->code)) {
	case BPF_LD:
	case BPF_LDX:
		emit_load(t, in);
		falls_through = !(reads_packet(in->code) && is_outside(t, in));
		break;
	case BPF_ST:
	case BPF_STX:
		store(t, memory_slot(in->k), BPF_CLASS(in->code) == BPF_ST ? A : X);
		break;
	case BPF_ALU:
		emit_alu(t, in);
		break;
	case BPF_MISC:
		if (BPF_MISCOP(in->code) == BPF_TAX)
			move(t, X, A);
		else
			move(t, A, X);
		break;
	case BPF_JMP:
		if (BPF_OP(in->code) == BPF_JA)
			emit_jump(t, BPF_JMP | BPF_JA, 0, 0, 0, next + in->k);
		else
			emit_branch(t, in, next);
		falls_through = false;
		break;
	default:
		emit_return(t, in);
		falls_through = false;
	}
	if (falls_through)
		t->reached[next] = true;
}

/* --- the whole --- */

static bool asks_length(const struct filter *filter)
{
	for (uint32_t i = 0; i < filter->n; i++)
		if (filter->program[i].code == (BPF_LD | BPF_W | BPF_LEN) ||
		    filter->program[i].code == (BPF_LDX | BPF_W | BPF_LEN))
			return true;
	return false;
}

/* Zeroes the words of memory that are read: the verifier takes no word that was never written. */
static void emit_memory(struct translator *t)
{
	bool done[BPF_MEMWORDS] = { false };

	for (uint32_t i = 0; i < t->filter->n; i++) {
		const struct sock_filter *in = &t->filter->program[i];

		if ((in->code != (BPF_LD | BPF_MEM) && in->code != (BPF_LDX | BPF_MEM)) || done[in->k])
			continue;
		done[in->k] = true;
		emit(t, BPF_ST | BPF_MEM | BPF_W, FP, 0, memory_slot(in->k), 0);
	}
}

static void emit_begin(struct translator *t)
{
	/* A global function's pointer may be none, for all that the verifier knows. */
	if (t->access == FILTER_MEMORY)
		emit_jump(t, BPF_JMP | BPF_JEQ | BPF_K, R1, 0, 0, t->reject);
	move(t, PACKET, R1);
	emit(t, BPF_ALU | BPF_MOV | BPF_X, CAPTURED, R2, 0, 0);
	if (t->access == FILTER_SKB)
		emit(t, BPF_ALU | BPF_AND | BPF_K, START, 0, 0, START_MASK);
	else if (asks_length(t->filter))
		store(t, FP_LENGTH, R3);
	move32(t, A, 0);
	move32(t, X, 0);
	emit_memory(t);
}

/* The code before an instruction that is not emitted, or not next, never runs on: only jumps lead further. */
static void emit_all(struct translator *t)
{
	emit_begin(t);
	t->reached[0] = true;
	for (uint32_t i = 0; i < t->filter->n; i++) {
		t->places[i] = t->n_out;
		if (t->reached[i])
			emit_instruction(t, &t->filter->program[i], i + 1);
	}
	t->places[t->reject] = t->n_out;
	if (t->reached[t->reject]) {
		move32(t, R0, 0);
		emit(t, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	}
}

static int resolve(struct translator *t, struct fault *fault)
{
	if (t->n_out > t->room || t->n_out > INT16_MAX)
		return filter_fault(fault, -E2BIG, t->filter->text, 0,
				    "it takes %u instructions in the kernel, of which there may be %u; shorten it, by "
				    "networks instead of single addresses, say",
				    t->n_out, MIN_OF(t->room, (uint32_t)INT16_MAX));
	for (uint32_t i = 0; i < t->n_out; i++)
		if (t->targets[i] != NO_TARGET)
			t->out[i].off = (int16_t)(t->places[t->targets[i]] - i - 1);
	return (int)t->n_out;
}

int filter_translate(const struct filter *filter, enum filter_access access, struct bpf_insn *ret, size_t room,
		     struct fault *fault)
{
	uint32_t most = (uint32_t)MIN_OF(room, (size_t)INT16_MAX), n = filter->n;
	_cleanup_(free_pointer) uint32_t *targets = calloc(most + 1, sizeof *targets);
	_cleanup_(free_pointer) uint32_t *places = calloc(n + 1, sizeof *places);
	_cleanup_(free_pointer) bool *reached = calloc(n + 1, sizeof *reached);
	struct translator t = { .filter = filter,
				.access = access,
				.out = ret,
				.room = most,
				.targets = targets,
				.places = places,
				.reached = reached,
				.reject = n };

	if (!targets || !places || !reached)
		return -ENOMEM;
	emit_all(&t);
	return resolve(&t, fault);
}

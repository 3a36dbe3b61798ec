/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a translated filter without a kernel: as much of eBPF as pipelines/filter/translate.c writes, and not a bit more. Every address is
 * held against what the program may touch, so a wrong one ends the test rather than reading somewhere.
 */
#ifndef SONDE_TESTS_FILTER_INTERPRET_H
#define SONDE_TESTS_FILTER_INTERPRET_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filter/filter.h"

#define INTERPRET_STACK 512

struct interpreter {
	enum filter_access access;
	const uint8_t *packet;
	uint32_t captured, length;
	uint64_t r[11];
	uint8_t stack[INTERPRET_STACK];
	bool written[INTERPRET_STACK]; /* as the verifier asks it */
	struct __sk_buff skb;
	struct sonde_filter_packet memory;
};

static inline void interpret_check(bool holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "the translated filter %s\n", what);
		abort();
	}
}

/* The byte of the stack at an address. */
static inline size_t interpret_stack(struct interpreter *v, uint64_t address, uint64_t n)
{
	uint64_t at = address - (uint64_t)(uintptr_t)v->stack;

	interpret_check(at < INTERPRET_STACK && n <= INTERPRET_STACK - at, "leaves its stack");
	return (size_t)at;
}

static inline uint64_t interpret_load(struct interpreter *v, uint64_t address, uint32_t n)
{
	uint64_t in_skb = address - (uint64_t)(uintptr_t)&v->skb, in_memory = address - (uint64_t)(uintptr_t)&v->memory;
	uint8_t byte;
	uint16_t half;
	uint32_t word;

	if (v->access == FILTER_SKB && in_skb == offsetof(struct __sk_buff, len) && n == 4)
		return v->skb.len;
	if (v->access != FILTER_MEMORY || in_memory >= sizeof v->memory || n > sizeof v->memory - in_memory) {
		size_t at = interpret_stack(v, address, n);

		for (uint32_t i = 0; i < n; i++)
			interpret_check(v->written[at + i], "reads what it never wrote");
	}
	if (n == 1)
		return memcpy(&byte, (const void *)(uintptr_t)address, 1), byte;
	if (n == 2)
		return memcpy(&half, (const void *)(uintptr_t)address, 2), half;
	return memcpy(&word, (const void *)(uintptr_t)address, 4), word;
}

static inline void interpret_store(struct interpreter *v, uint64_t address, const void *bytes, size_t n)
{
	size_t at = interpret_stack(v, address, n);

	memcpy(v->stack + at, bytes, n);
	memset(v->written + at, true, n);
}

static inline void interpret_call(struct interpreter *v, int32_t helper)
{
	uint64_t n, from, to;

	if (helper == BPF_FUNC_skb_load_bytes) {
		interpret_check(v->access == FILTER_SKB && v->r[1] == (uint64_t)(uintptr_t)&v->skb, "has no packet");
		from = v->r[2], to = v->r[3], n = v->r[4];
		v->r[0] = from <= v->captured && n <= v->captured - from ? 0 : (uint64_t)-14;
	} else {
		interpret_check(helper == BPF_FUNC_probe_read_kernel && v->access == FILTER_KERNEL, "calls a stranger");
		to = v->r[1], n = v->r[2], from = v->r[3] - (uint64_t)(uintptr_t)v->packet;
		interpret_check(from <= v->captured && n <= v->captured - from, "reads outside of the packet");
		v->r[0] = 0;
	}
	if (v->r[0] == 0)
		interpret_store(v, to, v->packet + from, n);
	for (int i = 1; i <= 5; i++)
		v->r[i] = 0x5ca1ab1e5ca1ab1eull; /* a call leaves nothing in them */
}

static inline uint64_t interpret_alu(uint8_t op, uint64_t a, uint64_t b, bool wide)
{
	if (!wide)
		a = (uint32_t)a, b = (uint32_t)b;
	switch (op) {
	case BPF_ADD:
		return a + b;
	case BPF_SUB:
		return a - b;
	case BPF_MUL:
		return a * b;
	case BPF_DIV:
		return b ? a / b : 0;
	case BPF_MOD:
		return b ? a % b : a;
	case BPF_AND:
		return a & b;
	case BPF_OR:
		return a | b;
	case BPF_XOR:
		return a ^ b;
	case BPF_LSH:
		return a << (b & (wide ? 63 : 31));
	case BPF_RSH:
		return a >> (b & (wide ? 63 : 31));
	case BPF_NEG:
		return -a;
	case BPF_MOV:
		return b;
	default:
		interpret_check(false, "computes otherwise");
		return 0;
	}
}

static inline void interpret_compute(struct interpreter *v, const struct bpf_insn *in)
{
	bool wide = BPF_CLASS(in->code) == BPF_ALU64;
	uint64_t b = BPF_SRC(in->code) == BPF_X ? v->r[in->src_reg] : (uint64_t)(int64_t)in->imm, result;

	interpret_check(in->dst_reg < 10, "writes its frame pointer");
	if (BPF_OP(in->code) == BPF_END) {
		result = in->imm == 16 ? (uint64_t)__builtin_bswap16((uint16_t)v->r[in->dst_reg])
				       : (uint64_t)__builtin_bswap32((uint32_t)v->r[in->dst_reg]);
	} else {
		result = interpret_alu(BPF_OP(in->code), v->r[in->dst_reg], b, wide);
		result = wide ? result : (uint32_t)result;
	}
	v->r[in->dst_reg] = result;
}

static inline bool interpret_holds(const struct interpreter *v, const struct bpf_insn *in)
{
	bool wide = BPF_CLASS(in->code) == BPF_JMP;
	uint64_t a = v->r[in->dst_reg];
	uint64_t b = BPF_SRC(in->code) == BPF_X ? v->r[in->src_reg] : (uint64_t)(int64_t)in->imm;

	if (!wide)
		a = (uint32_t)a, b = (uint32_t)b;
	switch (BPF_OP(in->code)) {
	case BPF_JA:
		return true;
	case BPF_JEQ:
		return a == b;
	case BPF_JNE:
		return a != b;
	case BPF_JGT:
		return a > b;
	case BPF_JGE:
		return a >= b;
	case BPF_JLT:
		return a < b;
	case BPF_JLE:
		return a <= b;
	default:
		interpret_check(BPF_OP(in->code) == BPF_JSET, "jumps otherwise");
		return a & b;
	}
}

static inline void interpret_begin(struct interpreter *v)
{
	v->r[10] = (uint64_t)(uintptr_t)v->stack + INTERPRET_STACK;
	if (v->access == FILTER_SKB) {
		v->skb.len = v->captured;
		v->r[1] = (uint64_t)(uintptr_t)&v->skb;
		v->r[2] = 0;
		return;
	}
	v->r[1] = (uint64_t)(uintptr_t)v->packet;
	if (v->access == FILTER_MEMORY) {
		memcpy(v->memory.bytes, v->packet, MIN_OF(v->captured, SONDE_FILTER_BYTES));
		v->r[1] = (uint64_t)(uintptr_t)&v->memory;
	}
	v->r[2] = v->captured;
	v->r[3] = v->length;
}

/* What the function returns. Of FILTER_SKB, a packet has no more bytes than are there. */
static inline uint32_t interpret(const struct bpf_insn *insns, int n, enum filter_access access, const uint8_t *packet,
				 uint32_t captured, uint32_t length)
{
	struct interpreter v = { .access = access, .packet = packet, .captured = captured, .length = length };
	int at = 0;

	interpret_begin(&v);
	for (;;) {
		const struct bpf_insn *in = &insns[at++];
		uint8_t class = BPF_CLASS(in->code);
		uint32_t bytes = BPF_SIZE(in->code) == BPF_W ? 4 : BPF_SIZE(in->code) == BPF_H ? 2 : 1;
		int32_t zero = in->imm;

		interpret_check(at <= n && in->dst_reg <= 10 && in->src_reg <= 10, "runs past its end");
		if (in->code == (BPF_JMP | BPF_EXIT))
			return (uint32_t)v.r[0];
		if (in->code == (BPF_JMP | BPF_CALL)) {
			interpret_call(&v, in->imm);
		} else if (class == BPF_JMP || class == BPF_JMP32) {
			interpret_check(in->off >= 0, "jumps back");
			at += interpret_holds(&v, in) ? in->off : 0;
		} else if (class == BPF_LDX) {
			v.r[in->dst_reg] = interpret_load(&v, v.r[in->src_reg] + (uint64_t)(int64_t)in->off, bytes);
		} else if (class == BPF_ST || class == BPF_STX) {
			interpret_store(&v, v.r[in->dst_reg] + (uint64_t)(int64_t)in->off,
					class == BPF_ST ? (void *)&zero : (void *)&v.r[in->src_reg], bytes);
		} else {
			interpret_compute(&v, in);
		}
	}
}

#endif

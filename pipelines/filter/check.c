/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a program of classic BPF is one that ends, and that all who run it understand alike. The same rules as the kernel's
 * (net/core/filter.c bpf_check_classic()); libpcap's own bpf_validate() lets more pass, among it loops and
 * instructions that its interpreter stops the process for.
 */
#include "filter/program.h"

#include <errno.h>

/* Every instruction there is, with BPF_K and BPF_X where it has both. */
static bool is_code(uint16_t code)
{
	static const uint16_t codes[] = {
		BPF_LD | BPF_W | BPF_ABS,
		BPF_LD | BPF_H | BPF_ABS,
		BPF_LD | BPF_B | BPF_ABS,
		BPF_LD | BPF_W | BPF_IND,
		BPF_LD | BPF_H | BPF_IND,
		BPF_LD | BPF_B | BPF_IND,
		BPF_LD | BPF_W | BPF_LEN,
		BPF_LD | BPF_IMM,
		BPF_LD | BPF_MEM,
		BPF_LDX | BPF_W | BPF_LEN,
		BPF_LDX | BPF_IMM,
		BPF_LDX | BPF_MEM,
		BPF_LDX | BPF_B | BPF_MSH,
		BPF_ST,
		BPF_STX,
		BPF_ALU | BPF_ADD | BPF_K,
		BPF_ALU | BPF_ADD | BPF_X,
		BPF_ALU | BPF_SUB | BPF_K,
		BPF_ALU | BPF_SUB | BPF_X,
		BPF_ALU | BPF_MUL | BPF_K,
		BPF_ALU | BPF_MUL | BPF_X,
		BPF_ALU | BPF_DIV | BPF_K,
		BPF_ALU | BPF_DIV | BPF_X,
		BPF_ALU | BPF_MOD | BPF_K,
		BPF_ALU | BPF_MOD | BPF_X,
		BPF_ALU | BPF_AND | BPF_K,
		BPF_ALU | BPF_AND | BPF_X,
		BPF_ALU | BPF_OR | BPF_K,
		BPF_ALU | BPF_OR | BPF_X,
		BPF_ALU | BPF_XOR | BPF_K,
		BPF_ALU | BPF_XOR | BPF_X,
		BPF_ALU | BPF_LSH | BPF_K,
		BPF_ALU | BPF_LSH | BPF_X,
		BPF_ALU | BPF_RSH | BPF_K,
		BPF_ALU | BPF_RSH | BPF_X,
		BPF_ALU | BPF_NEG,
		BPF_JMP | BPF_JA,
		BPF_JMP | BPF_JEQ | BPF_K,
		BPF_JMP | BPF_JEQ | BPF_X,
		BPF_JMP | BPF_JGT | BPF_K,
		BPF_JMP | BPF_JGT | BPF_X,
		BPF_JMP | BPF_JGE | BPF_K,
		BPF_JMP | BPF_JGE | BPF_X,
		BPF_JMP | BPF_JSET | BPF_K,
		BPF_JMP | BPF_JSET | BPF_X,
		BPF_RET | BPF_K,
		BPF_RET | BPF_A,
		BPF_MISC | BPF_TAX,
		BPF_MISC | BPF_TXA,
	};

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (codes[i] == code)
			return true;
	return false;
}

static bool uses_memory(uint16_t code)
{
	return code == BPF_ST || code == BPF_STX || code == (BPF_LD | BPF_MEM) || code == (BPF_LDX | BPF_MEM);
}

/* What is wrong with the operand of the instruction, or NULL. */
static const char *operand_mistake(const struct sock_filter *in)
{
	uint16_t op = BPF_OP(in->code);

	if (uses_memory(in->code) && in->k >= BPF_MEMWORDS)
		return "has no such word of memory";
	if (BPF_CLASS(in->code) != BPF_ALU || BPF_SRC(in->code) != BPF_K)
		return NULL;
	if ((op == BPF_DIV || op == BPF_MOD) && in->k == 0)
		return "divides by 0";
	if ((op == BPF_LSH || op == BPF_RSH) && in->k >= 32)
		return "shifts by more than 31 bits";
	return NULL;
}

static const char *jump_mistake(const struct sock_filter *in, size_t left)
{
	if (BPF_CLASS(in->code) != BPF_JMP)
		return NULL;
	if (BPF_OP(in->code) == BPF_JA)
		return (int32_t)in->k < 0 ? "jumps back, as protochain needs it, and loops are not for the kernel"
		       : in->k >= left    ? "jumps past the end"
					  : NULL;
	return in->jt >= left || in->jf >= left ? "jumps past the end" : NULL;
}

int filter_check_program(const struct sock_filter *program, size_t n, const char *text, struct fault *fault)
{
	if (n == 0 || n > FILTER_PROGRAM_MAX)
		return filter_fault(fault, n ? -E2BIG : -EINVAL, text, 0,
				    "it takes %zu instructions, of which there may be 1 to %u; shorten it, by networks "
				    "instead of single addresses, say",
				    n, FILTER_PROGRAM_MAX);
	for (size_t i = 0; i < n; i++) {
		const struct sock_filter *in = &program[i];
		const char *mistake = is_code(in->code) ? operand_mistake(in) : "is none of classic BPF";

		if (!mistake)
			mistake = jump_mistake(in, n - 1 - i);
		if (mistake)
			return filter_fault(fault, -EINVAL, text, 0, "instruction %zu (0x%x, %u) %s", i, in->code,
					    in->k, mistake);
	}
	if (BPF_CLASS(program[n - 1].code) != BPF_RET)
		return filter_fault(fault, -EINVAL, text, 0, "the last instruction is no return");
	return 0;
}

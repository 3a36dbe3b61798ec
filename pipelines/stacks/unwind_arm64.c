/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AArch64 for unwinding. Sources: AAPCS64, 6.1.1; DWARF for AArch64, 4.1; Linux arch/arm64/kernel/signal.c: a handler returns with the
 * stack pointer at siginfo (128 bytes), then struct ucontext, whose registers begin at 184.
 *
 * Return addresses may be signed (pointer authentication): the signature lies above the 48 bits (or 52 at most) of a user address.
 */
#include "stacks/unwind_arch.h"

#include <elf.h>

enum { X19 = 19, X28 = 28, FP = 29, LR = 30, SP = 31, PC = 32 };

#define REGISTERS_AT(n) (312 + 8 * (n))

static bool no_kernel_stub(uint64_t pc)
{
	return false;
}

const struct unwind_arch unwind_arm64 = {
	.machine = EM_AARCH64,
	.n_registers = 33,
	.sp = SP,
	.fp = FP,
	.pc = PC,
	.return_column = LR,
	.link = true,
	.kept = 0xfffull << X19,
	.code_mask = (1ull << 52) - 1,
	.go = { .link_from_sp = 0 },
	/* mov x8, #139; svc #0 */
	.sigreturn = { { .size = 8, .bytes = { 0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4 } } },
	.signal_frame = { REGISTERS_AT(0),  REGISTERS_AT(1),  REGISTERS_AT(2),  REGISTERS_AT(3),  REGISTERS_AT(4),
			  REGISTERS_AT(5),  REGISTERS_AT(6),  REGISTERS_AT(7),  REGISTERS_AT(8),  REGISTERS_AT(9),
			  REGISTERS_AT(10), REGISTERS_AT(11), REGISTERS_AT(12), REGISTERS_AT(13), REGISTERS_AT(14),
			  REGISTERS_AT(15), REGISTERS_AT(16), REGISTERS_AT(17), REGISTERS_AT(18), REGISTERS_AT(19),
			  REGISTERS_AT(20), REGISTERS_AT(21), REGISTERS_AT(22), REGISTERS_AT(23), REGISTERS_AT(24),
			  REGISTERS_AT(25), REGISTERS_AT(26), REGISTERS_AT(27), REGISTERS_AT(28), REGISTERS_AT(29),
			  REGISTERS_AT(30), REGISTERS_AT(31), REGISTERS_AT(32) },
	.is_kernel_stub = no_kernel_stub,
};

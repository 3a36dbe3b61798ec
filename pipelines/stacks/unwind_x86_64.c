/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86-64 for unwinding. Sources: System V ABI, AMD64 supplement, 3.2.1 (kept registers) and figure 3.36 (DWARF numbers);
 * Linux arch/x86/include/uapi/asm/sigcontext.h: a handler returns with the stack pointer at struct ucontext, whose registers begin at 40.
 */
#include "stacks/unwind_arch.h"

#include <elf.h>

enum { RAX, RDX, RCX, RBX, RSI, RDI, RBP, RSP, R8, R9, R10, R11, R12, R13, R14, R15, RIP };

/* Where gettimeofday and two more lived before the vDSO; each is `mov, syscall, ret`. */
static bool in_vsyscall_page(uint64_t pc)
{
	return pc >> 12 == 0xffffffffff600000ull >> 12;
}

const struct unwind_arch unwind_x86_64 = {
	.machine = EM_X86_64,
	.n_registers = 17,
	.sp = RSP,
	.fp = RBP,
	.pc = RIP,
	.return_column = RIP,
	.call_bytes = 8,
	.kept = 1u << RBX | 1u << RBP | 1u << R12 | 1u << R13 | 1u << R14 | 1u << R15,
	.code_mask = ~0ull,
	.go = { .fp_from_cfa = -16 },
	.sigreturn = { { .size = 9, .bytes = { 0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05 } },
		       { .size = 7, .bytes = { 0xb8, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05 } } },
	.signal_frame = { [R8] = 40,
			  [R9] = 48,
			  [R10] = 56,
			  [R11] = 64,
			  [R12] = 72,
			  [R13] = 80,
			  [R14] = 88,
			  [R15] = 96,
			  [RDI] = 104,
			  [RSI] = 112,
			  [RBP] = 120,
			  [RBX] = 128,
			  [RDX] = 136,
			  [RAX] = 144,
			  [RCX] = 152,
			  [RSP] = 160,
			  [RIP] = 168 },
	.is_kernel_stub = in_vsyscall_page,
};

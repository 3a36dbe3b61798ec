/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86-64 for unwinding. Sources: System V ABI, AMD64 supplement, 3.2.1 (kept registers) and figure 3.36 (DWARF numbers);
 * Linux arch/x86/include/uapi/asm/sigcontext.h: a handler returns with the stack pointer at struct ucontext, whose registers begin at 40.
 */
#include "stacks/unwind_x86_64.h"

#include <elf.h>

/* Where gettimeofday and two more lived before the vDSO; each is `mov, syscall, ret`. */
static bool in_vsyscall_page(uint64_t pc)
{
	return pc >> 12 == 0xffffffffff600000ull >> 12;
}

const struct unwind_arch unwind_x86_64 = {
	.machine = EM_X86_64,
	.n_registers = 17,
	.sp = UNWIND_X86_RSP,
	.fp = UNWIND_X86_RBP,
	.pc = UNWIND_X86_RIP,
	.return_column = UNWIND_X86_RIP,
	.call_bytes = 8,
	.kept = 1u << UNWIND_X86_RBX | 1u << UNWIND_X86_RBP | 1u << UNWIND_X86_R12 | 1u << UNWIND_X86_R13 |
		1u << UNWIND_X86_R14 | 1u << UNWIND_X86_R15,
	.code_mask = ~0ull,
	.go = { .fp_from_cfa = -16 },
	.sigreturn = { { .size = 9, .bytes = { 0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05 } },
		       { .size = 7, .bytes = { 0xb8, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05 } } },
	.signal_frame = { [UNWIND_X86_R8] = 40,
			  [UNWIND_X86_R9] = 48,
			  [UNWIND_X86_R10] = 56,
			  [UNWIND_X86_R11] = 64,
			  [UNWIND_X86_R12] = 72,
			  [UNWIND_X86_R13] = 80,
			  [UNWIND_X86_R14] = 88,
			  [UNWIND_X86_R15] = 96,
			  [UNWIND_X86_RDI] = 104,
			  [UNWIND_X86_RSI] = 112,
			  [UNWIND_X86_RBP] = 120,
			  [UNWIND_X86_RBX] = 128,
			  [UNWIND_X86_RDX] = 136,
			  [UNWIND_X86_RAX] = 144,
			  [UNWIND_X86_RCX] = 152,
			  [UNWIND_X86_RSP] = 160,
			  [UNWIND_X86_RIP] = 168 },
	.is_kernel_stub = in_vsyscall_page,
	.follow_code = unwind_x86_64_follow,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* x86-64's registers as DWARF numbers them, and the part of unwind_x86_64 that reads instructions. */
#ifndef SONDE_UNWIND_X86_64_H
#define SONDE_UNWIND_X86_64_H

#include "stacks/unwind_arch.h"

enum {
	UNWIND_X86_RAX,
	UNWIND_X86_RDX,
	UNWIND_X86_RCX,
	UNWIND_X86_RBX,
	UNWIND_X86_RSI,
	UNWIND_X86_RDI,
	UNWIND_X86_RBP,
	UNWIND_X86_RSP,
	UNWIND_X86_R8,
	UNWIND_X86_R9,
	UNWIND_X86_R10,
	UNWIND_X86_R11,
	UNWIND_X86_R12,
	UNWIND_X86_R13,
	UNWIND_X86_R14,
	UNWIND_X86_R15,
	UNWIND_X86_RIP,
};

void unwind_x86_64_follow(struct unwind_builder *builder, const struct unwind_code *code);

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A stack as the kernel side takes it: the kernel's frames, the program's registers, and a bounded copy of the program's stack, which
 * user space unwinds. In a record it lies behind the event's own struct:
 *
 *	struct NAME_sample | struct sonde_stack | __u64 kernel frames, leaf first | bytes of the program's stack, from its stack pointer up
 */
#ifndef SONDE_STACK_H
#define SONDE_STACK_H

#include "sonde/event.h"

/* Registers in the order in which DWARF numbers them, the program counter last. */
#if defined(__aarch64__) || defined(__TARGET_ARCH_arm64)
#define SONDE_REGISTERS   33 /* x0 to x30, sp, pc */
#define SONDE_REGISTER_SP 31
#define SONDE_REGISTER_FP 29
#define SONDE_REGISTER_PC 32
#else
#define SONDE_REGISTERS   17 /* rax rdx rcx rbx rsi rdi rbp rsp r8 to r15 rip */
#define SONDE_REGISTER_SP 7
#define SONDE_REGISTER_FP 6
#define SONDE_REGISTER_PC 16
#endif

#define SONDE_STACK_KERNEL_MAX 127         /* frames, kernel.perf_event_max_stack's default */
#define SONDE_STACK_SLICE_MAX  (64u << 10) /* bytes of the program's stack */

#define SONDE_STACK_USER       1u /* registers are the program's; without it there is no program side */
#define SONDE_STACK_COMPAT     2u /* a 32-bit program: registers are widened */
#define SONDE_STACK_CUT        4u /* the slice ends before the stack does: its size class is full */
#define SONDE_STACK_KERNEL_CUT 8u /* more kernel frames than fit */

#define SONDE_STACK_BELOW 16u /* the slice begins SONDE_STACK_RED_ZONE bytes below the stack pointer */

#define SONDE_STACK_RED_ZONE 128u /* bytes below the stack pointer that code may use without moving it */

struct sonde_stack {
	__u16 n_kernel; /* kernel frames behind this struct */
	__u16 flags;    /* SONDE_STACK_* */
	__u32 n_slice; /* bytes of the program's stack behind the frames, at most SONDE_STACK_SLICE_MAX and a red zone */
	__u64 registers[SONDE_REGISTERS];
};

/* A stack that belongs to an event of another record (module option `stack`): it comes first, in the same ring. */
struct sonde_stack_sample {
	struct sonde_event event;
	__u64 number; /* what the event calls it by */
	struct sonde_stack stack;
};

#define SONDE_STACK_BYTES(n_kernel, n_slice) (sizeof(struct sonde_stack) + (n_kernel) * sizeof(__u64) + (n_slice))

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The one place of this module that knows the processor: the registers that a thread entered the kernel with, which system call that
 * was, and which calls wait for the file of their first argument.
 */
#ifndef SONDE_OFFCPU_CALL_H
#define SONDE_OFFCPU_CALL_H

#include "sonde/stack.bpf.h"

/* How a thread entered the kernel. */
struct call {
	__u64 ip, sp;
	__u64 arguments[3];
	__s32 number; /* -1: by no system call, or by one of a 32-bit program */
	__u32 _pad;
};

#define CALLS_WORDS 8 /* bits of calls up to number 511 */
#define CALL(n)     (1ull << ((n)&63))

#if defined(__TARGET_ARCH_arm64)

#define CALL_FUTEX 98
/* flock 32, ioctl 29, fallocate 47, getdents64 61, read to pwritev 63 to 70 | sendfile 71, splice 76, sync to sync_file_range 81 to 84 */
static const __u64 calls_of_files[CALLS_WORDS] __attribute__((section(".rodata"))) = {
	CALL(29) | CALL(32) | CALL(46) | CALL(47) | CALL(61) | CALL(63),
	CALL(64) | CALL(65) | CALL(66) | CALL(67) | CALL(68) | CALL(69) | CALL(70) | CALL(71) | CALL(76) | CALL(82) |
		CALL(83) | CALL(84),
	0,
	/* accept 202, connect 203, sendto 206, recvfrom 207, sendmsg 211, recvmsg 212, accept4 242, recvmmsg 243 */
	CALL(202) | CALL(203) | CALL(206) | CALL(207) | CALL(211) | CALL(212) | CALL(242) | CALL(243),
	CALL(267) | CALL(269) | CALL(285) | CALL(286) |
		CALL(287), /* syncfs, sendmmsg, copy_file_range, preadv2, pwritev2 */
};

sonde_inline void read_call(struct pt_regs *regs, struct call *to)
{
	struct user_pt_regs *user = &regs->user_regs;

	to->ip = user->pc;
	to->sp = user->sp;
	to->arguments[0] = user->regs[0];
	to->arguments[1] = user->regs[1];
	to->arguments[2] = user->regs[2];
	to->number = user->pstate & 0x10 ? -1 : regs->syscallno;
}

sonde_inline bool may_be_call(struct pt_regs *regs, __s32 number)
{
	return regs->syscallno == number;
}

#else

#define CALL_FUTEX 202
static const __u64 calls_of_files[CALLS_WORDS] __attribute__((section(".rodata"))) = {
	/* read, write, ioctl, pread64 to writev, sendfile, connect, accept, sendto, recvfrom, sendmsg, recvmsg */
	CALL(0) | CALL(1) | CALL(16) | CALL(17) | CALL(18) | CALL(19) | CALL(20) | CALL(40) | CALL(42) | CALL(43) |
		CALL(44) | CALL(45) | CALL(46) | CALL(47),
	/* fcntl, flock, fsync, fdatasync, ftruncate, getdents */
	CALL(72) | CALL(73) | CALL(74) | CALL(75) | CALL(77) | CALL(78), 0, CALL(217), /* getdents64 */
	/* splice, sync_file_range, fallocate, accept4, preadv, pwritev, recvmmsg, syncfs, sendmmsg */
	CALL(275) | CALL(277) | CALL(285) | CALL(288) | CALL(295) | CALL(296) | CALL(299) | CALL(306) | CALL(307),
	CALL(326) | CALL(327) | CALL(328), /* copy_file_range, preadv2, pwritev2 */
};

/* SYSCALL leaves the return address in rcx as well, so that both are saved alike; an exception leaves what the program had there, and its
 * error code where the call's number would be. Source: arch/x86/entry/entry_64.S. */
sonde_inline void read_call(struct pt_regs *regs, struct call *to)
{
	to->ip = regs->ip;
	to->sp = regs->sp;
	to->arguments[0] = regs->di;
	to->arguments[1] = regs->si;
	to->arguments[2] = regs->dx;
	to->number = regs->cx == regs->ip && !sonde_is_compat(regs->cs) ? (__s32)regs->orig_ax : -1;
}

/* A quick look; read_call() is sure. */
sonde_inline bool may_be_call(struct pt_regs *regs, __s32 number)
{
	return (__s32)regs->orig_ax == number;
}

#endif

/* Whether a call waits for the file that its first argument names. */
sonde_inline bool call_has_file(__s32 number)
{
	__u32 n = (__u32)number;

	return n < CALLS_WORDS * 64 && calls_of_files[(n / 64) & (CALLS_WORDS - 1)] & CALL(n);
}

#endif

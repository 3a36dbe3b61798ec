/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Taking a stack: the kernel's frames by its own unwinder, the program's registers, and a copy of the program's stack, read page by page
 * up to where it ends, as far as the slice has room. Reading user memory here never sleeps: what is not in memory ends the slice.
 *
 * The end of the stack, so that no more is copied than there is: of a process's first thread where its arguments begin, of other
 * threads the thread control block, which libcs put on top of the stack, of goroutines what their descriptor says. All of these are the
 * program's own words: a wrong one costs frames of that program and nothing else.
 */
#ifndef SONDE_STACK_BPF_H
#define SONDE_STACK_BPF_H

#include "sonde/vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "sonde/stack.h"

#ifndef sonde_inline
#define sonde_inline static __attribute__((always_inline, unused)) inline
#endif

#define SONDE_PF_USER_WORKER 0x4000 /* io_uring's threads: a program's memory, but no program */
#define SONDE_PF_IO_WORKER   0x10
#define SONDE_PF_KTHREAD     0x200000

#define SONDE_STACK_PAGE       4096u
#define SONDE_MAIN_STACK_MAX   (1ull << 30)
#define SONDE_THREAD_STACK_MAX (64ull << 20)

sonde_inline bool sonde_is_program(struct task_struct *task)
{
	return task->mm && !(task->flags & (SONDE_PF_KTHREAD | SONDE_PF_USER_WORKER | SONDE_PF_IO_WORKER));
}

#if defined(__TARGET_ARCH_arm64)
#define SONDE_USER_MODE(regs)     (((regs)->pstate & 0xf) == 0)
#define SONDE_THREAD_BASE(task)   ((task)->thread.uw.tp_value)
#define SONDE_STACK_ADDRESS(regs) ((regs)->sp)

/* From a pt_regs that the verifier knows, or from a perf event's. */
#define sonde_take_registers(stack, from)                                                                              \
	({                                                                                                             \
		for (int i_ = 0; i_ < 31; i_++)                                                                        \
			(stack)->registers[i_] = (from)->regs[i_];                                                     \
		(stack)->registers[31] = (from)->sp;                                                                   \
		(stack)->registers[32] = (from)->pc;                                                                   \
		(stack)->flags |= (from)->pstate & 0x10 ? SONDE_STACK_COMPAT : 0;                                      \
	})
#define SONDE_PT_REGS(regs) (&(regs)->user_regs)
#else
#define SONDE_USER_MODE(regs)   ((*(volatile unsigned long *)&(regs)->cs & 3) == 3)
#define SONDE_THREAD_BASE(task) ((task)->thread.fsbase)
#define SONDE_USER32_CS         0x23
#define sonde_is_compat(cs)     (*(volatile typeof(cs) *)&(cs) == SONDE_USER32_CS ? SONDE_STACK_COMPAT : 0)

#define sonde_take_registers(stack, from)                                                                              \
	({                                                                                                             \
		(stack)->registers[0] = (from)->ax;                                                                    \
		(stack)->registers[1] = (from)->dx;                                                                    \
		(stack)->registers[2] = (from)->cx;                                                                    \
		(stack)->registers[3] = (from)->bx;                                                                    \
		(stack)->registers[4] = (from)->si;                                                                    \
		(stack)->registers[5] = (from)->di;                                                                    \
		(stack)->registers[6] = (from)->bp;                                                                    \
		(stack)->registers[7] = (from)->sp;                                                                    \
		(stack)->registers[8] = (from)->r8;                                                                    \
		(stack)->registers[9] = (from)->r9;                                                                    \
		(stack)->registers[10] = (from)->r10;                                                                  \
		(stack)->registers[11] = (from)->r11;                                                                  \
		(stack)->registers[12] = (from)->r12;                                                                  \
		(stack)->registers[13] = (from)->r13;                                                                  \
		(stack)->registers[14] = (from)->r14;                                                                  \
		(stack)->registers[15] = (from)->r15;                                                                  \
		(stack)->registers[16] = (from)->ip;                                                                   \
		(stack)->flags |= sonde_is_compat((from)->cs);                                                         \
	})
#define SONDE_PT_REGS(regs) (regs)
#endif

struct sonde_goroutine {
	__u64 low, high;
};

/* Go keeps the running goroutine right below the thread's base. */
sonde_inline __u64 sonde_goroutine_end(__u64 base, __u64 sp)
{
	struct sonde_goroutine g = {};
	__u64 at = 0;

	if (bpf_probe_read_user(&at, sizeof at, (void *)(base - 8)) < 0 || !at ||
	    bpf_probe_read_user(&g, sizeof g, (void *)at) < 0)
		return 0;
	return g.low <= sp && sp < g.high && g.high - g.low <= SONDE_MAIN_STACK_MAX ? g.high : 0;
}

/* Where the stack that holds `sp` ends; 0: not known. */
sonde_inline __u64 sonde_stack_end(struct task_struct *task, __u64 sp)
{
	__u64 main = task->mm->start_stack, base = SONDE_THREAD_BASE(task), end;

	if (sp <= main && main - sp < SONDE_MAIN_STACK_MAX)
		return main + 16; /* with the count of arguments, where the first function's frame ends */
	if (!base)
		return 0;
	end = sonde_goroutine_end(base, sp);
	if (end)
		return end;
	return sp < base && base - sp < SONDE_THREAD_STACK_MAX ? base : 0;
}

/* Copies `wanted` bytes of the stack, from `sp` on, to `to`, which has room for `room` (a constant) and one page more, as
 * the verifier cannot know that a step ends where the slice does. Returns how many could be read: the
 * stack ends where memory does, and then it is not `*cut`. */
sonde_inline __u32 sonde_copy_slice(__u8 *to, const __u32 room, __u64 sp, __u32 wanted, bool *cut)
{
	__u32 done = 0;

	for (__u32 i = 0; i < room / SONDE_STACK_PAGE + 2; i++) {
		__u32 step = SONDE_STACK_PAGE - (__u32)((sp + done) & (SONDE_STACK_PAGE - 1)), last;
		__u64 at;
		__u8 *into;

		if (step > wanted - done)
			step = wanted - done;
		/* Compilers know the bounds of both. Older verifiers know them of a register that was just compared, not of one that is read
		 * back from the stack after it: what is added to the pointer is added at once, and what is masked is bounded wherever it
		 * is kept. */
		at = done;
		barrier_var(at);
		if (at >= room || !step)
			break;
		into = to + at;
		barrier_var(into);
		last = step - 1;
		barrier_var(last);
		last &= SONDE_STACK_PAGE - 1;
		if (bpf_probe_read_user(into, last + 1, (void *)(sp + done)) < 0) {
			*cut = false;
			break;
		}
		done += step;
	}
	return done;
}

/* What there is to copy of the program's stack, and how much of it. */
struct sonde_extent {
	__u64 sp;
	__u32 wanted;
	bool cut;
};

/* Of the stack that `sp` is in, at most `limit` bytes. */
sonde_inline void sonde_measure_stack(struct task_struct *task, __u64 sp, __u32 limit, struct sonde_extent *ret)
{
	__u64 end = sonde_stack_end(task, sp);

	ret->sp = sp;
	ret->wanted = limit;
	ret->cut = !end || end - sp > limit;
	if (!ret->cut)
		ret->wanted = (__u32)(end - sp);
}

/* The red zone too, where code that ran in it may have left what its callers are found by. Not where that is on another page, which may not
 * be there. */
sonde_inline void sonde_take_red_zone(struct sonde_stack *stack, struct sonde_extent *x)
{
	if ((x->sp & (SONDE_STACK_PAGE - 1)) < SONDE_STACK_RED_ZONE)
		return;
	stack->flags |= SONDE_STACK_BELOW;
	x->sp -= SONDE_STACK_RED_ZONE;
	x->wanted += SONDE_STACK_RED_ZONE;
}

/* Behind `stack`, which has what `head` says, the kernel's unwinder left `got` bytes or an error; the copy of the program's stack comes behind
 * them, in `room` (a constant) bytes. Returns how many bytes there are behind it. */
sonde_inline __u32 sonde_fill_stack(struct sonde_stack *stack, const struct sonde_extent *x, long got, const __u32 room)
{
	__u32 kernel = got > 0 ? ((__u32)got / sizeof(__u64)) & 127 : 0, copied = 0;
	bool cut = x->cut;

	if (kernel == SONDE_STACK_KERNEL_MAX)
		stack->flags |= SONDE_STACK_KERNEL_CUT;
	if (stack->flags & SONDE_STACK_USER)
		copied = sonde_copy_slice((__u8 *)(stack + 1) + kernel * sizeof(__u64), room, x->sp, x->wanted, &cut);
	if (cut)
		stack->flags |= SONDE_STACK_CUT;
	stack->n_kernel = (__u16)kernel;
	stack->n_slice = copied;
	return kernel * sizeof(__u64) + copied;
}

#endif

// SPDX-License-Identifier: GPL-2.0-only
/*
 * One sample: who runs, the kernel's stack, the program's registers and a copy of its stack, for user space to unwind. Stacks differ in
 * length by a factor of a thousand: how much there is to copy is known before, and the sample is built in the ring, in the smallest of
 * three size classes that holds it.
 */
#include "sonde/probe.bpf.h"
#include "cpu.h"
#include "burst.bpf.h"

#define KERNEL_BYTES (SONDE_STACK_KERNEL_MAX * sizeof(__u64))
#define SMALL_SLICE  2048u
#define MEDIUM_SLICE 12288u

SONDE_SETTING(__u32, slice, SONDE_STACK_SLICE_MAX, 1024, SONDE_STACK_SLICE_MAX, "bytes",
	      "the most that is copied of a program's stack");

/* Registers as the program has them: in the event where it interrupted the program, else where the kernel saved them. */
sonde_inline void take_program(struct bpf_perf_event_data *ctx, struct task_struct *task, struct sonde_stack *stack)
{
	struct pt_regs *saved;

	if (!sonde_is_program(task))
		return;
	stack->flags |= SONDE_STACK_USER;
	if (SONDE_USER_MODE(&ctx->regs)) {
		sonde_take_registers(stack, &ctx->regs);
		return;
	}
	saved = (struct pt_regs *)bpf_task_pt_regs(task);
	sonde_take_registers(stack, SONDE_PT_REGS(saved));
}

/* `room` is a constant: bytes of the slice's size class. */
sonde_inline void take_sample(struct bpf_perf_event_data *ctx, struct sonde_counts *counts,
			      const struct sonde_owner *owner, const struct sonde_stack *head,
			      const struct sonde_extent *x, __u64 period_ns, const __u32 room)
{
	struct cpu_sample *s = bpf_ringbuf_reserve(&sonde_bulk, sizeof *s + KERNEL_BYTES + room + SONDE_STACK_PAGE, 0);
	long got;

	if (!s) {
		__sync_fetch_and_add(&counts->dropped[SONDE_DROP_RING_FULL], 1);
		return;
	}
	sonde_fill_header(&s->event, cpu_sample_type.id, owner);
	s->period_ns = period_ns;
	s->stack = *head;
	got = bpf_get_stack(ctx, s + 1, KERNEL_BYTES, 0);
	sonde_submit(cpu_sample, s, sizeof *s + sonde_fill_stack(&s->stack, x, got, room));
}

sonde_inline int sample(struct bpf_perf_event_data *ctx, __u64 period_ns)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct sonde_counts *counts = sonde_counts_of(cpu_sample_type.id);
	struct sonde_stack head = {};
	struct sonde_owner owner;
	struct sonde_extent x = {};

	/* The idle task: no time of anybody's. */
	if (!(__u32)bpf_get_current_pid_tgid() || !counts)
		return 0;
	__sync_fetch_and_add(&counts->produced, 1);
	sonde_owner_current(&owner);
	if (owner.filtered) {
		__sync_fetch_and_add(&counts->filtered, 1);
		return 0;
	}
	take_program(ctx, task, &head);
	if (head.flags & SONDE_STACK_USER) {
		sonde_measure_stack(task, head.registers[SONDE_REGISTER_SP], slice, &x);
		if (SONDE_USER_MODE(&ctx->regs))
			sonde_take_red_zone(&head, &x);
	}
	if (x.wanted <= SMALL_SLICE)
		take_sample(ctx, counts, &owner, &head, &x, period_ns, SMALL_SLICE);
	else if (x.wanted <= MEDIUM_SLICE)
		take_sample(ctx, counts, &owner, &head, &x, period_ns, MEDIUM_SLICE);
	else
		take_sample(ctx, counts, &owner, &head, &x, period_ns, SONDE_STACK_SLICE_MAX + SONDE_STACK_RED_ZONE);
	return 0;
}

/* Of every CPU. */
SEC("perf_event")
int sample__perf_event(struct bpf_perf_event_data *ctx)
{
	return cpu_burst_period() ? 0 : sample(ctx, 0);
}

/* Of the threads of a burst. */
SEC("perf_event")
int burst__perf_event(struct bpf_perf_event_data *ctx)
{
	__u64 period_ns = cpu_burst_period();

	return period_ns ? sample(ctx, period_ns) : 0;
}

char LICENSE[] SEC("license") = "GPL";

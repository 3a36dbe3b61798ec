// SPDX-License-Identifier: GPL-2.0-only
/*
 * One sample: who runs, the kernel's stack, the program's stack by frame pointers. Stacks differ in length by a factor of a
 * hundred, so the sample is built in per-CPU memory and only what is used is copied into the ring. That is safe here and not in
 * tracepoints: a perf_event program runs with interrupts off, and the kernel never starts a second one on the same CPU
 * meanwhile (kernel/events/core.c, bpf_overflow_handler() and bpf_prog_active).
 */
#include "sonde/probe.bpf.h"
#include "cpu.h"

#define DEPTH_BYTES (CPU_DEPTH_MAX * sizeof(__u64))

struct scratch {
	struct cpu_sample sample;
	__u64 frames[2 * (CPU_DEPTH_MAX + 1)];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} cpu_scratch SEC(".maps");

/* Frames written at `to`. A side that is not there (a kernel thread's program, the kernel of a task in user mode) has none. */
sonde_inline __u32 take_frames(void *ctx, __u64 *to, __u64 flags)
{
	long bytes = bpf_get_stack(ctx, to, DEPTH_BYTES, flags);

	if (bytes < 0)
		return 0;
	return (__u32)bytes / sizeof(__u64);
}

SEC("perf_event")
int sample__perf_event(void *ctx)
{
	__u32 zero = 0, size;
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct scratch *s;
	struct sonde_counts *counts = sonde_counts_of(cpu_sample_type.id);
	struct sonde_owner owner;
	__u32 kernel, user, wake;

	/* The idle task: no time of anybody's. */
	if (!(__u32)pid_tgid || !counts)
		return 0;
	s = bpf_map_lookup_elem(&cpu_scratch, &zero);
	if (!s)
		return 0;
	__sync_fetch_and_add(&counts->produced, 1);
	sonde_owner_current(&owner);
	if (owner.filtered) {
		__sync_fetch_and_add(&counts->filtered, 1);
		return 0;
	}
	kernel = take_frames(ctx, s->frames, 0) & 127;
	user = take_frames(ctx, &s->frames[kernel], BPF_F_USER_STACK) & 127;
	sonde_fill_header(&s->sample.event, cpu_sample_type.id, &owner);
	s->sample.n_kernel = (__u16)kernel;
	s->sample.n_user = (__u16)user;
	s->sample.truncated = kernel == CPU_DEPTH_MAX || user == CPU_DEPTH_MAX;
	size = sizeof s->sample + (kernel + user) * sizeof(__u64);
	s->sample.event.size = size;
	if (size > sizeof *s) { /* cannot be, but the verifier wants to hear it */
		__sync_fetch_and_add(&counts->dropped[SONDE_DROP_TOO_LARGE], 1);
		return 0;
	}
	wake = bpf_ringbuf_query(&sonde_bulk, BPF_RB_AVAIL_DATA) > sonde_wake_bulk ? BPF_RB_FORCE_WAKEUP
										   : BPF_RB_NO_WAKEUP;
	if (bpf_ringbuf_output(&sonde_bulk, s, size, wake) < 0)
		__sync_fetch_and_add(&counts->dropped[SONDE_DROP_RING_FULL], 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel side of bursts. Two programs sample: the one of every CPU, and the one of the burst's threads. Both ask
 * cpu_burst_of(): a thread that is part of a burst is the burst program's alone, any other is the other's alone, so no time
 * is counted twice and none is left out, at the burst's begin and end too.
 */
#ifndef SONDE_BURST_BPF_H
#define SONDE_BURST_BPF_H

#include "burst_map.h"

#define CPU_BURSTS_MAX 8

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CPU_BURSTS_MAX);
	__type(key, __u32);
	__type(value, struct cpu_burst);
} cpu_bursts SEC(".maps");

/* ns of CPU time that one sample of the current thread's burst stands for; 0: it is part of none. */
sonde_inline __u64 cpu_burst_period(void)
{
	__u32 tgid = (__u32)(bpf_get_current_pid_tgid() >> 32);
	struct cpu_burst *b = bpf_map_lookup_elem(&cpu_bursts, &tgid);
	struct task_struct *task;
	__u64 now, began;

	if (!b)
		return 0;
	now = bpf_ktime_get_boot_ns();
	if (now < b->from || now >= b->until)
		return 0;
	task = (struct task_struct *)bpf_get_current_task();
	began = BPF_CORE_READ(task, start_boottime);
	if (began >= b->young_from && began <= b->young_to)
		return 0;
	return b->period_ns;
}

#endif

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Everything here is read from what the kernel keeps with each thread: time run, time waited for a CPU (run_delay), since when it is
 * runnable (last_queued), switches, migrations. Two things it does not keep, and they are what a switch costs: how the waits for a CPU were
 * distributed, and which part of its sleep was uninterruptible. Both are added up with the thread, for one look at its storage as it
 * is switched in, without a clock and without a shared table.
 *
 * The wait that ends with a switch is only in run_delay once the switch is done: each switch counts the one before, and a reading of all
 * threads at the window's end (or the thread's own end) the last.
 */
#include "sonde/probe.bpf.h"
#include "sched.h"

/* What is kept with each thread. The marks are as of the last reading of all threads. */
struct thread {
	__u64 sum;   /* blocked time up to the last switch in, plus a constant: see probes/offcpu/offcpu.bpf.c */
	__u64 left;  /* voluntary switches until then */
	__u64 delay; /* run_delay that is in the histogram */
	__u64 blocked_ns, max_ns;
	__u64 mark_time, mark_running, mark_delay, mark_counted, mark_left, mark_put_off, mark_migrations;
	__u32 hist[SCHED_BUCKETS];
	__u32 known;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct thread);
} sched_threads SEC(".maps");

sonde_inline __u32 log2_of(__u32 v)
{
	__u32 r = 0;

	if (v >> 16) {
		r += 16;
		v >>= 16;
	}
	if (v >> 8) {
		r += 8;
		v >>= 8;
	}
	if (v >> 4) {
		r += 4;
		v >>= 4;
	}
	if (v >> 2) {
		r += 2;
		v >>= 2;
	}
	return r + (v >> 1);
}

sonde_inline __u32 bucket_of(__u64 ns)
{
	__u32 log;

	if (ns < 1u << SCHED_FIRST_LOG)
		return 0;
	if (ns >= 2ull << SCHED_LAST_LOG)
		return SCHED_BUCKETS - 1;
	log = log2_of((__u32)(ns >> SCHED_FIRST_LOG));
	return 1 + 4 * log + ((__u32)(ns >> (SCHED_FIRST_LOG - 2 + log)) & 3);
}

/* Counts the wait for a CPU that ended since it was counted last. */
sonde_inline void count_delay(struct thread *t, __u64 delay)
{
	__u64 ns = delay - t->delay;
	__u32 bucket = bucket_of(ns);

	t->delay = delay;
	if (ns > t->max_ns)
		t->max_ns = ns;
	if (bucket < SCHED_BUCKETS)
		t->hist[bucket]++;
}

sonde_inline bool was_blocked(struct task_struct *task)
{
	return BPF_CORE_READ_BITFIELD(task, sched_contributes_to_load);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(switch__tp_btf, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct thread *t;
	__u64 sum, delay;

	/* Now and then a thread comes in without having been queued; its sums are whole again with the next switch. */
	if (!next->pid || !next->sched_info.last_queued)
		return 0;
	t = bpf_task_storage_get(&sched_threads, next, NULL, 0);
	if (!t)
		return 0;
	delay = next->sched_info.run_delay;
	sum = next->sched_info.last_queued - delay - next->se.sum_exec_runtime;
	if (!t->known) {
		t->known = 1;
		t->delay = delay;
	} else {
		count_delay(t, delay);
		if (next->nvcsw != t->left && was_blocked(next) && (__s64)(sum - t->sum) > 0)
			t->blocked_ns += sum - t->sum;
	}
	t->left = next->nvcsw;
	t->sum = sum;
	return 0;
}

SEC("tp_btf/task_newtask")
int BPF_PROG(fork__tp_btf, struct task_struct *child, __u64 clone_flags)
{
	struct thread *t = bpf_task_storage_get(&sched_threads, child, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (t)
		t->mark_time = bpf_ktime_get_boot_ns();
	else
		sonde_failed(-12);
	return 0;
}

/* ---- reading a thread ---- */

/* The scheduler's clock, or 0 where it is not known. */
sonde_inline __u64 sched_clock_at(__u64 now)
{
	__u32 zero = 0;
	struct sonde_settings *s = bpf_map_lookup_elem(&sonde_settings, &zero);

	return s && s->sched_offset ? now + s->sched_offset : 0;
}

/* What goes on as it is read: the kernel's sums are as of the last tick or switch. A time that cannot be is none. */
#define GOING_MOST 3600000000000ull
sonde_inline __u64 going_since(__u64 clock, __u64 since)
{
	__u64 ns = clock - since;

	return clock && since && ns < GOING_MOST ? ns : 0;
}

/* What a thread that runs has run since the kernel added it up last. Two bounds are known: the time since then, by a clock that leaves out what a
 * hypervisor took, and so begins too early by ours; and the time since it got the CPU, less what of it is added up. */
sonde_inline __u64 not_added_up(struct task_struct *task, __u64 clock)
{
	__u64 added = task->se.sum_exec_runtime - task->se.prev_sum_exec_runtime,
	      by_sum = going_since(clock, task->se.exec_start),
	      by_arrival = going_since(clock, task->sched_info.last_arrival);

	by_arrival = by_arrival > added ? by_arrival - added : 0;
	return by_sum < by_arrival ? by_sum : by_arrival;
}

/* The part of an uninterruptible wait that goes on. */
sonde_inline void count_waiting(struct thread *t, struct task_struct *task, __u64 clock)
{
	__u64 sum = clock - task->sched_info.run_delay - task->se.sum_exec_runtime;

	if (!clock || !t->known || task->on_cpu || task->sched_info.last_queued || task->nvcsw == t->left)
		return;
	if (was_blocked(task) && (__s64)(sum - t->sum) > 0) {
		t->blocked_ns += sum - t->sum;
		t->sum = sum;
	}
}

/* Moves the marks; what lies between them goes into `r`. Returns whether the thread ran. */
sonde_inline bool read_thread(struct sched_report *r, struct thread *t, struct task_struct *task, __u64 now)
{
	__u64 queued = task->sched_info.last_queued, running = task->se.sum_exec_runtime,
	      delay = task->sched_info.run_delay, left = task->nvcsw, put_off = task->nivcsw,
	      migrations = task->se.nr_migrations, clock = sched_clock_at(now), spent;
	bool ran = running != t->mark_running;

	if (!queued && t->known && delay != t->delay)
		count_delay(t, delay);
	count_waiting(t, task, clock);
	if (task->on_cpu)
		running += not_added_up(task, clock);
	else
		delay += going_since(clock, queued);
	r->window_ns = now - t->mark_time;
	r->running_ns = (__s64)(running - t->mark_running) > 0 ? running - t->mark_running : 0;
	/* The clock of what goes on is right to a microsecond only: the next reading may find a little less. */
	r->runnable_ns = (__s64)(delay - t->mark_delay) > 0 ? delay - t->mark_delay : 0;
	r->voluntary = left - t->mark_left;
	r->involuntary = put_off - t->mark_put_off;
	r->migrations = migrations - t->mark_migrations;
	r->blocked_ns = t->blocked_ns;
	spent = r->running_ns + r->runnable_ns + r->blocked_ns;
	r->sleeping_ns = r->window_ns > spent ? r->window_ns - spent : 0;
	r->latency_sum_ns = t->delay - t->mark_counted;
	r->latency_max_ns = t->max_ns;
	t->mark_time = now;
	t->mark_running = running;
	t->mark_delay = delay;
	t->mark_counted = t->delay;
	t->mark_left = left;
	t->mark_put_off = put_off;
	t->mark_migrations = migrations;
	t->blocked_ns = t->max_ns = 0;
	return ran;
}

sonde_inline void read_hist(struct sched_report *r, struct thread *t)
{
	for (int i = 0; i < SCHED_BUCKETS; i++) {
		r->_hist[i] = t->hist[i];
		if (r->_hist[i])
			__sync_fetch_and_sub(&t->hist[i], r->_hist[i]);
	}
}

/* Where the reading of all threads puts each together; one reading runs at a time. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sched_report);
} sched_workplace SEC(".maps");

__u32 sched_begins = 1; /* the first reading only sets the marks */

SEC("iter/task")
int threads__iter(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	__u64 now = bpf_ktime_get_boot_ns();
	struct sched_report *r;
	struct sonde_owner owner;
	struct thread *t;
	__u32 zero = 0;

	r = bpf_map_lookup_elem(&sched_workplace, &zero);
	if (!task || !r)
		return 0;
	t = bpf_task_storage_get(&sched_threads, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t)
		return 0;
	if (!t->known && sched_clock_at(now)) { /* it was there before */
		t->known = 1;
		t->delay = task->sched_info.run_delay;
		t->left = task->nvcsw - (!task->on_cpu && !task->sched_info.last_queued);
		t->sum = sched_clock_at(now) - t->delay - task->se.sum_exec_runtime;
	}
	if (!read_thread(r, t, task, now) || sched_begins)
		return 0;
	sonde_owner_of(&owner, task);
	if (owner.filtered)
		return 0;
	read_hist(r, t);
	sonde_fill_header(&r->event, sched_report_type.id, &owner);
	r->event.size = sizeof *r;
	bpf_seq_write(ctx->meta->seq, r, sizeof *r);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(exit__tp_btf, struct task_struct *task)
{
	struct thread *t = bpf_task_storage_get(&sched_threads, task, NULL, 0);
	struct sonde_owner owner;
	struct sched_report *r;

	if (!t)
		return 0;
	sonde_owner_current(&owner);
	r = sonde_reserve_with(sched_report, sizeof *r, &owner, 0);
	if (!r)
		return 0;
	read_thread(r, t, task, r->event.time);
	read_hist(r, t);
	sonde_submit(sched_report, r, sizeof *r);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

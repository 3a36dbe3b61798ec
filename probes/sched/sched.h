/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* How threads share the CPUs: how long they wait for one, by cgroup, and what each thread does with its time. */
#ifndef SONDE_SCHED_H
#define SONDE_SCHED_H

#include "sonde/event.h"

/* Times up to 1 us are bucket 0; from there each doubling is cut in four, up to 8.6 s. */
#define SCHED_BUCKETS   94
#define SCHED_FIRST_LOG 10 /* 2^10 ns */
#define SCHED_LAST_LOG  32

/* What became of one thread within a window, or in its last part of one. */
struct sched_report {
	struct sonde_event event;
	__u64 window_ns, running_ns, runnable_ns, sleeping_ns, blocked_ns;
	__u64 voluntary, involuntary, migrations;
	__u64 latency_sum_ns, latency_max_ns;
	__u32 _hist[SCHED_BUCKETS];
};

struct sched_thread {
	struct sonde_event event;
	__u64 running_ns SONDE_DOC("time on a CPU") SONDE_OTEL("thread.cpu.time");
	__u64 runnable_ns SONDE_DOC("time in which it waited for a CPU");
	__u64 sleeping_ns SONDE_DOC("time in which it waited and a signal could have ended it");
	__u64 blocked_ns SONDE_DOC("time in which it waited and nothing else could end it, mostly for a device");
	__u64 voluntary SONDE_DOC("times that it left the CPU to wait");
	__u64 involuntary SONDE_DOC("times that it was put off a CPU");
	__u64 migrations SONDE_DOC("times that it changed CPUs");
	__u64 window_ns SONDE_DOC(
		"how long the window was that ends at ts; shorter where the thread began or ended in it");
};

struct sched_runqueue {
	struct sonde_event event;
	struct sonde_text hist SONDE_AS("msgpack") SONDE_DOC("map of a time in ns, as text, to how often a thread "
							     "waited for a CPU for that long or more, up to the next "
							     "time in it");
	__u32 _pad;
	__u64 count SONDE_DOC("times that a thread of the cgroup got a CPU");
	__u64 sum_ns SONDE_DOC("time waited for one, in sum");
	__u64 max_ns SONDE_DOC("the longest");
	__u64 p50_ns SONDE_DOC("half of all waited no longer, right to a quarter of it, as all percentiles here");
	__u64 p90_ns SONDE_DOC("nine of ten waited no longer");
	__u64 p99_ns SONDE_DOC("99 of 100 waited no longer");
	__u64 p999_ns SONDE_DOC("999 of 1000 waited no longer");
	__u64 window_ns SONDE_DOC("how long the window was that ends at ts");
};

SONDE_INTERNAL_EVENT(sched_report, "sched.ended", bulk, "The last part of a thread that ended.");
SONDE_EVENT(sched_thread, "sched.thread", 1, bulk, "What a thread that ran did with its time, over one window.");
SONDE_EVENT(sched_runqueue, "sched.runqueue", 1, bulk,
	    "How long threads of a cgroup were ready to run before a CPU took them, over one window.");

#ifndef __bpf__
_Static_assert(sizeof(struct sched_report) == 64 + 10 * 8 + SCHED_BUCKETS * 4, "written by the kernel side");
_Static_assert(SCHED_BUCKETS == 2 + 4 * (SCHED_LAST_LOG - SCHED_FIRST_LOG + 1),
	       "one below, four a doubling, one above");
#endif

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Where CPU time goes: samples of what runs, summed by stack. */
#ifndef SONDE_CPU_H
#define SONDE_CPU_H

#include "sonde/event.h"

#define CPU_DEPTH_MAX 127 /* frames of one side, kernel.perf_event_max_stack's default */

/* One sample as it is in the ring. Behind it lie the frames as __u64: the kernel's, then the program's, each leaf first. */
struct cpu_sample {
	struct sonde_event event;
	__u16 n_kernel, n_user;
	__u32 truncated;
};

/* One row: the samples of one program, under one name, with one stack, within one window. */
struct profile_cpu {
	struct sonde_event event;
	struct sonde_text stack SONDE_AS("list")
		SONDE_DOC("frame texts, leaf first: kernel frames, whose library is [k], then user frames")
			SONDE_OTEL("code.stacktrace");
	__u32 _pad0;
	__u64 stack_id SONDE_AS("id") SONDE_DOC("names the stack, the same on every host with the same binaries");
	__u64 value SONDE_DOC("samples with this stack; divided by the rate, CPU seconds");
	char unit[8] SONDE_DOC("what value counts: samples");
	__u64 window_ns SONDE_DOC("how long the window was that ends at ts");
	bool stack_truncated SONDE_DOC("the stack was deeper than what could be taken") SONDE_OPTIONAL;
	__u8 _pad[7];
};

SONDE_INTERNAL_EVENT(cpu_sample, "cpu.sample", bulk, "One sample of one CPU.");
SONDE_EVENT(profile_cpu, "profile.cpu", 1, bulk, "Samples of CPU time with one stack, over one window.");

#ifndef __bpf__
_Static_assert(sizeof(struct cpu_sample) == 72, "written by the kernel side");
#endif

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Where CPU time goes: samples of what runs, summed by stack. */
#ifndef SONDE_CPU_H
#define SONDE_CPU_H

#include "sonde/event.h"
#include "sonde/stack.h"

/* One sample as it is in the ring. Behind it lie what struct sonde_stack says. */
struct cpu_sample {
	struct sonde_event event;
	__u64 period_ns; /* of CPU time that it stands for, in a burst; 0: what the rate says */
	struct sonde_stack stack;
};

/* One row: the samples of one thread, under one name, with one stack, within one window. */
struct profile_cpu {
	struct sonde_event event;
	struct sonde_text stack SONDE_AS("list")
		SONDE_DOC("frame texts, leaf first: kernel frames, whose library is [k], then user frames")
			SONDE_OTEL("code.stacktrace");
	__u32 code SONDE_AS("names=usual|nameless|anonymous")
		SONDE_DOC("memory that a frame of the program lies in, where it is no file's and no JIT names it: "
			  "anonymous; nameless: a file's that is in no folder (memfd)") SONDE_OPTIONAL;
	__u64 stack_id SONDE_AS("id") SONDE_DOC("names the stack, the same on every host with the same binaries");
	__u64 value SONDE_DOC("samples with this stack; times period_ns, CPU time");
	char unit[8] SONDE_DOC("what value counts: samples");
	__u64 window_ns SONDE_DOC("how long the window was that ends at ts");
	__u64 period_ns SONDE_DOC("CPU time that one sample stands for");
	bool stack_truncated SONDE_DOC(
		"the stack was deeper than what could be taken, or the way to its root was not found") SONDE_OPTIONAL;
	__u8 _pad[7];
};

SONDE_INTERNAL_EVENT(cpu_sample, "cpu.sample", bulk, "One sample of one CPU.");
SONDE_EVENT(profile_cpu, "profile.cpu", 1, bulk, "Samples of CPU time with one stack, over one window.");

#ifndef __bpf__
_Static_assert(sizeof(struct cpu_sample) == 64 + 8 + 8 + 8 * SONDE_REGISTERS, "written by the kernel side");
#endif

#endif

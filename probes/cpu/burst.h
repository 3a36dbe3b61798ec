/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bursts: one process, all its threads, sampled up to 999 times a second for a while, then as before. A second perf event
 * on each thread drives a second program; new threads inherit it. Everything is called on the loop's thread and does not
 * block.
 *
 * Limits: BURSTS_MAX bursts at once, BURST_SECONDS_MAX each, BURST_THREADS_MAX threads over all of them (each is a
 * descriptor). A process that ends ends its burst.
 */
#ifndef SONDE_BURST_H
#define SONDE_BURST_H

#include "base/base.h"

#define BURSTS_MAX        8u
#define BURST_SECONDS_MAX 60u
#define BURST_THREADS_MAX 512u
#define BURST_RATE_MAX    999u

struct bursts; /* opaque */

/* `program` and `map` are descriptors of the sampling program of bursts and of `cpu_bursts` (burst.bpf.h); they stay the
 * caller's. 0 or -ENOMEM. */
int bursts_open(struct bursts **ret, int program, int map);
/* Ends all bursts. */
void bursts_close(struct bursts *bursts);

struct burst_order {
	uint32_t pid;
	unsigned rate; /* Hz */
	uint64_t duration_ns;
};

/* Begins one. -ERANGE: rate or duration; -ESRCH: no such process, or a thread's number; -EBUSY: it has a burst already, or
 * there are BURSTS_MAX; -E2BIG: too many threads; -EMFILE, -EPERM and others: the kernel refuses; all with a sentence. */
int bursts_begin(struct bursts *bursts, const struct burst_order *order, struct fault *fault);
/* -ESRCH: there is none. */
int bursts_end(struct bursts *bursts, uint32_t pid);
/* At least every 100 ms: ends what is over. The kernel side stops on time by itself. */
void bursts_tick(struct bursts *bursts);
unsigned bursts_count(const struct bursts *bursts);

/* A request of the control socket: "burst PID RATE NANOSECONDS". Writes one JSON object, {"error": ...} where it was refused.
 * -EINVAL: these are other words. */
int bursts_request(struct bursts *bursts, const char *words, FILE *out);

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What user space tells the kernel side of a burst: one entry for each process that is sampled more often, by tgid. */
#ifndef SONDE_BURST_MAP_H
#define SONDE_BURST_MAP_H

#ifndef __bpf__
#include <linux/types.h>
#endif

/* Times of the boot clock, in ns. */
struct cpu_burst {
	__u64 from, until;          /* the burst samples in between, and nobody else does */
	__u64 young_from, young_to; /* threads that began in between are not part of it */
	__u64 period_ns;            /* CPU time that one sample of the burst stands for */
};

#endif

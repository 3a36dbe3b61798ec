/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A helper that opens perf events for the agent where the kernel lets only CAP_SYS_ADMIN open any (Debian's, with kernel.perf_event_paranoid at 3, its
 * default): a module that is switched on, or whose rules change, while the agent runs needs some, and the agent has given that up by then.
 */
#ifndef SONDE_PERF_OPENER_H
#define SONDE_PERF_OPENER_H

#include <linux/perf_event.h>
#include <stdbool.h>

struct perf_opener;

bool perf_opener_needed(void);
/* Before privileges are given up; from then on perf_open() asks it. 0 or a negative errno. */
int perf_opener_start(struct perf_opener **ret);
/* As perf_open(). -EINVAL: of a kind that it opens for nobody; -EACCES: it is gone. */
int perf_opener_open(struct perf_opener *opener, const struct perf_event_attr *attr, int pid, int cpu);
int perf_opener_pid(const struct perf_opener *opener);
/* NULL is fine. */
void perf_opener_stop(struct perf_opener *opener);

#endif

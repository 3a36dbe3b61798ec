/* SPDX-License-Identifier: Apache-2.0 */
/* perf_event_open(2), also where the kernel lets only CAP_SYS_ADMIN do it. */
#ifndef SONDE_PERF_OPEN_H
#define SONDE_PERF_OPEN_H

#include <linux/perf_event.h>

/* A descriptor, closed on exec, or a negative errno. What the kernel refuses with EACCES is asked of whoever perf_open_by() named. */
int perf_open(const struct perf_event_attr *attr, int pid, int cpu);

/* Named once, before there are threads; `open` NULL: nobody. It may be called by any thread. */
void perf_open_by(int (*open)(void *context, const struct perf_event_attr *attr, int pid, int cpu), void *context);

#endif

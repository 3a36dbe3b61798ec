/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far the scheduler's clock is from the boot clock: a task's accounting is kept in the one, events are stamped with the
 * other. The kernel tells its scheduler clock only with perf records, so one is provoked (by setting our own name) and its stamp is
 * compared with the boot clock around it.
 */
#ifndef SONDE_CLOCK_H
#define SONDE_CLOCK_H

#include <stdint.h>

struct sched_clock; /* opaque */

int sched_clock_open(struct sched_clock **ret); /* a negative errno when perf events are not allowed */
void sched_clock_close(struct sched_clock *clock);

/* ns to add to the boot clock, right to about a microsecond; 0 when it cannot be told. */
int64_t sched_clock_offset(struct sched_clock *clock);

#endif

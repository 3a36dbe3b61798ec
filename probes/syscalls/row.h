/* SPDX-License-Identifier: Apache-2.0 */
/* The syscall.stats row of one process, system call and window, out of the kernel side's sums. */
#ifndef SONDE_SYSCALLS_ROW_H
#define SONDE_SYSCALLS_ROW_H

#include <stdbool.h>

#include "probes/syscalls/names.h"
#include "probes/syscalls/syscalls.h"

#define SYSCALLS_ERRNOS_ROOM 256u  /* five names and counts */
#define SYSCALLS_HIST_ROOM   4096u /* all buckets in use, each with the largest count */

struct syscalls_row {
	struct syscall_stats row;
	char name[SYSCALLS_NAME_ROOM];
	uint8_t errnos[SYSCALLS_ERRNOS_ROOM];
	uint8_t hist[SYSCALLS_HIST_ROOM];
};

/* The least time that is counted in a bucket. */
uint64_t syscalls_least(unsigned bucket);

/* Whether there is anything to say: false for what the filters leave out, and where nothing was called. */
bool syscalls_row(struct syscalls_row *to, const struct syscalls_key *key, const struct syscalls_sums *sums,
		  uint64_t time, uint64_t window_ns);

#endif

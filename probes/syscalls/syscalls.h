/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* System calls that have no tracepoint of their own, and how often, how long and with what end all are made. */
#ifndef SONDE_SYSCALLS_H
#define SONDE_SYSCALLS_H

#include "sonde/security.h"

struct syscall_compat {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	struct sonde_text syscall SONDE_DOC("its name; absent: this agent knows none for its number") SONDE_OPTIONAL;
	struct sonde_text path SONDE_AS("path")
		SONDE_DOC("open, openat, openat2, creat, open_by_handle_at: the file that was opened, resolved")
			SONDE_OPTIONAL SONDE_OTEL("file.path") SONDE_ECS("file.path");
	__u64 ino SONDE_DOC("inode number of that file") SONDE_OPTIONAL SONDE_ECS("file.inode");
	__u64 dev SONDE_DOC("device of that file, as stat(2) numbers it") SONDE_OPTIONAL;
	__u32 nr SONDE_DOC("its number in the table of 32-bit system calls");
	__u32 arg0 SONDE_DOC("arguments, as the registers had them; absent: 0") SONDE_OPTIONAL;
	__u32 arg1 SONDE_DOC("likewise") SONDE_OPTIONAL;
	__u32 arg2 SONDE_DOC("likewise") SONDE_OPTIONAL;
	__u32 arg3 SONDE_DOC("likewise") SONDE_OPTIONAL;
	__u32 arg4 SONDE_DOC("likewise") SONDE_OPTIONAL;
	__u32 arg5 SONDE_DOC("likewise") SONDE_OPTIONAL;
	__u32 _pad;
};

struct syscall_stats {
	struct sonde_event event;
	struct sonde_text syscall SONDE_DOC("its name; of a row without process: what the table had no room for");
	__u32 nr SONDE_DOC("its number");
	bool compat SONDE_DOC("it is of the table of 32-bit system calls") SONDE_OPTIONAL;
	__u8 _pad[3];
	struct sonde_text errnos SONDE_AS("msgpack")
		SONDE_DOC("map of errors to how often: the first four kinds of the window; the rest as other")
			SONDE_OPTIONAL;
	__u64 count SONDE_DOC("calls that returned");
	__u64 errors SONDE_DOC("of these, how many failed") SONDE_OPTIONAL;
	__u64 sum_ns SONDE_DOC("all times from entry to exit, in sum, waiting included");
	__u64 max_ns SONDE_DOC("the longest");
	__u64 p50_ns SONDE_DOC("half of all took no longer, right to an eighth of it, as all percentiles here");
	__u64 p90_ns SONDE_DOC("nine of ten took no longer");
	__u64 p99_ns SONDE_DOC("99 of 100 took no longer");
	struct sonde_text hist SONDE_AS("msgpack") SONDE_DOC("map of a time in ns, as text, to how many took that long "
							     "or longer, up to the next bucket: 4 to each doubling "
							     "from 16 ns on");
	__u32 _pad2;
	__u64 window_ns SONDE_DOC("how long the window was that ends at ts");
};

SONDE_SECURITY_EVENT(syscall_compat, "syscall.compat", 1, bulk,
		     "A 32-bit system call was made, by a 32-bit program or by int 0x80.");
SONDE_EVENT(syscall_stats, "syscall.stats", 1, bulk, "How a process made one system call, over one window.");

/* ---- what the kernel side sums, and the module reads at the end of each window ---- */

#define SYSCALLS_FIRST_LOG 4u /* shorter ones are one bucket */
#define SYSCALLS_LAST_LOG  42u
#define SYSCALLS_BUCKETS   (4u * (SYSCALLS_LAST_LOG - SYSCALLS_FIRST_LOG + 1) + 2)
#define SYSCALLS_ROWS      4096u /* processes and system calls of a window */
#define SYSCALLS_ERRORS    4u

/* `proc` 0: what found no room. */
struct syscalls_key {
	__u64 proc;
	__u32 nr;
	__u8 compat, window; /* window: 0 and 1, by turns */
	__u16 _pad;
};

struct syscalls_sums {
	__u64 parent, cgroup;
	__u32 pid;
	__u16 flags, filtered;
	char comm[16];
	__u64 count, errors, sum_ns, max_ns;
	__u32 errnos[SYSCALLS_ERRORS]; /* 0: free */
	__u32 by_errno[SYSCALLS_ERRORS];
	__u32 buckets[SYSCALLS_BUCKETS];
};

static __attribute__((always_inline, unused)) inline __u32 syscalls_bucket(__u64 ns)
{
	__u32 log = 0;
	__u64 v = ns;

	if (ns < 1u << SYSCALLS_FIRST_LOG)
		return 0;
	for (__u32 step = 32; step; step /= 2) {
		if (v >> step) {
			log += step;
			v >>= step;
		}
	}
	if (log > SYSCALLS_LAST_LOG)
		return SYSCALLS_BUCKETS - 1;
	return 1 + 4 * (log - SYSCALLS_FIRST_LOG) + ((__u32)(ns >> (log - 2)) & 3);
}

#ifndef __bpf__
_Static_assert(sizeof(struct syscalls_key) == 16 && sizeof(struct syscalls_sums) == 104 + 4 * SYSCALLS_BUCKETS,
	       "written by the kernel side");
#endif

#endif

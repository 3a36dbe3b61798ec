/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent gives up once everything is attached. In order: privilege_drop() while the process has one thread,
 * then whatever starts threads (Kafka, HTTP), then privilege_seccomp(), which binds every thread there is and every
 * later one. A reload by SIGHUP happens under both: it may open files, load BPF programs and attach them, and no more.
 */
#ifndef SONDE_PRIVILEGE_H
#define SONDE_PRIVILEGE_H

#include "base/base.h"

#include <linux/capability.h>
#include <sys/types.h>

#define PRIVILEGE_BIT(capability) (1ull << (capability))

/* What any module may need after start: bpf() on maps and a reload's programs; perf_event_open; /proc/PID of others;
 * files of any owner and tracefs, for reading; addresses in /proc/kallsyms; mapped files that were deleted since
 * (/proc/PID/map_files). */
#define PRIVILEGE_BASE                                                                                                 \
	(PRIVILEGE_BIT(CAP_BPF) | PRIVILEGE_BIT(CAP_PERFMON) | PRIVILEGE_BIT(CAP_SYS_PTRACE) |                         \
	 PRIVILEGE_BIT(CAP_DAC_READ_SEARCH) | PRIVILEGE_BIT(CAP_SYSLOG) | PRIVILEGE_BIT(CAP_CHECKPOINT_RESTORE))

struct privilege_options {
	const char *user;      /* to become, with its group and no other; NULL or "": stay who we are */
	uint64_t capabilities; /* PRIVILEGE_BIT()s to keep, as far as the process has them */
	/* Folders (with the files in them) and files that the agent goes on writing, given to the user that it becomes.
	 * What does not exist yet is passed over; links, and files that have another name elsewhere, are never given
	 * away. */
	const char *const *paths;
	size_t n_paths;
};

struct privilege_state {
	uid_t uid;
	gid_t gid;
	uint64_t kept;     /* capabilities held now */
	uint64_t missing;  /* asked for, but the process never had them */
	bool user_unknown; /* there is no such user: the uid stayed */
	char text[512];    /* one sentence for the log */
};

/* For good, and for what this process starts: bounding and ambient sets, no_new_privs, no core dumps included.
 * -EBUSY: there are threads already, which would keep everything. -EPERM and others: not allowed, with the step in
 * `fault`; the caller must give up then, half-way is no state to run in. `ret` may be NULL. */
int privilege_drop(const struct privilege_options *options, struct privilege_state *ret, struct fault *fault);

enum privilege_filter {
	PRIVILEGE_EXEC = 1, /* a helper of our own may be executed */
};

/* From here on only the system calls of the agent's loop, its libraries and a reload are let through. What a working
 * agent never calls and an attacker would (ptrace, mounts, modules, namespaces) kills the process; anything else fails
 * with EPERM, and the kernel logs it. Memory is never writable and executable at once. Needs no capability. -EINVAL,
 * -ENOSYS: no seccomp here. */
int privilege_seccomp(unsigned filter, struct fault *fault);

#endif

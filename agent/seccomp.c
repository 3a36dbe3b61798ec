/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system call filter, see privilege.h.
 *
 * A list of what is allowed, by reason, and a short list of what kills. Where a call is needed in one form only, its
 * arguments are held against that form: socket families, clone without namespaces, mmap without writable code, the
 * known ioctl and prctl requests. Arguments behind pointers cannot be seen by a filter: clone3 therefore fails with
 * ENOSYS, and the C library falls back on clone. Names that this architecture does not have are passed over.
 */
#include "privilege.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static const char *const allowed[] = {
	/* files: configuration, modules, journal, ELF files, /proc, /sys */
	"open",
	"openat",
	"openat2",
	"close",
	"close_range",
	"read",
	"pread64",
	"readv",
	"preadv",
	"write",
	"pwrite64",
	"writev",
	"pwritev",
	"lseek",
	"stat",
	"fstat",
	"lstat",
	"newfstatat",
	"statx",
	"access",
	"faccessat",
	"faccessat2",
	"readlink",
	"readlinkat",
	"getdents64",
	"getcwd",
	"chdir",
	"fchdir",
	"statfs",
	"fstatfs",
	"mkdir",
	"mkdirat",
	"unlink",
	"unlinkat",
	"rmdir",
	"rename",
	"renameat",
	"renameat2",
	"ftruncate",
	"fallocate",
	"fsync",
	"fdatasync",
	"sync_file_range",
	"fadvise64",
	"readahead",
	"flock",
	"fcntl",
	"dup",
	"dup2",
	"dup3",
	"umask",
	"chmod",
	"fchmod",
	"fchmodat",
	"utimensat",
	"copy_file_range",
	"sendfile",
	"memfd_create",
	"name_to_handle_at",
	"inotify_init1",
	"inotify_add_watch",
	"inotify_rm_watch",
	/* memory; mmap and mprotect below */
	"munmap",
	"mremap",
	"msync",
	"madvise",
	"brk",
	"mincore",
	"mlock",
	"mlock2",
	"munlock",
	"membarrier",
	/* the kernel's instruments */
	"bpf",
	"perf_event_open",
	/* waiting */
	"epoll_create1",
	"epoll_ctl",
	"epoll_wait",
	"epoll_pwait",
	"epoll_pwait2",
	"poll",
	"ppoll",
	"select",
	"pselect6",
	"eventfd2",
	"timerfd_create",
	"timerfd_settime",
	"timerfd_gettime",
	"signalfd4",
	"pipe",
	"pipe2",
	"futex",
	"futex_waitv",
	"nanosleep",
	"clock_nanosleep",
	"clock_gettime",
	"clock_getres",
	"gettimeofday",
	"time",
	"restart_syscall",
	"pause",
	"setitimer",
	"timer_create",
	"timer_settime",
	"timer_delete",
	/* sockets; socket and socketpair below */
	"connect",
	"bind",
	"listen",
	"accept",
	"accept4",
	"getsockname",
	"getpeername",
	"getsockopt",
	"setsockopt",
	"shutdown",
	"sendto",
	"sendmsg",
	"sendmmsg",
	"recvfrom",
	"recvmsg",
	"recvmmsg",
	/* threads and processes; clone and prctl below */
	"fork",
	"vfork",
	"exit",
	"exit_group",
	"wait4",
	"waitid",
	"kill",
	"tkill",
	"tgkill",
	"pidfd_open",
	"pidfd_send_signal",
	"set_robust_list",
	"get_robust_list",
	"set_tid_address",
	"rseq",
	"sched_yield",
	"sched_getaffinity",
	"sched_setaffinity",
	"sched_getparam",
	"sched_getscheduler",
	"sched_setscheduler",
	"sched_get_priority_max",
	"sched_get_priority_min",
	"getpriority",
	"setpriority",
	"getcpu",
	"getrusage",
	"getrlimit",
	"setrlimit",
	"prlimit64",
	"times",
	"arch_prctl",
	"rt_sigaction",
	"rt_sigprocmask",
	"rt_sigreturn",
	"rt_sigpending",
	"rt_sigtimedwait",
	"rt_sigqueueinfo",
	"rt_tgsigqueueinfo",
	"rt_sigsuspend",
	"sigaltstack",
	/* who and where am I */
	"getpid",
	"getppid",
	"gettid",
	"getuid",
	"geteuid",
	"getgid",
	"getegid",
	"getresuid",
	"getresgid",
	"getgroups",
	"getpgid",
	"getpgrp",
	"getsid",
	"setsid",
	"uname",
	"sysinfo",
	"getrandom",
	"capget",
	/* less rights still, for a helper */
	"capset",
	"setuid",
	"setgid",
	"setresuid",
	"setresgid",
	"setgroups",
	"seccomp",
};

/* Calls that only an intruder makes here. */
static const char *const deadly[] = {
	"process_vm_writev",
	"kexec_load",
	"kexec_file_load",
	"init_module",
	"finit_module",
	"delete_module",
	"mount",
	"umount2",
	"pivot_root",
	"move_mount",
	"open_tree",
	"fsopen",
	"fsmount",
	"mount_setattr",
	"setns",
	"unshare",
	"reboot",
	"swapon",
	"swapoff",
	"iopl",
	"ioperm",
	"settimeofday",
	"clock_settime",
	"acct",
	"userfaultfd",
	"add_key",
	"request_key",
	"keyctl",
};

static const int families[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };

static const unsigned long requests[] = {
	FIONREAD,
	FIONBIO,
	FIOCLEX,
	FIONCLEX,
	TCGETS,
	TIOCGWINSZ,
	PERF_EVENT_IOC_ENABLE,
	PERF_EVENT_IOC_DISABLE,
	PERF_EVENT_IOC_REFRESH,
	PERF_EVENT_IOC_RESET,
	PERF_EVENT_IOC_PERIOD,
	PERF_EVENT_IOC_SET_OUTPUT,
	PERF_EVENT_IOC_SET_FILTER,
	PERF_EVENT_IOC_ID,
	PERF_EVENT_IOC_SET_BPF,
	PERF_EVENT_IOC_PAUSE_OUTPUT,
	PERF_EVENT_IOC_QUERY_BPF,
	PERF_EVENT_IOC_MODIFY_ATTRIBUTES,
};

static const unsigned long controls[] = {
	PR_SET_NAME,         PR_GET_NAME,         PR_SET_PDEATHSIG,  PR_GET_PDEATHSIG, PR_GET_DUMPABLE,
	PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_SET_SECCOMP,    PR_GET_SECCOMP,   PR_CAPBSET_READ,
	PR_CAPBSET_DROP,     PR_CAP_AMBIENT,      PR_GET_SECUREBITS, PR_GET_KEEPCAPS,  PR_SET_TIMERSLACK,
#ifdef PR_SET_VMA
	PR_SET_VMA,
#endif
};

static void filter_release(scmp_filter_ctx *filter)
{
	if (*filter)
		seccomp_release(*filter);
}

/* One rule for the call `name`; a name that this architecture lacks is no error. */
static int rule(scmp_filter_ctx filter, uint32_t action, const char *name, unsigned n,
		const struct scmp_arg_cmp *arguments)
{
	int number = seccomp_syscall_resolve_name(name);

	/* Negative numbers are other architectures' calls. */
	return number < 0 ? 0 : seccomp_rule_add_array(filter, action, number, n, arguments);
}

static int rules(scmp_filter_ctx filter, uint32_t action, const char *const *names, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++)
		r = rule(filter, action, names[i], 0, NULL);
	return r;
}

/* `name`, where the low half of an argument, which is all that the kernel looks at, is `value` under `mask`. */
static int rule_masked(scmp_filter_ctx filter, const char *name, unsigned argument, uint64_t mask, uint64_t value)
{
	const struct scmp_arg_cmp compare = SCMP_CMP(argument, SCMP_CMP_MASKED_EQ, mask, value);

	return rule(filter, SCMP_ACT_ALLOW, name, 1, &compare);
}

static int rules_valued(scmp_filter_ctx filter, const char *name, unsigned argument, const unsigned long *values,
			size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++)
		r = rule_masked(filter, name, argument, UINT32_MAX, values[i] & UINT32_MAX);
	return r;
}

static int allow_forms(scmp_filter_ctx filter)
{
	const uint64_t spaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
				CLONE_NEWPID | CLONE_NEWNET;
	static const char *const mappings[] = { "mmap", "mprotect" };
	/* The stack worker makes itself unreadable; nobody makes the agent readable again. */
	const struct scmp_arg_cmp not_dumpable[] = {
		SCMP_CMP(0, SCMP_CMP_MASKED_EQ, UINT32_MAX, PR_SET_DUMPABLE),
		SCMP_CMP(1, SCMP_CMP_EQ, 0),
	};
	int r = rule_masked(filter, "clone", 0, spaces, 0);

	if (r >= 0)
		r = rule(filter, SCMP_ACT_ALLOW, "prctl", ARRAY_SIZE(not_dumpable), not_dumpable);
	if (r >= 0)
		r = rule(filter, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(families) && r >= 0; i++)
		r = rule_masked(filter, "socket", 0, UINT32_MAX, (uint64_t)families[i]);
	if (r >= 0)
		r = rule_masked(filter, "socketpair", 0, UINT32_MAX, AF_UNIX);
	for (size_t i = 0; i < ARRAY_SIZE(mappings) && r >= 0; i++) {
		r = rule_masked(filter, mappings[i], 2, PROT_EXEC, 0);
		if (r >= 0)
			r = rule_masked(filter, mappings[i], 2, PROT_EXEC | PROT_WRITE, PROT_EXEC);
	}
	if (r >= 0)
		r = rules_valued(filter, "ioctl", 1, requests, ARRAY_SIZE(requests));
	if (r >= 0)
		r = rules_valued(filter, "prctl", 0, controls, ARRAY_SIZE(controls));
	return r;
}

static int fill(scmp_filter_ctx filter, unsigned options)
{
	/* The leak sanitizer stops and reads the process at its end, and lists its threads by the old system call. */
	int r = rule(filter, SANITIZED ? SCMP_ACT_ALLOW : SCMP_ACT_KILL_PROCESS, "ptrace", 0, NULL);

	if (r >= 0 && SANITIZED)
		r = rule(filter, SCMP_ACT_ALLOW, "getdents", 0, NULL);
	if (r >= 0)
		r = rules(filter, SCMP_ACT_ALLOW, allowed, ARRAY_SIZE(allowed));
	if (r >= 0)
		r = rules(filter, SCMP_ACT_KILL_PROCESS, deadly, ARRAY_SIZE(deadly));
	if (r >= 0)
		r = allow_forms(filter);
	if (r >= 0 && (options & PRIVILEGE_EXEC))
		r = rule(filter, SCMP_ACT_ALLOW, "execve", 0, NULL);
	return r;
}

static int set_attributes(scmp_filter_ctx filter)
{
	int r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

	if (r >= 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
	if (r >= 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	/* A binary tree, not a list: some 200 calls are told apart. */
	if (r >= 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	return r;
}

int privilege_seccomp(unsigned filter, struct fault *fault)
{
	_cleanup_(filter_release) scmp_filter_ctx context = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r;

	if (!context)
		return fault_set(fault, -ENOSYS, "cannot make a system call filter on this kernel");
	r = set_attributes(context);
	if (r >= 0)
		r = fill(context, filter);
	if (r >= 0)
		r = seccomp_load(context);
	return r < 0 ? fault_set(fault, r, "cannot load the system call filter: %s", strerror(-r)) : 0;
}

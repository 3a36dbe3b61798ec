/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Giving up. The filter is made by libseccomp in the agent, because libseccomp allocates, and is entered by a bare
 * prctl in the child. A forked child holds a copy of the agent's memory: the heap's pages and the environment are
 * zeroed, so that a worker taken over by a hostile file finds no broker password there. After that nothing in the
 * process may allocate, and nothing does.
 */
#include "stacks/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

#define END_MS 2000

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
/* What the sanitizers' runtimes do of their own accord; never in a release. */
static const int sanitizer_calls[] = {
	SCMP_SYS(sigaltstack), SCMP_SYS(mmap),   SCMP_SYS(munmap),  SCMP_SYS(prlimit64),
	SCMP_SYS(futex),       SCMP_SYS(gettid), SCMP_SYS(madvise),
};
#else
static const int sanitizer_calls[0];
#endif

static void close_filter(scmp_filter_ctx *filter)
{
	if (*filter)
		seccomp_release(*filter);
}

static int allow(scmp_filter_ctx filter, const int *calls, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		if (calls[i] >= 0) /* others are of other architectures */
			r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	return r;
}

/* libseccomp allocates, so this comes before the heap is forgotten. */
int sandbox_compile(const int *calls, size_t count, unsigned more, struct sandbox *ret)
{
	_cleanup_(close_filter) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	_cleanup_(close_fd) int memory = memfd_create("sonde-filter", MFD_CLOEXEC);
	ssize_t n;
	int r;

	if (!filter)
		return -ENOMEM;
	if (memory < 0)
		return -errno;
	r = allow(filter, calls, count);
	if (r == 0)
		r = allow(filter, sanitizer_calls, ARRAY_SIZE(sanitizer_calls));
	if (r == 0 && more & SANDBOX_FORK)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_EQ, SIGCHLD));
	if (r == 0 && more & SANDBOX_UNIX)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
	if (r == 0)
		r = seccomp_export_bpf(filter, memory);
	if (r < 0)
		return r;
	n = pread(memory, ret->code, sizeof ret->code, 0);
	if (n <= 0 || (size_t)n == sizeof ret->code || (size_t)n % sizeof ret->code[0])
		return -E2BIG;
	ret->count = (unsigned short)((size_t)n / sizeof ret->code[0]);
	return 0;
}

int sandbox_enter(const struct sandbox *sandbox)
{
	struct sock_fprog program = { .len = sandbox->count, .filter = (struct sock_filter *)sandbox->code };

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

static void reset_signals(void)
{
	/* The terminal's and the service manager's signals reach the whole group: the keeper ends with the agent, not
	 * before it. */
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2 };
	sigset_t none;

	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int sandbox_keep_only(int socket)
{
	int nowhere = open("/dev/null", O_RDWR);

	if (nowhere < 0)
		return -errno;
	reset_signals();
	if (socket == 3)
		socket = fcntl(socket, F_DUPFD, 4);
	for (int fd = 0; fd <= 2; fd++)
		dup2(nowhere, fd);
	dup2(socket, 3);
	return syscall(SYS_close_range, 4u, UINT_MAX, 0) < 0 ? -errno : 3;
}

/* The range of the brk heap by /proc/self/maps, read without allocating. */
static bool find_heap(uintptr_t *ret_begin, uintptr_t *ret_end)
{
	char text[16384];
	_cleanup_(close_fd) int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	size_t size = 0;
	ssize_t n;

	if (fd < 0)
		return false;
	/* The heap lies behind the program's own few mappings, so the first pieces hold it. */
	while (size < sizeof text - 1 && (n = read(fd, text + size, sizeof text - 1 - size)) > 0)
		size += (size_t)n;
	text[size] = 0;

	char *name = strstr(text, "[heap]");

	if (!name)
		return false;
	while (name > text && name[-1] != '\n')
		name--;

	char *dash;

	*ret_begin = strtoul(name, &dash, 16);
	if (*dash != '-')
		return false;
	*ret_end = strtoul(dash + 1, NULL, 16);
	return *ret_end > *ret_begin;
}

void sandbox_forget_secrets(void)
{
	uintptr_t begin, end, own = (uintptr_t)&errno;

	for (char **e = environ; e && *e; e++)
		explicit_bzero(*e, strlen(*e));
	environ = NULL;
	/* A static program may keep its thread's own block in the heap: then the heap has to stay. */
	if (find_heap(&begin, &end) && !(own >= begin && own < end))
		madvise((void *)begin, end - begin, MADV_DONTNEED);
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };

	return syscall(SYS_capset, &header, none) < 0 ? -errno : 0;
}

/* Bytes of address space in use, from /proc/self/statm (its first number is pages). */
static rlim_t address_space(void)
{
	char text[64] = "";
	_cleanup_(close_fd) int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
		return RLIM_INFINITY;
	return strtoul(text, NULL, 10) * (rlim_t)sysconf(_SC_PAGESIZE);
}

static int set_limits(rlim_t memory)
{
	const struct {
		__rlimit_resource_t resource;
		rlim_t value;
	} limits[] = {
		{ RLIMIT_CORE, 0 },
		{ RLIMIT_FSIZE, 0 },
		{ RLIMIT_MEMLOCK, 0 },
		{ RLIMIT_NOFILE, 16 },
		/* All memory there will be is mapped by now, but for some stack. */
		{ RLIMIT_AS, memory == RLIM_INFINITY ? memory : memory + (1u << 20) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct rlimit limit = { limits[i].value, limits[i].value };

		if (setrlimit(limits[i].resource, &limit) < 0)
			return -errno;
	}
	return 0;
}

/* Only this thread exists in the child, so the bare calls do what the libc's all-threads versions would. */
static int drop_user(unsigned uid)
{
	if (!uid)
		return 0;
	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, uid, uid, uid) < 0 ||
	    syscall(SYS_setresuid, uid, uid, uid) < 0)
		return -errno;
	return 0;
}

int sandbox_forget(unsigned uid)
{
	rlim_t memory = address_space();
	int r;

	sandbox_forget_secrets();
	/* No file system: the root becomes a folder that holds this process's descriptors and is empty once it has
	 * ended. Only where allowed; the filter forbids opening anyway. */
	if (chroot("/proc/self/fdinfo") == 0 && chdir("/") < 0)
		return -errno;
	r = drop_user(uid);
	if (r == 0)
		r = drop_capabilities();
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	if (r == 0)
		r = set_limits(memory);
	if (r == 0 && prctl(PR_SET_DUMPABLE, 0) < 0)
		r = -errno;
	return r;
}

static int limit_resources(void)
{
	static const struct {
		__rlimit_resource_t resource;
		rlim_t value;
	} limits[] = { { RLIMIT_CORE, 0 }, { RLIMIT_FSIZE, 0 }, { RLIMIT_NOFILE, 16 } };

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct rlimit limit = { limits[i].value, limits[i].value };

		if (setrlimit(limits[i].resource, &limit) < 0)
			return -errno;
	}
	return 0;
}

int sandbox_give_up(unsigned uid, uint64_t capabilities)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct kept[2] = { 0 };

	for (unsigned i = 0; i < 2; i++)
		kept[i].effective = kept[i].permitted = (uint32_t)(capabilities >> 32 * i);
	for (int c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		if (c > 63 || !(capabilities >> c & 1))
			prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
	/* The capabilities are kept over the change of the user; then nothing more can be had. */
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return -errno;
	if (uid && (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, uid, uid, uid) < 0 ||
		    syscall(SYS_setresuid, uid, uid, uid) < 0))
		return -errno;
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0 || syscall(SYS_capset, &header, kept) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return -errno;
	return limit_resources();
}

static bool is_reaped_within(int pid, unsigned ms)
{
	const struct timespec pause = { .tv_nsec = 2 * (long)NS_PER_MS };

	for (uint64_t until = now_boottime_ns() + ms * NS_PER_MS;; nanosleep(&pause, NULL)) {
		if (waitpid(pid, NULL, WNOHANG) != 0)
			return true;
		if (now_boottime_ns() >= until)
			return false;
	}
}

void sandbox_reap(int pid)
{
	if (!is_reaped_within(pid, END_MS) && kill(pid, SIGKILL) == 0)
		is_reaped_within(pid, END_MS);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that may become a JVM's user when the agent no longer can, see jvm.h. It takes numbers over one sequenced-packet
 * socket, forks a child for each, waits for it, and sends back how it ended; a child that takes too long is killed.
 *
 * What it can do for whoever takes the agent over: have SIGQUIT sent to JVMs, and a .attach_pid file made and removed in their
 * folders. It reads nothing but numbers, holds three capabilities (to change its user and group, and to look at other users'
 * processes), and its filter names the calls that attaching takes; the child keeps none of the capabilities once it is the
 * target's user.
 *
 * The result of a child is its exit status: an errno below 255, or 0.
 */
#include "stacks/jvm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "stacks/sandbox.h"

/* What a child may take longer than its own limit, when the machine is busy. */
#define GRACE_MS 2000
#define CAPS     (1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_SYS_PTRACE)

struct answer {
	int pid, result;
};

struct jvm_keeper {
	int socket, pid;
};

static const int calls[] = {
	/* the keeper */
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendto),
	SCMP_SYS(wait4),
	SCMP_SYS(kill),
	SCMP_SYS(getppid),
	SCMP_SYS(getpid),
	/* looking */
	SCMP_SYS(open),
	SCMP_SYS(openat),
	SCMP_SYS(openat2),
	SCMP_SYS(read),
	SCMP_SYS(getdents64),
	SCMP_SYS(close),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(pidfd_open),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	/* becoming */
	SCMP_SYS(setgroups),
	SCMP_SYS(setresgid),
	SCMP_SYS(setresuid),
	SCMP_SYS(capset),
	SCMP_SYS(prctl),
	/* attaching */
	SCMP_SYS(pidfd_send_signal),
	SCMP_SYS(unlinkat),
	SCMP_SYS(connect),
	SCMP_SYS(getsockopt),
	SCMP_SYS(nanosleep),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(restart_syscall),
};

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

static int allow(scmp_filter_ctx filter, const int *list, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		/* Negative numbers are other architectures' calls. */
		if (list[i] >= 0)
			r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, list[i], 0);
	return r;
}

/* libseccomp allocates, so this comes before the heap is forgotten. */
static int compile(struct sandbox *ret)
{
	_cleanup_(close_filter) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	_cleanup_(close_fd) int memory = memfd_create("sonde-filter", MFD_CLOEXEC);
	ssize_t n;
	int r;

	if (!filter)
		return -ENOMEM;
	if (memory < 0)
		return -errno;
	r = allow(filter, calls, ARRAY_SIZE(calls));
	if (r == 0)
		r = allow(filter, sanitizer_calls, ARRAY_SIZE(sanitizer_calls));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_EQ, SIGCHLD));
	if (r == 0)
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

/* ---- the keeper's life ---- */

static _Noreturn void run_child(int keeper, int pid)
{
	int r;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != keeper)
		_exit(ECANCELED);
	r = jvm_attach(pid, JVM_WAIT_MS);
	_exit(-r < 255 ? -r : EIO);
}

/* How the child ended; killed when it takes too long. */
static int await_child(int child)
{
	struct pollfd p = { .fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN };
	int status, r;

	if (p.fd >= 0) {
		do
			r = poll(&p, 1, JVM_WAIT_MS + GRACE_MS);
		while (r < 0 && errno == EINTR);
		close(p.fd);
	}
	if (p.fd < 0 || r <= 0)
		kill(child, SIGKILL);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFEXITED(status))
		return -WEXITSTATUS(status);
	return WTERMSIG(status) == SIGKILL ? -ETIMEDOUT : -EIO;
}

static _Noreturn void run_keeper(int socket)
{
	int keeper = getpid();

	for (;;) {
		struct answer answer = { 0 };
		ssize_t n = recv(socket, &answer.pid, sizeof answer.pid, 0);
		int child;

		if (n < 0 && errno == EINTR)
			continue;
		if (n != sizeof answer.pid)
			_exit(0);
		/* A bare clone: the libc's fork would take locks that the agent may have held. */
		child = (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (child == 0)
			run_child(keeper, answer.pid);
		answer.result = child < 0 ? -errno : await_child(child);
		if (send(socket, &answer, sizeof answer, MSG_NOSIGNAL) < 0)
			_exit(0);
	}
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

/* Another user, with the three capabilities kept over that change; then nothing more can be had. */
static int give_up(unsigned uid)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct kept[2] = { { .effective = CAPS, .permitted = CAPS } };

	for (int c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		if (c > 31 || !(CAPS & 1u << c))
			prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
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

static _Noreturn void begin_keeper(const struct sandbox *sandbox, unsigned uid, int socket)
{
	prctl(PR_SET_NAME, "sonde-jvm");
	socket = sandbox_keep_only(socket);
	sandbox_forget_secrets();
	if (socket < 0 || give_up(uid) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || sandbox_enter(sandbox) < 0)
		_exit(1);
	run_keeper(socket);
}

/* ---- the agent's end ---- */

int jvm_keeper_start(struct jvm_keeper **ret, unsigned uid)
{
	struct jvm_keeper *k = calloc(1, sizeof *k);
	struct sandbox sandbox; /* on the stack: the heap is going to be forgotten */
	int ends[2], r = k ? compile(&sandbox) : -ENOMEM;

	if (r == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		r = -errno;
	if (r < 0) {
		free(k);
		return r;
	}
	k->pid = (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (k->pid == 0)
		begin_keeper(&sandbox, uid, ends[1]);
	close(ends[1]);
	k->socket = ends[0];
	if (k->pid < 0) {
		r = -errno;
		close(k->socket);
		free(k);
		return r;
	}
	*ret = k;
	return 0;
}

void jvm_keeper_stop(struct jvm_keeper *k)
{
	if (!k)
		return;
	close(k->socket);
	sandbox_reap(k->pid);
	free(k);
}

int jvm_keeper_fd(const struct jvm_keeper *k)
{
	return k->socket;
}

int jvm_keeper_ask(struct jvm_keeper *k, int pid)
{
	for (;;) {
		if (send(k->socket, &pid, sizeof pid, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			return 0;
		if (errno == EINTR)
			continue;
		return errno == EAGAIN || errno == ENOBUFS ? -EAGAIN : -EPIPE;
	}
}

int jvm_keeper_answer(struct jvm_keeper *k, int *ret_pid, int *ret_result)
{
	struct answer answer;
	ssize_t n;

	do
		n = recv(k->socket, &answer, sizeof answer, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return -EAGAIN;
	if (n != sizeof answer)
		return -EPIPE;
	*ret_pid = answer.pid;
	*ret_result = answer.result;
	return 0;
}

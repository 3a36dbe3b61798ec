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

static _Noreturn void begin_keeper(const struct sandbox *sandbox, unsigned uid, int socket)
{
	prctl(PR_SET_NAME, "sonde-jvm");
	socket = sandbox_keep_only(socket);
	sandbox_forget_secrets();
	if (socket < 0 || sandbox_give_up(uid, CAPS) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
	    sandbox_enter(sandbox) < 0)
		_exit(1);
	run_keeper(socket);
}

/* ---- the agent's end ---- */

int jvm_keeper_start(struct jvm_keeper **ret, unsigned uid)
{
	struct jvm_keeper *k = calloc(1, sizeof *k);
	struct sandbox sandbox; /* on the stack: the heap is going to be forgotten */
	int ends[2], r = k ? sandbox_compile(calls, ARRAY_SIZE(calls), SANDBOX_FORK | SANDBOX_UNIX, &sandbox) : -ENOMEM;

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

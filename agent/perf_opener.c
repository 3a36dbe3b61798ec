/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process of CAP_SYS_ADMIN and five system calls, which takes one question at a time over a sequenced-packet socket. What it can do for whoever takes
 * the agent over is what CAP_PERFMON, which the agent keeps, can elsewhere: open events of the kinds below.
 */
#include "perf_opener.h"

#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/base.h"
#include "base/message.h"
#include "base/perf_open.h"
#include "stacks/sandbox.h"

/* Above it Debian's kernels ask for CAP_SYS_ADMIN; others know no such value. */
#define PARANOID_MAX 2

#define ANSWER_S 2 /* an answer takes, at most */

struct question {
	struct perf_event_attr attr;
	int pid, cpu;
};

struct perf_opener {
	pthread_mutex_t lock; /* a question and its answer */
	int socket, pid;
};

static const int calls[] = { SCMP_SYS(recvmsg),      SCMP_SYS(sendmsg),        SCMP_SYS(perf_event_open),
			     SCMP_SYS(close),        SCMP_SYS(exit),           SCMP_SYS(exit_group),
			     SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall) };

static bool is_ours(const struct perf_event_attr *attr)
{
	if (attr->size != sizeof *attr)
		return false;
	if (attr->type == PERF_TYPE_SOFTWARE)
		return attr->config == PERF_COUNT_SW_CPU_CLOCK || attr->config == PERF_COUNT_SW_DUMMY;
	return attr->type == PERF_TYPE_TRACEPOINT ||
	       (attr->type == PERF_TYPE_HARDWARE && attr->config == PERF_COUNT_HW_CPU_CYCLES);
}

static _Noreturn void run_helper(int socket)
{
	for (;;) {
		struct question q;
		int fd = -1, error = EINVAL;

		if (message_receive(socket, &q, sizeof q, NULL, 0) != sizeof q)
			_exit(0);
		if (is_ours(&q.attr)) {
			fd = (int)syscall(SYS_perf_event_open, &q.attr, q.pid, q.cpu, -1, PERF_FLAG_FD_CLOEXEC);
			error = fd < 0 ? errno : 0;
		}
		if (message_send(socket, &error, sizeof error, &fd, fd >= 0, 0) < 0)
			_exit(0);
		if (fd >= 0)
			close(fd);
	}
}

static _Noreturn void begin_helper(const struct sandbox *sandbox, int socket)
{
	prctl(PR_SET_NAME, "sonde-perf");
	socket = sandbox_keep_only(socket);
	sandbox_forget_secrets();
	if (socket < 0 || sandbox_give_up(0, 1ull << CAP_SYS_ADMIN | 1ull << CAP_PERFMON) < 0 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || sandbox_enter(sandbox) < 0)
		_exit(1);
	run_helper(socket);
}

/* ---- the agent's end ---- */

int perf_opener_open(struct perf_opener *o, const struct perf_event_attr *attr, int pid, int cpu)
{
	const struct question q = { *attr, pid, cpu };
	int error = EACCES, fds[MESSAGE_FILES] = { -1, -1 };

	pthread_mutex_lock(&o->lock);
	if (message_send(o->socket, &q, sizeof q, NULL, 0, 0) < 0 ||
	    message_receive(o->socket, &error, sizeof error, fds, 0) != sizeof error) {
		close_fd(&o->socket); /* it is gone, or held up: as without it, from now on */
		error = EACCES;
	}
	pthread_mutex_unlock(&o->lock);
	return fds[0] >= 0 ? fds[0] : -(error ? error : EACCES);
}

static int ask(void *context, const struct perf_event_attr *attr, int pid, int cpu)
{
	return perf_opener_open(context, attr, pid, cpu);
}

int perf_opener_pid(const struct perf_opener *o)
{
	return o->pid;
}

bool perf_opener_needed(void)
{
	FILE *file = fopen("/proc/sys/kernel/perf_event_paranoid", "re");
	int level = 0;

	if (!file)
		return false;
	if (fscanf(file, "%d", &level) != 1)
		level = 0;
	fclose(file);
	return level > PARANOID_MAX;
}

static int start(struct perf_opener *o)
{
	const struct timeval longest = { .tv_sec = ANSWER_S };
	struct sandbox sandbox; /* on the stack: the heap is going to be forgotten */
	int ends[2], r = sandbox_compile(calls, ARRAY_SIZE(calls), 0, &sandbox);

	if (r == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		r = -errno;
	if (r < 0)
		return r;
	o->socket = ends[0];
	o->pid = setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof longest) < 0
			 ? -1
			 : (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	r = o->pid < 0 ? -errno : 0;
	if (o->pid == 0)
		begin_helper(&sandbox, ends[1]);
	close(ends[1]);
	if (r < 0)
		close_fd(&o->socket);
	return r;
}

int perf_opener_start(struct perf_opener **ret)
{
	struct perf_opener *o = calloc(1, sizeof *o);
	int r;

	if (!o)
		return -ENOMEM;
	pthread_mutex_init(&o->lock, NULL);
	r = start(o);
	if (r < 0) {
		free(o);
		return r;
	}
	perf_open_by(ask, o);
	*ret = o;
	return 0;
}

void perf_opener_stop(struct perf_opener *o)
{
	if (!o)
		return;
	perf_open_by(NULL, NULL);
	close_fd(&o->socket);
	sandbox_reap(o->pid);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

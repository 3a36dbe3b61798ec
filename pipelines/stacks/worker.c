/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeper and worker. Both are forks of the agent that never execute anything and never allocate: the keeper sleeps in
 * recvmsg and forks a worker per request; a worker sleeps in recvmsg and answers. All memory that they write is mapped before the
 * sandbox closes: this file's struct, the shelf of tables, the arena shared with the agent.
 *
 * Invariant: the worker holds a file only during its question.
 */
#include "stacks/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "base/message.h"
#include "stacks/sandbox.h"
#include "stacks/shelf.h"

#define WORKER_CALLS                                                                                                   \
	SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(pread64), SCMP_SYS(close), SCMP_SYS(exit),                      \
		SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall), SCMP_SYS(madvise)

static const int worker_calls[] = { WORKER_CALLS };
/* With those of the workers that it forks, for which its filter holds too. */
static const int keeper_calls[] = { WORKER_CALLS,     SCMP_SYS(wait4),   SCMP_SYS(kill),
				    SCMP_SYS(getpid), SCMP_SYS(getppid), SCMP_SYS(prctl) };

struct keeper {
	struct sandbox keeper, worker;
	struct worker_state state;
	struct shelf shelf;
	size_t mapped;
};

static _Noreturn void run_worker(struct keeper *k, int socket)
{
	struct worker_state *state = &k->state;

	for (;;) {
		int fds[MESSAGE_FILES];
		ssize_t n = message_receive(socket, &state->ask, sizeof state->ask, fds, 0);

		if (n != sizeof state->ask)
			_exit(0);

		size_t size = worker_answer(state, fds[0], fds[1]);

		for (unsigned i = 0; i < MESSAGE_FILES; i++)
			if (fds[i] >= 0)
				close(fds[i]);
		if (message_send(socket, &state->answer, size, NULL, 0, 0) < 0)
			_exit(0);
	}
}

/* The child's life from fork to sandbox. A bare clone: the libc's fork would take locks that the agent may have held.
 */
static int fork_worker(struct keeper *k, int control, int socket)
{
	int keeper = getpid();
	int pid = (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid != 0)
		return pid < 0 ? -errno : pid;
	close(control);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != keeper || sandbox_enter(&k->worker) < 0)
		_exit(1);
	run_worker(k, socket);
}

static _Noreturn void run_keeper(struct keeper *k, int control)
{
	int worker = 0;

	for (;;) {
		char request;
		int fds[MESSAGE_FILES], socket;
		ssize_t n = message_receive(control, &request, 1, fds, 0);

		socket = fds[0];

		if (worker > 0)
			kill(worker, SIGKILL);
		/* A worker held up by a file system may take its time to die: whoever has died by now is reaped. */
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (n != 1 || socket < 0)
			_exit(0);
		worker = fork_worker(k, control, socket);
		close(socket);
		message_send(control, &worker, sizeof worker, NULL, 0, 0);
	}
}

static _Noreturn void begin_keeper(struct keeper *k, unsigned uid, int control)
{
	prctl(PR_SET_NAME, "sonde-stacks");
	control = sandbox_keep_only(control);
	/* It ends when its socket is closed; where the agent may not kill it (another uid), what holds it up ends with the agent. */
	if (control < 0 || sandbox_forget(uid) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
	    sandbox_enter(&k->keeper) < 0)
		_exit(1);
	run_keeper(k, control);
}

static void unmap_keeper(struct keeper **k)
{
	if (*k && *k != MAP_FAILED)
		munmap(*k, (*k)->mapped);
}

int worker_sandbox(struct sandbox *ret)
{
	return sandbox_compile(worker_calls, ARRAY_SIZE(worker_calls), 0, ret);
}

/* One mapping holds everything the two processes will ever write. */
static int map_keeper(const struct worker_options *options, struct keeper **ret)
{
	size_t head = ALIGN_UP(sizeof **ret, (size_t)4096), bound = ALIGN_UP(options->table_bytes, (size_t)4096),
	       size = head + bound + SHELF_SCRATCH + WORKER_WORK;
	struct keeper *k = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int r;

	if (k == MAP_FAILED)
		return -errno;
	k->mapped = size;
	shelf_open(&k->shelf, (uint8_t *)k + head, bound);
	k->state.shelf = &k->shelf;
	k->state.work = (uint8_t *)k + size - WORKER_WORK;
	k->state.arena = *options->arena;
	r = sandbox_compile(keeper_calls, ARRAY_SIZE(keeper_calls), SANDBOX_FORK, &k->keeper);
	if (r == 0)
		r = worker_sandbox(&k->worker);
	if (r < 0)
		unmap_keeper(&k);
	else
		*ret = k;
	return r;
}

int worker_start_keeper(const struct worker_options *options, int *ret_control, int *ret_pid)
{
	_cleanup_(unmap_keeper) struct keeper *k = NULL;
	int ends[2], pid, r = map_keeper(options, &k);

	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	pid = (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		begin_keeper(k, options->uid, ends[1]);
	close(ends[1]);
	if (pid < 0) {
		r = -errno;
		close(ends[0]);
		return r;
	}
	*ret_control = ends[0];
	*ret_pid = pid;
	return 0;
}

int worker_spawn(int control)
{
	int ends[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	r = message_send(control, "", 1, &ends[1], 1, MSG_DONTWAIT);
	close(ends[1]);
	if (r < 0) {
		close(ends[0]);
		return r;
	}
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	return ends[0];
}

int worker_spawned(int control)
{
	int pid;
	ssize_t n = message_receive(control, &pid, sizeof pid, NULL, MSG_DONTWAIT);

	if (n == -EAGAIN)
		return -EAGAIN;
	return n == sizeof pid ? (pid > 0 ? pid : -EAGAIN) : -EPIPE;
}

int worker_send(int worker, const struct worker_ask *ask, int fd, int debug_fd)
{
	const int fds[] = { fd, debug_fd };

	return message_send(worker, ask, sizeof *ask, fds, (fd >= 0) + (fd >= 0 && debug_fd >= 0), MSG_DONTWAIT);
}

/* All within what was sent, and the inlined ones ended by a NUL. */
static bool is_name_sound(const struct worker_answer *answer, uint32_t i, size_t text)
{
	const struct worker_name *name = &answer->names[i];
	size_t end = (size_t)name->at + name->length + name->inlined;

	return name->length < ELF_NAME_MAX && end <= text && (!name->inlined || !answer->text[end - 1]);
}

/* A worker that a hostile file took over may say anything: lengths are checked here, texts where they are used. */
int worker_receive(int worker, struct worker_answer *answer)
{
	size_t head = offsetof(struct worker_answer, text);
	ssize_t n = message_receive(worker, answer, sizeof *answer, NULL, MSG_DONTWAIT);

	if (n == -EAGAIN)
		return -EAGAIN;
	if (n <= 0)
		return -EPIPE;
	if ((size_t)n < head || answer->count > WORKER_BATCH || answer->build_id_length > ELF_BUILD_ID_MAX ||
	    !memchr(answer->debug_link, 0, sizeof answer->debug_link) || strchr(answer->debug_link, '/'))
		return -EBADMSG;
	for (uint32_t i = 0; i < answer->count; i++)
		if (!is_name_sound(answer, i, (size_t)n - head))
			return -EBADMSG;
	return 0;
}

void worker_stop_keeper(int control, int pid)
{
	close(control);
	sandbox_reap(pid);
}

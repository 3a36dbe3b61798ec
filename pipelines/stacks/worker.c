/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeper and worker. Both are forks of the agent that never execute anything and never allocate: the keeper sleeps in
 *recvmsg and forks a worker per request; a worker sleeps in recvmsg and answers. All tables lie in one mapping,
 *reserved before the sandbox closes:
 *
 *	[ table | table | table | .... free .... ]
 *
 * A new table is built at the end. When room is short the least recently used goes and the rest move up, which
 * they may, being position-independent. The same file number means the same content, so a table is found again without
 *a look at the file.
 *
 * Invariants: shelf[] is in the order of the tables in memory, without gaps; the worker holds a file only during its
 *question.
 */
#include "stacks/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
#include "stacks/sandbox.h"

#define SHELF_MAX 1024u

struct shelf_entry {
	uint64_t file, used;
	size_t bytes;
	int status; /* 0, or why there is no table: known without reading the file again */
};

struct shelf {
	uint8_t *memory;
	size_t size, filled;
	uint64_t clock;
	unsigned count;
	struct shelf_entry entries[SHELF_MAX];
};

struct keeper {
	struct sandbox keeper, worker;
	struct worker_ask ask;
	struct worker_answer answer;
	struct shelf shelf;
	size_t mapped;
};

/* Sends `size` bytes and, with `fd` not negative, that descriptor. */
static int send_message(int socket, const void *bytes, size_t size, int fd, int flags)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof fd)];
	} control = { 0 };
	struct iovec part = { .iov_base = (void *)bytes, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof control.room;
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
	}
	for (;;) {
		if (sendmsg(socket, &message, flags | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno == EINTR)
			continue;
		return errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS ? -EAGAIN : -EPIPE;
	}
}

/* Receives one message. Returns its size, 0 at the end of the connection. Descriptors that were not asked for are not
 * taken. */
static ssize_t receive_message(int socket, void *bytes, size_t size, int *ret_fd, int flags)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { .iov_base = bytes, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t n;

	if (ret_fd) {
		*ret_fd = -1;
		message.msg_control = &control;
		message.msg_controllen = sizeof control.room;
	}
	do
		n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;

	struct cmsghdr *header = ret_fd ? CMSG_FIRSTHDR(&message) : NULL;

	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
	    header->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(header), sizeof(int));
	return n;
}

static struct shelf_entry *shelf_find(struct shelf *shelf, uint64_t file, size_t *ret_at)
{
	*ret_at = 0;
	for (unsigned i = 0; i < shelf->count; i++) {
		if (shelf->entries[i].file == file)
			return &shelf->entries[i];
		*ret_at += shelf->entries[i].bytes;
	}
	return NULL;
}

static void shelf_remove(struct shelf *shelf, unsigned index)
{
	size_t at = 0, bytes = shelf->entries[index].bytes;

	for (unsigned i = 0; i < index; i++)
		at += shelf->entries[i].bytes;
	memmove(shelf->memory + at, shelf->memory + at + bytes, shelf->filled - at - bytes);
	shelf->filled -= bytes;
	shelf->count--;
	memmove(&shelf->entries[index], &shelf->entries[index + 1], (shelf->count - index) * sizeof shelf->entries[0]);
}

static void shelf_make_room(struct shelf *shelf, size_t bytes)
{
	while (shelf->count && (shelf->count == SHELF_MAX || shelf->size - shelf->filled < bytes)) {
		unsigned oldest = 0;

		for (unsigned i = 1; i < shelf->count; i++)
			if (shelf->entries[i].used < shelf->entries[oldest].used)
				oldest = i;
		shelf_remove(shelf, oldest);
	}
}

/* Pages behind the tables, written while a table was built, go back to the system. */
static void shelf_trim(struct shelf *shelf, size_t reached)
{
	size_t keep = ALIGN_UP(shelf->filled, (size_t)4096);

	if (reached > keep + (256u << 10))
		madvise(shelf->memory + keep, ALIGN_UP(reached, (size_t)4096) - keep, MADV_DONTNEED);
}

static struct shelf_entry *shelf_build(struct shelf *shelf, uint64_t name, const struct elf_file *file, size_t *ret_at)
{
	int64_t room = elf_table_room(file);
	size_t bytes = room > 0 ? MIN_OF((size_t)room, shelf->size) : 0;
	struct shelf_entry entry = { .file = name, .status = room < 0 ? (int)room : 0 };

	shelf_make_room(shelf, bytes);
	*ret_at = shelf->filled;
	if (!entry.status)
		entry.status = elf_table_build(file, shelf->memory + shelf->filled,
					       MIN_OF(bytes, shelf->size - shelf->filled));
	if (!entry.status) {
		entry.bytes = elf_table_bytes((void *)(shelf->memory + shelf->filled));
		shelf->filled += entry.bytes;
		shelf_trim(shelf, *ret_at + bytes);
	}
	shelf->entries[shelf->count] = entry;
	return &shelf->entries[shelf->count++];
}

/* Fills the answer; returns how many bytes of it are used. */
static size_t answer_ask(struct shelf *shelf, const struct worker_ask *ask, int fd, struct worker_answer *answer)
{
	struct elf_file file = { .fd = fd, .size = ask->size };
	size_t at, used = 0;
	struct shelf_entry *entry = shelf_find(shelf, ask->file, &at);

	memset(answer, 0, offsetof(struct worker_answer, text));
	if (!entry)
		entry = shelf_build(shelf, ask->file, &file, &at);
	entry->used = ++shelf->clock;
	answer->ticket = ask->ticket;
	answer->count = ask->count;
	answer->status = entry->status;
	if (entry->status)
		return offsetof(struct worker_answer, text);

	const struct elf_table *table = (void *)(shelf->memory + at);

	answer->build_id_length = table->build_id_length;
	memcpy(answer->build_id, table->build_id, sizeof answer->build_id);
	for (uint32_t i = 0; i < ask->count; i++) {
		struct worker_name *name = &answer->names[i];
		int length = elf_table_find(table, &file, ask->offsets[i], answer->text + used, &name->delta);

		if (length <= 0)
			continue;
		name->at = (uint16_t)used;
		name->length = (uint16_t)length;
		used += (size_t)length;
	}
	return offsetof(struct worker_answer, text) + used;
}

static _Noreturn void run_worker(struct keeper *k, int socket)
{
	for (;;) {
		int fd;
		ssize_t n = receive_message(socket, &k->ask, sizeof k->ask, &fd, 0);

		if (n != sizeof k->ask || fd < 0 || k->ask.count > WORKER_BATCH)
			_exit(0);

		size_t size = answer_ask(&k->shelf, &k->ask, fd, &k->answer);

		close(fd);
		if (send_message(socket, &k->answer, size, -1, 0) < 0)
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
		int socket;
		ssize_t n = receive_message(control, &request, 1, &socket, 0);

		if (worker > 0)
			kill(worker, SIGKILL);
		/* A worker held up by a file system may take its time to die: whoever has died by now is reaped. */
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (n != 1 || socket < 0)
			_exit(0);
		worker = fork_worker(k, control, socket);
		close(socket);
		send_message(control, &worker, sizeof worker, -1, 0);
	}
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

/* Keeps `control` alone, as descriptor 3; 0 to 2 lead nowhere. */
static int keep_only(int control)
{
	int nowhere = open("/dev/null", O_RDWR);

	if (nowhere < 0)
		return -errno;
	if (control == 3)
		control = fcntl(control, F_DUPFD, 4);
	for (int fd = 0; fd <= 2; fd++)
		dup2(nowhere, fd);
	dup2(control, 3);
	return syscall(SYS_close_range, 4u, UINT_MAX, 0) < 0 ? -errno : 3;
}

static _Noreturn void begin_keeper(struct keeper *k, unsigned uid, int control)
{
	prctl(PR_SET_NAME, "sonde-stacks");
	reset_signals();
	control = keep_only(control);
	if (control < 0 || sandbox_forget(uid) < 0 || sandbox_enter(&k->keeper) < 0)
		_exit(1);
	run_keeper(k, control);
}

static void unmap_keeper(struct keeper **k)
{
	if (*k && *k != MAP_FAILED)
		munmap(*k, (*k)->mapped);
}

/* One mapping holds everything the two processes will ever write. */
static int map_keeper(size_t table_bytes, struct keeper **ret)
{
	size_t head = ALIGN_UP(sizeof **ret, (size_t)4096), size = head + ALIGN_UP(table_bytes, (size_t)4096);
	struct keeper *k = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int r;

	if (k == MAP_FAILED)
		return -errno;
	k->mapped = size;
	k->shelf.memory = (uint8_t *)k + head;
	k->shelf.size = size - head;
	r = sandbox_compile(true, &k->keeper);
	if (r == 0)
		r = sandbox_compile(false, &k->worker);
	if (r < 0)
		unmap_keeper(&k);
	else
		*ret = k;
	return r;
}

int worker_start_keeper(const struct worker_options *options, int *ret_control, int *ret_pid)
{
	_cleanup_(unmap_keeper) struct keeper *k = NULL;
	int ends[2], pid, r = map_keeper(options->table_bytes, &k);

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
	r = send_message(control, "", 1, ends[1], MSG_DONTWAIT);
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
	ssize_t n = receive_message(control, &pid, sizeof pid, NULL, MSG_DONTWAIT);

	if (n == -EAGAIN)
		return -EAGAIN;
	return n == sizeof pid ? (pid > 0 ? pid : -EAGAIN) : -EPIPE;
}

int worker_send(int worker, const struct worker_ask *ask, int fd)
{
	return send_message(worker, ask, sizeof *ask, fd, MSG_DONTWAIT);
}

/* A worker that a hostile file took over may say anything: lengths are checked here, texts where they are used. */
int worker_receive(int worker, struct worker_answer *answer)
{
	size_t head = offsetof(struct worker_answer, text);
	ssize_t n = receive_message(worker, answer, sizeof *answer, NULL, MSG_DONTWAIT);

	if (n == -EAGAIN)
		return -EAGAIN;
	if (n <= 0)
		return -EPIPE;
	if ((size_t)n < head || answer->count > WORKER_BATCH || answer->build_id_length > ELF_BUILD_ID_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < answer->count; i++)
		if (answer->names[i].length >= ELF_NAME_MAX ||
		    (size_t)answer->names[i].at + answer->names[i].length > (size_t)n - head)
			return -EBADMSG;
	return 0;
}

void worker_stop_keeper(int control, int pid)
{
	close(control);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

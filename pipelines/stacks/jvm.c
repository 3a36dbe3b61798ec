/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching to a JVM, see jvm.h. The protocol is HotSpot's own (os/linux/attachListener and the class VirtualMachineImpl of
 * jdk.attach): a socket /tmp/.java_pidN; where it is not there yet, a file .attach_pidN in the JVM's working directory, or in
 * /tmp, and SIGQUIT make the JVM open it. The JVM answers those alone who have its effective user and group.
 *
 * The target is hostile: it chooses what lies in its folders. Its root is held as a descriptor and every path below it is
 * resolved inside it (openat2); nothing is followed at the end of a path; what is connected to has to be a socket of the JVM's
 * user behind which the JVM itself listens. Before the signal is sent everything is checked anew, and it goes by a pidfd, so
 * that it reaches nobody else even if the number was used again.
 */
#include "stacks/jvm.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

#define STATUS_BYTES 8192
#define MAPS_BYTES   (32u << 20) /* of /proc/PID/maps, at most */
#define LIBRARY      "/libjvm.so"
#define LOOK_MS      20
#define AGAIN_MS     1000
#define OPTION       "-XX:+DisableAttachMechanism"
#define OPTIONS_MAX  65536u
#define PIECES_MAX   64u /* of the list of threads, 8 KiB each */
/* Version, command, three arguments: each ends with a NUL. */
static const char request[] = "1\0jcmd\0Compiler.perfmap\0\0";

struct attach {
	struct jvm jvm;
	char number[16]; /* what it calls itself */
	int process, root, cwd;
	uint64_t until;
};

/* ---- looking ---- */

/* Whether this line of maps is executable code of the library. "7f00-7f10 r-xp 00000000 08:01 123   /usr/lib/.../libjvm.so" */
static bool is_library(const char *line)
{
	const char *rights = strchr(line, ' '), *path = strchr(line, '/'), *end;

	if (!rights || strlen(rights) < 5 || rights[3] != 'x' || !path)
		return false;
	end = strstr(path, LIBRARY);
	/* "libjvm.so (deleted)": after an upgrade of the package. */
	return end && (!end[sizeof LIBRARY - 1] || !strcmp(end + sizeof LIBRARY - 1, " (deleted)"));
}

/* Reads line by line through one buffer; a line that does not fit is none of ours. */
static int has_library(int pid)
{
	char path[48], buffer[8192];
	size_t held = 0, total = 0;
	_cleanup_(close_fd) int fd = -1;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/maps", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (total < MAPS_BYTES && (n = read(fd, buffer + held, sizeof buffer - 1 - held)) > 0) {
		char *line = buffer, *end;

		held += (size_t)n;
		total += (size_t)n;
		buffer[held] = '\0';
		while ((end = memchr(line, '\n', held - (size_t)(line - buffer)))) {
			*end = '\0';
			if (is_library(line))
				return 1;
			line = end + 1;
		}
		held -= (size_t)(line - buffer);
		memmove(buffer, line, held);
		if (held == sizeof buffer - 1)
			held = 0;
	}
	return 0;
}

static const char *field(const char *status, const char *name)
{
	const char *at = strstr(status, name);

	return at ? at + strlen(name) : "";
}

static int read_status(int pid, struct jvm *ret, bool *ret_catches)
{
	char path[48], status[STATUS_BYTES];
	_cleanup_(close_fd) int fd = -1;
	unsigned long long caught = 0;
	const char *names;
	ssize_t n;
	int tgid;

	snprintf(path, sizeof path, "/proc/%d/status", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, status, sizeof status - 1);
	if (n <= 0)
		return errno == ENOENT ? -ESRCH : -errno;
	status[n] = '\0';
	*ret = (struct jvm){ .pid = pid, .ns_pid = pid };
	if (sscanf(field(status, "\nTgid:"), "%d", &tgid) != 1 || tgid != pid ||
	    sscanf(field(status, "\nUid:"), "%*u %u", &ret->uid) != 1 ||
	    sscanf(field(status, "\nGid:"), "%*u %u", &ret->gid) != 1 ||
	    sscanf(field(status, "\nSigCgt:"), "%llx", &caught) != 1)
		return -ESRCH;
	/* From ours to the innermost pid namespace; the last is what the process calls itself. */
	names = field(status, "\nNSpid:");
	for (int at; sscanf(names, " %d%n", &tgid, &at) == 1 && *names != '\n'; names += at) {
		ret->ns_pid = tgid;
		if (names[at] == '\n')
			break;
	}
	*ret_catches = caught >> (SIGQUIT - 1) & 1;
	return 0;
}

/* Whether the JVM was told to let nobody attach: the signal would have it write a dump of its threads, and nothing else. In pieces
 * that overlap by the length of the option. */
static bool refuses(int pid)
{
	char path[48], text[4096];
	size_t keep = sizeof OPTION - 1, held = 0;
	_cleanup_(close_fd) int fd = -1;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	for (size_t total = 0; fd >= 0 && total < OPTIONS_MAX && (n = read(fd, text + held, sizeof text - held)) > 0;) {
		total += (size_t)n;
		held += (size_t)n;
		if (memmem(text, held, OPTION, keep))
			return true;
		if (held > keep) {
			memmove(text, text + held - keep, keep);
			held = keep;
		}
	}
	return false;
}

static bool thread_compiles(int tasks, const char *name)
{
	char path[300], comm[32];
	_cleanup_(close_fd) int fd = -1;
	ssize_t n;

	snprintf(path, sizeof path, "%s/comm", name);
	fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, comm, sizeof comm - 1);
	comm[MAX_OF(n, (ssize_t)0)] = '\0';
	return strstr(comm, " Compiler") != NULL;
}

/* Whether it has threads that compile ("C2 CompilerThread0"): without them there are no names to ask for, and they begin after the
 * JVM has made all ready for those who attach (Threads::create_vm). The libc's way to read folders would allocate, which a keeper
 * cannot. */
static bool compiles(int pid)
{
	char path[48];
	_cleanup_(close_fd) int fd = -1;
	struct linux_dirent64 {
		uint64_t number;
		int64_t offset;
		uint16_t size;
		uint8_t type;
		char name[];
	} * entry;
	union {
		struct linux_dirent64 first;
		char bytes[8192];
	} room;
	long n;

	snprintf(path, sizeof path, "/proc/%d/task", pid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned pieces = 0; fd >= 0 && pieces < PIECES_MAX; pieces++) {
		n = syscall(SYS_getdents64, fd, &room, sizeof room);
		if (n <= 0)
			break;
		for (long at = 0; at < n; at += entry->size) {
			entry = (struct linux_dirent64 *)(room.bytes + at);
			if (entry->name[0] != '.' && thread_compiles(fd, entry->name))
				return true;
		}
	}
	return false;
}

int jvm_look(int pid, struct jvm *ret)
{
	bool catches;
	int r;

	if (pid <= 1)
		return -ESRCH;
	r = has_library(pid);
	if (r <= 0)
		return r == 0 ? -ENOEXEC : r == -ENOENT ? -ESRCH : r;
	r = read_status(pid, ret, &catches);
	if (r < 0)
		return r;
	return catches && !refuses(pid) && compiles(pid) ? 0 : -ENODEV;
}

/* ---- attaching ---- */

static bool alive(const struct attach *a)
{
	struct pollfd p = { .fd = a->process, .events = POLLIN };

	return poll(&p, 1, 0) == 0;
}

static int time_left(const struct attach *a)
{
	uint64_t now = now_boottime_ns();

	return now < a->until ? (int)((a->until - now) / NS_PER_MS) : 0;
}

static int open_folder(int pid, const char *name)
{
	char path[48];
	int fd;

	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* All that needs rights over the process. What was read of /proc/PID is of one process, since it lives before and after. */
static int take_hold(struct attach *a, int pid)
{
	int r;

	a->process = (int)syscall(SYS_pidfd_open, pid, 0);
	if (a->process < 0)
		return errno == EINVAL || errno == ENOENT ? -ESRCH : -errno;
	r = jvm_look(pid, &a->jvm);
	if (r < 0)
		return r;
	snprintf(a->number, sizeof a->number, "%d", a->jvm.ns_pid);
	a->root = open_folder(pid, "root");
	if (a->root < 0)
		return a->root;
	/* A working directory that is gone is no obstacle: there is /tmp. */
	a->cwd = open_folder(pid, "cwd");
	return alive(a) ? 0 : -ESRCH;
}

/* Only this thread exists, so the bare calls do what the libc's would do for all threads. */
static int become(const struct jvm *jvm)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };

	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, jvm->gid, jvm->gid, jvm->gid) < 0 ||
	    syscall(SYS_setresuid, jvm->uid, jvm->uid, jvm->uid) < 0 || syscall(SYS_capset, &header, none) < 0)
		return -errno;
	return 0;
}

/* A name in the target's /tmp, never outside its root, and no link. */
static int open_in_tmp(const struct attach *a, const char *name, const char *end, uint64_t flags, uint64_t mode)
{
	struct open_how how = { .flags = flags | O_NOFOLLOW | O_CLOEXEC,
				.mode = mode,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	char path[64];
	int fd;

	snprintf(path, sizeof path, "tmp/%s%s", name, end);
	fd = (int)syscall(SYS_openat2, a->root, path, &how, sizeof how);
	return fd < 0 ? -errno : fd;
}

static int connect_to(int socket_file)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r;

	if (fd < 0)
		return -errno;
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d", socket_file);
	if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

/* The connection, or -ENOENT: nobody listens yet. */
static int reach(const struct attach *a)
{
	_cleanup_(close_fd) int file = open_in_tmp(a, ".java_pid", a->number, O_PATH, 0), fd = -1;
	struct ucred peer;
	socklen_t size = sizeof peer;
	struct stat st;
	int ret;

	if (file < 0)
		return file;
	if (fstat(file, &st) < 0 || !S_ISSOCK(st.st_mode) || st.st_uid != a->jvm.uid)
		return -EPERM;
	fd = connect_to(file);
	/* A file that an earlier process of this number left; a backlog that is full. */
	if (fd < 0)
		return fd == -ECONNREFUSED || fd == -EAGAIN ? -ENOENT : fd;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return -errno;
	if (peer.pid != a->jvm.pid)
		return -EPERM;
	ret = fd;
	fd = -1;
	return ret;
}

/* 1: made in the working directory; 2: in /tmp; 0: somebody else's is there, which does as well. */
static int make_trigger(const struct attach *a)
{
	char name[32];
	int fd;

	snprintf(name, sizeof name, ".attach_pid%s", a->number);
	fd = a->cwd < 0 ? -1 : openat(a->cwd, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 && a->cwd >= 0 && errno == EEXIST)
		return 0;
	if (fd >= 0) {
		close(fd);
		return 1;
	}
	fd = open_in_tmp(a, ".attach_pid", a->number, O_CREAT | O_EXCL | O_WRONLY, 0600);
	if (fd < 0)
		return fd == -EEXIST ? 0 : fd;
	close(fd);
	return 2;
}

static void remove_trigger(const struct attach *a, int place)
{
	char name[32];
	_cleanup_(close_fd) int tmp = -1;

	snprintf(name, sizeof name, ".attach_pid%s", a->number);
	if (place == 1) {
		unlinkat(a->cwd, name, 0);
	} else if (place == 2) {
		struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
					.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };

		tmp = (int)syscall(SYS_openat2, a->root, "tmp", &how, sizeof how);
		if (tmp >= 0)
			unlinkat(tmp, name, 0);
	}
}

/* An exec since the first look would have made it another program, which the signal would kill: but an exec also takes every
 * handler away, and anybody may read that. */
static int send_quit(const struct attach *a)
{
	struct jvm again;
	bool catches;
	int r = read_status(a->jvm.pid, &again, &catches);

	if (r < 0)
		return r;
	if (!catches || again.uid != a->jvm.uid || !alive(a))
		return -ESRCH;
	return syscall(SYS_pidfd_send_signal, a->process, SIGQUIT, NULL, 0) < 0 ? -errno : 0;
}

/* A JVM that is starting catches the signal before it clears away what an earlier one of its number may have left, its own
 * fresh socket included: it is asked once more, as jcmd does. More often would only fill its log with dumps of threads. */
static int await_socket(const struct attach *a)
{
	const struct timespec pause = { .tv_nsec = LOOK_MS * (long)NS_PER_MS };
	int fd, looks = 0, r;

	for (;;) {
		if (looks++ == AGAIN_MS / LOOK_MS) {
			r = send_quit(a);
			if (r < 0)
				return r;
		}
		fd = reach(a);
		if (fd != -ENOENT)
			return fd;
		if (!alive(a))
			return -ESRCH;
		if (time_left(a) <= 0)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
}

static int open_connection(const struct attach *a)
{
	int fd = reach(a), place, r;

	if (fd != -ENOENT)
		return fd;
	place = make_trigger(a);
	if (place < 0)
		return place;
	r = send_quit(a);
	fd = r < 0 ? r : await_socket(a);
	remove_trigger(a, place);
	return fd;
}

/* The answer's first line is a number, 0 for success; what follows is text for people. */
static int read_answer(const struct attach *a, int fd)
{
	char text[4096];
	size_t got = 0;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int n = poll(&p, 1, time_left(a));
		ssize_t size;

		if (n == 0)
			return -ETIMEDOUT;
		size = n < 0 ? -1 : read(fd, text + got, sizeof text - 1 - got);
		if (size < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (size == 0)
			break;
		got += size > 0 ? (size_t)size : 0;
		/* What is behind the first part is not needed, but the JVM shall be able to write it. */
		if (got == sizeof text - 1)
			got = sizeof text / 2;
	}
	text[got] = '\0';
	if (!got || !isdigit((unsigned char)text[0]))
		return -EBADMSG;
	return strncmp(text, "0\n", 2) == 0 ? 0 : -EOPNOTSUPP;
}

/* The JVM follows links and overwrites what it finds: whoever can write to its /tmp could have it destroy a file of its user. */
static int check_map(const struct attach *a)
{
	_cleanup_(close_fd) int fd = -1;
	struct stat st;
	char end[24];

	snprintf(end, sizeof end, "%s.map", a->number);
	fd = open_in_tmp(a, "perf-", end, O_PATH, 0);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == a->jvm.uid && st.st_nlink == 1 ? 0 : -EPERM;
}

static int ask(const struct attach *a)
{
	int r = check_map(a);
	_cleanup_(close_fd) int fd = r < 0 ? r : open_connection(a);

	if (fd < 0)
		return fd;
	/* A fresh socket's buffer holds it whole. */
	if (send(fd, request, sizeof request, MSG_NOSIGNAL) != (ssize_t)sizeof request)
		return -EPIPE;
	return read_answer(a, fd);
}

static void let_go(struct attach *a)
{
	close_fd(&a->process);
	close_fd(&a->root);
	close_fd(&a->cwd);
}

int jvm_attach(int pid, int wait_ms)
{
	_cleanup_(let_go) struct attach a = { .process = -1,
					      .root = -1,
					      .cwd = -1,
					      .until = now_boottime_ns() + (uint64_t)MAX_OF(wait_ms, 0) * NS_PER_MS };
	int r = take_hold(&a, pid);

	if (r == 0)
		r = become(&a.jvm);
	return r < 0 ? r : ask(&a);
}

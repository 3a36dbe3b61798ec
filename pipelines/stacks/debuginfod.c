/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's end of debuginfod.h: what is known of each build id.
 *
 *	NEW -> WAITING -> ASKED -> HELD or MISSING
 *
 * One question is with the helper, at most QUEUE_MAX wait. Of the files that came the last few stay open; one that was closed is NEW
 * again, and the helper has it from its cache. Programs choose their build ids, so that all of it is bounded: what has no room is not
 * asked.
 *
 * Invariants: at most one entry is ASKED, and only while the helper is there; `fd` is open exactly when HELD; entries never move to
 * another index, so that they are asked in the order in which they came.
 */
#include "stacks/debuginfod.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "stacks/debuginfod_talk.h"
#include "stacks/sandbox.h"

#define ENTRIES_MAX 8192u
#define QUEUE_MAX   64u
#define HELD_MAX    32u
#define ENV_MAX     24u

enum state { NEW, WAITING, ASKED, HELD, MISSING };

struct entry {
	uint8_t length, build_id[ELF_BUILD_ID_MAX];
	enum state state;
	int fd;
	uint64_t size, used;
};

struct debuginfod {
	int socket, pid;
	bool ready;
	struct fault why; /* it is not there */
	struct entry *entries;
	unsigned count, room, waiting, held;
	struct entry *asked;
	uint64_t clock, held_bytes, bytes;
};

/* ---- beginning ---- */

struct start {
	char *env[ENV_MAX];
	unsigned n_env;
	char *args[DEBUGINFOD_ARGS + 1];
	bool failed;
};

static void free_start(struct start *s)
{
	for (unsigned i = 0; i < s->n_env; i++)
		free(s->env[i]);
	for (unsigned i = 0; i < DEBUGINFOD_ARGS; i++)
		free(s->args[i]);
}

static void _printf_(3, 4) put(struct start *s, char **at, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (vasprintf(at, format, args) < 0) {
		*at = NULL;
		s->failed = true;
	}
	va_end(args);
}

static char *join(const char *const *urls, size_t n)
{
	size_t size = 1, at = 0;
	char *text;

	for (size_t i = 0; i < n; i++)
		size += strlen(urls[i]) + 1;
	text = calloc(1, size);
	for (size_t i = 0; text && i < n; i++)
		at += (size_t)snprintf(text + at, size - at, "%s%s", i ? " " : "", urls[i]);
	return text;
}

/* Nothing of the agent's environment but what says how the network is reached. */
static int prepare(struct start *s, const struct debuginfod_options *o)
{
	static const char *const passed[] = { "http_proxy", "https_proxy", "HTTPS_PROXY",   "all_proxy",   "ALL_PROXY",
					      "no_proxy",   "NO_PROXY",    "SSL_CERT_FILE", "SSL_CERT_DIR" };
	_cleanup_(free_pointer) char *urls = join(o->urls, o->n_urls);

	if (!urls)
		return -ENOMEM;
	put(s, &s->args[0], "%s", DEBUGINFOD_HELPER);
	put(s, &s->args[DEBUGINFOD_ARG_UID], "%u", o->uid);
	put(s, &s->args[DEBUGINFOD_ARG_CACHE], "%s", o->cache);
	put(s, &s->args[DEBUGINFOD_ARG_BYTES], "%llu", (unsigned long long)o->cache_bytes);
	put(s, &s->env[s->n_env++], "DEBUGINFOD_URLS=%s", urls);
	put(s, &s->env[s->n_env++], "DEBUGINFOD_CACHE_PATH=%s", o->cache);
	put(s, &s->env[s->n_env++], "DEBUGINFOD_TIMEOUT=%u", o->timeout_s);
	put(s, &s->env[s->n_env++], "DEBUGINFOD_MAXTIME=%u", 6 * o->timeout_s);
	put(s, &s->env[s->n_env++], "DEBUGINFOD_MAXSIZE=%llu", (unsigned long long)o->cache_bytes / DEBUGINFOD_PART);
	put(s, &s->env[s->n_env++], "DEBUGINFOD_RETRY_LIMIT=1");
	for (size_t i = 0; i < ARRAY_SIZE(passed); i++)
		if (getenv(passed[i]))
			put(s, &s->env[s->n_env++], "%s=%s", passed[i], getenv(passed[i]));
	return s->failed ? -ENOMEM : 0;
}

/* Only calls that are safe after fork. */
static _Noreturn void begin_helper(const struct start *s, int socket)
{
	int nowhere = open("/dev/null", O_RDWR);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (socket == DEBUGINFOD_SOCKET)
		socket = fcntl(socket, F_DUPFD, DEBUGINFOD_SOCKET + 1);
	for (int fd = 0; fd <= 2; fd++)
		dup2(nowhere, fd);
	dup2(socket, DEBUGINFOD_SOCKET);
	if (nowhere >= 0 && syscall(SYS_close_range, DEBUGINFOD_SOCKET + 1u, UINT_MAX, 0) == 0)
		execve("/proc/self/exe", s->args, s->env);
	_exit(1);
}

int debuginfod_start(struct debuginfod **ret, const struct debuginfod_options *options)
{
	_cleanup_(free_start) struct start start = { 0 };
	struct debuginfod *d = calloc(1, sizeof *d);
	int ends[2], r = d ? prepare(&start, options) : -ENOMEM;

	if (r == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		r = -errno;
	if (r < 0) {
		free(d);
		return r;
	}
	d->bytes = options->cache_bytes;
	d->pid = fork();
	if (d->pid == 0)
		begin_helper(&start, ends[1]);
	r = -errno;
	close(ends[1]);
	d->socket = ends[0];
	if (d->pid < 0) {
		close(d->socket);
		free(d);
		return r;
	}
	*ret = d;
	return 0;
}

/* ---- ending ---- */

/* It ends by itself when the socket is closed. */
static void end_helper(struct debuginfod *d)
{
	if (d->socket < 0)
		return;
	close_fd(&d->socket);
	sandbox_reap(d->pid);
}

/* Without its helper nothing more comes. */
static void lose_helper(struct debuginfod *d, int error, const char *why)
{
	end_helper(d);
	fault_set(&d->why, error, "%s", why);
	for (unsigned i = 0; i < d->count; i++)
		if (d->entries[i].state != HELD)
			d->entries[i].state = MISSING;
	d->asked = NULL;
	d->waiting = 0;
}

void debuginfod_stop(struct debuginfod *d)
{
	if (!d)
		return;
	end_helper(d);
	for (unsigned i = 0; i < d->count; i++)
		close_fd(&d->entries[i].fd);
	free(d->entries);
	free(d);
}

int debuginfod_fd(const struct debuginfod *d)
{
	return d->socket;
}

/* ---- questions ---- */

static void send_next(struct debuginfod *d)
{
	struct debuginfod_question question = { 0 };

	for (unsigned i = 0; i < d->count && d->ready && d->waiting && !d->asked; i++) {
		struct entry *e = &d->entries[i];

		if (e->state != WAITING)
			continue;
		question.length = e->length;
		memcpy(question.build_id, e->build_id, e->length);
		e->state = ASKED;
		d->waiting--;
		d->asked = e;
		/* The socket is empty; a helper that is gone is noticed by its end of it. */
		send(d->socket, &question, sizeof question, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
}

static struct entry *find(struct debuginfod *d, const uint8_t *build_id, size_t length)
{
	for (unsigned i = 0; i < d->count; i++)
		if (d->entries[i].length == length && !memcmp(d->entries[i].build_id, build_id, length))
			return &d->entries[i];
	return NULL;
}

static struct entry *add(struct debuginfod *d, const uint8_t *build_id, size_t length)
{
	unsigned room = d->room ? MIN_OF(2 * d->room, ENTRIES_MAX) : 64, asked = 0;
	struct entry *entries = d->entries;

	if (d->count == d->room) {
		if (d->room == ENTRIES_MAX)
			return NULL;
		if (d->asked)
			asked = (unsigned)(d->asked - d->entries);
		entries = realloc(entries, room * sizeof *entries);
		if (!entries)
			return NULL;
		d->entries = entries;
		d->room = room;
		if (d->asked)
			d->asked = entries + asked;
	}
	entries += d->count++;
	*entries = (struct entry){ .length = (uint8_t)length, .fd = -1 };
	memcpy(entries->build_id, build_id, length);
	return entries;
}

int debuginfod_get(struct debuginfod *d, const uint8_t *build_id, size_t length, int *ret_fd, uint64_t *ret_size)
{
	struct entry *e;

	if (length < DEBUGINFOD_ID_MIN || length > ELF_BUILD_ID_MAX)
		return -ENOENT;
	e = find(d, build_id, length);
	if (!e)
		e = add(d, build_id, length);
	if (!e || e->state == MISSING)
		return -ENOENT;
	if (e->state == HELD) {
		*ret_fd = fcntl(e->fd, F_DUPFD_CLOEXEC, 3);
		*ret_size = e->size;
		e->used = ++d->clock;
		return *ret_fd < 0 ? -errno : 0;
	}
	if (d->socket < 0)
		return -ENOENT;
	if (e->state == NEW) {
		if (d->waiting == QUEUE_MAX)
			return -EBUSY;
		e->state = WAITING;
		d->waiting++;
		send_next(d);
	}
	return -EAGAIN;
}

/* ---- answers ---- */

static ssize_t receive(int socket, struct debuginfod_answer *answer, int *ret_fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { .iov_base = answer, .iov_len = sizeof *answer };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room
	};
	struct cmsghdr *header;
	ssize_t n;

	*ret_fd = -1;
	do
		n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
	    header->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(header), sizeof *ret_fd);
	return n;
}

/* An open file keeps its bytes on the disk even after the cache let it go. */
static void bound_held(struct debuginfod *d)
{
	while (d->held > 1 && (d->held > HELD_MAX || d->held_bytes > d->bytes / 2)) {
		struct entry *oldest = NULL;

		for (unsigned i = 0; i < d->count; i++)
			if (d->entries[i].state == HELD && (!oldest || d->entries[i].used < oldest->used))
				oldest = &d->entries[i];
		close_fd(&oldest->fd);
		oldest->state = NEW;
		d->held--;
		d->held_bytes -= oldest->size;
	}
}

static void take_file(struct debuginfod *d, struct entry *e, int error, int *fd)
{
	struct stat st;

	if (error || *fd < 0 || fstat(*fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0) {
		e->state = MISSING;
		return;
	}
	e->state = HELD;
	e->fd = *fd;
	e->size = (uint64_t)st.st_size;
	e->used = ++d->clock;
	*fd = -1;
	d->held++;
	d->held_bytes += e->size;
	bound_held(d);
}

/* 1: one answer; 0: none. */
static int take_one(struct debuginfod *d)
{
	struct debuginfod_answer answer;
	_cleanup_(close_fd) int fd = -1;
	ssize_t n = d->socket < 0 ? -EAGAIN : receive(d->socket, &answer, &fd);

	if (n == -EAGAIN)
		return 0;
	if (n != sizeof answer || (d->ready && !d->asked)) {
		lose_helper(d, -EPIPE, "the helper that asks debuginfod ended");
		return 1;
	}
	answer.text[sizeof answer.text - 1] = '\0';
	if (!d->ready && answer.error) {
		lose_helper(d, answer.error, answer.text);
		return 1;
	}
	if (d->ready)
		take_file(d, d->asked, answer.error, &fd);
	d->ready = true;
	d->asked = NULL;
	send_next(d);
	return 1;
}

int debuginfod_take(struct debuginfod *d)
{
	int taken = 0;

	while (take_one(d))
		taken = 1;
	return taken;
}

int debuginfod_ready(struct debuginfod *d, int wait_ms, struct fault *fault)
{
	struct pollfd p = { .fd = d->socket, .events = POLLIN };

	if (!d->ready && d->socket >= 0) {
		if (poll(&p, 1, wait_ms) == 0)
			return fault_set(fault, -ETIMEDOUT, "the helper that asks debuginfod takes long to begin");
		debuginfod_take(d);
	}
	if (d->socket >= 0)
		return 0;
	return fault_set(fault, -EPIPE, "%s", d->why.text);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket's server, see control.h.
 *
 * An epoll instance of its own holds the listening socket, the clients and one timer, so the agent's loop watches a single
 * descriptor. A client is in one of two states: reading its line (no answer yet), or being written to.
 *
 * Invariants: a slot is free exactly when its fd is -1; the timer is set to the earliest deadline, or off when there is no client; the
 * listening socket is watched only while a slot is free and accept() works, so a full table never makes the loop spin: clients wait
 * in the kernel's backlog, and each slot is free again after 5 s at the latest.
 */
#include "control.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>

#define RETRY_NS (NS_PER_SEC / 10)

/* What an epoll event is about: below CONTROL_CLIENTS the client's slot. */
enum { ON_LISTEN = CONTROL_CLIENTS, ON_TIMER };

struct client {
	int fd;
	uint64_t deadline;
	char request[CONTROL_REQUEST_MAX];
	size_t got;
	char *answer; /* NULL while reading */
	size_t size, sent;
};

struct control {
	control_handler *handler;
	void *context;
	int epoll, listen, timer;
	bool listening; /* the listening socket is watched */
	uint64_t retry; /* when to accept again after an error, or 0 */
	struct client clients[CONTROL_CLIENTS];
	struct sockaddr_un address;
	dev_t device;
	ino_t inode;
};

static int watch(const struct control *c, int operation, int fd, uint32_t events, uint32_t about)
{
	struct epoll_event event = { .events = events, .data.u32 = about };

	return epoll_ctl(c->epoll, operation, fd, &event) < 0 ? -errno : 0;
}

/* Sets the timer and the listening socket to what the clients are now. */
static void settle(struct control *c)
{
	struct itimerspec at = { 0 };
	uint64_t first = c->retry ? c->retry : UINT64_MAX;
	bool listen = false;

	for (size_t i = 0; i < CONTROL_CLIENTS; i++) {
		if (c->clients[i].fd >= 0)
			first = MIN_OF(first, c->clients[i].deadline);
		else
			listen = !c->retry;
	}
	if (first != UINT64_MAX)
		at.it_value = (struct timespec){ (time_t)(first / NS_PER_SEC), (long)(first % NS_PER_SEC) };
	timerfd_settime(c->timer, TFD_TIMER_ABSTIME, &at, NULL);
	if (listen != c->listening && watch(c, EPOLL_CTL_MOD, c->listen, listen ? EPOLLIN : 0, ON_LISTEN) >= 0)
		c->listening = listen;
}

static void client_end(struct client *client)
{
	close_fd(&client->fd);
	free(client->answer);
	client->answer = NULL;
}

static struct client *client_free(struct control *c)
{
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		if (c->clients[i].fd < 0)
			return &c->clients[i];
	return NULL;
}

static void take_clients(struct control *c)
{
	for (struct client *client; (client = client_free(c));) {
		int fd = accept4(c->listen, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			/* Out of descriptors or memory: the client stays in the backlog. */
			if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
				c->retry = now_boottime_ns() + RETRY_NS;
			return;
		}
		*client = (struct client){ .fd = fd, .deadline = now_boottime_ns() + CONTROL_TIMEOUT_NS };
		if (watch(c, EPOLL_CTL_ADD, fd, EPOLLIN, (uint32_t)(client - c->clients)) < 0)
			client_end(client);
	}
}

/* Replaces what the handler wrote by { "error": ... }. */
static char *refusal(const char *request, int error, size_t *ret_size)
{
	char *text = NULL;
	int n;

	/* The request is printable ASCII; quotes and backslashes would not be safe in JSON. */
	n = error == -EINVAL && !strpbrk(request, "\"\\")
		    ? asprintf(&text, "{\"error\":\"unknown request '%s'\"}\n", request)
		    : asprintf(&text, "{\"error\":\"%s\"}\n", strerror(-error));
	*ret_size = n < 0 ? 0 : (size_t)n;
	return n < 0 ? NULL : text;
}

static char *answer_of(struct control *c, const char *request, size_t *ret_size)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_size);
	int r;

	if (!out)
		return NULL;
	r = c->handler(c->context, request, out);
	fputc('\n', out);
	if (r >= 0 && ferror(out))
		r = -ENOMEM;
	if (fclose(out) != 0 && r >= 0)
		r = -ENOMEM;
	if (r >= 0 && *ret_size > CONTROL_ANSWER_MAX)
		r = -EFBIG;
	if (r >= 0)
		return text;
	free(text);
	return refusal(request, r, ret_size);
}

/* Whether there is more to write. */
static bool client_write(struct client *client)
{
	while (client->sent < client->size) {
		ssize_t n = send(client->fd, client->answer + client->sent, client->size - client->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		client->sent += (size_t)n;
	}
	return false;
}

static bool printable(const char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			return false;
	return true;
}

/* Whether the client stays. */
static bool client_read(struct control *c, struct client *client)
{
	size_t room = sizeof client->request - client->got;
	ssize_t n = recv(client->fd, client->request + client->got, room, 0);
	char *end;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (!n)
		return false;
	end = memchr(client->request + client->got, '\n', (size_t)n);
	client->got += (size_t)n;
	if (!end)
		return client->got < sizeof client->request;
	if (end > client->request && end[-1] == '\r')
		end--;
	*end = '\0';
	if (strlen(client->request) != (size_t)(end - client->request) || !printable(client->request))
		return false;
	client->answer = answer_of(c, client->request, &client->size);
	if (!client->answer || !client_write(client))
		return false;
	return watch(c, EPOLL_CTL_MOD, client->fd, EPOLLOUT, (uint32_t)(client - c->clients)) >= 0;
}

static void serve_client(struct control *c, struct client *client)
{
	if (client->fd < 0)
		return;
	if (!(client->answer ? client_write(client) : client_read(c, client)))
		client_end(client);
}

static void serve_timer(struct control *c)
{
	uint64_t now = now_boottime_ns();

	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		if (c->clients[i].fd >= 0 && c->clients[i].deadline <= now)
			client_end(&c->clients[i]);
	if (c->retry && c->retry <= now)
		c->retry = 0;
}

int control_fd(const struct control *control)
{
	return control->epoll;
}

void control_serve(struct control *control)
{
	struct epoll_event events[CONTROL_CLIENTS + 2];
	int n = epoll_wait(control->epoll, events, ARRAY_SIZE(events), 0);
	bool arrived = false;

	for (int i = 0; i < n; i++) {
		uint32_t about = events[i].data.u32;

		if (about == ON_TIMER)
			serve_timer(control);
		else if (about == ON_LISTEN)
			arrived = true;
		else
			serve_client(control, &control->clients[about]);
	}
	/* Last, so that no event of this round speaks of a slot that has been taken anew. */
	if (arrived)
		take_clients(control);
	settle(control);
}

static int address_of(const char *path, struct sockaddr_un *ret, struct fault *fault)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!path[0] || strlen(path) >= sizeof ret->sun_path)
		return fault_set(fault, path[0] ? -ENAMETOOLONG : -EINVAL,
				 "control socket: the path must have 1 to %zu bytes: '%s'", sizeof ret->sun_path - 1,
				 path);
	strcpy(ret->sun_path, path);
	return 0;
}

/* Makes way for a new socket file: whatever nobody serves any more. */
static int clear_way(const struct sockaddr_un *address, struct fault *fault)
{
	_cleanup_(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct stat st;

	if (fd < 0)
		return fault_set(fault, -errno, "control socket: %s", strerror(errno));
	if (lstat(address->sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return fault_set(fault, -EEXIST, "control socket: %s exists and is no socket", address->sun_path);
	/* A full backlog answers as well: EAGAIN. */
	if (connect(fd, (const struct sockaddr *)address, sizeof *address) >= 0 || errno == EAGAIN)
		return fault_set(fault, -EADDRINUSE, "control socket: another agent answers on %s", address->sun_path);
	if (errno != ECONNREFUSED && errno != ENOENT)
		return fault_set(fault, -errno, "control socket: %s: %s", address->sun_path, strerror(errno));
	if (unlink(address->sun_path) < 0 && errno != ENOENT)
		return fault_set(fault, -errno, "control socket: cannot replace %s: %s", address->sun_path,
				 strerror(errno));
	return 0;
}

/* Nobody can connect before listen(), so the mode is right from the first connection on. */
static int bind_socket(struct control *c, struct fault *fault)
{
	const char *path = c->address.sun_path;
	struct stat st;

	c->listen = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->listen < 0 || bind(c->listen, (const struct sockaddr *)&c->address, sizeof c->address) < 0 ||
	    chmod(path, 0600) < 0 || lstat(path, &st) < 0 || listen(c->listen, CONTROL_CLIENTS) < 0)
		return fault_set(fault, -errno, "control socket: cannot serve %s: %s", path, strerror(errno));
	c->device = st.st_dev;
	c->inode = st.st_ino;
	return 0;
}

static int watch_all(struct control *c)
{
	int r;

	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	c->timer = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	if (c->epoll < 0 || c->timer < 0)
		return -errno;
	r = watch(c, EPOLL_CTL_ADD, c->listen, EPOLLIN, ON_LISTEN);
	if (r >= 0)
		r = watch(c, EPOLL_CTL_ADD, c->timer, EPOLLIN, ON_TIMER);
	c->listening = true;
	return r;
}

static void close_control(struct control **control)
{
	control_close(*control);
}

int control_open(struct control **ret, const char *path, control_handler *handler, void *context, struct fault *fault)
{
	_cleanup_(close_control) struct control *c = calloc(1, sizeof *c);
	int r;

	if (!c)
		return fault_set(fault, -ENOMEM, "control socket: out of memory");
	c->handler = handler;
	c->context = context;
	c->epoll = c->listen = c->timer = -1;
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		c->clients[i].fd = -1;
	r = address_of(path, &c->address, fault);
	if (r >= 0)
		r = clear_way(&c->address, fault);
	if (r >= 0)
		r = bind_socket(c, fault);
	if (r < 0)
		return r;
	r = watch_all(c);
	if (r < 0)
		return fault_set(fault, r, "control socket: %s", strerror(-r));
	*ret = c;
	c = NULL;
	return 0;
}

void control_close(struct control *control)
{
	struct stat st;

	if (!control)
		return;
	for (size_t i = 0; i < CONTROL_CLIENTS; i++)
		client_end(&control->clients[i]);
	/* It may be another agent's by now. */
	if (control->inode && lstat(control->address.sun_path, &st) >= 0 && st.st_dev == control->device &&
	    st.st_ino == control->inode)
		unlink(control->address.sun_path);
	close_fd(&control->listen);
	close_fd(&control->timer);
	close_fd(&control->epoll);
	free(control);
}

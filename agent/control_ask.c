/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket's client, see control.h. Blocking, with one deadline over the whole exchange. The agent's document ends
 * with a newline, so one that was cut short is told from a whole one.
 */
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static int connect_agent(const char *path, struct fault *fault)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int ret;

	if (fd < 0)
		return fault_set(fault, -errno, "cannot make a socket: %s", strerror(errno));
	if (strlen(path) >= sizeof address.sun_path)
		return fault_set(fault, -ENAMETOOLONG, "control socket: the path is over %zu bytes: '%s'",
				 sizeof address.sun_path - 1, path);
	strcpy(address.sun_path, path);
	if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
		if (errno == ENOENT || errno == ECONNREFUSED)
			return fault_set(fault, -errno, "no agent answers on %s; is `sonde run` running?", path);
		if (errno == EACCES || errno == EPERM)
			return fault_set(fault, -errno, "no permission for %s; try as root", path);
		if (errno == EAGAIN)
			return fault_set(fault, -ETIMEDOUT, "the agent on %s has too many clients waiting", path);
		return fault_set(fault, -errno, "cannot reach the agent on %s: %s", path, strerror(errno));
	}
	ret = fd;
	fd = -1;
	return ret;
}

/* 0 when `fd` is ready for `events` before the deadline. */
static int wait_ready(int fd, short events, uint64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (;;) {
		uint64_t now = now_boottime_ns();
		int n = now < deadline ? poll(&p, 1, (int)((deadline - now) / NS_PER_MS + 1)) : 0;

		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int send_request(int fd, const char *request, uint64_t deadline)
{
	char line[CONTROL_REQUEST_MAX + 1];
	int length = snprintf(line, sizeof line, "%s\n", request), r;

	if (length > CONTROL_REQUEST_MAX || strchr(request, '\n'))
		return -EINVAL;
	r = wait_ready(fd, POLLOUT, deadline);
	if (r < 0)
		return r;
	/* A fresh socket's buffer holds the line whole. */
	return send(fd, line, (size_t)length, MSG_NOSIGNAL) == length ? 0 : -EPIPE;
}

static int read_answer(int fd, uint64_t deadline, char **ret_text, size_t *ret_size)
{
	_cleanup_(free_pointer) char *text = NULL;
	size_t size = 0, room = 0;

	for (;;) {
		if (size + 1 >= room) {
			room = room ? room * 2 : 8192;
			char *more = realloc(text, room);

			if (!more)
				return -ENOMEM;
			text = more;
		}
		int r = wait_ready(fd, POLLIN, deadline);

		if (r < 0)
			return r;

		ssize_t n = recv(fd, text + size, room - size - 1, 0);

		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n == 0)
			break;
		size += n > 0 ? (size_t)n : 0;
		if (size > CONTROL_ANSWER_MAX)
			return -EFBIG;
	}
	if (!size || text[size - 1] != '\n')
		return -EPIPE;
	text[--size] = '\0';
	*ret_text = text;
	*ret_size = size;
	text = NULL;
	return 0;
}

/* The agent's refusals have one form, which no other document has. */
static int refused(const char *json, const char *path, struct fault *fault)
{
	static const char begin[] = "{\"error\":\"";
	size_t n = sizeof begin - 1;

	if (strncmp(json, begin, n))
		return 0;
	return fault_set(fault, -EREMOTEIO, "the agent on %s: %.*s", path, (int)strcspn(json + n, "\""), json + n);
}

int control_ask(const char *path, const char *request, char **ret_json, struct fault *fault)
{
	uint64_t deadline = now_boottime_ns() + CONTROL_TIMEOUT_NS;
	_cleanup_(close_fd) int fd = connect_agent(path, fault);
	_cleanup_(free_pointer) char *json = NULL;
	size_t size;
	int r;

	if (fd < 0)
		return fd;
	r = send_request(fd, request, deadline);
	if (r >= 0)
		r = read_answer(fd, deadline, &json, &size);
	if (r == -ETIMEDOUT)
		return fault_set(fault, r, "the agent on %s does not answer", path);
	if (r < 0)
		return fault_set(fault, r, "the agent on %s ended the talk early: %s", path, strerror(-r));
	r = refused(json, path, fault);
	if (r < 0)
		return r;
	*ret_json = json;
	json = NULL;
	return 0;
}

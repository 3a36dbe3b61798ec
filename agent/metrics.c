/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metrics server on libmicrohttpd, see metrics.h. Its epoll descriptor is watched by the agent's loop; the library
 * runs only inside metrics_serve(). At most 16 connections of 16 KiB each, 5 s idle; requests have no body that is kept.
 */
#include "metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define CONNECTIONS      16u
#define CONNECTION_BYTES 16384u
#define IDLE_SECONDS     5u

struct metrics {
	metrics_render *render;
	void *context;
	struct MHD_Daemon *daemon;
	int epoll;
	uint16_t port;
	bool exposed;
};

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static int parse_port(const char *text, uint16_t *ret)
{
	char *end;
	unsigned long port = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || port > 65535)
		return -EINVAL;
	*ret = htons((uint16_t)port);
	return 0;
}

static int parse_address(const char *listen, union address *ret, bool *ret_exposed)
{
	const char *colon = strrchr(listen, ':');
	char host[64];
	size_t n;

	if (!colon || (size_t)(colon - listen) >= sizeof host)
		return -EINVAL;
	n = (size_t)(colon - listen);
	memcpy(host, listen, n);
	host[n] = '\0';
	*ret = (union address){ 0 };
	if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		ret->v6.sin6_family = AF_INET6;
		if (inet_pton(AF_INET6, host + 1, &ret->v6.sin6_addr) != 1)
			return -EINVAL;
		*ret_exposed = !IN6_IS_ADDR_LOOPBACK(&ret->v6.sin6_addr);
		return parse_port(colon + 1, &ret->v6.sin6_port);
	}
	ret->v4.sin_family = AF_INET;
	if (inet_pton(AF_INET, !strcmp(host, "localhost") ? "127.0.0.1" : host, &ret->v4.sin_addr) != 1)
		return -EINVAL;
	*ret_exposed = ntohl(ret->v4.sin_addr.s_addr) >> 24 != 127;
	return parse_port(colon + 1, &ret->v4.sin_port);
}

static int listen_on(const union address *address, uint16_t *ret_port)
{
	_cleanup_(close_fd) int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	union address bound;
	socklen_t length = sizeof bound;
	int on = 1, ret;

	/* IPv6 only means IPv6: [::] does not take the IPv4 port too. */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
	    (address->any.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0) ||
	    bind(fd, &address->any, address->any.sa_family == AF_INET6 ? sizeof address->v6 : sizeof address->v4) < 0 ||
	    listen(fd, (int)CONNECTIONS) < 0 || getsockname(fd, &bound.any, &length) < 0)
		return -errno;
	*ret_port = ntohs(bound.any.sa_family == AF_INET6 ? bound.v6.sin6_port : bound.v4.sin_port);
	ret = fd;
	fd = -1;
	return ret;
}

static enum MHD_Result respond(struct MHD_Connection *connection, unsigned status, const char *type, char *text,
			       size_t size)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(size, text, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result result;

	if (!response) {
		free(text);
		return MHD_NO;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result respond_plain(struct MHD_Connection *connection, unsigned status, const char *sentence)
{
	char *text = strdup(sentence);

	return text ? respond(connection, status, "text/plain; charset=utf-8", text, strlen(text)) : MHD_NO;
}

static enum MHD_Result respond_page(struct metrics *m, struct MHD_Connection *connection)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	bool failed;

	if (!out)
		return MHD_NO;
	failed = m->render(m->context, out) < 0;
	fputs("# EOF\n", out);
	failed |= ferror(out) != 0;
	failed |= fclose(out) != 0;
	if (!failed)
		return respond(connection, MHD_HTTP_OK, "application/openmetrics-text; version=1.0.0; charset=utf-8",
			       text, size);
	free(text);
	return respond_plain(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "the page could not be made\n");
}

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url, const char *method,
			      const char *version, const char *upload, size_t *upload_size, void **state)
{
	static char seen;

	(void)version;
	(void)upload;
	/* The library calls once for the head, then for each part of a body, which is thrown away, then once more. */
	if (!*state) {
		*state = &seen;
		return MHD_YES;
	}
	if (*upload_size) {
		*upload_size = 0;
		return MHD_YES;
	}
	if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD))
		return respond_plain(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
	if (strcmp(url, "/metrics"))
		return respond_plain(connection, MHD_HTTP_NOT_FOUND, "there is only /metrics\n");
	return respond_page(context, connection);
}

static int start(struct metrics *m, int listen)
{
	const union MHD_DaemonInfo *info;

	/* MHD_stop_daemon() closes the listening socket; when it cannot start, whether it did is not promised, and the caller gives up. */
	m->daemon =
		MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, answer, m, MHD_OPTION_LISTEN_SOCKET, listen,
				 MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				 (size_t)CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_END);
	if (!m->daemon)
		return -ENOMEM;
	info = MHD_get_daemon_info(m->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info)
		return -ENOSYS;
	m->epoll = info->epoll_fd;
	return 0;
}

static void close_metrics(struct metrics **metrics)
{
	metrics_close(*metrics);
}

int metrics_open(struct metrics **ret, const char *listen, metrics_render *render, void *context, struct fault *fault)
{
	_cleanup_(close_metrics) struct metrics *m = calloc(1, sizeof *m);
	union address address;
	int r, fd;

	if (!m)
		return fault_set(fault, -ENOMEM, "metrics: out of memory");
	m->render = render;
	m->context = context;
	r = parse_address(listen, &address, &m->exposed);
	if (r < 0)
		return fault_set(fault, r,
				 "metrics: '%s' is no address and port; write 127.0.0.1:9435, [::1]:9435, or "
				 "0.0.0.0:9435 to let other hosts read",
				 listen);
	fd = listen_on(&address, &m->port);
	if (fd < 0)
		return fault_set(fault, fd, "metrics: cannot listen on %s: %s", listen, strerror(-fd));
	r = start(m, fd);
	if (r < 0)
		return fault_set(fault, r, "metrics: cannot start the server: %s", strerror(-r));
	*ret = m;
	m = NULL;
	return 0;
}

void metrics_close(struct metrics *metrics)
{
	if (!metrics)
		return;
	if (metrics->daemon)
		MHD_stop_daemon(metrics->daemon);
	free(metrics);
}

bool metrics_exposed(const struct metrics *metrics)
{
	return metrics->exposed;
}

uint16_t metrics_port(const struct metrics *metrics)
{
	return metrics->port;
}

int metrics_fd(const struct metrics *metrics)
{
	return metrics->epoll;
}

void metrics_serve(struct metrics *metrics)
{
	MHD_run(metrics->daemon);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "metrics.h"

struct server {
	struct metrics *metrics;
	pthread_t thread;
	int stop[2];
	uint64_t pages; /* only the loop's thread touches it while it runs */
	bool fail;
	unsigned rounds; /* of the loop */
};

static int render(void *context, FILE *out)
{
	struct server *s = context;
	const char *const labels[][2] = { { "type", "process.exec" }, { "reason", "a\"b\\c\nd\xff" } };

	s->pages++;
	if (s->fail)
		return -EIO;
	metric_begin(out, &metric_events_dropped);
	metric_value(out, &metric_events_dropped, s->pages, labels, 2);
	metric_begin(out, &metric_journal_bytes);
	metric_value(out, &metric_journal_bytes, UINT64_MAX, NULL, 0);
	return 0;
}

static void *serve(void *context)
{
	struct server *s = context;
	struct pollfd p[] = { { .fd = metrics_fd(s->metrics), .events = POLLIN },
			      { .fd = s->stop[0], .events = POLLIN } };

	while (poll(p, 2, 200) >= 0 && !p[1].revents) {
		metrics_serve(s->metrics);
		s->rounds++;
	}
	return NULL;
}

static void server_start(struct server *s, const char *listen)
{
	struct fault fault = { 0 };

	if (metrics_open(&s->metrics, listen, render, s, &fault) < 0)
		fail_msg("%s", fault.text);
	assert_return_code(pipe(s->stop), errno);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(struct server *s)
{
	assert_int_equal(write(s->stop[1], "x", 1), 1);
	pthread_join(s->thread, NULL);
	close(s->stop[0]);
	close(s->stop[1]);
	metrics_close(s->metrics);
}

static int client(const struct server *s)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(metrics_port(s->metrics)),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval limit = { .tv_sec = 20 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(connect(fd, (struct sockaddr *)&to, sizeof to), errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), errno);
	return fd;
}

/* The whole answer to one request, which asks for the connection's end. */
static void talk(const struct server *s, const char *request, char *answer, size_t room)
{
	_cleanup_(close_fd) int fd = client(s);
	size_t size = 0;
	ssize_t n;

	assert_int_equal(write_all(fd, request, strlen(request)), 0);
	while ((n = recv(fd, answer + size, room - size - 1, 0)) > 0)
		size += (size_t)n;
	assert_int_equal(n, 0);
	answer[size] = '\0';
}

static void serves_the_page(void **state)
{
	struct server s = { 0 };
	char text[8192];

	(void)state;
	server_start(&s, "127.0.0.1:0");
	assert_false(metrics_exposed(s.metrics));
	talk(&s, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", text, sizeof text);
	assert_memory_equal(text, "HTTP/1.1 200 OK\r\n", 17);
	assert_non_null(strstr(text, "application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));

	const char *body = strstr(text, "\r\n\r\n");

	assert_non_null(body);
	assert_string_equal(
		body + 4, "# TYPE sonde_events_dropped counter\n"
			  "# HELP sonde_events_dropped Events lost before the journal, by reason\n"
			  "sonde_events_dropped_total{type=\"process.exec\",reason=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\"} 1\n"
			  "# TYPE sonde_journal_bytes gauge\n"
			  "# UNIT sonde_journal_bytes bytes\n"
			  "# HELP sonde_journal_bytes Size of the journal's segments\n"
			  "sonde_journal_bytes 18446744073709551615\n"
			  "# EOF\n");
	talk(&s, "HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", text, sizeof text);
	assert_memory_equal(text, "HTTP/1.1 200 OK\r\n", 17);
	assert_string_equal(strstr(text, "\r\n\r\n"), "\r\n\r\n");
	server_stop(&s);
	assert_int_equal(s.pages, 2);
}

static void refuses_the_rest(void **state)
{
	struct server s = { 0 };
	char text[8192];

	(void)state;
	server_start(&s, "localhost:0");
	talk(&s, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", text, sizeof text);
	assert_memory_equal(text, "HTTP/1.1 404", 12);
	talk(&s, "GET /metrics/../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", text, sizeof text);
	assert_memory_equal(text, "HTTP/1.1 404", 12);
	talk(&s, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", text,
	     sizeof text);
	assert_memory_equal(text, "HTTP/1.1 405", 12);
	assert_non_null(strstr(text, "Allow: GET, HEAD\r\n"));
	talk(&s, "nonsense\r\n\r\n", text, sizeof text);
	assert_null(strstr(text, "200 OK"));
	server_stop(&s);
	assert_int_equal(s.pages, 0);

	s.fail = true;
	server_start(&s, "127.0.0.1:0");
	talk(&s, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", text, sizeof text);
	assert_memory_equal(text, "HTTP/1.1 500", 12);
	server_stop(&s);
}

/* A header without end is cut off at the connection's memory, and idle connections at the limit go after 5 s. */
static void survives_bad_clients(void **state)
{
	struct server s = { 0 };
	char line[1024], text[8192];
	int idle[16], fd;

	(void)state;
	server_start(&s, "127.0.0.1:0");
	fd = client(&s);
	memset(line, 'a', sizeof line);
	assert_int_equal(write_all(fd, "GET /metrics HTTP/1.1\r\nX: ", 26), 0);
	for (int i = 0; i < 1000; i++)
		if (send(fd, line, sizeof line, MSG_NOSIGNAL) < 0)
			break;
	recv(fd, text, sizeof text, 0);
	close(fd);
	for (size_t i = 0; i < ARRAY_SIZE(idle); i++)
		idle[i] = client(&s);
	talk(&s, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", text, sizeof text);
	assert_memory_equal(text, "HTTP/1.1 200 OK\r\n", 17);
	for (size_t i = 0; i < ARRAY_SIZE(idle); i++)
		close(idle[i]);
	server_stop(&s);
	assert_int_equal(s.pages, 1);
	/* Full, the loop waits and does not spin. */
	assert_in_range(s.rounds, 1, 3000);
}

static void checks_the_address(void **state)
{
	static const char *const wrong[] = { "",
					     "9435",
					     ":9435",
					     "127.0.0.1",
					     "127.0.0.1:",
					     "127.0.0.1:x",
					     "127.0.0.1:65536",
					     "127.0.0.1:-1",
					     "example.org:9435",
					     "::1:9435",
					     "[::1:9435",
					     "*:9435",
					     "1.2.3.4.5:1",
					     "[127.0.0.1]:9435" };
	struct server s = { 0 };
	struct metrics *second = NULL;
	struct fault fault;
	char listen[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		fault = (struct fault){ 0 };
		if (metrics_open(&second, wrong[i], render, &s, &fault) != -EINVAL)
			fail_msg("'%s' was taken", wrong[i]);
		assert_non_null(strstr(fault.text, "127.0.0.1:9435"));
	}
	server_start(&s, "0.0.0.0:0");
	assert_true(metrics_exposed(s.metrics));
	snprintf(listen, sizeof listen, "127.0.0.1:%u", metrics_port(s.metrics));
	assert_int_equal(metrics_open(&second, listen, render, &s, &fault), -EADDRINUSE);
	assert_non_null(strstr(fault.text, listen));
	server_stop(&s);
	if (access("/proc/net/if_inet6", F_OK) == 0) {
		server_start(&s, "[::1]:0");
		assert_false(metrics_exposed(s.metrics));
		server_stop(&s);
	}
	assert_int_equal(metrics_open(&second, "192.0.2.1:9435", render, &s, &fault), -EADDRNOTAVAIL);
	assert_null(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(serves_the_page),
		cmocka_unit_test(refuses_the_rest),
		cmocka_unit_test(survives_bad_clients),
		cmocka_unit_test(checks_the_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "control.h"

/* A server in its own loop, as the agent's: it waits on one descriptor and a stop. */
struct server {
	char folder[64], path[96];
	struct control *control;
	pthread_t thread;
	int stop[2];
	unsigned rounds; /* of the loop; read after the thread has ended */
};

static int answer(void *context, const char *request, FILE *out)
{
	(void)context;
	if (!strcmp(request, "ping"))
		fputs("{\"pong\":true}", out);
	else if (!strcmp(request, "large"))
		for (int i = 0; i < 200000; i++)
			fprintf(out, "%s%06d", i ? "," : "[", i);
	else if (!strcmp(request, "too large"))
		for (unsigned i = 0; i <= CONTROL_ANSWER_MAX / 16; i++)
			fputs("0123456789abcdef", out);
	else if (!strcmp(request, "broken"))
		return fputs("half of", out) < 0 ? -EIO : -ENOMEM;
	else
		return -EINVAL;
	return 0;
}

static void *serve(void *context)
{
	struct server *s = context;
	struct pollfd p[] = { { .fd = control_fd(s->control), .events = POLLIN },
			      { .fd = s->stop[0], .events = POLLIN } };

	while (poll(p, 2, -1) >= 0 && !p[1].revents) {
		control_serve(s->control);
		s->rounds++;
	}
	return NULL;
}

static int folder_setup(void **state)
{
	struct server *s = calloc(1, sizeof *s);

	strcpy(s->folder, "/tmp/test_control.XXXXXX");
	assert_non_null(mkdtemp(s->folder));
	snprintf(s->path, sizeof s->path, "%s/sonde.sock", s->folder);
	*state = s;
	return 0;
}

static int folder_teardown(void **state)
{
	struct server *s = *state;

	unlink(s->path);
	assert_return_code(rmdir(s->folder), errno);
	free(s);
	return 0;
}

static void server_start(struct server *s)
{
	struct fault fault = { 0 };

	if (control_open(&s->control, s->path, answer, NULL, &fault) < 0)
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
	control_close(s->control);
}

static int raw_client(const struct server *s)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = 20 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, s->path);
	assert_return_code(connect(fd, (struct sockaddr *)&address, sizeof address), errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), errno);
	return fd;
}

static void asks_and_answers(void **state)
{
	struct server *s = *state;
	struct fault fault = { 0 };
	struct stat st;
	char *json = NULL;

	server_start(s);
	assert_return_code(stat(s->path, &st), errno);
	assert_int_equal(st.st_mode & 07777, 0600);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(control_ask(s->path, "ping", &json, &fault), 0);
		assert_string_equal(json, "{\"pong\":true}");
		free(json);
	}
	assert_int_equal(control_ask(s->path, "large", &json, &fault), 0);
	assert_int_equal(strlen(json), 200000 * 7);
	assert_string_equal(json + strlen(json) - 6, "199999");
	free(json);
	server_stop(s);
	assert_true(access(s->path, F_OK) < 0);
}

static void refuses_in_words(void **state)
{
	struct server *s = *state;
	struct fault fault = { 0 };
	char long_request[1000], *json = NULL;

	server_start(s);
	assert_int_equal(control_ask(s->path, "pnig", &json, &fault), -EREMOTEIO);
	assert_non_null(strstr(fault.text, "unknown request 'pnig'"));
	assert_int_equal(control_ask(s->path, "\"},{\\", &json, &fault), -EREMOTEIO);
	assert_non_null(strstr(fault.text, "Invalid argument"));
	assert_int_equal(control_ask(s->path, "broken", &json, &fault), -EREMOTEIO);
	assert_int_equal(control_ask(s->path, "too large", &json, &fault), -EREMOTEIO);
	memset(long_request, 'x', sizeof long_request);
	long_request[sizeof long_request - 1] = '\0';
	assert_int_equal(control_ask(s->path, long_request, &json, &fault), -EINVAL);
	assert_int_equal(control_ask(s->path, "control\x01", &json, &fault), -EPIPE);
	assert_null(json);
	server_stop(s);
	assert_int_equal(control_ask(s->path, "ping", &json, &fault), -ENOENT);
	assert_non_null(strstr(fault.text, "no agent answers"));
}

/* What a hostile client sends ends its own connection, and nothing else. */
static void survives_bad_clients(void **state)
{
	struct server *s = *state;
	char junk[4096], *json = NULL;
	int fd;

	server_start(s);
	memset(junk, 'a', sizeof junk);
	fd = raw_client(s);
	send(fd, junk, sizeof junk, MSG_NOSIGNAL);
	assert_true(recv(fd, junk, sizeof junk, 0) <= 0);
	close(fd);
	fd = raw_client(s);
	assert_int_equal(send(fd, "pi\0ng\n", 6, MSG_NOSIGNAL), 6);
	assert_int_equal(recv(fd, junk, sizeof junk, 0), 0);
	close(fd);
	/* Goes away before its answer, which does not fit the socket's buffer. */
	fd = raw_client(s);
	assert_int_equal(send(fd, "large\n", 6, MSG_NOSIGNAL), 6);
	close(fd);
	/* A line in pieces is a line. */
	fd = raw_client(s);
	assert_int_equal(send(fd, "pi", 2, MSG_NOSIGNAL), 2);
	assert_int_equal(send(fd, "ng\r\n", 4, MSG_NOSIGNAL), 4);
	assert_int_equal(recv(fd, junk, 14, MSG_WAITALL), 14);
	assert_memory_equal(junk, "{\"pong\":true}\n", 14);
	close(fd);
	assert_int_equal(control_ask(s->path, "ping", &json, NULL), 0);
	free(json);
	server_stop(s);
}

/* Silent clients fill every slot; 5 s later they are gone, and who waited is served. The loop does not spin meanwhile. */
static void outlives_silent_clients(void **state)
{
	struct server *s = *state;
	int silent[CONTROL_CLIENTS], waiting;
	char text[32];
	uint64_t begin = now_boottime_ns();

	server_start(s);
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		silent[i] = raw_client(s);
	waiting = raw_client(s);
	assert_int_equal(send(waiting, "ping\n", 5, MSG_NOSIGNAL), 5);
	assert_int_equal(recv(waiting, text, 14, MSG_WAITALL), 14);
	assert_in_range(now_boottime_ns() - begin, CONTROL_TIMEOUT_NS - NS_PER_SEC, 3 * CONTROL_TIMEOUT_NS);
	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		assert_int_equal(recv(silent[i], text, sizeof text, 0), 0);
		close(silent[i]);
	}
	close(waiting);
	server_stop(s);
	assert_in_range(s->rounds, 3, 200);
}

static void knows_live_from_stale(void **state)
{
	struct server *s = *state;
	struct control *second = NULL;
	struct fault fault = { 0 };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char path[200];

	server_start(s);
	assert_int_equal(control_open(&second, s->path, answer, NULL, &fault), -EADDRINUSE);
	assert_non_null(strstr(fault.text, s->path));
	server_stop(s);

	/* As kill -9 leaves it. */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, s->path);
	assert_return_code(bind(fd, (struct sockaddr *)&address, sizeof address), errno);
	close(fd);
	server_start(s);

	/* Replaced behind its back: closing leaves the other's alone. */
	assert_return_code(unlink(s->path), errno);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_return_code(bind(fd, (struct sockaddr *)&address, sizeof address), errno);
	server_stop(s);
	assert_return_code(access(s->path, F_OK), errno);
	close(fd);
	unlink(s->path);

	FILE *file = fopen(s->path, "w");

	assert_non_null(file);
	fclose(file);
	assert_int_equal(control_open(&second, s->path, answer, NULL, &fault), -EEXIST);
	memset(path, 'p', sizeof path);
	path[sizeof path - 1] = '\0';
	assert_int_equal(control_open(&second, path, answer, NULL, &fault), -ENAMETOOLONG);
	assert_int_equal(control_open(&second, "", answer, NULL, &fault), -EINVAL);
	assert_int_equal(control_open(&second, "/nonexistent/sonde.sock", answer, NULL, &fault), -ENOENT);
	assert_null(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(asks_and_answers, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(refuses_in_words, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(survives_bad_clients, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(outlives_silent_clients, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(knows_live_from_stale, folder_setup, folder_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

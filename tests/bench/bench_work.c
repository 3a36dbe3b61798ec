/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The known work that tests/bench/run measures costs on. It does nothing else in its loop, so that the time per
 * operation with and without an agent can be compared too.
 *
 *   bench_work exec N P   N programs (/bin/true), P at a time
 *   bench_work tcp N P    N connections over loopback, P at a time: 100 bytes there, 1000 back, closed by the client
 *   bench_work open N     a file of its own opened N times for reading, and closed
 *   bench_work write N    the same for writing
 *   bench_work nothing N  N times a system call that nobody asks for (getppid)
 *
 * Prints one line: "exec N operations, T ns each" (wall clock).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REQUEST 100
#define ANSWER  1000

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void reap(void)
{
	int status;

	must(wait(&status) > 0 && status == 0, "a child");
}

static void run_programs(long n, long parallel)
{
	char *argv[] = { "true", NULL }, *environment[] = { NULL };
	long live = 0;

	for (long i = 0; i < n; i++) {
		if (live == parallel) {
			reap();
			live--;
		}
		errno = posix_spawn(&(pid_t){ 0 }, "/bin/true", NULL, NULL, argv, environment);
		must(!errno, "posix_spawn");
		live++;
	}
	while (live--)
		reap();
}

static void send_whole(int fd, const char *data, size_t size)
{
	for (ssize_t k; size; data += k, size -= k)
		must((k = send(fd, data, size, MSG_NOSIGNAL)) > 0, "send");
}

static void receive_whole(int fd, char *data, size_t size)
{
	for (ssize_t k; size; data += k, size -= k)
		must((k = recv(fd, data, size, 0)) > 0, "recv");
}

static void serve(int listener)
{
	char data[ANSWER] = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		must(fd >= 0, "accept");
		receive_whole(fd, data, REQUEST);
		send_whole(fd, data, ANSWER);
		must(recv(fd, data, 1, 0) >= 0, "recv");
		close(fd);
	}
}

static void connect_often(const struct sockaddr_in *server, long first, long n, long step)
{
	char data[ANSWER] = { 0 };

	for (long i = first; i < n; i += step) {
		/* Client addresses are spread so that ports in TIME_WAIT never run out. */
		struct sockaddr_in me = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002 + i % 200) };
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		must(fd >= 0 && !setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){ 1 }, sizeof(int)),
		     "socket");
		must(!bind(fd, (const struct sockaddr *)&me, sizeof(me)), "bind");
		must(!connect(fd, (const struct sockaddr *)server, sizeof(*server)), "connect");
		send_whole(fd, data, REQUEST);
		receive_whole(fd, data, ANSWER);
		close(fd);
	}
}

static void run_connections(long n, long parallel)
{
	struct sockaddr_in server = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(server);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t server_pid;

	must(!bind(listener, (struct sockaddr *)&server, size) && !listen(listener, 1024), "listen");
	must(!getsockname(listener, (struct sockaddr *)&server, &size), "getsockname");
	server_pid = fork();
	if (!server_pid)
		serve(listener);
	for (long k = 0; k < parallel; k++) {
		if (fork())
			continue;
		connect_often(&server, k, n, parallel);
		_exit(0);
	}
	for (long k = 0; k < parallel; k++)
		reap();
	kill(server_pid, SIGKILL);
	waitpid(server_pid, NULL, 0);
}

static void run_opens(long n, int flags)
{
	char path[] = "/dev/shm/bench-work-XXXXXX";
	int fd = mkstemp(path);

	must(fd >= 0, "mkstemp");
	close(fd);
	for (long i = 0; i < n; i++) {
		fd = open(path, flags | O_CLOEXEC);
		must(fd >= 0, "open");
		close(fd);
	}
	unlink(path);
}

static void run_calls(long n)
{
	for (long i = 0; i < n; i++)
		syscall(SYS_getppid);
}

int main(int argc, char **argv)
{
	long n = argc > 2 ? atol(argv[2]) : 0, parallel = argc > 3 ? atol(argv[3]) : 4;
	long long begin = now_ns();

	if (n > 0 && parallel > 0 && !strcmp(argv[1], "exec")) {
		run_programs(n, parallel);
	} else if (n > 0 && parallel > 0 && !strcmp(argv[1], "tcp")) {
		run_connections(n, parallel);
	} else if (n > 0 && (!strcmp(argv[1], "open") || !strcmp(argv[1], "write"))) {
		run_opens(n, *argv[1] == 'o' ? O_RDONLY : O_WRONLY);
	} else if (n > 0 && !strcmp(argv[1], "nothing")) {
		run_calls(n);
	} else {
		fprintf(stderr, "usage: bench_work exec|tcp N P, open|write|nothing N\n");
		return 2;
	}
	printf("%s %ld operations, %lld ns each\n", argv[1], n, (now_ns() - begin) / n);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that wait in known ways, and say at their end how long, by the kernel's own account (/proc/thread-self/schedstat) and the wall
 * clock:
 *
 *	thread TID WHAT WALL_NS RUNNING_NS RUNNABLE_NS
 *
 * and what they waited for: `futex ADDRESS`, `file PATH`, `pipe INODE`, `socket LADDR LPORT RADDR RPORT`. In futex four threads hold one
 * mutex in turns, 3 ms each; in fsync one writes and flushes; in pipe two send a byte to and fro; in sleep four sleep for
 * 1, 7, 100 ms and for the whole time; in socket a client asks a server that answers after 5 ms, and after 200 ms each tenth time, as where
 * a packet was lost.
 *
 * usage: load_wait futex|fsync|pipe|sleep|socket SECONDS [FOLDER]
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define THREADS 4

static double seconds;
static uint64_t end_ns;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int pipes[2][2], server_fd, client_fd;
static const char *folder = "/tmp";

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_ms(unsigned ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 }, NULL);
}

struct account {
	uint64_t wall, running, runnable;
};

static struct account account(void)
{
	struct account a = { .wall = now_ns() };
	char text[128] = "";
	int fd = open("/proc/thread-self/schedstat", O_RDONLY);
	ssize_t n;

	must(fd >= 0, "schedstat");
	n = read(fd, text, sizeof text - 1);
	close(fd);
	must(n > 0 && sscanf(text, "%lu %lu", &a.running, &a.runnable) == 2, "schedstat");
	return a;
}

struct job {
	const char *what;
	void (*wait)(unsigned number);
	unsigned number;
};

static void *run(void *context)
{
	const struct job *job = context;
	struct account begin = account(), end;

	job->wait(job->number);
	end = account();
	printf("thread %ld %s %lu %lu %lu\n", syscall(SYS_gettid), job->what, end.wall - begin.wall,
	       end.running - begin.running, end.runnable - begin.runnable);
	return NULL;
}

/* By turns: who has let go comes last again, which a mutex alone does not see to. */
static void wait_futex(unsigned number)
{
	while (now_ns() < end_ns) {
		pthread_mutex_lock(&mutex);
		sleep_ms(3);
		pthread_mutex_unlock(&mutex);
		sleep_ms(1);
	}
}

static void wait_fsync(unsigned number)
{
	char path[256], page[4096] = "";
	int fd;

	snprintf(path, sizeof path, "%s/flushed", folder);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	must(fd >= 0, path);
	printf("file %s\n", path);
	for (unsigned i = 0; now_ns() < end_ns; i++) {
		page[0] = (char)i;
		must(pwrite(fd, page, sizeof page, (off_t)(i % 256) * 4096) == sizeof page, "pwrite");
		must(fsync(fd) == 0, "fsync");
	}
	close(fd);
	unlink(path);
}

static void wait_pipe(unsigned number)
{
	char byte = 1;

	/* The first begins and ends: its end of file ends the other. */
	if (number == 0)
		must(write(pipes[0][1], &byte, 1) == 1, "write");
	while (read(pipes[!number][0], &byte, 1) == 1) {
		if (number == 0 && now_ns() >= end_ns)
			break;
		if (write(pipes[number][1], &byte, 1) != 1)
			break;
	}
	close(pipes[number][1]);
}

static void wait_sleep(unsigned number)
{
	static const unsigned ms[THREADS] = { 1, 7, 100, 0 };

	if (!ms[number])
		sleep_ms((unsigned)(seconds * 1000));
	while (now_ns() < end_ns)
		sleep_ms(ms[number]);
}

static void wait_client(unsigned number)
{
	char byte = 1;

	while (now_ns() < end_ns) {
		must(send(client_fd, &byte, 1, MSG_NOSIGNAL) == 1, "send");
		must(recv(client_fd, &byte, 1, 0) == 1, "recv");
	}
	shutdown(client_fd, SHUT_WR);
}

static void wait_server(unsigned number)
{
	char byte;

	for (unsigned i = 1; recv(server_fd, &byte, 1, 0) == 1; i++) {
		sleep_ms(i % 10 ? 5 : 200);
		must(send(server_fd, &byte, 1, MSG_NOSIGNAL) == 1, "send");
	}
}

static void open_sockets(void)
{
	struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, own;
	socklen_t length = sizeof name;
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	must(listener >= 0 && bind(listener, (struct sockaddr *)&name, sizeof name) == 0 && listen(listener, 1) == 0,
	     "listen");
	getsockname(listener, (struct sockaddr *)&name, &length);
	client_fd = socket(AF_INET, SOCK_STREAM, 0);
	must(connect(client_fd, (struct sockaddr *)&name, sizeof name) == 0, "connect");
	server_fd = accept(listener, NULL, NULL);
	must(server_fd >= 0, "accept");
	getsockname(client_fd, (struct sockaddr *)&own, &length);
	printf("socket 127.0.0.1 %u 127.0.0.1 %u\n", ntohs(own.sin_port), ntohs(name.sin_port));
}

static unsigned make_jobs(const char *mode, struct job jobs[THREADS])
{
	struct stat st;

	for (unsigned i = 0; i < THREADS; i++)
		jobs[i] = (struct job){ .what = mode, .number = i };
	if (!strcmp(mode, "futex") || !strcmp(mode, "sleep")) {
		for (unsigned i = 0; i < THREADS; i++)
			jobs[i].wait = *mode == 'f' ? wait_futex : wait_sleep;
		if (*mode == 'f')
			printf("futex %lx\n", (unsigned long)&mutex);
		return THREADS;
	}
	if (!strcmp(mode, "fsync")) {
		jobs[0].wait = wait_fsync;
		return 1;
	}
	if (!strcmp(mode, "pipe")) {
		for (int i = 0; i < 2; i++) {
			must(pipe(pipes[i]) == 0 && fstat(pipes[i][0], &st) == 0, "pipe");
			printf("pipe %lu\n", st.st_ino);
			jobs[i].wait = wait_pipe;
		}
		return 2;
	}
	must(!strcmp(mode, "socket"), "no such mode");
	open_sockets();
	jobs[0] = (struct job){ "client", wait_client, 0 };
	jobs[1] = (struct job){ "server", wait_server, 1 };
	return 2;
}

int main(int argc, char **argv)
{
	struct job jobs[THREADS];
	pthread_t threads[THREADS];
	unsigned n;

	must(argc > 2, "usage: load_wait futex|fsync|pipe|sleep|socket SECONDS [FOLDER]");
	seconds = atof(argv[2]);
	if (argc > 3)
		folder = argv[3];
	end_ns = now_ns() + (uint64_t)(seconds * 1e9);
	n = make_jobs(argv[1], jobs);
	printf("pid %d\n", getpid());
	for (unsigned i = 0; i < n; i++)
		must(pthread_create(&threads[i], NULL, run, &jobs[i]) == 0, "thread");
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

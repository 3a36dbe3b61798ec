/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets that Python cannot make so: addresses that another thread rewrites during the call, and sockets in the place of a terminal. Each line that is
 * printed, NAME VALUE..., is what the kernel said of the socket afterwards: the truth that the test compares with.
 *
 *	connect N      a UDP socket, N times, to an address that goes to and fro
 *	bind N         N sockets
 *	unix N A B     a datagram socket to A or B
 *	moved PATH     a connect that waits, while its descriptor goes elsewhere
 *	dups PORT      a connection to 127.0.0.1:PORT, onto 0, 1 and 2 by each system call; and what is no such thing
 *	given          connects to abstract and long names that nobody has, with more than the name in memory
 *	unixpeer PATH  a connection to PATH
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "race.h"

static struct sockaddr_storage address;
static struct sockaddr_storage choices[2];
static unsigned long rewritten; /* calls after which the program's memory had another address than the socket */

static void die(const char *what)
{
	perror(what);
	_exit(99);
}

static void tell(const char *what, int fd, int (*ask)(int, struct sockaddr *, socklen_t *))
{
	struct sockaddr_storage now = { 0 };
	socklen_t length = sizeof now;
	struct sockaddr_in *in = (struct sockaddr_in *)&now;

	if (ask(fd, (struct sockaddr *)&now, &length) < 0)
		die("asking");
	rewritten += memcmp(&now, &address, now.ss_family == AF_UNIX ? sizeof(struct sockaddr_un) : sizeof *in) != 0;
	if (now.ss_family == AF_UNIX)
		printf("%s %s\n", what, ((struct sockaddr_un *)&now)->sun_path);
	else
		printf("%s %s %u\n", what, inet_ntoa(in->sin_addr), ntohs(in->sin_port));
}

static void run_race(void (*once)(int *fd), long tries, int *fd)
{
	struct race race = { .memory = &address,
			     .choices = { &choices[0], &choices[1] },
			     .bytes = sizeof(struct sockaddr_un) };

	address = choices[0];
	race_begin(&race);
	for (long i = 0; i < tries; i++) {
		once(fd);
		race_pause(i);
	}
	race_end(&race, rewritten);
}

static void in_choices(uint16_t port0, uint16_t port1)
{
	for (int i = 0; i < 2; i++) {
		struct sockaddr_in *in = (struct sockaddr_in *)&choices[i];

		in->sin_family = AF_INET;
		in->sin_port = htons(i ? port1 : port0);
		in->sin_addr.s_addr = htonl(i ? 0x7f000002 : 0x7f000001);
	}
}

static void connect_once(int *fd)
{
	if (connect(*fd, (struct sockaddr *)&address, sizeof(struct sockaddr_in)) < 0)
		die("connect");
	tell("peer", *fd, getpeername);
}

static void bind_once(int *fd)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	if (bind(s, (struct sockaddr *)&address, sizeof(struct sockaddr_in)) < 0)
		die("bind");
	tell("own", s, getsockname);
	close(s);
}

/* A name between the two may be that of no file: then the call fails, and has no truth but that. */
static void unix_once(int *fd)
{
	if (connect(*fd, (struct sockaddr *)&address, sizeof(struct sockaddr_un)) < 0)
		printf("failed %s\n", strerrorname_np(errno));
	else
		tell("peer", *fd, getpeername);
}

static void unix_choices(char **paths)
{
	for (int i = 0; i < 2; i++) {
		struct sockaddr_un *un = (struct sockaddr_un *)&choices[i];

		un->sun_family = AF_UNIX;
		snprintf(un->sun_path, sizeof un->sun_path, "%s", paths[i]);
	}
}

static int waiting;
static volatile pid_t waiter;

static void *connect_waiting(void *unused)
{
	waiter = (pid_t)syscall(SYS_gettid);
	if (connect(waiting, (struct sockaddr *)&choices[0], sizeof(struct sockaddr_un)) < 0)
		die("connect");
	return NULL;
}

/* Until the other thread is in connect(). */
static void wait_for_waiter(void)
{
	char path[64], text[32];
	long nr = -1;

	while (nr != SYS_connect) {
		FILE *file;

		sched_yield();
		snprintf(path, sizeof path, "/proc/self/task/%d/syscall", waiter);
		file = waiter ? fopen(path, "r") : NULL;
		nr = file && fgets(text, sizeof text, file) ? atol(text) : -1;
		if (file)
			fclose(file);
	}
}

/* A listener that holds one connection lets a second wait. */
static void run_moved(char *path)
{
	int server = socket(AF_UNIX, SOCK_STREAM, 0), first = socket(AF_UNIX, SOCK_STREAM, 0);
	char *paths[2] = { path, path };
	pthread_t thread;

	unix_choices(paths);
	waiting = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(server, (struct sockaddr *)&choices[0], sizeof(struct sockaddr_un)) < 0 || listen(server, 0) < 0 ||
	    connect(first, (struct sockaddr *)&choices[0], sizeof(struct sockaddr_un)) < 0 ||
	    pthread_create(&thread, NULL, connect_waiting, NULL))
		die("server");
	wait_for_waiter();
	if (dup2(waiting, 50) < 0 || dup2(open("/dev/null", O_RDONLY), waiting) < 0 || accept(server, NULL, NULL) < 0)
		die("moving");
	pthread_join(thread, NULL);
	printf("moved %d\n", waiting);
}

/* The length is the name's end, whatever lies behind it. */
static void connect_given(const char *path, size_t length)
{
	struct {
		struct sockaddr_un un;
		char behind[64];
	} given = { .un.sun_family = AF_UNIX };
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	memset((char *)&given + sizeof given.un.sun_family, 'x', sizeof given - sizeof given.un.sun_family);
	memcpy(given.un.sun_path, path, length);
	if (connect(s, (struct sockaddr *)&given, (socklen_t)(sizeof given.un.sun_family + length)) == 0)
		die("connect");
	printf("failed %s\n", strerrorname_np(errno));
	close(s);
}

static void run_given(void)
{
	char whole[sizeof((struct sockaddr_un *)0)->sun_path];

	memset(whole, 'w', sizeof whole);
	connect_given("\0abstract", 9);
	connect_given("/none", 5);
	connect_given(whole, sizeof whole);
	whole[0] = 0;
	connect_given(whole, sizeof whole);
}

static void run_peer(char *path)
{
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	char *paths[2] = { path, path }, byte;

	unix_choices(paths);
	if (connect(s, (struct sockaddr *)&choices[0], sizeof(struct sockaddr_un)) < 0)
		die("connect");
	if (read(s, &byte, 1) != 0) /* until the other end has taken and closed it */
		die("read");
}

static void run_dups(int port)
{
	int s = socket(AF_INET, SOCK_STREAM, 0), pipes[2];

	in_choices((uint16_t)port, 0);
	if (connect(s, (struct sockaddr *)&choices[0], sizeof(struct sockaddr_in)) < 0 || pipe(pipes) < 0)
		die("connect");
	tell("own", s, getsockname);
	printf("fd %d\n", s);
	fflush(stdout);
	/* Each that follows is an event, */
	syscall(SYS_dup2, s, 0);
	close(1);
	syscall(SYS_dup, s);
	syscall(SYS_dup3, s, 2, 0);
	close(0);
	fcntl(s, F_DUPFD, 0);
	/* and these are none: no socket, no such descriptor, nothing new. */
	syscall(SYS_dup2, pipes[0], 1);
	syscall(SYS_dup2, s, 77);
	syscall(SYS_dup2, 0, 0);
	fcntl(s, F_DUPFD, 20);
	fcntl(s, F_GETFD);
	fcntl(s, F_SETFL, 0);
	_exit(0);
}

int main(int n, char **words)
{
	const char *command = n > 1 ? words[1] : "";
	long number = n > 2 ? atol(words[2]) : 0;
	int fd;

	if (!strcmp(command, "connect")) {
		fd = socket(AF_INET, SOCK_DGRAM, 0);
		in_choices(1111, 2222);
		run_race(connect_once, number, &fd);
	} else if (!strcmp(command, "bind")) {
		in_choices(0, 0);
		run_race(bind_once, number, &fd);
	} else if (!strcmp(command, "unix") && n == 5) {
		fd = socket(AF_UNIX, SOCK_DGRAM, 0);
		unix_choices(words + 3);
		run_race(unix_once, number, &fd);
	} else if (!strcmp(command, "moved") && n == 3) {
		run_moved(words[2]);
	} else if (!strcmp(command, "dups")) {
		run_dups((int)number);
	} else if (!strcmp(command, "given")) {
		run_given();
	} else if (!strcmp(command, "unixpeer") && n == 3) {
		run_peer(words[2]);
	} else {
		return 2;
	}
	return 0;
}

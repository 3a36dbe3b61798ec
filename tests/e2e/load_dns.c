/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server and a client of DNS in two processes, over UDP at argv[1], port 53: argv[2] queries, argv[3] of them a second, for n0.flood.test,
 * n1.flood.test and so on. With argv[4], "silent", none is answered. Prints how many were sent, and how many answers came.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_MOST = 64, BATCH = 50, LAST_WAIT_MS = 500 };

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int open_socket(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 4 << 20;

	if (fd < 0)
		fail("socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
	return fd;
}

static void serve(int fd, int silent)
{
	struct sockaddr_in asker;
	char message[MESSAGE_MOST];

	for (;;) {
		socklen_t size = sizeof asker;
		ssize_t n = recvfrom(fd, message, sizeof message, 0, (struct sockaddr *)&asker, &size);

		if (n < 4 || silent)
			continue;
		message[2] = (char)0x81;
		message[3] = (char)0x80;
		sendto(fd, message, (size_t)n, 0, (struct sockaddr *)&asker, size);
	}
}

static size_t make_query(char *to, unsigned long number)
{
	char label[16];
	int length = snprintf(label, sizeof label, "n%lu", number);
	char *at = to;

	memcpy(at, (const char[]){ (char)(number >> 8), (char)number, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 }, 12);
	at += 12;
	*at++ = (char)length;
	memcpy(at, label, (size_t)length);
	at += length;
	memcpy(at, "\5flood\4test\0\0\1\0\1", 16);
	return (size_t)(at + 16 - to);
}

static unsigned long take_answers(int fd, int wait_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	unsigned long n = 0;
	char message[MESSAGE_MOST];

	while (poll(&p, 1, wait_ms) > 0)
		while (recv(fd, message, sizeof message, MSG_DONTWAIT) > 0)
			n++;
	return n;
}

static void wait_for(const struct timespec *begun, unsigned long number, unsigned long rate)
{
	uint64_t ns = (uint64_t)begun->tv_nsec + (uint64_t)number * 1000000000u / rate;
	struct timespec at = { begun->tv_sec + (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(53) };
	unsigned long count = argc > 3 ? strtoul(argv[2], NULL, 10) : 0,
		      rate = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
	unsigned long answers = 0;
	struct timespec begun;
	char message[MESSAGE_MOST];
	int server = open_socket(), client = open_socket();
	pid_t child;

	if (!rate || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1)
		return 2;
	if (bind(server, (struct sockaddr *)&address, sizeof address) < 0)
		fail("bind");
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(server, argc > 4 && !strcmp(argv[4], "silent"));
	}
	if (child < 0 || connect(client, (struct sockaddr *)&address, sizeof address) < 0)
		fail("connect");
	clock_gettime(CLOCK_MONOTONIC, &begun);
	for (unsigned long i = 0; i < count; i++) {
		if (send(client, message, make_query(message, i), 0) < 0)
			fail("send");
		if (i % BATCH == 0) {
			answers += take_answers(client, 0);
			wait_for(&begun, i, rate);
		}
	}
	answers += take_answers(client, LAST_WAIT_MS);
	kill(child, SIGKILL);
	printf("%lu %lu\n", count, answers);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and answers of 40 bytes on 50 connections over loopback, as fast as it goes, between two threads that wait in epoll. Every 5 ms a line:
 * the monotonic clock in seconds, and how many ns a request and its answer took meanwhile. Ends with its output.
 *
 * usage: bench_turns SERVER_CPU CLIENT_CPU
 */
#include <arpa/inet.h>
#include <errno.h>
#include <error.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 50
#define BYTES       40

struct end {
	int sockets[CONNECTIONS];
	int cpu;
	bool begins;
	_Atomic unsigned long read;
};

static struct end server, client = { .begins = true };

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *run(void *context)
{
	struct epoll_event events[CONNECTIONS];
	struct end *end = context;
	int epoll = epoll_create1(0);
	char bytes[BYTES] = { 0 };
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(end->cpu, &cpus);
	if (sched_setaffinity(0, sizeof cpus, &cpus) || epoll < 0)
		error(1, errno, "CPU %d", end->cpu);
	for (int i = 0; i < CONNECTIONS; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.fd = end->sockets[i] };

		if (epoll_ctl(epoll, EPOLL_CTL_ADD, end->sockets[i], &event) ||
		    (end->begins && write(end->sockets[i], bytes, BYTES) != BYTES))
			error(1, errno, "a connection");
	}
	for (;;) {
		int n = epoll_wait(epoll, events, CONNECTIONS, -1);

		for (int i = 0; i < n; i++) {
			if (read(events[i].data.fd, bytes, BYTES) != BYTES ||
			    write(events[i].data.fd, bytes, BYTES) != BYTES)
				error(1, errno, "a turn");
			atomic_fetch_add_explicit(&end->read, 1, memory_order_relaxed);
		}
	}
	return NULL;
}

static void connect_all(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	socklen_t length = sizeof address;

	if (listener < 0 || bind(listener, (void *)&address, length) || listen(listener, CONNECTIONS) ||
	    getsockname(listener, (void *)&address, &length))
		error(1, errno, "a listening socket");
	for (int i = 0; i < CONNECTIONS; i++) {
		client.sockets[i] = socket(AF_INET, SOCK_STREAM, 0);
		if (client.sockets[i] < 0 || connect(client.sockets[i], (void *)&address, length))
			error(1, errno, "connect");
		server.sockets[i] = accept(listener, NULL, NULL);
		if (server.sockets[i] < 0 || setsockopt(server.sockets[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) ||
		    setsockopt(client.sockets[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on))
			error(1, errno, "accept");
	}
}

int main(int argc, char **argv)
{
	struct timespec slice = { .tv_nsec = 5000000 };
	unsigned long read = 0;
	pthread_t threads[2];
	double begin = now();

	if (argc != 3)
		error(2, 0, "usage: bench_turns SERVER_CPU CLIENT_CPU");
	server.cpu = atoi(argv[1]);
	client.cpu = atoi(argv[2]);
	connect_all();
	if (pthread_create(&threads[0], NULL, run, &server) || pthread_create(&threads[1], NULL, run, &client))
		error(1, errno, "a thread");
	for (;;) {
		unsigned long reads;
		double end;

		nanosleep(&slice, NULL);
		end = now();
		reads = atomic_load_explicit(&client.read, memory_order_relaxed);
		if (reads != read &&
		    (printf("%.4f %.1f\n", end, 1e9 * (end - begin) / (double)(reads - read)) < 0 || fflush(stdout)))
			return 0;
		begin = end;
		read = reads;
	}
}

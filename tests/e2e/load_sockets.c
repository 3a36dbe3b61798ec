/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Very many TCP sockets. argv: "idle" N: N connections over loopback, both ends here, that do nothing; says "ready" when all are there, and ends
 * with its standard input. "refused" SECONDS: two processes connect to ports where nobody listens, as fast as they can; says how
 * often.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

/* Each of as many processes, with an address of its own: descriptors and ports are limited. */
#define PAIRS_EACH    8000
#define PROCESSES_MAX 64

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static struct sockaddr_in address_of(unsigned number, uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK + number) };
}

static void hold(unsigned number, int pairs, int ready)
{
	struct sockaddr_in address = address_of(number, 0);
	socklen_t size = sizeof address;
	int listening = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listening, (struct sockaddr *)&address, size) < 0 || listen(listening, 4096) < 0 ||
	    getsockname(listening, (struct sockaddr *)&address, &size) < 0)
		die("listen");
	for (int i = 0; i < pairs; i++) {
		int client = socket(AF_INET, SOCK_STREAM, 0);

		if (client < 0 || connect(client, (struct sockaddr *)&address, sizeof address) < 0 ||
		    accept(listening, NULL, NULL) < 0)
			die("a connection");
	}
	if (write(ready, "r", 1) != 1)
		die("write");
	pause();
}

static int idle(int pairs)
{
	pid_t parent = getpid();
	int ready[2], processes = (pairs + PAIRS_EACH - 1) / PAIRS_EACH;
	pid_t children[PROCESSES_MAX];
	char byte;

	if (processes > PROCESSES_MAX)
		return 1;

	if (pipe(ready) < 0)
		die("pipe");
	for (int i = 0; i < processes; i++) {
		children[i] = fork();
		if (children[i] < 0)
			die("fork");
		if (children[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() == parent)
				hold((unsigned)i, pairs / processes + (i < pairs % processes), ready[1]);
			_exit(1);
		}
	}
	close(ready[1]);
	for (int i = 0; i < processes; i++)
		if (read(ready[0], &byte, 1) != 1)
			return 1;
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	/* Its end is that of all connections. */
	for (int i = 0; i < processes; i++)
		kill(children[i], SIGKILL);
	for (int i = 0; i < processes; i++)
		waitpid(children[i], NULL, 0);
	return 0;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t try(unsigned number, double until)
{
	struct sockaddr_in address = address_of(number, 9);
	uint64_t count = 0;

	for (; now() < until; count++) {
		int client = socket(AF_INET, SOCK_STREAM, 0);

		if (connect(client, (struct sockaddr *)&address, sizeof address) == 0 || errno != ECONNREFUSED)
			die("a refused connection");
		close(client);
	}
	return count;
}

static int refused(double seconds)
{
	uint64_t *counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	double until = now() + seconds;
	int status, faults = 0;

	if (counts == MAP_FAILED)
		die("mmap");
	for (unsigned i = 0; i < 2; i++) {
		if (fork() == 0) {
			counts[i] = try(i, until);
			_exit(0);
		}
	}
	while (wait(&status) > 0)
		faults += status != 0;
	printf("%llu\n", (unsigned long long)(counts[0] + counts[1]));
	return faults;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "idle"))
		return idle(atoi(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "refused"))
		return refused(atof(argv[2]));
	fputs("usage: load_sockets idle N | refused SECONDS\n", stderr);
	return 2;
}

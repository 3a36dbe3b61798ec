/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A crowd, for an agent to start into. argv: "processes" N: N children that sleep; "mappings" N: N executable mappings in this process. Says
 * "ready"; then burns CPU in main > chain > burn until its standard input ends. The children end with it.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define noinline __attribute__((noinline, noipa, optimize("no-optimize-sibling-calls")))

static volatile uint64_t sink;

static noinline void burn(uint64_t rounds)
{
	for (uint64_t i = 0; i < rounds; i++)
		sink = sink * 3 + i;
}

static noinline void chain(uint64_t rounds)
{
	burn(rounds);
	sink++;
}

static int sleepers(int count)
{
	pid_t parent = getpid();

	for (int i = 0; i < count; i++) {
		pid_t child = fork();

		if (child < 0)
			return -1;
		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			while (getppid() == parent)
				pause();
			_exit(0);
		}
	}
	return 0;
}

/* The same page of this program again and again: neighbours do not become one, because their offsets do not follow each other. */
static int mappings(int count)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	for (int i = 0; i < count; i++)
		if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED)
			return -1;
	return 0;
}

int main(int argc, char **argv)
{
	struct pollfd input = { .fd = 0, .events = POLLIN | POLLHUP };
	int count = argc > 2 ? atoi(argv[2]) : 0;

	if (argc < 3 || (strcmp(argv[1], "processes") == 0 ? sleepers(count) : mappings(count))) {
		perror("crowd");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	while (!poll(&input, 1, 0))
		chain(3000000);
	return 0;
}

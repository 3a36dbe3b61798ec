/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that rewrites what system calls are given while they are made: to and fro between two choices. The calls are made on CPU 0. */
#ifndef RACE_H
#define RACE_H

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct race {
	void *memory; /* what the calls are given */
	const void *choices[2];
	size_t bytes;
	volatile int over;
	pthread_t thread;
};

static void stay_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof set, &set);
}

static void *rewrite(void *context)
{
	struct race *race = context;

	stay_on(1);
	for (unsigned i = 0; !race->over; i++) {
		memcpy(race->memory, race->choices[i & 1], race->bytes);
		__asm__ volatile("" ::: "memory");
	}
	return NULL;
}

static void race_begin(struct race *race)
{
	stay_on(0);
	if (pthread_create(&race->thread, NULL, rewrite, race)) {
		perror("pthread_create");
		_exit(99);
	}
}

/* After the `i`-th call: the agent has the other CPU, and shall get to run. */
static void race_pause(long i)
{
	if (i % 64 == 0)
		usleep(1000);
}

/* `rewritten`: calls after which the memory held something else than the kernel took. */
static void race_end(struct race *race, unsigned long rewritten)
{
	race->over = 1;
	pthread_join(race->thread, NULL);
	printf("rewritten %lu\n", rewritten);
}

#endif

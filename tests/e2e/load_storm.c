/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names itself over and over, which the module tests/e2e/storm turns into events: "sP" or "sB" and ten hex digits, the thread in
 * the upper four, a count from 0 in the lower six.
 *
 *   load_storm KINDS THREADS RATE COUNT
 *
 * KINDS is P, B, or PB (by turns); RATE is names a second and thread, 0: as fast as it goes; COUNT names a thread, 0: until SIGTERM.
 * Prints "THREAD COUNT" for each thread at its end: what was made, to the last one.
 */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define THREADS_MAX 64
#define BURST       64 /* names between two looks at the clock */

static const char *kinds;
static uint64_t rate, most;
static volatile sig_atomic_t stopping;

struct lane {
	pthread_t thread;
	unsigned number;
	uint64_t made;
};

static void on_term(int number)
{
	stopping = 1;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void hold_rate(uint64_t begin, uint64_t made)
{
	uint64_t due = begin + made * 1000000000u / rate, now = now_ns();

	if (now < due)
		nanosleep(&(struct timespec){ .tv_sec = (time_t)((due - now) / 1000000000u),
					      .tv_nsec = (long)((due - now) % 1000000000u) },
			  NULL);
}

static void *run(void *argument)
{
	static const char digits[] = "0123456789abcdef";
	struct lane *lane = argument;
	size_t n_kinds = strlen(kinds);
	uint64_t begin = now_ns();
	char name[16] = "s";

	while (!stopping && (!most || lane->made < most)) {
		uint64_t n = (uint64_t)lane->number << 24 | lane->made;

		name[1] = kinds[lane->made % n_kinds];
		for (int i = 0; i < 10; i++)
			name[2 + i] = digits[n >> (36 - 4 * i) & 15];
		prctl(PR_SET_NAME, name);
		lane->made++;
		if (rate && lane->made % BURST == 0)
			hold_rate(begin, lane->made);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static struct lane lanes[THREADS_MAX];
	unsigned threads;

	if (argc != 5 || (threads = (unsigned)atoi(argv[2])) < 1 || threads > THREADS_MAX)
		return 2;
	kinds = argv[1];
	rate = strtoull(argv[3], NULL, 10);
	most = strtoull(argv[4], NULL, 10);
	signal(SIGTERM, on_term);
	for (unsigned i = 0; i < threads; i++) {
		lanes[i].number = i;
		if (pthread_create(&lanes[i].thread, NULL, run, &lanes[i]))
			return 1;
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(lanes[i].thread, NULL);
		printf("%u %llu\n", i, (unsigned long long)lanes[i].made);
	}
	return 0;
}

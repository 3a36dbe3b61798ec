/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A load of known shape: burns CPU for argv[1] seconds of its own CPU time, 70 % in burn_a > burn_b > spin_seventy and 30 % in
 * burn_c > spin_thirty, and prints its pid and the CPU seconds it used. Frame pointers hold in all of it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define noinline __attribute__((noinline, noipa, optimize("no-optimize-sibling-calls")))

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static volatile uint64_t sink;

/* A function that calls none keeps no frame otherwise, whatever the flags say. */
#define keep_frame() __asm__ volatile("" : : "r"(__builtin_frame_address(0)))

static noinline void spin_seventy(uint64_t rounds)
{
	keep_frame();
	for (uint64_t i = 0; i < rounds; i++)
		sink = sink * 3 + i;
}

static noinline void spin_thirty(uint64_t rounds)
{
	keep_frame();
	for (uint64_t i = 0; i < rounds; i++)
		sink = sink * 3 + i;
}

static noinline void burn_b(uint64_t rounds)
{
	spin_seventy(rounds);
	sink++;
}

static noinline void burn_a(uint64_t rounds)
{
	burn_b(rounds);
	sink++;
}

static noinline void burn_c(uint64_t rounds)
{
	spin_thirty(rounds);
	sink++;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 1, begin = cpu_seconds();

	while (cpu_seconds() - begin < seconds) {
		burn_a(700000);
		burn_c(300000);
	}
	printf("%d %.6f\n", getpid(), cpu_seconds() - begin);
	return 0;
}

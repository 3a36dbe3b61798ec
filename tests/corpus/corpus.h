/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs of the corpus share. Each burns CPU below a known chain of calls for argv[1] seconds of CPU time and then
 * prints how many seconds that were: "burned 1.002". The chain is in the comment at the top of its file, root to leaf, and in
 * tests/e2e/corpus.py, against which samples are held. The leaf calls nothing: the clock is read once in some milliseconds,
 * outside of the chain, so that next to all samples have their leaf in it.
 *
 * All are compiled with -fno-optimize-sibling-calls: a call that became a jump is in no stack.
 */
#ifndef CORPUS_H
#define CORPUS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define noinline __attribute__((noinline, noipa))

/* Some milliseconds of work. */
#define CORPUS_ROUNDS 4000000ul

static volatile uint64_t corpus_sink;

static inline double corpus_cpu(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline double corpus_seconds(int argc, char **argv)
{
	return argc > 1 ? atof(argv[1]) : 1;
}

static inline int corpus_end(double begin)
{
	printf("burned %.6f\n", corpus_cpu() - begin);
	return fflush(stdout) != 0;
}

/* The work of a leaf. Registers only, so that a function that does nothing else needs no frame. */
static inline __attribute__((always_inline)) void corpus_work(unsigned long rounds)
{
	uint64_t x = rounds;

#ifdef CORPUS_KEEP_FRAME
	/* A function that calls none keeps no frame otherwise, whatever the flags say. */
	__asm__ volatile("" : : "r"(__builtin_frame_address(0)));
#endif
	for (unsigned long i = 0; i < rounds; i++) {
		x = x * 6364136223846793005ull + i;
		__asm__ volatile("" : "+r"(x));
	}
	corpus_sink = x;
}

#endif

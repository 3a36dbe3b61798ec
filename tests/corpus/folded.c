/* SPDX-License-Identifier: Apache-2.0 */
/* main > outer > middle (inlined into outer) > inner (inlined into middle): one frame of the machine, three of the source. */
#include "corpus.h"

static inline __attribute__((always_inline)) uint64_t inner(uint64_t x, unsigned long rounds)
{
	for (unsigned long i = 0; i < rounds; i++) {
		x = x * 6364136223846793005ull + i;
		__asm__ volatile("" : "+r"(x));
	}
	return x;
}

static inline __attribute__((always_inline)) uint64_t middle(uint64_t x, unsigned long rounds)
{
	return inner(x ^ 5, rounds) + 1;
}

static noinline void outer(unsigned long rounds)
{
	corpus_sink = middle(rounds, rounds);
}

int main(int argc, char **argv)
{
	double seconds = corpus_seconds(argc, argv), begin = corpus_cpu();

	do
		outer(CORPUS_ROUNDS);
	while (corpus_cpu() - begin < seconds);
	return corpus_end(begin);
}

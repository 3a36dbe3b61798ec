/* SPDX-License-Identifier: Apache-2.0 */
/* main > chain_a > chain_b > chain_c > burn: frames of different sizes, with and without saved registers. */
#include "corpus.h"

static noinline void burn(unsigned long rounds)
{
	corpus_work(rounds);
}

/* Values that live across the call are in saved registers. */
static noinline unsigned long chain_c(unsigned long rounds, unsigned long a, unsigned long b, unsigned long c)
{
	unsigned long d = a ^ c, e = b * 3, f = c + 7;

	burn(rounds);
	return a + b * d + c * e + f;
}

static noinline unsigned long chain_b(unsigned long rounds)
{
	volatile char room[600];

	room[rounds % sizeof room] = 1;
	return chain_c(rounds, rounds, 2, 3) + (unsigned long)room[rounds % sizeof room];
}

static noinline void chain_a(unsigned long rounds)
{
	corpus_sink += chain_b(rounds);
}

int main(int argc, char **argv)
{
	double seconds = corpus_seconds(argc, argv), begin = corpus_cpu();

	do
		chain_a(CORPUS_ROUNDS);
	while (corpus_cpu() - begin < seconds);
	return corpus_end(begin);
}

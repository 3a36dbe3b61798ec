/* SPDX-License-Identifier: Apache-2.0 */
/* main > 300 x descend > burn. */
#include "corpus.h"

#define DEPTH 300

static noinline void burn(unsigned long rounds)
{
	corpus_work(rounds);
}

static noinline unsigned long descend(unsigned depth, unsigned long rounds)
{
	if (depth == 1)
		burn(rounds);
	else
		rounds += descend(depth - 1, rounds);
	return rounds ^ depth;
}

int main(int argc, char **argv)
{
	double seconds = corpus_seconds(argc, argv), begin = corpus_cpu();

	do
		corpus_sink += descend(DEPTH, CORPUS_ROUNDS);
	while (corpus_cpu() - begin < seconds);
	return corpus_end(begin);
}

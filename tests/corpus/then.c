/* SPDX-License-Identifier: Apache-2.0 */
/* main > first > burn_first, and after argv[1] seconds the program argv[2] with its arguments takes this process over. */
#include <unistd.h>

#include "corpus.h"

static noinline void burn_first(unsigned long rounds)
{
	corpus_work(rounds);
}

static noinline void first(unsigned long rounds)
{
	burn_first(rounds);
	corpus_sink++;
}

int main(int argc, char **argv)
{
	double seconds = corpus_seconds(argc, argv), begin = corpus_cpu();

	do
		first(CORPUS_ROUNDS);
	while (corpus_cpu() - begin < seconds);
	if (argc < 3)
		return corpus_end(begin);
	execv(argv[2], argv + 2);
	return 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* main > read_clock [> clock_gettime [> the vDSO]]: the leaf is mostly in the kernel's own library. */
#include "corpus.h"

static noinline unsigned long read_clock(unsigned long rounds)
{
	unsigned long sum = 0;

	for (unsigned long i = 0; i < rounds; i++) {
		struct timespec t;

		clock_gettime(CLOCK_MONOTONIC, &t);
		sum += (unsigned long)t.tv_nsec;
	}
	return sum;
}

int main(int argc, char **argv)
{
	double seconds = corpus_seconds(argc, argv), begin = corpus_cpu();

	do
		corpus_sink += read_clock(400000);
	while (corpus_cpu() - begin < seconds);
	return corpus_end(begin);
}

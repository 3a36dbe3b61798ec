/* SPDX-License-Identifier: Apache-2.0 */
/* main > drive [> stub of the PLT] [> linked_tiny]: many samples are in the stub, which has no frame and no symbol of its own. */
#include "corpus.h"

unsigned long linked_tiny(unsigned long x);

static noinline unsigned long drive(unsigned long rounds)
{
	unsigned long x = 1, y = 2;

	for (unsigned long i = 0; i < rounds; i++) {
		x = linked_tiny(x);
		y ^= x;
	}
	return y;
}

int main(int argc, char **argv)
{
	double seconds = corpus_seconds(argc, argv), begin = corpus_cpu();

	do
		corpus_sink += drive(CORPUS_ROUNDS);
	while (corpus_cpu() - begin < seconds);
	return corpus_end(begin);
}

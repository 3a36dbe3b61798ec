/* SPDX-License-Identifier: Apache-2.0 */
/* main > with_alloca > with_array > burn: frames whose size is known when they run only. */
#include <alloca.h>
#include <string.h>

#include "corpus.h"

static noinline void burn(unsigned long rounds)
{
	corpus_work(rounds);
}

static noinline int with_array(unsigned long rounds, size_t size)
{
	char room[size];

	memset(room, (int)size, size);
	burn(rounds);
	return room[size / 2];
}

static noinline int with_alloca(unsigned long rounds, size_t size)
{
	char *room = (char *)alloca(size);

	memset(room, (int)size, size);
	return with_array(rounds, size / 3) + room[size / 2];
}

int main(int argc, char **argv)
{
	double seconds = corpus_seconds(argc, argv), begin = corpus_cpu();
	size_t size = 100;

	do {
		corpus_sink += (unsigned long)with_alloca(CORPUS_ROUNDS, size);
		size = size * 7 % 4001 + 100;
	} while (corpus_cpu() - begin < seconds);
	return corpus_end(begin);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main > enter > forever > burn: neither call comes back, so each is the last instruction of its function, and its return
 * address lies in the next one.
 */
#include "corpus.h"

static double begin, seconds;

static noinline void burn(unsigned long rounds)
{
	corpus_work(rounds);
}

static noinline _Noreturn void forever(void)
{
	do
		burn(CORPUS_ROUNDS);
	while (corpus_cpu() - begin < seconds);
	exit(corpus_end(begin));
}

static noinline _Noreturn void enter(void)
{
	corpus_sink++;
	forever();
}

int main(int argc, char **argv)
{
	seconds = corpus_seconds(argc, argv);
	begin = corpus_cpu();
	enter();
}

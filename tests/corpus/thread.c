/* SPDX-License-Identifier: Apache-2.0 */
/* start_thread > work > chain > burn, in two threads one after the other. */
#include <pthread.h>

#include "corpus.h"

static double begin;

static noinline void burn(unsigned long rounds)
{
	corpus_work(rounds);
}

static noinline void chain(unsigned long rounds)
{
	burn(rounds);
	corpus_sink++;
}

static noinline void *work(void *until)
{
	do
		chain(CORPUS_ROUNDS);
	while (corpus_cpu() - begin < *(double *)until);
	return NULL;
}

int main(int argc, char **argv)
{
	double all = corpus_seconds(argc, argv), half = all / 2;
	pthread_t thread;

	begin = corpus_cpu();
	if (pthread_create(&thread, NULL, work, &half) || pthread_join(thread, NULL) ||
	    pthread_create(&thread, NULL, work, &all) || pthread_join(thread, NULL))
		return 1;
	return corpus_end(begin);
}

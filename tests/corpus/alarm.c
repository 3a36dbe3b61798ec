/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main > outer > spin [> step] | signal | on_alarm > burn: SIGALRM comes at any instruction, so at any of the beginning and the
 * end of step() too, where only the tables say how far its frame is made.
 */
#include <signal.h>
#include <sys/time.h>

#include "corpus.h"

static volatile int done;
static double begin, seconds;

static noinline void burn(unsigned long rounds)
{
	corpus_work(rounds);
}

static noinline void on_alarm(int number)
{
	const struct itimerval soon = { .it_value = { 0, 101 } };

	burn(CORPUS_ROUNDS);
	done = corpus_cpu() - begin >= seconds;
	if (!done)
		setitimer(ITIMER_REAL, &soon, NULL);
}

static noinline unsigned long step(unsigned long a, unsigned long b)
{
	volatile unsigned long room[4] = { a, b };

	__asm__ volatile("" : : : "rbx", "r12", "r13", "rbp");
	return room[a & 1];
}

static noinline unsigned long spin(void)
{
	unsigned long x = 1;

	while (!done)
		x = step(x, x * 3);
	return x;
}

static noinline void outer(void)
{
	corpus_sink += spin();
}

int main(int argc, char **argv)
{
	const struct itimerval often = { { 0, 7001 }, { 0, 7001 } };
	struct sigaction action = { .sa_handler = on_alarm };

	seconds = corpus_seconds(argc, argv);
	begin = corpus_cpu();
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	outer();
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	return corpus_end(begin);
}

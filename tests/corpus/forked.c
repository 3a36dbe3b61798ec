/* SPDX-License-Identifier: Apache-2.0 */
/* main > chain > burn in a child that never calls exec; prints the child's "pid N" first. */
#include <sys/wait.h>
#include <unistd.h>

#include "corpus.h"

static noinline void burn(unsigned long rounds)
{
	corpus_work(rounds);
}

static noinline void chain(unsigned long rounds)
{
	burn(rounds);
	corpus_sink++;
}

int main(int argc, char **argv)
{
	double seconds = corpus_seconds(argc, argv);
	pid_t child = fork();
	int status;

	if (child)
		return waitpid(child, &status, 0) != child || status;
	printf("pid %d\n", getpid());
	double begin = corpus_cpu();
	do
		chain(CORPUS_ROUNDS);
	while (corpus_cpu() - begin < seconds);
	return corpus_end(begin);
}

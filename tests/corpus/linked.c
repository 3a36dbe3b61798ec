/* SPDX-License-Identifier: Apache-2.0 */
/* The library that stub.c and lazy.c are linked with. */
#include "corpus.h"

unsigned long linked_tiny(unsigned long x);
unsigned long linked_tiny(unsigned long x)
{
	return x * 3 + 1;
}

static unsigned long chosen(unsigned long x)
{
	return x + 1;
}

static noinline void burn(unsigned long rounds)
{
	corpus_work(rounds);
}

/* Runs while the dynamic linker binds the first call of linked_lazy, and takes its time. CORPUS_SECONDS is how long. */
static noinline unsigned long (*resolve(void))(unsigned long)
{
	const char *text = getenv("CORPUS_SECONDS");
	double seconds = text ? atof(text) : 0, begin = corpus_cpu();

	while (corpus_cpu() - begin < seconds)
		burn(CORPUS_ROUNDS);
	return chosen;
}

unsigned long linked_lazy(unsigned long x) __attribute__((ifunc("resolve")));

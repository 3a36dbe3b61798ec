/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main > drive > the dynamic linker's lazy binding, with its stack aligned anew > resolve > burn. The linker's first function saves the
 * vector registers and finds its caller by a saved register, not by its stack pointer.
 */
#include "corpus.h"

unsigned long linked_lazy(unsigned long x);

static noinline unsigned long drive(unsigned long x)
{
	return linked_lazy(x) + 1;
}

int main(int argc, char **argv)
{
	double begin = corpus_cpu();

	setenv("CORPUS_SECONDS", argc > 1 ? argv[1] : "1", 1);
	corpus_sink += drive(1);
	return corpus_end(begin);
}

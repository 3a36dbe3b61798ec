/* SPDX-License-Identifier: Apache-2.0 */
/* The library that dynamic.c loads while it runs. */
#include "corpus.h"

static noinline void burn(unsigned long rounds)
{
	corpus_work(rounds);
}

void plugin_entry(unsigned long rounds);
void plugin_entry(unsigned long rounds)
{
	burn(rounds);
	corpus_sink++;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* main > use > plugin_entry > burn: the last two in a library of dlopen(), loaded, used and closed again and again. */
#include <dlfcn.h>

#include "corpus.h"

static noinline void use(void (*entry)(unsigned long), unsigned long rounds)
{
	entry(rounds);
	corpus_sink++;
}

int main(int argc, char **argv)
{
	double seconds = corpus_seconds(argc, argv), begin = corpus_cpu();

	do {
		void *library = dlopen("libcorpus_plugin.so", RTLD_LAZY | RTLD_LOCAL);
		void (*entry)(unsigned long) = library ? (void (*)(unsigned long))dlsym(library, "plugin_entry") : NULL;

		if (!entry) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
		for (int i = 0; i < 20; i++)
			use(entry, CORPUS_ROUNDS);
		dlclose(library);
	} while (corpus_cpu() - begin < seconds);
	return corpus_end(begin);
}

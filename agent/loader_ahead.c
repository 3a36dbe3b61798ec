/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules loaded side by side. The kernel verifies one program on one CPU; a module's programs come one after the other, but modules know nothing of
 * each other: their shared maps are there already, those of identity.
 */
#include "module_state.h"

#include <malloc.h>
#include <stdatomic.h>

#define THREADS_MAX 4 /* each holds the kernel's types for the time of a load */

struct ahead {
	struct loader *loader;
	const struct config *config;
	bool (*wants)(void *context, const struct module *module);
	void *context;
	_Atomic size_t next; /* module */
};

static void *work(void *context)
{
	struct ahead *a = context;
	struct fault fault;
	size_t i;

	while ((i = a->next++) < a->loader->n_modules)
		if (a->wants(a->context, &a->loader->modules[i]) && !module_running(&a->loader->modules[i]))
			module_load_ahead(&a->loader->modules[i], a->config, &fault);
	return NULL;
}

void loader_load_ahead(struct loader *loader, const struct config *config,
		       bool (*wants)(void *context, const struct module *module), void *context)
{
	struct ahead a = { .loader = loader, .config = config, .wants = wants, .context = context, .next = 1 };
	size_t n = 0, most = (size_t)MAX_OF(sysconf(_SC_NPROCESSORS_ONLN), 1);
	pthread_t threads[THREADS_MAX];

	while (n + 1 < MIN_OF(most, (size_t)THREADS_MAX) && pthread_create(&threads[n], NULL, work, &a) == 0)
		n++;
	work(&a);
	while (n--)
		pthread_join(threads[n], NULL);
	kernel_types_forget();
	malloc_trim(0); /* what the threads' heaps held */
}

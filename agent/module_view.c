/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at modules that run: hooks, costs, maps. */
#include "module_state.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

size_t module_measures(const struct module *module, struct measure_view *ret, size_t room)
{
	size_t n = 0;

	for (size_t i = 0; i < module->n_measures && n < room; i++) {
		const struct measure *m = &module->measures[i];
		struct measure_view *v = &ret[n++];

		*v = (struct measure_view){ .name = m->name, .misses = m->misses };
		if (m->covered_by)
			snprintf(v->why, sizeof v->why, "%s does its work", m->covered_by);
		else if (m->off && !strncmp(m->off, "response ", 9))
			snprintf(v->why, sizeof v->why, "no rule has the %s", m->off);
		else if (m->off)
			snprintf(v->why, sizeof v->why, "modules.%s.%s is off", module->name, m->off);
		else if (m->unasked)
			snprintf(v->why, sizeof v->why, "no rule can fire on %.*s%s", (int)strcspn(m->unasked, " "),
				 m->unasked, strchr(m->unasked, ' ') ? " or the like" : "");
		bool said = v->why[0];

		for (size_t h = 0; h < m->n_hooks && !said; h++)
			if (m->hooks[h].refused) {
				size_t at = strlen(v->why);

				snprintf(v->why + at, sizeof v->why - at, "%s%s: %s", at ? "; " : "",
					 m->hooks[h].section, m->hooks[h].why);
			}
		if (m->in_use < 0)
			continue;
		v->hook = m->hooks[m->in_use].section;
		if (module->host && module->companion && module->companion->hook && !strncmp(v->hook, "perf_event", 10))
			v->hook = module->companion->hook(module->host);
		program_cost(module, m->hooks[m->in_use].program, v);
	}
	return n;
}

int module_map(const struct module *module, const char *name)
{
	struct bpf_map *map = module->object ? bpf_object__find_map_by_name(module->object, name) : NULL;

	return map ? bpf_map__fd(map) : -ENOENT;
}

int module_program(const struct module *module, const char *name)
{
	struct bpf_program *program = module->object ? bpf_object__find_program_by_name(module->object, name) : NULL;

	return program ? bpf_program__fd(program) : -ENOENT;
}

int loader_map(const struct loader *loader, const char *name)
{
	return module_map(&loader->modules[0], name);
}

/* The kernel's own account of a map (memlock of its fdinfo), which since 5.11 is exact for rings and hashes. */
static uint64_t map_bytes(int fd)
{
	_cleanup_(free_pointer) char *text = NULL;
	unsigned long long bytes = 0;
	const char *at;
	char path[64];

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	if (read_small_file(path, 4096, &text, NULL) == 0 && (at = strstr(text, "memlock:")))
		sscanf(at, "memlock: %llu", &bytes);
	return bytes;
}

uint64_t loader_map_bytes(const struct loader *loader)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < loader->n_modules; i++) {
		const struct module *m = &loader->modules[i];
		struct bpf_map *map;

		if (!m->object)
			continue;
		bpf_object__for_each_map (map, m->object)
			if (m->number == 0 || strncmp(bpf_map__name(map), SHARED_PREFIX, strlen(SHARED_PREFIX)))
				sum += map_bytes(bpf_map__fd(map));
	}
	return sum;
}

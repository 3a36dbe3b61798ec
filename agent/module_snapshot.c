/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks that were there before the agent: read once by an iterator program of identity, which marks them. */
#include "module_state.h"
#include "probes/identity/identity.h"
#include "probes/iterate.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

struct reader {
	void (*take)(void *context, const void *record);
	void *context;
	size_t size; /* of a record */
};

/* Over the task `tid`, 0: over all of them. `reader` may be NULL: the program writes nothing. */
static int run_iterator(struct module *identity, const char *name, uint32_t tid, struct reader *reader)
{
	struct bpf_program *program = bpf_object__find_program_by_name(identity->object, name);
	union bpf_iter_link_info info = { .task = { .tid = tid } };
	LIBBPF_OPTS(bpf_iter_attach_opts, options, .link_info = &info, .link_info_len = sizeof info);
	struct bpf_link *link = program ? bpf_program__attach_iter(program, tid ? &options : NULL) : NULL;
	int r;

	if (!link)
		return -errno;
	r = reader ? iterate(bpf_link__fd(link), reader->size, reader->take, reader->context)
		   : iterate(bpf_link__fd(link), 0, NULL, NULL);
	bpf_link__destroy(link);
	return r;
}

/* How many tasks the passes have selected so far: the first word of .bss. */
static uint64_t tasks_selected(const struct module *identity)
{
	struct bpf_map *map;
	size_t size;

	bpf_object__for_each_map (map, identity->object) {
		const char *name = bpf_map__name(map);
		const char *dot = strrchr(name, '.');

		if (dot && !strcmp(dot, ".bss")) {
			uint32_t zero = 0;
			uint64_t value[8] = { 0 };

			size = bpf_map__value_size(map);
			if (size <= sizeof value && bpf_map_lookup_elem(bpf_map__fd(map), &zero, value) == 0)
				return value[0];
		}
	}
	return 0;
}

int loader_snapshot(struct loader *loader, bool reselect, struct fault *fault)
{
	struct module *identity = &loader->modules[0];
	uint64_t before, now;
	int r = reselect ? run_iterator(identity, "unselect__iter", 0, NULL) : 0;

	now = tasks_selected(identity);
	do {
		before = now;
		if (r == 0)
			r = run_iterator(identity, "snapshot__iter", 0, NULL);
		now = tasks_selected(identity);
	} while (r == 0 && now != before);
	if (r < 0)
		fault_set(fault, r, "the tasks that run already cannot be read: %s", strerror(-r));
	return r;
}

int loader_tasks(struct loader *loader, void (*take)(void *context, const void *task), void *context)
{
	struct reader reader = { .take = take, .context = context, .size = sizeof(struct sonde_task_found) };

	return run_iterator(&loader->modules[0], "tasks__iter", 0, &reader);
}

struct finding {
	uint32_t pid;
	bool found;
	struct sonde_task_found task;
};

static void take_one(void *context, const void *record)
{
	const struct sonde_task_found *task = record;
	struct finding *finding = context;

	if (task->pid != finding->pid)
		return;
	finding->task = *task;
	finding->found = true;
}

/* Before Linux 6.1 an iterator cannot be told which task is meant (torvalds/linux f0d74c4da1f0), and goes over all. */
int loader_task(struct loader *loader, uint32_t pid, struct sonde_task_found *ret)
{
	struct finding finding = { .pid = pid };
	struct reader reader = { .take = take_one, .context = &finding, .size = sizeof(struct sonde_task_found) };
	int r = run_iterator(&loader->modules[0], "tasks__iter", pid, &reader);

	if (r == -E2BIG || r == -EINVAL)
		r = run_iterator(&loader->modules[0], "tasks__iter", 0, &reader);
	if (r < 0)
		return r;
	if (!finding.found)
		return -ESRCH;
	*ret = finding.task;
	return 0;
}

/* As sonde_proc_number() of probe.bpf.h. */
static uint64_t proc_number(uint64_t boot, uint32_t pid, uint64_t began, uint64_t execs)
{
	uint64_t h = boot ^ began;

	h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93ull;
	h ^= ((uint64_t)pid << 32) ^ execs;
	h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93ull;
	h ^= h >> 32;
	return h ? h : 1;
}

#define EXECS_BEFORE 4096u /* programs that a process may have begun since, and still be known as the same */

bool loader_is_process(const struct loader *loader, const struct sonde_task_found *task, uint64_t proc)
{
	for (uint64_t i = 0; i <= task->execs && i < EXECS_BEFORE; i++)
		if (proc_number(loader->boot, task->pid, task->began, task->execs - i) == proc)
			return true;
	return false;
}

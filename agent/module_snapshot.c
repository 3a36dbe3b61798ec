/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks that were there before the agent: read once by an iterator program of identity, which marks them. */
#include "module_state.h"
#include "probes/identity/identity.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

struct reader {
	void (*take)(void *context, const void *record);
	void *context;
	size_t size, used; /* of a record; bytes of one that is not whole yet */
	uint8_t record[256];
};

/* Records follow one another; a read may end within one. */
static void take_bytes(struct reader *reader, const uint8_t *bytes, size_t n)
{
	while (n > 0) {
		size_t part = MIN_OF(n, reader->size - reader->used);

		memcpy(reader->record + reader->used, bytes, part);
		reader->used += part;
		bytes += part;
		n -= part;
		if (reader->used == reader->size) {
			reader->take(reader->context, reader->record);
			reader->used = 0;
		}
	}
}

/* `reader` may be NULL: the program writes nothing. */
static int run_iterator(struct module *identity, const char *name, struct reader *reader)
{
	struct bpf_program *program = bpf_object__find_program_by_name(identity->object, name);
	struct bpf_link *link = program ? bpf_program__attach_iter(program, NULL) : NULL;
	uint8_t bytes[4096];
	ssize_t n;
	int fd, r = 0;

	if (!link)
		return -errno;
	fd = bpf_iter_create(bpf_link__fd(link));
	if (fd < 0)
		r = -errno;
	while (r == 0 && (n = read(fd, bytes, sizeof bytes)) != 0) {
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			r = -errno;
		if (n > 0 && reader)
			take_bytes(reader, bytes, (size_t)n);
	}
	if (fd >= 0)
		close(fd);
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
	int r = reselect ? run_iterator(identity, "unselect__iter", NULL) : 0;

	now = tasks_selected(identity);
	do {
		before = now;
		if (r == 0)
			r = run_iterator(identity, "snapshot__iter", NULL);
		now = tasks_selected(identity);
	} while (r == 0 && now != before);
	if (r < 0)
		fault_set(fault, r, "the tasks that run already cannot be read: %s", strerror(-r));
	return r;
}

int loader_tasks(struct loader *loader, void (*take)(void *context, const void *task), void *context)
{
	struct reader reader = { .take = take, .context = context, .size = sizeof(struct sonde_task_found) };

	return run_iterator(&loader->modules[0], "tasks__iter", &reader);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a record of each built-in type: nothing is read outside of it, and what comes out is a map or nothing. */
#include "encode/plan.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <string.h>

#include "encode/record.h"
#include "modules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

/* Made once, and kept to the end of the process. */
static const struct schema *builtin(void)
{
	static struct schema *schema;

	if (schema)
		return schema;
	check(schema_new(&schema) == 0);
	for (const struct builtin_object *b = builtin_objects; b->name; b++) {
		struct bpf_object *object = bpf_object__open_mem(b->begin, (size_t)(b->end - b->begin), NULL);

		check(object && schema_add(schema, b->name, bpf_object__btf(object), NULL) == 0);
		bpf_object__close(object);
	}
	return schema;
}

static const struct plan *plan_of(const struct event_type *type)
{
	static struct plan *plans[SONDE_TYPES_MAX];

	if (!plans[type->id])
		check(plan_compile(&plans[type->id], type) == 0);
	return plans[type->id];
}

/* The first byte names the type; a record behind it whose size is larger than what is there is the caller's to refuse. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct schema *schema = builtin();
	const struct event_type *type;
	struct envelope envelope;
	uint32_t room, used;
	struct sonde_event *e;
	uint8_t *map;

	if (size < 1 + sizeof *e || size > 60000)
		return 0;
	type = schema_type(schema, data[0] % schema_count(schema));
	e = malloc(size - 1);
	memcpy(e, data + 1, size - 1);
	if (e->size > size - 1)
		e->size = (uint32_t)size - 1;
	check(envelope_init(&envelope, "host", "run") == 0);
	room = plan_room(plan_of(type), e->size, 0);
	map = malloc(room);
	used = plan_encode(plan_of(type), &envelope, e, 1, NULL, map, room);
	check(used <= room && (!used || e->size >= type->size));
	if (used)
		check(value_skip(map, map + used) == map + used);
	free(map);
	free(e);
	return 0;
}

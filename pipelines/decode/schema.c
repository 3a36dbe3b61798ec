/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An object's BTF names a type by a variable NAME_type in .rodata with the tag "sonde:event=...": a struct whose second member is a
 * zero-length array of the event's struct, whose members carry tags of their own. Reading that is all there is here. A module's
 * file is trusted as code is (it is loaded into the kernel), but mistakes in it are said plainly: every member must be of a
 * kind that can be written, and lie within the struct.
 */
#include "decode/schema.h"

#include <bpf/btf.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "decode/tags.h"

struct schema {
	struct event_type *types[SONDE_TYPES_MAX];
	_Atomic size_t count;
	/* Open addressing by name; slots hold id + 1. Written before `count` grows. */
	_Atomic uint16_t by_name[SONDE_TYPES_MAX * 4];
};

const struct common_key common_keys[] = {
	{ "type", "str", "name of the event: class.event", "event_name", "event.action" },
	{ "ts", "uint", "when it happened, in the kernel: ns since the epoch", "time_unix_nano", "@timestamp" },
	{ "seq", "uint", "number within the run, gapless over what was journaled", NULL, "event.sequence" },
	{ "host", "str", "host name", "host.name", "host.hostname" },
	{ "run", "str", "id of this run of the agent", "service.instance.id", "agent.ephemeral_id" },
	{ "pid", "uint", "process id, in the initial pid namespace; absent where there is no task", "process.pid",
	  "process.pid" },
	{ "tid", "uint", "thread id", "thread.id", "process.thread.id" },
	{ "comm", "str", "name of the thread", "thread.name", "process.thread.name" },
	{ "proc", "str", "16 hex digits that name one execution: the join key of every signal", NULL,
	  "process.entity_id" },
	{ "parent", "str", "execution that forked this process; absent where there is none", NULL,
	  "process.parent.entity_id" },
	{ "container", "str", "container id, where there is one", "container.id", "container.id" },
	{ "cgroup", "str", "path of the cgroup", "process.linux.cgroup", NULL },
	{ 0 },
};

const struct common_key stack_keys[] = {
	{ "stack", "array", "frame texts, leaf first, where modules.NAME.stack is on", "code.stacktrace", NULL },
	{ "stack_id", "str", "names the stack, the same on every host with the same binaries, and in profiles", NULL,
	  NULL },
	{ "stack_truncated", "bool", "the stack does not reach its root", NULL, NULL },
	{ 0 },
};

const struct common_key lineage_keys[] = {
	{ "lineage", "array", "names of the processes that made this one, nearest first, at most 16", NULL, NULL },
	{ 0 },
};

int schema_new(struct schema **ret)
{
	*ret = calloc(1, sizeof **ret);
	return *ret ? 0 : -ENOMEM;
}

static void type_free(struct event_type *type)
{
	if (!type)
		return;
	for (size_t i = 0; i < type->n_fields; i++) {
		struct field *f = &type->fields[i];

		for (uint32_t n = 0; n < f->n_names; n++)
			free(f->names[n]);
		free(f->names);
		free(f->key);
		free(f->doc);
		free(f->otel);
		free(f->ecs);
	}
	free(type->fields);
	free(type->name);
	free(type->record);
	free(type->module);
	free(type->doc);
	free(type);
}

static void free_type(struct event_type **type)
{
	type_free(*type);
}

void schema_free(struct schema *schema)
{
	if (!schema)
		return;
	for (size_t i = 0; i < schema->count; i++)
		type_free(schema->types[i]);
	free(schema);
}

size_t schema_count(const struct schema *schema)
{
	return atomic_load_explicit(&schema->count, memory_order_acquire);
}

const struct event_type *schema_type(const struct schema *schema, size_t id)
{
	return id < schema_count(schema) ? schema->types[id] : NULL;
}

const struct event_type *schema_find(const struct schema *schema, const char *name, size_t length)
{
	for (size_t probe = hash_bytes(name, length);; probe++) {
		uint16_t slot = atomic_load_explicit(&schema->by_name[probe % ARRAY_SIZE(schema->by_name)],
						     memory_order_acquire);

		if (!slot)
			return NULL;
		if (!strncmp(schema->types[slot - 1]->name, name, length) && !schema->types[slot - 1]->name[length])
			return schema->types[slot - 1];
	}
}

const struct event_type *schema_find_record(const struct schema *schema, const char *module, const char *record)
{
	for (size_t i = 0; i < schema_count(schema); i++)
		if (!strcmp(schema->types[i]->record, record) && !strcmp(schema->types[i]->module, module))
			return schema->types[i];
	return NULL;
}

static void schema_publish(struct schema *schema, struct event_type *type)
{
	size_t probe = hash_bytes(type->name, strlen(type->name));

	type->id = (uint16_t)schema->count;
	schema->types[type->id] = type;
	while (schema->by_name[probe % ARRAY_SIZE(schema->by_name)])
		probe++;
	atomic_store_explicit(&schema->by_name[probe % ARRAY_SIZE(schema->by_name)], (uint16_t)(type->id + 1),
			      memory_order_release);
	atomic_store_explicit(&schema->count, type->id + 1u, memory_order_release);
}

/* ---- reading BTF ---- */

static int copy_tag(const struct tags *tags, uint32_t type, int component, const char *name, char **ret)
{
	const char *text = tags_get(tags, type, component, name);

	*ret = text ? strdup(text) : NULL;
	return text && !*ret ? -ENOMEM : 0;
}

static const struct btf_type *skip_modifiers(const struct btf *btf, uint32_t id)
{
	const struct btf_type *t = btf__type_by_id(btf, id);

	while (t && (btf_is_mod(t) || btf_is_typedef(t)))
		t = btf__type_by_id(btf, t->type);
	return t;
}

/* `text` is "a|b|c". */
static int split_names(const char *text, char ***ret_names, uint32_t *ret_count)
{
	size_t count = 1;

	for (const char *c = text; *c; c++)
		count += *c == '|';
	char **names = calloc(count, sizeof *names);

	if (!names)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		size_t n = strcspn(text, "|");

		names[i] = strndup(text, n);
		text += n + (text[n] == '|');
	}
	*ret_names = names;
	*ret_count = (uint32_t)count;
	return 0;
}

static int text_how(const char *as)
{
	static const struct {
		const char *as;
		enum field_how how;
	} hows[] = { { "", FIELD_TEXT },   { "list", FIELD_LIST },       { "path", FIELD_PATH },
		     { "hex", FIELD_HEX }, { "msgpack", FIELD_MSGPACK }, { "table", FIELD_TABLE } };

	for (size_t i = 0; i < ARRAY_SIZE(hows); i++)
		if (!strcmp(hows[i].as, as))
			return (int)hows[i].how;
	return -EINVAL;
}

/* How a number is written. */
static int number_how(const char *as, uint32_t size, bool is_signed, struct field *field)
{
	if (!*as)
		return is_signed ? FIELD_INT : FIELD_UINT;
	if (!strcmp(as, "id") && size == 8)
		return FIELD_ID;
	if (!strcmp(as, "time") && size == 8)
		return FIELD_TIME;
	if (!strcmp(as, "caps") && size == 8)
		return FIELD_CAPS;
	if (!strcmp(as, "errno"))
		return FIELD_ERRNO;
	if (!strncmp(as, "names=", 6)) {
		int r = split_names(as + 6, &field->names, &field->n_names);

		return r < 0 ? r : (int)FIELD_NAMES;
	}
	return -EINVAL;
}

static int field_how(const struct btf *btf, const struct btf_type *t, const char *as, struct field *field)
{
	const char *name = btf__name_by_offset(btf, t->name_off);

	if (btf_is_struct(t))
		return !strcmp(name, "sonde_text") ? text_how(as) : !strcmp(name, "sonde_ip") ? FIELD_IP : -EINVAL;
	if (btf_is_array(t)) {
		const struct btf_type *element = skip_modifiers(btf, btf_array(t)->type);

		field->size = btf_array(t)->nelems;
		return element && btf_is_int(element) && element->size == 1 && !*as ? FIELD_CHARS : -EINVAL;
	}
	if (btf_is_int(t) && btf_int_encoding(t) & BTF_INT_BOOL)
		return FIELD_BOOL;
	if (btf_is_int(t) && (t->size == 1 || t->size == 2 || t->size == 4 || t->size == 8))
		return number_how(as, t->size, btf_int_encoding(t) & BTF_INT_SIGNED, field);
	if (btf_is_any_enum(t))
		return number_how(as, t->size, false, field);
	return -EINVAL;
}

#define KEY_MOST 64

/* A key is short, and none of those that the agent writes itself. */
static bool key_is_free(const char *key)
{
	for (const struct common_key *k = common_keys; k->key; k++)
		if (!strcmp(k->key, key))
			return false;
	return strlen(key) <= KEY_MOST && strcmp(key, "truncated") != 0 && strcmp(key, lineage_keys[0].key) != 0;
}

static int read_field(const struct tags *tags, uint32_t struct_id, int index, struct field *field, struct fault *fault)
{
	const struct btf *btf = tags->btf;
	const struct btf_type *record = btf__type_by_id(btf, struct_id);
	const struct btf_member *m = &btf_members(record)[index];
	const struct btf_type *t = skip_modifiers(btf, m->type);
	const char *name = btf__name_by_offset(btf, m->name_off), *as = tags_get(tags, struct_id, index, "as");
	uint32_t bits = btf_member_bit_offset(record, (uint32_t)index);
	int how;

	field->offset = bits / 8;
	field->size = t ? t->size : 0;
	how = t && bits % 8 == 0 && !btf_member_bitfield_size(record, (uint32_t)index)
		      ? field_how(btf, t, as ? as : "", field)
		      : -EINVAL;
	if (how == -ENOMEM)
		return how;
	if (how < 0 || field->offset + field->size > record->size)
		return fault_set(fault, -EINVAL, "struct %s: member '%s' is of a type that cannot be written%s%s",
				 btf__name_by_offset(btf, record->name_off), name, as ? " as " : "", as ? as : "");
	field->how = (enum field_how)how;
	field->optional = tags_get(tags, struct_id, index, "optional") != NULL;
	field->key = strdup(name);
	if (!field->key || copy_tag(tags, struct_id, index, "doc", &field->doc) < 0 ||
	    copy_tag(tags, struct_id, index, "otel", &field->otel) < 0 ||
	    copy_tag(tags, struct_id, index, "ecs", &field->ecs) < 0)
		return -ENOMEM;
	return 0;
}

static bool is_header(const struct btf *btf, const struct btf_member *m)
{
	const struct btf_type *t = skip_modifiers(btf, m->type);

	return t && btf_is_struct(t) && !strcmp(btf__name_by_offset(btf, t->name_off), "sonde_event");
}

/* Whether a module was built with the header that this agent reads. */
static bool is_our_header(const struct btf *btf, const struct btf_member *m)
{
#define HEADER(member)                                                                                                 \
	{                                                                                                              \
#member, offsetof(struct sonde_event, member)                                                          \
	}
	static const struct {
		const char *name;
		size_t offset;
	} ours[] = { HEADER(size),   HEADER(type),   HEADER(flags), HEADER(time), HEADER(proc),
		     HEADER(parent), HEADER(cgroup), HEADER(pid),   HEADER(tid),  HEADER(comm) };
#undef HEADER
	const struct btf_type *t = skip_modifiers(btf, m->type);

	if (t->size != sizeof(struct sonde_event) || btf_vlen(t) != ARRAY_SIZE(ours))
		return false;
	for (uint32_t i = 0; i < ARRAY_SIZE(ours); i++)
		if (strcmp(btf__name_by_offset(btf, btf_members(t)[i].name_off), ours[i].name) ||
		    btf_member_bit_offset(t, i) != ours[i].offset * 8)
			return false;
	return true;
}

static int read_fields(const struct tags *tags, uint32_t struct_id, struct event_type *type, struct fault *fault)
{
	const struct btf *btf = tags->btf;
	const struct btf_type *record = btf__type_by_id(btf, struct_id);
	const struct btf_member *members = btf_members(record);
	uint16_t n = btf_vlen(record);

	if (!n || !is_header(btf, &members[0]) || btf_member_bit_offset(record, 0))
		return fault_set(fault, -EINVAL, "struct %s: its first member must be a struct sonde_event",
				 type->record);
	if (!is_our_header(btf, &members[0]))
		return fault_set(fault, -EINVAL,
				 "struct %s: its struct sonde_event is another sonde's; rebuild it with the headers of "
				 "this one",
				 type->record);
	type->size = record->size;
	if (type->internal) /* never written: only the module's own code knows its members */
		return 0;
	type->fields = calloc(n, sizeof *type->fields);
	if (!type->fields)
		return -ENOMEM;
	for (int i = 1; i < n; i++) {
		int r;

		if (btf__name_by_offset(btf, members[i].name_off)[0] == '_')
			continue;
		if (!key_is_free(btf__name_by_offset(btf, members[i].name_off)))
			return fault_set(
				fault, -EINVAL,
				"struct %s: member '%.*s' has a name that is longer than %d bytes, or one that "
				"every event has",
				type->record, KEY_MOST, btf__name_by_offset(btf, members[i].name_off), KEY_MOST);
		r = read_field(tags, struct_id, i, &type->fields[type->n_fields++], fault);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The id of the event's struct: element of the zero-length array that is member 1 of the variable's anonymous struct. */
static int layout_of(const struct btf *btf, const struct btf_type *variable, uint32_t *ret_id)
{
	const struct btf_type *t = skip_modifiers(btf, variable->type);

	if (!t || !btf_is_struct(t) || btf_vlen(t) != 2)
		return -EINVAL;
	t = skip_modifiers(btf, btf_members(t)[1].type);
	if (!t || !btf_is_array(t))
		return -EINVAL;
	uint32_t id = btf_array(t)->type;

	if (!btf_is_struct(btf__type_by_id(btf, id)))
		return -EINVAL;
	*ret_id = id;
	return 0;
}

/* class.event; an alert is of no class. */
static bool is_type_name(const char *name)
{
	return (strchr(name, '.') || !strcmp(name, "alert")) && strlen(name) <= 63;
}

static int read_type(const struct tags *tags, uint32_t var_id, uint32_t offset, const char *module,
		     struct event_type **ret, struct fault *fault)
{
	const struct btf *btf = tags->btf;
	const struct btf_type *var = btf__type_by_id(btf, var_id);
	const char *name = tags_get(tags, var_id, -1, "event"), *version = tags_get(tags, var_id, -1, "version"),
		   *ring = tags_get(tags, var_id, -1, "ring");
	_cleanup_(free_type) struct event_type *type = calloc(1, sizeof *type);
	uint32_t layout;
	int r;

	if (!type)
		return -ENOMEM;
	if (layout_of(btf, var, &layout) < 0 || !is_type_name(name))
		return fault_set(fault, -EINVAL, "event '%s' is not declared by SONDE_EVENT as class.event", name);
	type->name = strdup(name);
	type->module = strdup(module);
	type->record = strdup(btf__name_by_offset(btf, btf__type_by_id(btf, layout)->name_off));
	r = copy_tag(tags, var_id, -1, "doc", &type->doc);
	if (r < 0 || !type->name || !type->module || !type->record)
		return -ENOMEM;
	type->internal = tags_get(tags, var_id, -1, "internal") != NULL;
	type->security = tags_get(tags, var_id, -1, "security") != NULL;
	type->version = (uint16_t)(version ? strtoul(version, NULL, 10) : 1);
	type->priority = ring && !strcmp(ring, "priority");
	type->id_offset = offset;
	r = read_fields(tags, layout, type, fault);
	if (r < 0)
		return r;
	*ret = type;
	type = NULL;
	return 0;
}

/* 1: known already, as it is; 0: new. */
static int check_type(const struct schema *schema, const struct event_type *type, struct fault *fault)
{
	const struct event_type *known = schema_find(schema, type->name, strlen(type->name));

	if (!known)
		return 0;
	if (strcmp(known->module, type->module))
		return fault_set(fault, -EEXIST, "event '%s' is declared by module '%s' too", type->name,
				 known->module);
	if (known->size != type->size || known->n_fields != type->n_fields || known->id_offset != type->id_offset)
		return fault_set(fault, -EINVAL, "event '%s' changed its layout while the agent ran; restart the agent",
				 type->name);
	return 1;
}

struct reading {
	struct event_type *types[SONDE_TYPES_MAX];
	size_t n;
};

static void reading_free(struct reading *reading)
{
	for (size_t i = 0; i < reading->n; i++)
		type_free(reading->types[i]);
}

static int keep_type(struct schema *schema, struct reading *reading, struct event_type *type, struct fault *fault)
{
	int r = check_type(schema, type, fault);

	for (size_t i = 0; i < reading->n && r == 0; i++)
		if (!strcmp(reading->types[i]->name, type->name) || !strcmp(reading->types[i]->record, type->record))
			r = fault_set(fault, -EINVAL, "event '%s' is declared twice", type->name);
	if (r == 0 && schema_count(schema) + reading->n >= SONDE_TYPES_MAX)
		r = fault_set(fault, -E2BIG, "more than %d event types", SONDE_TYPES_MAX);
	if (r == 0)
		reading->types[reading->n++] = type;
	else
		type_free(type);
	return r < 0 ? r : 0;
}

/* All types of the object, or none. */
int schema_add(struct schema *schema, const char *module, const struct btf *btf, struct fault *fault)
{
	int section = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC), r = 0;
	_cleanup_(reading_free) struct reading reading = { 0 };
	_cleanup_(tags_release) struct tags tags = { 0 };

	if (section < 0)
		return 0;
	r = tags_read(&tags, btf);
	const struct btf_type *rodata = btf__type_by_id(btf, (uint32_t)section);
	const struct btf_var_secinfo *vars = btf_var_secinfos(rodata);

	for (int i = 0; i < btf_vlen(rodata) && r == 0; i++) {
		struct event_type *type = NULL;

		if (!tags_get(&tags, vars[i].type, -1, "event"))
			continue;
		r = read_type(&tags, vars[i].type, vars[i].offset, module, &type, fault);
		if (r == 0)
			r = keep_type(schema, &reading, type, fault);
	}
	for (size_t i = 0; i < reading.n && r == 0; i++)
		schema_publish(schema, reading.types[i]);
	if (r == 0)
		reading.n = 0;
	return r;
}

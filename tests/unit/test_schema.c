/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations as they come out of BTF: one member of each kind, and the modules that the agent carries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>

#include "decode/schema.h"
#include "modules.h"
#include "probes/exec/exec.h"
#include "probes/tcp/tcp.h"

static struct btf *kinds_btf(void)
{
	struct btf *btf = btf__parse(KINDS_OBJECT, NULL);

	assert_non_null(btf);
	return btf;
}

static const struct expected {
	const char *key;
	enum field_how how;
	uint32_t size;
	bool optional;
	const char *type;
} all[] = {
	{ "u8", FIELD_UINT, 1, false, "uint" },      { "u16", FIELD_UINT, 2, false, "uint" },
	{ "u32", FIELD_UINT, 4, true, "uint" },      { "u64", FIELD_UINT, 8, false, "uint" },
	{ "s8", FIELD_INT, 1, false, "int" },        { "truth", FIELD_BOOL, 1, false, "bool" },
	{ "s16", FIELD_INT, 2, false, "int" },       { "s32", FIELD_INT, 4, false, "int" },
	{ "s64", FIELD_INT, 8, false, "int" },       { "colour", FIELD_UINT, 4, false, "uint" },
	{ "chars", FIELD_CHARS, 12, false, "str" },  { "ip", FIELD_IP, 16, false, "str" },
	{ "id", FIELD_ID, 8, false, "str" },         { "time", FIELD_TIME, 8, false, "uint" },
	{ "caps", FIELD_CAPS, 8, false, "array" },   { "error", FIELD_ERRNO, 4, false, "str" },
	{ "names", FIELD_NAMES, 4, true, "str" },    { "text", FIELD_TEXT, 4, false, "str" },
	{ "list", FIELD_LIST, 4, false, "array" },   { "path", FIELD_PATH, 4, false, "str" },
	{ "hex", FIELD_HEX, 4, false, "str" },       { "msgpack", FIELD_MSGPACK, 4, false, "map" },
	{ "table", FIELD_TABLE, 4, false, "table" }, { "last", FIELD_UINT, 8, false, "uint" },
};

static void test_every_kind(void **state)
{
	struct btf *btf = kinds_btf();
	struct schema *schema = NULL;
	struct fault fault = { 0 };

	assert_int_equal(schema_new(&schema), 0);
	if (schema_add(schema, "kinds", btf, &fault) < 0)
		fail_msg("%s", fault.text);
	btf__free(btf); /* nothing of it is kept */
	assert_int_equal(schema_count(schema), 3);
	const struct event_type *t = schema_find(schema, "kinds.all", 9);

	assert_non_null(t);
	assert_ptr_equal(schema_type(schema, t->id), t);
	assert_ptr_equal(schema_find_record(schema, "kinds", "kinds_all"), t);
	assert_null(schema_find_record(schema, "other", "kinds_all"));
	assert_null(schema_find(schema, "kinds.al", 8));
	assert_null(schema_type(schema, 3));
	assert_string_equal(t->module, "kinds");
	assert_string_equal(t->doc, "One of each kind.");
	assert_int_equal(t->version, 7);
	assert_true(t->priority && !t->internal);
	assert_int_equal(t->n_fields, ARRAY_SIZE(all));
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		const struct field *f = &t->fields[i];

		assert_string_equal(f->key, all[i].key);
		assert_int_equal(f->how, all[i].how);
		assert_int_equal(f->size, all[i].size);
		assert_int_equal(f->optional, all[i].optional);
		assert_string_equal(field_type_name(f), all[i].type);
		assert_true(f->offset >= sizeof(struct sonde_event) && f->offset + f->size <= t->size);
	}
	assert_string_equal(t->fields[0].doc, "eight bits");
	assert_string_equal(t->fields[0].otel, "a.b");
	assert_string_equal(t->fields[0].ecs, "c.d");
	assert_null(t->fields[1].doc);
	assert_int_equal(t->fields[16].n_names, 3);
	assert_string_equal(t->fields[16].names[0], "none");
	assert_string_equal(t->fields[16].names[2], "two");

	const struct event_type *hidden = schema_find(schema, "kinds.hidden", 12),
				*none = schema_find(schema, "kinds.none", 10);

	assert_true(hidden->internal && !hidden->priority);
	assert_true(none->security && !hidden->security && !t->security);
	assert_int_equal(none->n_fields, 0);
	assert_int_equal(none->size, sizeof(struct sonde_event));
	schema_free(schema);
}

/* The same module again, as after a reload, keeps its numbers; another one of the same types is refused whole. */
static void test_again(void **state)
{
	struct btf *btf = kinds_btf();
	struct schema *schema = NULL;
	struct fault fault = { 0 };

	assert_int_equal(schema_new(&schema), 0);
	assert_int_equal(schema_add(schema, "kinds", btf, &fault), 0);
	uint16_t id = schema_find(schema, "kinds.all", 9)->id;

	assert_int_equal(schema_add(schema, "kinds", btf, &fault), 0);
	assert_int_equal(schema_count(schema), 3);
	assert_int_equal(schema_find(schema, "kinds.all", 9)->id, id);
	assert_int_equal(schema_add(schema, "other", btf, &fault), -EEXIST);
	assert_non_null(strstr(fault.text, "is declared by module 'kinds' too"));
	assert_int_equal(schema_count(schema), 3);
	schema_free(schema);
	btf__free(btf);
}

/* Where the C compiler puts a member, BTF says it is. */
static void test_builtin_layouts(void **state)
{
	struct schema *schema = NULL;
	const struct event_type *t;

	assert_int_equal(schema_new(&schema), 0);
	for (const struct builtin_object *b = builtin_objects; b->name; b++) {
		struct bpf_object *object = bpf_object__open_mem(b->begin, (size_t)(b->end - b->begin), NULL);
		struct fault fault = { 0 };

		assert_non_null(object);
		if (schema_add(schema, b->name, bpf_object__btf(object), &fault) < 0)
			fail_msg("%s", fault.text);
		bpf_object__close(object);
	}
	t = schema_find(schema, "process.exec", 12);
	assert_int_equal(t->size, sizeof(struct process_exec));
	for (size_t i = 0; i < t->n_fields; i++)
		if (!strcmp(t->fields[i].key, "caps"))
			assert_int_equal(t->fields[i].offset, offsetof(struct process_exec, caps));
	t = schema_find(schema, "tcp.close", 9);
	assert_int_equal(t->size, sizeof(struct tcp_close));
	for (size_t i = 0; i < t->n_fields; i++)
		if (!strcmp(t->fields[i].key, "retransmits"))
			assert_int_equal(t->fields[i].offset, offsetof(struct tcp_close, retransmits));
	/* Each has a doc text, and each key one. */
	for (size_t id = 0; id < schema_count(schema); id++) {
		t = schema_type(schema, id);
		assert_true(t->doc && *t->doc);
		for (size_t i = 0; i < t->n_fields; i++)
			if (!t->internal && (!t->fields[i].doc || !*t->fields[i].doc))
				fail_msg("%s.%s has no doc text", t->name, t->fields[i].key);
	}
	schema_free(schema);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind),
		cmocka_unit_test(test_again),
		cmocka_unit_test(test_builtin_layouts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The encoder against msgpack-c: random types of every kind of field, random records of them, and beside each record what its map must
 * hold, packed by msgpack-c. Rooms and records are allocated to the byte, so that ASan sees whoever steps outside.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <cap-ng.h>
#include <ctype.h>
#include <errno.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "encode/plan.h"

#define FIELDS_MAX 14
#define ROUNDS     4000
#define CAPS       41

static uint64_t seed = 1;

static uint64_t random_number(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1dull;
}

static uint32_t below(uint32_t n)
{
	return (uint32_t)(random_number() >> 33) % n;
}

/* Of every magnitude alike, so that each size of number is met. */
static uint64_t any_number(unsigned bytes)
{
	uint64_t v = below(8) ? random_number() >> below(64) : 0;

	return bytes == 8 ? v : v & ((1ull << 8 * bytes) - 1);
}

/* A type, a record of it, and what the record says. */
struct sample {
	struct event_type type;
	struct field fields[FIELDS_MAX];
	char keys[FIELDS_MAX][72];
	uint8_t record[1 << 16];
	uint32_t at; /* end of what is used */
	msgpack_sbuffer expected;
	msgpack_packer packer;
	uint32_t count; /* keys in `expected` */
};

static char *const names[] = { "zero", "one", "two" };

static void want_text(msgpack_packer *p, const char *text, size_t length)
{
	msgpack_pack_str(p, length);
	msgpack_pack_str_body(p, text, length);
}

static void want_string(msgpack_packer *p, const char *text)
{
	want_text(p, text, strlen(text));
}

static void want_key(struct sample *s, const char *key)
{
	want_string(&s->packer, key);
	s->count++;
}

/* ---- one kind after the other: puts a value into the record, and beside it what must be read ---- */

static void put_number(struct sample *s, const struct field *f, uint64_t v)
{
	memcpy(s->record + f->offset, &v, f->size);
}

static void make_uint(struct sample *s, const struct field *f)
{
	uint64_t v = any_number(f->size);

	put_number(s, f, v);
	if (!v && f->optional)
		return;
	want_key(s, f->key);
	msgpack_pack_uint64(&s->packer, v);
}

static void make_int(struct sample *s, const struct field *f)
{
	int64_t v = (int64_t)random_number() >> (64 - 8 * f->size);

	v >>= below(8 * f->size);
	put_number(s, f, (uint64_t)v);
	if (!v && f->optional)
		return;
	want_key(s, f->key);
	msgpack_pack_int64(&s->packer, v);
}

static void make_bool(struct sample *s, const struct field *f)
{
	bool v = below(2);

	put_number(s, f, v);
	if (!v && f->optional)
		return;
	want_key(s, f->key);
	v ? msgpack_pack_true(&s->packer) : msgpack_pack_false(&s->packer);
}

static void make_chars(struct sample *s, const struct field *f)
{
	uint32_t n = below(f->size + 1);

	memset(s->record + f->offset, 'x', f->size);
	if (n < f->size)
		s->record[f->offset + n] = 0;
	if (!n && f->optional)
		return;
	want_key(s, f->key);
	want_text(&s->packer, (char *)s->record + f->offset, n);
}

static void make_ip(struct sample *s, const struct field *f)
{
	struct in6_addr a = { 0 };
	char text[64];
	bool v4 = below(2), none = !below(4);

	for (int i = 0; i < 16 && !none; i++)
		a.s6_addr[i] = below(3) ? (uint8_t)random_number() : 0;
	if (v4 && !none)
		memcpy(a.s6_addr, (uint8_t[12]){ [10] = 0xff, [11] = 0xff }, 12);
	memcpy(s->record + f->offset, &a, 16);
	none = !memcmp(&a, &in6addr_any, 16);
	if (none && f->optional)
		return;
	inet_ntop(IN6_IS_ADDR_V4MAPPED(&a) ? AF_INET : AF_INET6, IN6_IS_ADDR_V4MAPPED(&a) ? &a.s6_addr[12] : a.s6_addr,
		  text, sizeof text);
	want_key(s, f->key);
	want_string(&s->packer, text);
}

static void make_id(struct sample *s, const struct field *f)
{
	uint64_t v = any_number(8);
	char text[17];

	put_number(s, f, v);
	if (!v && f->optional)
		return;
	snprintf(text, sizeof text, "%016llx", (unsigned long long)v);
	want_key(s, f->key);
	want_string(&s->packer, text);
}

#define EPOCH_OFFSET 1700000000000000000ll

static void make_time(struct sample *s, const struct field *f)
{
	uint64_t v = any_number(8) >> 1;

	put_number(s, f, v);
	if (!v && f->optional)
		return;
	want_key(s, f->key);
	msgpack_pack_uint64(&s->packer, v + EPOCH_OFFSET);
}

static void make_errno(struct sample *s, const struct field *f)
{
	int64_t v = below(3) ? (int64_t)below(134) * (below(2) ? 1 : -1) : (int64_t)random_number();
	char number[24];

	v = (int64_t)((uint64_t)v << (64 - 8 * f->size)) >> (64 - 8 * f->size);
	put_number(s, f, (uint64_t)v);
	if (!v)
		return;
	snprintf(number, sizeof number, "%lld", (long long)v);

	const char *name = v > -200 && v < 200 ? strerrorname_np((int)llabs(v)) : NULL;

	want_key(s, f->key);
	want_string(&s->packer, name ? name : number);
}

static void make_caps(struct sample *s, const struct field *f)
{
	uint64_t v = below(3) ? random_number() : below(2) ? ~0ull : 0;
	uint32_t n = 0;

	put_number(s, f, v);
	if (!v && f->optional)
		return;
	want_key(s, f->key);
	for (unsigned i = 0; i < CAPS; i++)
		n += v >> i & 1;
	msgpack_pack_array(&s->packer, n);
	for (unsigned i = 0; i < CAPS; i++) {
		char name[64] = "CAP_";

		if (!(v >> i & 1))
			continue;
		strcat(name, capng_capability_to_name(i));
		for (char *c = name; *c; c++)
			*c = (char)toupper(*c);
		want_string(&s->packer, name);
	}
}

static void make_names(struct sample *s, const struct field *f)
{
	uint64_t v = below(2) ? below(4) : any_number(f->size);
	char number[24];

	put_number(s, f, v);
	if (!v && f->optional)
		return;
	snprintf(number, sizeof number, "%llu", (unsigned long long)v);
	want_key(s, f->key);
	want_string(&s->packer, v < 3 ? names[v] : number);
}

/* Room behind the record for `length` bytes, named by the field. */
static char *make_part(struct sample *s, const struct field *f, uint32_t length)
{
	struct sonde_text t = { .offset = length ? (uint16_t)s->at : (uint16_t)random_number(),
				.length = (uint16_t)length };
	char *part = (char *)s->record + s->at;

	assert_true(s->at + length < sizeof s->record);
	memcpy(s->record + f->offset, &t, sizeof t);
	s->at += length;
	return part;
}

static uint32_t any_length(void)
{
	static const uint32_t edges[] = { 0, 1, 31, 32, 255, 256, 257, 1000 };

	return below(2) ? edges[below(ARRAY_SIZE(edges))] : below(300);
}

static void make_text(struct sample *s, const struct field *f)
{
	uint32_t length = any_length();
	char *text = make_part(s, f, length);

	for (uint32_t i = 0; i < length; i++)
		text[i] = (char)random_number();
	if (!length && f->optional)
		return;
	want_key(s, f->key);
	if (f->how == FIELD_TEXT) {
		want_text(&s->packer, text, length);
		return;
	}
	char hex[2001] = "";

	for (uint32_t i = 0; i < length; i++)
		snprintf(hex + 2 * i, 3, "%02x", (uint8_t)text[i]);
	want_string(&s->packer, hex);
}

static void make_list(struct sample *s, const struct field *f)
{
	uint32_t n = below(3) ? below(6) : below(300), used = 0, lengths[300];
	bool open_end = below(2) && n;
	char *text;

	for (uint32_t i = 0; i < n; i++) {
		lengths[i] = n > 10 ? below(4) : any_length();
		used += lengths[i] + 1;
	}
	if (open_end && !lengths[n - 1])
		open_end = false;
	text = make_part(s, f, used - open_end);
	if (!used && f->optional)
		return;
	want_key(s, f->key);
	msgpack_pack_array(&s->packer, n);
	for (uint32_t i = 0; i < n; i++) {
		memset(text, 'a' + (int)(i % 26), lengths[i]);
		want_text(&s->packer, text, lengths[i]);
		text += lengths[i];
		if (i + 1 < n || !open_end)
			*text++ = 0;
	}
}

static void make_path(struct sample *s, const struct field *f)
{
	uint32_t n = below(8), used = 0;
	char leaf_first[2200], path[2200] = "", part[260];

	if (!below(8)) { /* the root itself */
		memcpy(make_part(s, f, 2), "/", 2);
		want_key(s, f->key);
		want_string(&s->packer, "/");
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		uint32_t length = 1 + below(255);
		char rest[2200];

		memset(part, 'a' + (int)i, length);
		part[length] = 0;
		memcpy(leaf_first + used, part, length + 1);
		used += length + 1;
		strcpy(rest, path);
		snprintf(path, sizeof path, "/%s%s", part, rest);
	}
	memcpy(make_part(s, f, used), leaf_first, used);
	if (!n && f->optional)
		return;
	want_key(s, f->key);
	want_string(&s->packer, path);
}

static void make_msgpack(struct sample *s, const struct field *f)
{
	msgpack_sbuffer buffer;
	msgpack_packer packer;

	msgpack_sbuffer_init(&buffer);
	msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
	msgpack_pack_map(&packer, 2);
	want_string(&packer, "a");
	msgpack_pack_uint64(&packer, random_number());
	want_string(&packer, "b");
	msgpack_pack_array(&packer, 1);
	msgpack_pack_nil(&packer);
	memcpy(make_part(s, f, (uint32_t)buffer.size), buffer.data, buffer.size);
	want_key(s, f->key);
	msgpack_sbuffer_write(&s->expected, buffer.data, buffer.size);
	msgpack_sbuffer_destroy(&buffer);
}

static const struct kind {
	enum field_how how;
	void (*make)(struct sample *s, const struct field *f);
	uint32_t size; /* 0: any size of a number; 1: a bool or chars */
} kinds[] = {
	{ FIELD_UINT, make_uint, 0 },   { FIELD_INT, make_int, 0 },         { FIELD_BOOL, make_bool, 1 },
	{ FIELD_CHARS, make_chars, 1 }, { FIELD_IP, make_ip, 16 },          { FIELD_ID, make_id, 8 },
	{ FIELD_TIME, make_time, 8 },   { FIELD_ERRNO, make_errno, 0 },     { FIELD_CAPS, make_caps, 8 },
	{ FIELD_NAMES, make_names, 0 }, { FIELD_TEXT, make_text, 4 },       { FIELD_LIST, make_list, 4 },
	{ FIELD_PATH, make_path, 4 },   { FIELD_MSGPACK, make_msgpack, 4 }, { FIELD_HEX, make_text, 4 },
};

/* ---- samples ---- */

static void make_type(struct sample *s)
{
	const struct kind *same =
		below(8) ? NULL : &kinds[below(ARRAY_SIZE(kinds))]; /* all that is large, once in a while */
	uint32_t offset = sizeof(struct sonde_event);

	s->type.name = "test.sample";
	s->type.fields = s->fields;
	s->type.n_fields = below(FIELDS_MAX + 1);
	for (size_t i = 0; i < s->type.n_fields; i++) {
		struct field *f = &s->fields[i];
		const struct kind *kind = same ? same : &kinds[below(ARRAY_SIZE(kinds))];

		snprintf(s->keys[i], sizeof s->keys[i], "k%.*s%zu", (int)below(60),
			 "________________________________________________________________", i);
		*f = (struct field){ .key = s->keys[i],
				     .how = kind->how,
				     .size = kind->size ? kind->size : 1u << below(4),
				     .optional = below(2),
				     .names = (char **)names,
				     .n_names = 3 };
		if (kind->how == FIELD_CHARS)
			f->size = 1 + below(100);
		if (kind->how != FIELD_CHARS)
			offset = (offset + f->size - 1) & ~(f->size - 1);
		f->offset = offset;
		offset += f->size;
	}
	s->type.size = (offset + 7) & ~7u;
}

static void make_envelope(struct envelope *envelope)
{
	assert_int_equal(envelope_init(envelope, "a host", "run 1"), 0);
	envelope->boot_to_epoch = EPOCH_OFFSET;
}

static struct sonde_event *event_of(struct sample *s)
{
	return (struct sonde_event *)s->record;
}

static void want_lineage(struct sample *s, const struct identity_text *identity)
{
	uint32_t names = 0;

	for (uint32_t i = 0; i < identity->lineage_size; i++)
		names += !identity->lineage[i];
	want_key(s, "lineage");
	msgpack_pack_array(&s->packer, names);
	for (const char *name = identity->lineage; names--; name += strlen(name) + 1)
		want_string(&s->packer, name);
}

static void want_header(struct sample *s, const struct identity_text *identity, uint64_t seq)
{
	const struct sonde_event *e = event_of(s);
	char id[17];

	want_key(s, "type");
	want_string(&s->packer, "test.sample");
	want_key(s, "ts");
	msgpack_pack_uint64(&s->packer, e->time + EPOCH_OFFSET);
	want_key(s, "seq");
	msgpack_pack_uint64(&s->packer, seq);
	want_key(s, "host");
	want_string(&s->packer, "a host");
	want_key(s, "run");
	want_string(&s->packer, "run 1");
	if (!(e->flags & SONDE_FLAG_NO_TASK)) {
		want_key(s, "pid");
		msgpack_pack_uint64(&s->packer, e->pid);
		want_key(s, "tid");
		msgpack_pack_uint64(&s->packer, e->tid);
		want_key(s, "comm");
		want_text(&s->packer, e->comm, strnlen(e->comm, 16));
	}
	for (int i = 0; i < 2; i++) {
		uint64_t v = i ? e->parent : e->proc;

		if (!v)
			continue;
		snprintf(id, sizeof id, "%016llx", (unsigned long long)v);
		want_key(s, i ? "parent" : "proc");
		want_string(&s->packer, id);
	}
	if (identity->container_length) {
		want_key(s, "container");
		want_text(&s->packer, identity->container, identity->container_length);
	}
	if (identity->cgroup_length) {
		want_key(s, "cgroup");
		want_text(&s->packer, identity->cgroup, identity->cgroup_length);
	}
	if (identity->lineage_size)
		want_lineage(s, identity);
}

static void make_record(struct sample *s, const struct identity_text *identity, uint64_t seq)
{
	struct sonde_event *e = event_of(s);

	memset(s->record, 0, s->type.size);
	*e = (struct sonde_event){ .time = any_number(8) >> 2,
				   .flags = (uint16_t)(random_number() & 7),
				   .proc = any_number(8),
				   .parent = any_number(8),
				   .pid = (uint32_t)any_number(4),
				   .tid = (uint32_t)any_number(4) };
	memset(e->comm, 'c', below(17));
	s->at = s->type.size;
	s->count = 0;
	msgpack_sbuffer_clear(&s->expected);
	want_header(s, identity, seq);
	for (size_t i = 0; i < s->type.n_fields; i++)
		for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
			if (kinds[k].how == s->fields[i].how)
				kinds[k].make(s, &s->fields[i]);
	if (e->flags & SONDE_FLAG_TRUNCATED) {
		want_key(s, "truncated");
		msgpack_pack_true(&s->packer);
	}
	e->size = s->at;
}

static struct sample *sample_new(void)
{
	struct sample *s = calloc(1, sizeof *s);

	assert_non_null(s);
	msgpack_sbuffer_init(&s->expected);
	msgpack_packer_init(&s->packer, &s->expected, msgpack_sbuffer_write);
	return s;
}

static void sample_free(struct sample *s)
{
	msgpack_sbuffer_destroy(&s->expected);
	free(s);
}

static struct identity_text any_identity(void)
{
	static const char container[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	static char cgroup[1024];

	static char lineage[16 * 16];
	uint32_t used = 0;

	memset(cgroup, '/', sizeof cgroup);
	for (uint32_t names = below(2) ? below(17) : 0; names--; used++) {
		uint32_t length = below(16);

		memset(lineage + used, 'n', length);
		used += length;
		lineage[used] = '\0';
	}
	return (struct identity_text){ .container = container,
				       .container_length = below(2) ? sizeof container - 1 : 0,
				       .cgroup = cgroup,
				       .cgroup_length = below(2) ? below(1025) : 0,
				       .lineage = lineage,
				       .lineage_size = used };
}

static uint32_t room_of(const struct identity_text *identity)
{
	return identity->cgroup_length + identity->container_length + IDENTITY_LINEAGE_ROOM(identity->lineage_size);
}

/* The bytes as one map that takes them all. */
static void unpack(msgpack_unpacked *ret, const void *bytes, size_t size)
{
	size_t at = 0;

	msgpack_unpacked_init(ret);
	assert_int_equal(msgpack_unpack_next(ret, bytes, size, &at), MSGPACK_UNPACK_SUCCESS);
	assert_int_equal(at, size);
	assert_int_equal(ret->data.type, MSGPACK_OBJECT_MAP);
}

static void check_equal(const struct sample *s, const uint8_t *map, uint32_t size)
{
	msgpack_unpacked got, want;
	msgpack_sbuffer whole;
	msgpack_packer packer;

	msgpack_sbuffer_init(&whole);
	msgpack_packer_init(&packer, &whole, msgpack_sbuffer_write);
	msgpack_pack_map(&packer, s->count);
	msgpack_sbuffer_write(&whole, s->expected.data, s->expected.size);
	unpack(&want, whole.data, whole.size);
	unpack(&got, map, size);
	if (!msgpack_object_equal(got.data, want.data)) {
		msgpack_object_print(stderr, got.data);
		fprintf(stderr, "\nis not\n");
		msgpack_object_print(stderr, want.data);
		fail();
	}
	msgpack_unpacked_destroy(&got);
	msgpack_unpacked_destroy(&want);
	msgpack_sbuffer_destroy(&whole);
}

/* ---- the tests ---- */

/* A record of exactly its size, so that reading behind it is seen. */
static struct sonde_event *exact_copy(const struct sample *s)
{
	void *copy = malloc(s->at);

	assert_non_null(copy);
	return memcpy(copy, s->record, s->at);
}

/* The room that plan_room() names is enough for whatever is well formed, and what comes out is what went in. */
static void test_every_kind(void **state)
{
	struct sample *s = sample_new();
	struct envelope envelope;

	make_envelope(&envelope);
	for (int i = 0; i < ROUNDS; i++) {
		struct identity_text identity = any_identity();
		uint64_t number = any_number(8);
		struct plan *plan = NULL;

		make_type(s);
		make_record(s, &identity, number);
		assert_int_equal(plan_compile(&plan, &s->type), 0);
		struct sonde_event *event = exact_copy(s);
		uint32_t room = plan_room(plan, event->size, room_of(&identity)), size;
		uint8_t *map = malloc(room);

		size = plan_encode(plan, &envelope, event, number, &identity, map, room);
		assert_true(size > 0);
		check_equal(s, map, size);
		free(map);
		free(event);
		plan_free(plan);
	}
	sample_free(s);
}

/* Too little room gives nothing, and nothing is written behind it. */
static void test_small_room(void **state)
{
	struct sample *s = sample_new();
	struct envelope envelope;

	make_envelope(&envelope);
	for (int i = 0; i < 40; i++) {
		struct identity_text identity = any_identity();
		struct plan *plan = NULL;
		uint8_t *whole;
		uint32_t room, size;

		make_type(s);
		make_record(s, &identity, 1);
		assert_int_equal(plan_compile(&plan, &s->type), 0);
		room = plan_room(plan, s->at, room_of(&identity));
		whole = malloc(room);
		size = plan_encode(plan, &envelope, event_of(s), 1, &identity, whole, room);
		assert_true(size > 0);
		for (uint32_t less = 0; less < size; less += 1 + less / 8) {
			uint8_t *small = malloc(less ? less : 1);

			assert_int_equal(plan_encode(plan, &envelope, event_of(s), 1, &identity, small, less), 0);
			free(small);
		}
		free(whole);
		plan_free(plan);
	}
	sample_free(s);
}

static bool holds_msgpack(const struct sample *s)
{
	for (size_t i = 0; i < s->type.n_fields; i++)
		if (s->fields[i].how == FIELD_MSGPACK)
			return true;
	return false;
}

/* Whatever bytes a record has: nothing is read outside of it, and what comes out is a map or nothing. */
static void test_hostile_records(void **state)
{
	struct sample *s = sample_new();
	struct envelope envelope;
	unsigned taken = 0, refused = 0;

	make_envelope(&envelope);
	for (int i = 0; i < ROUNDS; i++) {
		struct identity_text identity = any_identity();
		struct plan *plan = NULL;

		make_type(s);
		make_record(s, &identity, 1);
		assert_int_equal(plan_compile(&plan, &s->type), 0);
		struct sonde_event *event = exact_copy(s);

		for (int n = 0; n < 8 && s->at > 4; n++)
			((uint8_t *)event)[4 + below(s->at - 4)] = (uint8_t)random_number();
		if (!below(8))
			event->size = below(s->at + 1);
		uint32_t room = plan_room(plan, event->size, room_of(&identity)), size = 0;
		uint8_t *map = malloc(room);

		size = plan_encode(plan, &envelope, event, 1, &identity, map, room);
		if (event->size < s->type.size)
			assert_int_equal(size, 0);
		if (size && !holds_msgpack(s)) {
			msgpack_unpacked got;

			unpack(&got, map, size);
			msgpack_unpacked_destroy(&got);
		}
		size ? taken++ : refused++;
		free(map);
		free(event);
		plan_free(plan);
	}
	assert_true(taken > 100 && refused > 100);
	sample_free(s);
}

/* A part that begins within the struct, ends behind the record, or wraps. */
static void test_parts_outside(void **state)
{
	static const struct sonde_text bad[] = {
		{ 0, 1 },  { 63, 1 },    { 71, 1 },        { 72, 9 },     { 80, 1 },
		{ 79, 2 }, { 65535, 1 }, { 65535, 65535 }, { 72, 65535 }, { 1, 65535 }
	};
	struct field field = { .key = "part", .offset = 64, .size = 4 };
	struct event_type type = { .name = "test.part", .size = 72, .fields = &field, .n_fields = 1 };
	static const enum field_how hows[] = {
		FIELD_TEXT, FIELD_LIST, FIELD_PATH, FIELD_HEX, FIELD_MSGPACK, FIELD_TABLE
	};
	static const uint8_t map_of_nils[8] = { 0x81, 0xc0, 0xc0 }, array_of_nils[8] = { 0x92, 0xc0, 0xc0 };
	struct envelope envelope;
	uint8_t room[4096], record[80] = { 0 };
	struct sonde_event *event = (void *)record;

	make_envelope(&envelope);
	event->size = sizeof record;
	for (size_t h = 0; h < ARRAY_SIZE(hows); h++) {
		struct plan *plan = NULL;

		field.how = hows[h];
		assert_int_equal(plan_compile(&plan, &type), 0);
		for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
			memcpy(record + 64, &bad[i], 4);
			assert_int_equal(plan_encode(plan, &envelope, event, 1, NULL, room, sizeof room), 0);
		}
		bool packed = hows[h] >= FIELD_MSGPACK;

		memcpy(record + 72, hows[h] == FIELD_TABLE ? array_of_nils : map_of_nils, 8);
		memcpy(record + 64, &(struct sonde_text){ 72, 3 }, 4);
		assert_true(plan_encode(plan, &envelope, event, 1, NULL, room, sizeof room) > 0);
		/* No value, less than one, more than one, one of another kind. */
		memcpy(record + 64, &(struct sonde_text){ 65535, 0 }, 4);
		assert_true(!plan_encode(plan, &envelope, event, 1, NULL, room, sizeof room) == packed);
		memcpy(record + 64, &(struct sonde_text){ 72, 2 }, 4);
		assert_true(!plan_encode(plan, &envelope, event, 1, NULL, room, sizeof room) == packed);
		memcpy(record + 64, &(struct sonde_text){ 72, 4 }, 4);
		assert_true(!plan_encode(plan, &envelope, event, 1, NULL, room, sizeof room) == packed);
		memcpy(record + 72, hows[h] == FIELD_TABLE ? map_of_nils : array_of_nils, 8);
		memcpy(record + 64, &(struct sonde_text){ 72, 3 }, 4);
		assert_true(!plan_encode(plan, &envelope, event, 1, NULL, room, sizeof room) == packed);
		plan_free(plan);
	}
}

static void test_long_names(void **state)
{
	struct envelope envelope;
	char host[130];

	memset(host, 'h', sizeof host - 1);
	host[129] = 0;
	assert_int_equal(envelope_init(&envelope, host, "r"), -ENAMETOOLONG);
	assert_int_equal(envelope_init(&envelope, "h", host), -ENAMETOOLONG);
	host[128] = 0;
	assert_int_equal(envelope_init(&envelope, host, host), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind),      cmocka_unit_test(test_small_room),
		cmocka_unit_test(test_hostile_records), cmocka_unit_test(test_parts_outside),
		cmocka_unit_test(test_long_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

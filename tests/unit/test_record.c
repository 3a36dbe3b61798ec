/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing records: msgpack-c's packer and unpacker are the oracle, over every format and over random nested values. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <msgpack.h>
#include <string.h>
#include <time.h>

#include "encode/record.h"

/* --- reading --- */

static void check_value(const struct value *v, const msgpack_object *o)
{
	switch (o->type) {
	case MSGPACK_OBJECT_NIL:
		assert_int_equal(v->kind, VALUE_NIL);
		break;
	case MSGPACK_OBJECT_BOOLEAN:
		assert_int_equal(v->kind, VALUE_BOOL);
		assert_int_equal(v->truth, o->via.boolean);
		break;
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		assert_int_equal(v->kind, VALUE_UINT);
		assert_true(v->u == o->via.u64);
		break;
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		assert_int_equal(v->kind, VALUE_INT);
		assert_true(v->i == o->via.i64);
		break;
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		assert_int_equal(v->kind, VALUE_FLOAT);
		assert_true(v->f == o->via.f64 || (isnan(v->f) && isnan(o->via.f64)));
		break;
	case MSGPACK_OBJECT_STR:
	case MSGPACK_OBJECT_BIN:
		assert_int_equal(v->kind, o->type == MSGPACK_OBJECT_STR ? VALUE_STR : VALUE_BIN);
		assert_int_equal(v->length, o->via.str.size);
		assert_memory_equal(v->body, o->via.str.ptr, v->length);
		break;
	case MSGPACK_OBJECT_ARRAY:
	case MSGPACK_OBJECT_MAP:
		assert_int_equal(v->kind, o->type == MSGPACK_OBJECT_ARRAY ? VALUE_ARRAY : VALUE_MAP);
		assert_int_equal(v->count, o->via.array.size);
		assert_null(v->next);
		break;
	default:
		fail_msg("type %d", o->type);
	}
}

static const uint8_t *check_tree(const uint8_t *at, const uint8_t *end, const msgpack_object *o)
{
	const uint8_t *begin = at;
	struct value v;

	assert_int_equal(value_read(at, end, &v), 0);
	check_value(&v, o);
	at = v.next ? v.next : v.body;
	if (o->type == MSGPACK_OBJECT_ARRAY)
		for (uint32_t i = 0; i < o->via.array.size; i++)
			at = check_tree(at, end, &o->via.array.ptr[i]);
	if (o->type == MSGPACK_OBJECT_MAP)
		for (uint32_t i = 0; i < o->via.map.size; i++) {
			at = check_tree(at, end, &o->via.map.ptr[i].key);
			at = check_tree(at, end, &o->via.map.ptr[i].val);
		}
	assert_ptr_equal(value_skip(begin, end), at);
	return at;
}

/* --- an independent, plain JSON writer over msgpack-c's objects --- */

static void expect_json(FILE *out, const msgpack_object *o)
{
	switch (o->type) {
	case MSGPACK_OBJECT_NIL:
		fputs("null", out);
		break;
	case MSGPACK_OBJECT_BOOLEAN:
		fputs(o->via.boolean ? "true" : "false", out);
		break;
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		fprintf(out, "%llu", (unsigned long long)o->via.u64);
		break;
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		fprintf(out, "%lld", (long long)o->via.i64);
		break;
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		fprintf(out, floor(o->via.f64) == o->via.f64 && fabs(o->via.f64) < 1e15 ? "%.1f" : "%.17g", o->via.f64);
		break;
	case MSGPACK_OBJECT_STR:
		fputc('"', out);
		for (uint32_t i = 0; i < o->via.str.size; i++) {
			unsigned char c = (unsigned char)o->via.str.ptr[i];

			if (c == '\n' || c == '\t' || c == '\r')
				fprintf(out, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
			else if (c < 0x20 || c == 0x7f)
				fprintf(out, "\\u%04x", c);
			else
				fprintf(out, c == '"' || c == '\\' ? "\\%c" : "%c", c);
		}
		fputc('"', out);
		break;
	case MSGPACK_OBJECT_ARRAY:
		fputc('[', out);
		for (uint32_t i = 0; i < o->via.array.size; i++) {
			fputs(i ? "," : "", out);
			expect_json(out, &o->via.array.ptr[i]);
		}
		fputc(']', out);
		break;
	case MSGPACK_OBJECT_MAP:
		fputc('{', out);
		for (uint32_t i = 0; i < o->via.map.size; i++) {
			fputs(i ? "," : "", out);
			expect_json(out, &o->via.map.ptr[i].key);
			fputc(':', out);
			expect_json(out, &o->via.map.ptr[i].val);
		}
		fputc('}', out);
		break;
	default:
		fail_msg("type %d", o->type);
	}
}

static char *expected_json(const msgpack_object *o)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	expect_json(out, o);
	fclose(out);
	return text;
}

static char *written_json(const void *map, size_t size, int *ret)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	*ret = record_write_json(out, map, size);
	fclose(out);
	return text;
}

static char *written_line(const void *map, size_t size, bool colour, unsigned columns, int *ret)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	*ret = record_write_line(out, map, size, colour, columns);
	fclose(out);
	return text;
}

/* --- random values --- */

static uint64_t random_state;

static uint64_t random_number(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void pack_random_text(msgpack_packer *p)
{
	static const char letters[] = "abcdefgh \"\\\n\t\r\x01\x1f\x7f/[]{}:,";
	static const size_t lengths[] = { 0, 1, 7, 8, 9, 31, 32, 255, 256, 300 };
	size_t length = lengths[random_number() % ARRAY_SIZE(lengths)];
	char text[300];

	for (size_t i = 0; i < length; i++)
		text[i] = letters[random_number() % (random_number() % 8 ? 9 : sizeof letters - 1)];
	msgpack_pack_str_with_body(p, text, length);
}

static void pack_random(msgpack_packer *p, unsigned depth)
{
	static const uint32_t counts[] = { 0, 1, 2, 15, 16 };
	uint32_t count = counts[random_number() % (depth < 2 ? 5 : 3)];

	switch (random_number() % (depth < 5 ? 9 : 7)) {
	case 0:
		msgpack_pack_nil(p);
		break;
	case 1:
		random_number() & 1 ? msgpack_pack_true(p) : msgpack_pack_false(p);
		break;
	case 2:
		msgpack_pack_uint64(p, random_number() >> (random_number() % 64));
		break;
	case 3:
		msgpack_pack_int64(p, (int64_t)random_number() >> (random_number() % 64));
		break;
	case 4:
		msgpack_pack_double(p, (double)((int64_t)random_number() >> 16) / 1024);
		break;
	case 5:
		msgpack_pack_float(p, (float)(random_number() % 1000) / 8);
		break;
	case 6:
		pack_random_text(p);
		break;
	case 7:
		msgpack_pack_array(p, count);
		for (uint32_t i = 0; i < count; i++)
			pack_random(p, depth + 1);
		break;
	default:
		msgpack_pack_map(p, count);
		for (uint32_t i = 0; i < count; i++) {
			pack_random_text(p);
			pack_random(p, depth + 1);
		}
	}
}

/* No beginning of a record is a record, and none is read past its end (the copy is exactly as long, for ASan to watch). */
static void check_cuts(const char *bytes, size_t size)
{
	for (size_t cut = 0; cut < size; cut += 1 + cut / 64) {
		uint8_t *copy = malloc(cut ? cut : 1);
		struct value v;
		const char *type;
		size_t length;
		int r;

		memcpy(copy, bytes, cut);
		assert_null(value_skip(copy, copy + cut));
		free(written_json(copy, cut, &r));
		assert_int_equal(r, -EBADMSG);
		free(written_line(copy, cut, true, 80, &r));
		assert_int_equal(r, -EBADMSG);
		record_get(copy, cut, "no such key", &v);
		record_type(copy, cut, &type, &length);
		free(copy);
	}
}

static void test_random_records(void **state)
{
	random_state = 0x5eed5eed5eedull;
	for (unsigned round = 0; round < 400; round++) {
		msgpack_sbuffer bytes;
		msgpack_packer p;
		msgpack_unpacked object;
		char *json, *expected, *line;
		int r;

		msgpack_sbuffer_init(&bytes);
		msgpack_packer_init(&p, &bytes, msgpack_sbuffer_write);
		msgpack_pack_map(&p, 3);
		for (unsigned i = 0; i < 3; i++) {
			pack_random_text(&p);
			pack_random(&p, 0);
		}
		msgpack_unpacked_init(&object);
		assert_int_equal(msgpack_unpack_next(&object, bytes.data, bytes.size, NULL), MSGPACK_UNPACK_SUCCESS);
		check_tree((const uint8_t *)bytes.data, (const uint8_t *)bytes.data + bytes.size, &object.data);
		json = written_json(bytes.data, bytes.size, &r);
		expected = expected_json(&object.data);
		assert_int_equal(r, 0);
		assert_string_equal(json, expected);
		line = written_line(bytes.data, bytes.size, false, 0, &r);
		assert_int_equal(r, 0);
		assert_null(strpbrk(line, "\n\r\t\033\177"));
		if (bytes.size < 4000)
			check_cuts(bytes.data, bytes.size);
		free(line);
		free(json);
		free(expected);
		msgpack_unpacked_destroy(&object);
		msgpack_sbuffer_destroy(&bytes);
	}
}

/* Every first byte there is, followed by enough bytes: a value as msgpack-c reads it, or refused. */
static void test_every_first_byte(void **state)
{
	for (unsigned first = 0; first < 256; first++) {
		uint8_t bytes[64] = { (uint8_t)first };
		const uint8_t *end = bytes + sizeof bytes;
		bool extension = first == 0xc1 || (first >= 0xc7 && first <= 0xc9) || (first >= 0xd4 && first <= 0xd8);
		msgpack_unpacked object;
		struct value v;
		size_t at = 0;

		/* Members and contents are zeros (the number 0); a big-endian length in the last byte keeps them few. */
		if (first == 0xd9 || first == 0xc4)
			bytes[1] = 5;
		if (first == 0xda || first == 0xc5 || first == 0xdc || first == 0xde)
			bytes[2] = 5;
		if (first == 0xdb || first == 0xc6 || first == 0xdd || first == 0xdf)
			bytes[4] = 5;
		if (first >= 0xca && first <= 0xd3)
			memset(bytes + 1, first == 0xca || first == 0xcb ? 0x41 : 0x9c, 8);
		if (extension) {
			assert_int_equal(value_read(bytes, end, &v), -EBADMSG);
			assert_null(value_skip(bytes, end));
			continue;
		}
		msgpack_unpacked_init(&object);
		assert_int_equal(msgpack_unpack_next(&object, (char *)bytes, sizeof bytes, &at),
				 MSGPACK_UNPACK_SUCCESS);
		assert_ptr_equal(check_tree(bytes, end, &object.data), bytes + at);
		for (size_t cut = 0; cut < at; cut++) {
			uint8_t *copy = malloc(cut ? cut : 1);

			memcpy(copy, bytes, cut);
			assert_null(value_skip(copy, copy + cut));
			free(copy);
		}
		msgpack_unpacked_destroy(&object);
	}
}

static void test_nesting_and_counts_are_bounded(void **state)
{
	static const uint8_t many[] = { 0xdd, 0xff, 0xff, 0xff, 0xff, 1, 2 }, pairs[] = { 0xdf, 0x80, 0, 0, 1, 1, 2 };
	uint8_t bytes[64];
	struct value v;
	int r;

	for (unsigned depth = 30; depth < 36; depth++) {
		memset(bytes, 0x91, sizeof bytes);
		bytes[0] = 0x81;
		bytes[1] = 0xa0;
		bytes[depth + 1] = 0x07; /* below `depth` maps and arrays */
		assert_int_equal(value_skip(bytes, bytes + depth + 2) != NULL, depth <= 32);
		free(written_json(bytes, depth + 2, &r));
		assert_int_equal(r, depth <= 32 ? 0 : -EBADMSG);
	}
	assert_int_equal(value_read(many, many + sizeof many, &v), -EBADMSG);
	assert_int_equal(value_read(pairs, pairs + sizeof pairs, &v), -EBADMSG);
}

static void test_keys_and_type(void **state)
{
	/* {"type": "a.b", 5: [1, 2], "x": {"y": 1}, "pid": 7} */
	static const uint8_t map[] = "\x84\xa4type\xa3"
				     "a.b\x05\x92\x01\x02\xa1x\x81\xa1y\x01\xa3pid\x07";
	size_t size = sizeof map - 1, length;
	const char *type;
	struct value v;

	assert_int_equal(record_type(map, size, &type, &length), 0);
	assert_int_equal(length, 3);
	assert_memory_equal(type, "a.b", 3);
	assert_int_equal(record_get(map, size, "pid", &v), 0);
	assert_true(v.kind == VALUE_UINT && v.u == 7);
	assert_int_equal(record_get(map, size, "x", &v), 0);
	assert_true(v.kind == VALUE_MAP && v.count == 1);
	assert_int_equal(record_get(map, size, "y", &v), -ENOENT);
	assert_int_equal(record_get(map, size - 1, "pid", &v), -EBADMSG);
	assert_int_equal(record_get("\x01", 1, "pid", &v), -EBADMSG);
	assert_int_equal(record_get(map, 0, "pid", &v), -EBADMSG);
	assert_int_equal(record_type("\x80", 1, &type, &length), -EBADMSG);
	assert_int_equal(record_type("\x81\xa1x\x01", 4, &type, &length), -EBADMSG);
	assert_int_equal(record_type("\x81\xa4type\x01", 7, &type, &length), -EBADMSG);
}

/* --- notations --- */

static void check_json(const char *map, size_t size, const char *expected)
{
	int r;
	char *json = written_json(map, size, &r);

	assert_int_equal(r, expected ? 0 : -EBADMSG);
	assert_string_equal(json, expected ? expected : "");
	free(json);
}

#define CHECK_JSON(map, expected) check_json(map, sizeof(map) - 1, expected)

static void test_json_notations(void **state)
{
	CHECK_JSON("\x80", "{}");
	CHECK_JSON("\x81\xa1"
		   "a\xc4\x00",
		   "{\"a\":\"\"}");
	CHECK_JSON("\x81\xa1"
		   "a\xc4\x01M",
		   "{\"a\":\"TQ==\"}");
	CHECK_JSON("\x81\xa1"
		   "a\xc4\x02Ma",
		   "{\"a\":\"TWE=\"}");
	CHECK_JSON("\x81\xa1"
		   "a\xc4\x03Man",
		   "{\"a\":\"TWFu\"}");
	CHECK_JSON("\x81\xa1"
		   "a\xcb\x7f\xf0\0\0\0\0\0\0",
		   "{\"a\":null}");
	CHECK_JSON("\x81\xa1"
		   "a\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a",
		   "{\"a\":0.10000000000000001}");
	CHECK_JSON("\x81\xa1"
		   "a\xca\x3f\x80\0\0",
		   "{\"a\":1.0}");
	CHECK_JSON("\x81\xa1"
		   "a\xd3\x80\0\0\0\0\0\0\0",
		   "{\"a\":-9223372036854775808}");
	CHECK_JSON("\x81\xa1"
		   "a\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
		   "{\"a\":18446744073709551615}");
	CHECK_JSON("\x82\x05\x01\xc3\x02", "{\"5\":1,\"true\":2}");
	/* no map, something behind the map, a container as a key, an extension */
	CHECK_JSON("\x91\x01", NULL);
	CHECK_JSON("\x80\x80", NULL);
	CHECK_JSON("\x81\x90\x01", NULL);
	CHECK_JSON("\x81\xa1"
		   "a\xd4\x01\x02",
		   NULL);
	CHECK_JSON("", NULL);
}

/* The replacement of bytes that are not UTF-8: one U+FFFD for each longest beginning of a character, as Unicode's table 3-8 shows, and
 * as Python's and every browser's decoders do. */
static void test_json_text_that_is_not_utf8(void **state)
{
#define BAD "\xef\xbf\xbd"
	static const struct {
		const char *bytes, *json;
	} rows[] = {
		{ "h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x98\x80", "h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x98\x80" },
		{ "\xff", BAD },
		{ "a\x80z", "a" BAD "z" },
		{ "\xc0\xaf", BAD BAD },
		{ "\xe0\x80\xbf\xf0\x81\x82\x41", BAD BAD BAD BAD BAD BAD "A" },
		{ "\xed\xa0\x80", BAD BAD BAD },
		{ "\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", BAD BAD BAD BAD BAD "A" BAD BAD "B" },
		{ "\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", BAD BAD BAD BAD "A" },
		{ "\xe2\x82", BAD },
		{ "\xc2\x85|\xe2\x80\xa8|\xe2\x80\xa9", "\\u0085|\\u2028|\\u2029" },
		{ "1234567\x7f", "1234567\\u007f" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t length = strlen(rows[i].bytes);
		char map[64] = "\x81\xa1k", expected[128];

		map[3] = (char)(0xa0 | length);
		memcpy(map + 4, rows[i].bytes, length);
		snprintf(expected, sizeof expected, "{\"k\":\"%s\"}", rows[i].json);
		check_json(map, 4 + length, expected);
	}
}

/* A record larger than the writer's first room, of characters that each take six. */
static void test_json_of_a_large_record(void **state)
{
	size_t size = 200000, length;
	char *map = calloc(1, size + 8), *json;
	int r;

	memcpy(map, "\x81\xa1k\xdb\x00\x03\x0d\x40", 8);
	json = written_json(map, size + 8, &r);
	length = strlen(json);
	assert_int_equal(r, 0);
	assert_int_equal(length, strlen("{\"k\":\"\"}") + 6 * size);
	assert_memory_equal(json + length - 14, "\\u0000\\u0000\"}", 14);
	free(json);
	free(map);
}

/* --- lines --- */

struct maker {
	msgpack_sbuffer bytes;
	msgpack_packer p;
	uint32_t n;
};

static void put_text(struct maker *m, const char *key, const char *value)
{
	msgpack_pack_str_with_body(&m->p, key, strlen(key));
	msgpack_pack_str_with_body(&m->p, value, strlen(value));
	m->n++;
}

static void put_number(struct maker *m, const char *key, uint64_t value)
{
	msgpack_pack_str_with_body(&m->p, key, strlen(key));
	msgpack_pack_uint64(&m->p, value);
	m->n++;
}

static void put_list(struct maker *m, const char *key, const char *const *items)
{
	size_t n = 0;

	while (items[n])
		n++;
	msgpack_pack_str_with_body(&m->p, key, strlen(key));
	msgpack_pack_array(&m->p, n);
	for (size_t i = 0; i < n; i++)
		msgpack_pack_str_with_body(&m->p, items[i], strlen(items[i]));
	m->n++;
}

/* A map16 whose count is written by check_line(). The time is this day's noon in UTC, give or take: checked by its length only. */
static void begin(struct maker *m, const char *type)
{
	msgpack_sbuffer_init(&m->bytes);
	msgpack_packer_init(&m->p, &m->bytes, msgpack_sbuffer_write);
	msgpack_sbuffer_write(&m->bytes, "\xde\0\0", 3);
	m->n = 0;
	put_text(m, "type", type);
	put_number(m, "ts", now_realtime_ns());
	put_number(m, "seq", 1);
	put_text(m, "host", "h");
	put_text(m, "run", "r");
	put_number(m, "pid", 1234);
	put_number(m, "tid", 1235);
	put_text(m, "comm", "sh");
	put_text(m, "proc", "0123456789abcdef");
	put_text(m, "parent", "0123456789abcdef");
}

/* The line behind its time. */
static void check_line(struct maker *m, const char *expected)
{
	char *line;
	int r;

	m->bytes.data[2] = (char)m->n;
	line = written_line(m->bytes.data, m->bytes.size, false, 0, &r);
	assert_int_equal(r, 0);
	assert_true(strlen(line) > 16 && line[2] == ':' && line[5] == ':' && line[8] == '.' && line[15] == ' ');
	assert_string_equal(line + 16, expected);
	free(line);
	msgpack_sbuffer_destroy(&m->bytes);
}

static void put_endpoints(struct maker *m, const char *laddr, const char *raddr)
{
	put_text(m, "laddr", laddr);
	put_number(m, "lport", 43210);
	put_text(m, "raddr", raddr);
	put_number(m, "rport", 443);
}

static void test_lines_of_processes(void **state)
{
	struct maker m;

	begin(&m, "process.exec");
	put_text(&m, "exe", "/bin/sh");
	put_list(&m, "args", (const char *const[]){ "/bin/sh", "-c", "exit 0", NULL });
	put_number(&m, "uid", 0);
	put_number(&m, "euid", 0);
	put_list(&m, "caps", (const char *const[]){ "chown", "kill", NULL });
	check_line(&m, "process.exec  sh[1234] /bin/sh -c \"exit 0\" uid=0 caps=2");
	begin(&m, "process.exec");
	put_text(&m, "exe", "/bin/busybox");
	put_list(&m, "args", (const char *const[]){ "sshd", "", "a\nb\033[2J", NULL });
	put_number(&m, "uid", 1000);
	put_number(&m, "euid", 0);
	put_list(&m, "caps", (const char *const[]){ NULL });
	check_line(&m, "process.exec  sh[1234] /bin/busybox (as sshd) \"\" \"a\\nb\\x1b[2J\" uid=1000 euid=0");
	begin(&m, "process.exit");
	put_number(&m, "exit_code", 3);
	put_number(&m, "run_ns", 5123456);
	put_number(&m, "cpu_ns", 412000);
	put_number(&m, "peak_rss_bytes", 3500000);
	check_line(&m, "process.exit  sh[1234] exit 3 ran 5.12 ms cpu 412 \u00b5s peak 3.34 MiB");
	begin(&m, "process.exit");
	put_number(&m, "exit_code", 0);
	put_number(&m, "signal", 9);
	check_line(&m, "process.exit  sh[1234] killed by SIGKILL");
	begin(&m, "process.fork");
	put_number(&m, "child_pid", 77);
	check_line(&m, "process.fork  sh[1234] -> 77");
}

static void test_lines_of_connections(void **state)
{
	struct maker m;

	begin(&m, "tcp.connect");
	put_endpoints(&m, "10.0.0.1", "10.0.0.2");
	put_number(&m, "latency_ns", 412000);
	check_line(&m, "tcp.connect   sh[1234] 10.0.0.1:43210 -> 10.0.0.2:443 412 \u00b5s");
	begin(&m, "tcp.connect");
	put_endpoints(&m, "::1", "2001:db8::1");
	put_text(&m, "error", "ECONNREFUSED");
	check_line(&m, "tcp.connect   sh[1234] [::1]:43210 -> [2001:db8::1]:443 ECONNREFUSED");
	begin(&m, "tcp.close");
	put_endpoints(&m, "10.0.0.1", "10.0.0.2");
	put_text(&m, "side", "server");
	put_number(&m, "sent_bytes", 100);
	put_number(&m, "received_bytes", 1u << 30);
	put_number(&m, "life_ns", 9996000000);
	put_number(&m, "srtt_ns", 40000);
	put_number(&m, "min_rtt_ns", 30000);
	put_number(&m, "retransmits", 2);
	check_line(&m, "tcp.close     sh[1234] 10.0.0.1:43210 <- 10.0.0.2:443 sent 100 B received 1.00 GiB life 10.0 s "
		       "rtt 40.0 \u00b5s "
		       "retransmits 2");
	begin(&m, "tcp.reset");
	put_endpoints(&m, "10.0.0.1", "10.0.0.2");
	put_text(&m, "side", "client");
	put_text(&m, "direction", "received");
	put_text(&m, "state", "syn_sent");
	check_line(&m, "tcp.reset     sh[1234] received 10.0.0.1:43210 <> 10.0.0.2:443 in syn_sent");
	begin(&m, "packet.capture");
	put_endpoints(&m, "10.0.0.1", "10.0.0.2");
	put_number(&m, "count", 12);
	put_text(&m, "reason", "reset");
	put_list(&m, "packets", (const char *const[]){ "not for a line", NULL });
	check_line(&m, "packet.capture sh[1234] 10.0.0.1:43210 <> 10.0.0.2:443 12 packets: reset");
}

static void test_lines_of_profiles_and_ledger(void **state)
{
	struct maker m;

	begin(&m, "profile.cpu");
	put_list(&m, "stack", (const char *const[]){ "leaf (lib)", "b", "c", "d", "e", "main", NULL });
	put_number(&m, "value", 12);
	put_text(&m, "unit", "samples");
	check_line(&m, "profile.cpu   sh[1234] 12x leaf (lib) < b < c < d < +2");
	begin(&m, "agent.ledger");
	msgpack_pack_str_with_body(&m.p, "types", 5);
	msgpack_pack_map(&m.p, 1);
	msgpack_pack_str_with_body(&m.p, "tcp.close", 9);
	msgpack_pack_map(&m.p, 3);
	put_number(&m, "produced", 10);
	put_number(&m, "journaled", 7);
	msgpack_pack_str_with_body(&m.p, "dropped", 7);
	msgpack_pack_map(&m.p, 2);
	put_number(&m, "ring full", 1);
	put_number(&m, "map full", 2);
	m.n -= 4;
	m.n++;
	check_line(&m, "agent.ledger  sh[1234] 1 types: produced 10 filtered 0 dropped 3 journaled 7 acknowledged 0 "
		       "pending 0 expired 0");
}

static void test_lines_of_unknown_types(void **state)
{
	struct maker m;

	begin(&m, "disk.slow");
	put_number(&m, "latency_ns", 12345678);
	put_number(&m, "sport", 5);
	put_text(&m, "saddr", "1.2.3.4");
	put_number(&m, "read_bytes", 4096);
	put_text(&m, "name", "a \xe2\x80\xae\xff b");
	put_number(&m, "uid", 0);
	check_line(&m, "disk.slow     sh[1234] latency_ns=12.3 ms saddr=1.2.3.4:5 read_bytes=4.00 KiB name=\"a "
		       "\\u{202e}\\xff b\" uid=0");
}

/* The visible width of a line: escape sequences take none, each character of this test one. */
static unsigned width_of(const char *line)
{
	unsigned width = 0;

	for (; *line; line++) {
		if (*line == '\033')
			line = strchr(line, 'm');
		else
			width += (*line & 0xc0) != 0x80;
	}
	return width;
}

static void test_lines_fit_the_terminal(void **state)
{
	struct maker m;
	unsigned whole;
	char *line;
	int r;

	begin(&m, "tcp.connect");
	put_endpoints(&m, "10.0.0.1", "h\xc3\xb6st");
	put_text(&m, "error", "ECONNREFUSED");
	m.bytes.data[2] = (char)m.n;
	line = written_line(m.bytes.data, m.bytes.size, true, 0, &r);
	whole = width_of(line);
	free(line);
	for (unsigned columns = 1; columns < whole + 10; columns++) {
		line = written_line(m.bytes.data, m.bytes.size, true, columns, &r);
		assert_int_equal(r, 0);
		assert_int_equal(width_of(line), MIN_OF(columns, whole));
		assert_int_equal(strstr(line, "\u2026") != NULL, columns < whole);
		free(line);
	}
	msgpack_sbuffer_destroy(&m.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_records),
		cmocka_unit_test(test_every_first_byte),
		cmocka_unit_test(test_nesting_and_counts_are_bounded),
		cmocka_unit_test(test_keys_and_type),
		cmocka_unit_test(test_json_notations),
		cmocka_unit_test(test_json_text_that_is_not_utf8),
		cmocka_unit_test(test_json_of_a_large_record),
		cmocka_unit_test(test_lines_of_processes),
		cmocka_unit_test(test_lines_of_connections),
		cmocka_unit_test(test_lines_of_profiles_and_ledger),
		cmocka_unit_test(test_lines_of_unknown_types),
		cmocka_unit_test(test_lines_fit_the_terminal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

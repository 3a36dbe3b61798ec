/* SPDX-License-Identifier: Apache-2.0 */
/* The expression language: what each test means on each kind of value, precedence, and errors that name their column.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include <math.h>
#include <msgpack.h>

#include "rules/expr.h"

static msgpack_sbuffer record;

static void key(msgpack_packer *p, const char *name)
{
	msgpack_pack_str_with_body(p, name, strlen(name));
}

static void text(msgpack_packer *p, const char *name, const char *value)
{
	key(p, name);
	key(p, value);
}

static int make_record(void **state)
{
	msgpack_packer p;

	msgpack_sbuffer_init(&record);
	msgpack_packer_init(&p, &record, msgpack_sbuffer_write);
	msgpack_pack_map(&p, 20);
	text(&p, "type", "process.exec");
	key(&p, "pid");
	msgpack_pack_uint64(&p, 1234);
	text(&p, "comm", "nginx");
	key(&p, "args");
	msgpack_pack_array(&p, 3);
	key(&p, "/usr/sbin/nginx");
	key(&p, "-g");
	key(&p, "daemon off;");
	key(&p, "latency_ns");
	msgpack_pack_uint64(&p, 12000000);
	key(&p, "big");
	msgpack_pack_uint64(&p, UINT64_MAX);
	key(&p, "negative");
	msgpack_pack_int64(&p, -5);
	key(&p, "float");
	msgpack_pack_double(&p, 1.5);
	key(&p, "nan");
	msgpack_pack_double(&p, NAN);
	key(&p, "yes");
	msgpack_pack_true(&p);
	key(&p, "no");
	msgpack_pack_false(&p);
	key(&p, "nothing");
	msgpack_pack_nil(&p);
	text(&p, "empty", "");
	text(&p, "digits", "10");
	text(&p, "raddr", "10.0.0.1");
	key(&p, "event");
	msgpack_pack_map(&p, 2);
	text(&p, "type", "tcp.connect");
	key(&p, "ports");
	msgpack_pack_array(&p, 2);
	msgpack_pack_int(&p, 80);
	msgpack_pack_int(&p, 443);
	text(&p, "quoted key", "a \"b\" c");
	key(&p, "none");
	msgpack_pack_array(&p, 0);
	text(&p, "not", "keyword");
	key(&p, "bytes");
	msgpack_pack_bin_with_body(&p, "xyz", 3);
	return 0;
}

static int free_record(void **state)
{
	msgpack_sbuffer_destroy(&record);
	return 0;
}

static bool matches(const char *text)
{
	struct fault fault = { 0 };
	struct expr *expr = NULL;
	bool holds;

	if (expr_compile(&expr, text, &fault) < 0)
		fail_msg("%s: %s", text, fault.text);
	holds = expr_match(expr, record.data, record.size);
	/* Every shorter record is damaged, and damage is never read past or taken for a match that depends on it. */
	for (size_t size = 0; size < record.size; size++) {
		char *cut = malloc(size + 1);

		memcpy(cut, record.data, size);
		expr_match(expr, cut, size);
		free(cut);
	}
	expr_free(expr);
	return holds;
}

struct expectation {
	const char *text;
	bool holds;
};

static void check_all(const struct expectation *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (matches(rows[i].text) != rows[i].holds)
			fail_msg("%s: expected %s", rows[i].text, rows[i].holds ? "true" : "false");
}

static void test_operators(void **state)
{
	static const struct expectation rows[] = {
		{ "pid = 1234", true },
		{ "pid == 1234", true },
		{ "pid=1234", true },
		{ "pid = 1235", false },
		{ "pid != 1234", false },
		{ "pid != 1", true },
		{ "pid < 1235", true },
		{ "pid < 1234", false },
		{ "pid <= 1234", true },
		{ "pid <= 1233", false },
		{ "pid > 1233", true },
		{ "pid > 1234", false },
		{ "pid >= 1234", true },
		{ "pid >= 1235", false },
		{ "comm = nginx", true },
		{ "comm = \"nginx\"", true },
		{ "comm = 'nginx'", true },
		{ "comm = ngin", false },
		{ "comm = nginxx", false },
		{ "comm > nginw", true },
		{ "comm < nginy", true },
		{ "comm < nginxa", true },
		{ "comm contains gin", true },
		{ "comm contains \"\"", true },
		{ "comm contains Gin", false },
		{ "comm startswith ng", true },
		{ "comm startswith inx", false },
		{ "comm endswith inx", true },
		{ "comm endswith ng", false },
		{ "comm startswith nginx-and-more", false },
		{ "comm in (apache, nginx)", true },
		{ "comm in(apache,\"nginx\")", true },
		{ "comm in (apache)", false },
		{ "pid in (1, 2, 1234)", true },
		{ "comm exists", true },
		{ "comma exists", false },
		{ "empty = \"\"", true },
		{ "empty exists", true },
		{ "args = --port=80", false },
	};

	check_all(rows, ARRAY_SIZE(rows));
}

static void test_values(void **state)
{
	static const struct expectation rows[] = {
		{ "latency_ns > 10ms", true },
		{ "latency_ns = 12ms", true },
		{ "latency_ns < 1s", true },
		{ "latency_ns < 1m", true },
		{ "latency_ns = 11MiB", false },
		{ "latency_ns > 11MiB", true },
		{ "latency_ns < 12MiB", true },
		{ "latency_ns < 5M", false },
		{ "latency_ns < 5m", true },
		{ "big = 18446744073709551615", true },
		{ "big > 18446744073709551614", true },
		{ "big > -1", true },
		{ "big > 1e19", true },
		{ "big < 1e20", true },
		{ "negative = -5", true },
		{ "negative < 0", true },
		{ "negative > -6", true },
		{ "negative < -4.5", true },
		{ "float = 1.5", true },
		{ "float > 1", true },
		{ "float < 2", true },
		{ "float < 18446744073709551615", true },
		{ "nan = 1", false },
		{ "nan < 1", false },
		{ "nan >= 1", false },
		{ "nan != 1", true },
		{ "yes = true", true },
		{ "yes = false", false },
		{ "no = false", true },
		{ "no != true", true },
		{ "yes = 1", false },
		/* a number against text compares as text */
		{ "digits = 10", true },
		{ "digits < 9", true },
		{ "pid = \"1234\"", true },
		{ "pid < \"2\"", true },
		{ "pid contains 23", true },
		{ "negative startswith -", true },
		{ "raddr = 10.0.0.1", true },
		{ "raddr startswith 10.", true },
		{ "bytes = xyz", true },
		{ "\"quoted key\" = \"a \\\"b\\\" c\"", true },
		{ "'quoted key' contains '\"b\"'", true },
	};

	check_all(rows, ARRAY_SIZE(rows));
}

static void test_absent_keys(void **state)
{
	static const struct expectation rows[] = {
		{ "absent = 1", false },           { "absent != 1", false },
		{ "not absent = 1", true },        { "not absent exists", true },
		{ "absent in (1)", false },        { "absent contains \"\"", false },
		{ "nothing exists", false },       { "nothing = \"\"", false },
		{ "nothing != 1", false },         { "event.absent exists", false },
		{ "pid.absent exists", false },    { "comm[0] exists", false },
		{ "absent.a[1].b exists", false }, { "absent = 1 or pid = 1234", true },
	};

	check_all(rows, ARRAY_SIZE(rows));
}

static void test_paths_and_arrays(void **state)
{
	static const struct expectation rows[] = {
		{ "args = -g", true },
		{ "args contains daemon", true },
		{ "args != -g", true },
		{ "not args = -g", false },
		{ "args in (a, -g)", true },
		{ "args startswith /usr/", true },
		{ "args[0] endswith nginx", true },
		{ "args[1] = -g", true },
		{ "args[2] = 'daemon off;'", true },
		{ "args[3] exists", false },
		{ "args[4294967295] exists", false },
		{ "args exists", true },
		{ "none exists", true },
		{ "none = 1", false },
		{ "none != 1", false },
		{ "event exists", true },
		{ "event = 1", false },
		{ "event.type = tcp.connect", true },
		{ "event.ports = 443", true },
		{ "event.ports > 443", false },
		{ "event.ports[1] = 443", true },
		{ "event.ports[0] = 443", false },
		{ "event[0] exists", false },
		{ "not.x exists", false },
		{ "event.'type' = tcp.connect", true },
	};

	check_all(rows, ARRAY_SIZE(rows));
}

/* What the language of rules brings: its other operators, transformers, another key on the right. */
static void test_operators_of_rules(void **state)
{
	static const struct expectation rows[] = {
		{ "comm icontains GIN", true },
		{ "comm icontains GINN", false },
		{ "comm glob n*x", true },
		{ "comm glob n*y", false },
		{ "comm iglob N?INX", true },
		{ "comm regex '[a-z]{5}'", true },
		{ "comm regex '[a-z]{4}'", false },
		{ "args[0] pmatch (/usr/sbin, /bin)", true },
		{ "args[0] pmatch (/usr/sb)", false },
		{ "args intersects (x, -g)", true },
		{ "comm in ()", false },
		{ "comm bcontains 67696e", true },
		{ "comm bstartswith 6e67", true },
		{ "comm contains anyof (xx, gin)", true },
		{ "comm startswith allof (n, ng)", true },
		{ "comm = oneof (nginx, nginx)", false },
		{ "toupper(comm) = NGINX", true },
		{ "len(comm) = 5", true },
		{ "len(args) = 3", true },
		{ "len(none) = 0", true },
		{ "len(absent) = 0", false },
		{ "basename(args) = nginx", true },
		{ "basename(args[0]) = val(comm)", true },
		{ "toupper(args) = val(comm)", false },
		{ "comm = tolower(comm)", true },
		{ "digits = val(event.ports)", false },
		{ "event.ports[0] = 0x50", true },
	};

	check_all(rows, ARRAY_SIZE(rows));
}

static void test_precedence(void **state)
{
	static const struct expectation rows[] = {
		{ "pid = 1 and pid = 2 or comm = nginx", true },
		{ "comm = nginx or pid = 1 and pid = 2", true },
		{ "(comm = nginx or pid = 1) and pid = 2", false },
		{ "not pid = 1 and comm = nginx", true },
		{ "not (pid = 1234 and comm = nginx)", false },
		{ "not not pid = 1234", true },
		{ "not pid = 1 or pid = 1", true },
		{ "not (pid = 1 or comm = nginx) or yes = true", true },
		{ "((((pid = 1234))))", true },
	};

	check_all(rows, ARRAY_SIZE(rows));
}

/* All expressions over three tests, against C's own operators. */
static void test_every_combination(void **state)
{
	static const char *const tests[2] = { "pid = 1", "pid = 1234" };
	static const char *const joins[2] = { "and", "or" };
	char text[256];

	for (unsigned n = 0; n < 1u << 10; n++) {
		bool v[3], first = n >> 3 & 1, second = n >> 4 & 1, left = n >> 8 & 1, whole = n >> 9 & 1, truth;

		for (unsigned i = 0; i < 3; i++)
			v[i] = (n >> i & 1) != (n >> (5 + i) & 1);
		snprintf(text, sizeof text, "%s%s%s%s %s %s%s%s %s %s%s%s", whole ? "not (" : "", left ? "(" : "",
			 n >> 5 & 1 ? "not " : "", tests[n & 1], joins[first], n >> 6 & 1 ? "not " : "",
			 tests[n >> 1 & 1], left ? ")" : "", joins[second], n >> 7 & 1 ? "not " : "", tests[n >> 2 & 1],
			 whole ? ")" : "");
		if (left || first == second || !first) {
			truth = first ? v[0] || v[1] : v[0] && v[1];
			truth = second ? truth || v[2] : truth && v[2];
		} else {
			truth = v[0] || (v[1] && v[2]);
		}
		if (matches(text) != (whole ? !truth : truth))
			fail_msg("%s", text);
	}
}

static void test_errors_name_their_column(void **state)
{
	static const struct {
		const char *text;
		unsigned line, column;
		const char *says;
	} rows[] = {
		{ "", 1, 1, "expected a key, found the end" },
		{ "pid", 1, 4, "expected an operator" },
		{ "pid =", 1, 6, "expected a value after '=', found the end" },
		{ "pid = and", 1, 7, "expected a value after '=', found 'and'" },
		{ "pid == = 3", 1, 8, "found '='" },
		{ "pid contain x", 1, 5, "did you mean 'contains'" },
		{ "pid = 1 pid = 2", 1, 9, "expected 'and', 'or' or the end, found 'pid'" },
		{ "pid = 1 and", 1, 12, "expected a key" },
		{ "pid = 1 and or", 1, 13, "expected a key, found 'or'" },
		{ "(pid = 1", 1, 1, "never closed" },
		{ "pid = 1)", 1, 8, "found ')'" },
		{ "pid in 1", 1, 8, "'('" },
		{ "pid in (1", 1, 10, "',' or ')'" },
		{ "pid in (,)", 1, 9, "expected a value" },
		{ "pid in (1,)", 1, 11, "expected a value" },
		{ "comm = \"ngi", 1, 8, "never closed" },
		{ "\"\" = 1", 1, 1, "at least one character" },
		{ "args[x] = 1", 1, 6, "a number and ']'" },
		{ "args[99999999999] = 1", 1, 6, "a number and ']'" },
		{ "args[] = 1", 1, 6, "a number" },
		{ "comm = \"a\\qb\"", 1, 8, "means nothing" },
		{ "comm regex 'a(b'", 1, 12, "never closed" },
		{ "comm regex val(exe)", 1, 16, "a constant" },
		{ "lower(comm) = x", 1, 6, "expected an operator" },
		{ "tolower(comm = x", 1, 14, "')' behind the field" },
		{ "a. = 1", 1, 3, "expected a key" },
		{ "pid = 1\nand\n  = 2", 3, 3, "expected a key" },
		{ "pid=1234and comm=nginx", 1, 13, "found 'comm=nginx'" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fault fault = { 0 };
		struct expr *expr = NULL;

		assert_int_equal(expr_compile(&expr, rows[i].text, &fault), -EINVAL);
		assert_null(expr);
		if (fault.line != rows[i].line || fault.column != rows[i].column || !strstr(fault.text, rows[i].says))
			fail_msg("%s: %u:%u %s", rows[i].text, fault.line, fault.column, fault.text);
		assert_int_equal(expr_compile(&expr, rows[i].text, NULL), -EINVAL);
	}
}

static int compile_repeated(const char *before, const char *middle, const char *after, unsigned n)
{
	struct expr *expr = NULL;
	char room[8192] = "";
	int r;

	for (unsigned i = 0; i < n; i++)
		strcat(room, before);
	strcat(room, middle);
	for (unsigned i = 0; i < n; i++)
		strcat(room, after);
	r = expr_compile(&expr, room, NULL);
	if (r == 0)
		assert_true(expr_match(expr, record.data, record.size));
	expr_free(expr);
	return r;
}

static void test_bounds(void **state)
{
	assert_int_equal(compile_repeated("(", "pid=1234", ")", 64), 0);
	assert_int_equal(compile_repeated("(", "pid=1234", ")", 65), -E2BIG);
	assert_int_equal(compile_repeated("not ", "pid=1234", "", 64), 0);
	assert_int_equal(compile_repeated("not ", "pid=1234", "", 65), -E2BIG);
	assert_int_equal(compile_repeated("", "pid=1234", " or x=1", 584), 0);
	assert_int_equal(compile_repeated("", "pid=1234", " ", 4088), 0);
	assert_int_equal(compile_repeated("", "pid=1234", " ", 4089), -E2BIG);
}

/* As many different keys as the text can name, the last of them the record's own. */
static void test_many_keys(void **state)
{
	struct expr *expr = NULL;
	char room[4200] = "";
	size_t at = 0;

	for (unsigned i = 0; at < 4060; i++)
		at += (size_t)sprintf(room + at, "%c%c='' or ", 'a' + i % 26, 'A' + i / 26);
	strcat(room, "pid=1234");
	assert_int_equal(expr_compile(&expr, room, NULL), 0);
	assert_true(expr_match(expr, record.data, record.size));
	expr_free(expr);
}

static void test_what_is_no_map_fulfils_nothing(void **state)
{
	static const uint8_t array[] = { 0x91, 0x01 }, cut[] = { 0x81, 0xa3, 'p', 'i' },
			     extension[] = { 0x81, 0xa1, 'a', 0xd4, 1, 2 };
	struct expr *expr = NULL;

	assert_int_equal(expr_compile(&expr, "not pid = 1", NULL), 0);
	assert_false(expr_match(expr, array, sizeof array));
	assert_false(expr_match(expr, cut, sizeof cut));
	assert_false(expr_match(expr, extension, sizeof extension));
	assert_false(expr_match(expr, array, 0));
	assert_true(expr_match(expr, "\x80", 1));
	expr_free(expr);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_operators),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_absent_keys),
		cmocka_unit_test(test_paths_and_arrays),
		cmocka_unit_test(test_operators_of_rules),
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_every_combination),
		cmocka_unit_test(test_errors_name_their_column),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_many_keys),
		cmocka_unit_test(test_what_is_no_map_fulfils_nothing),
	};

	return cmocka_run_group_tests(tests, make_record, free_record);
}

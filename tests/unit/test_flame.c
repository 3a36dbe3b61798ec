/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of rows with stacks: frames taken apart, folded lines, pprof profiles and the data of pages, each within its
 * bound. That a page works is for tests/e2e/test_flame.py, where also another reader of pprof's format is. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "encode/pack.h"
#include "flame/folded.h"
#include "flame/page.h"
#include "flame/page_data.h"
#include "flame/pprof.h"
#include "flame/tree.h"

#define MIB (1u << 20)

/* --- rows --- */

struct row {
	const char *unit, *comm, *state;
	uint64_t ts, value, period_ns, tid;
	bool truncated, no_value;
	const char *stack[4];
	const char *leaf; /* in front of `stack`, if any */
};

static size_t pack_row(uint8_t room[2048], const struct row *row)
{
	struct pack p = pack_over(room, 2048);
	uint8_t *map = pack_open_map(&p), *stack;
	uint16_t n = 4, frames = 0;

	pack_text(&p, "type");
	pack_text(&p, "profile.cpu");
	pack_text(&p, "ts");
	pack_uint(&p, row->ts);
	pack_text(&p, "comm");
	pack_text(&p, row->comm ? row->comm : "app");
	pack_text(&p, "stack");
	stack = pack_open_array(&p);
	if (row->leaf)
		pack_text(&p, row->leaf), frames++;
	for (size_t i = 0; i < ARRAY_SIZE(row->stack) && row->stack[i]; i++)
		pack_text(&p, row->stack[i]), frames++;
	pack_close(&p, stack, frames);
	if (!row->no_value)
		pack_text(&p, "value"), pack_uint(&p, row->value), n++;
	if (row->unit)
		pack_text(&p, "unit"), pack_text(&p, row->unit), n++;
	if (row->state)
		pack_text(&p, "state"), pack_text(&p, row->state), n++;
	if (row->period_ns)
		pack_text(&p, "period_ns"), pack_uint(&p, row->period_ns), n++;
	if (row->tid)
		pack_text(&p, "tid"), pack_uint(&p, row->tid), n++;
	if (row->truncated)
		pack_text(&p, "stack_truncated"), pack_bool(&p, true), n++;
	pack_close(&p, map, n);
	assert_false(p.full);
	return (size_t)(p.at - room);
}

/* --- frames --- */

static void test_frames_are_taken_apart(void **state)
{
	static const struct {
		const char *text;
		enum flame_frame_kind kind;
		const char *name, *library, *build_id;
		uint64_t offset;
	} rows[] = {
		{ "main+0x1f (app)", FRAME_USER, "main", "app", "", 0x1f },
		{ "vfs_read+0x400 ([k])", FRAME_KERNEL, "vfs_read", "[k]", "", 0x400 },
		{ "min (libstdc++.so.6) [inline]", FRAME_INLINE, "min", "libstdc++.so.6", "", 0 },
		{ "libz.so.1+0x1f00 [93ac61ec5a8eb1396f9fbd350e3169a558528a40]", FRAME_UNKNOWN, "", "libz.so.1",
		  "93ac61ec5a8eb1396f9fbd350e3169a558528a40", 0x1f00 },
		{ "0x7f0012345678 (perf-123.map)", FRAME_UNKNOWN, "0x7f0012345678", "perf-123.map", "", 0 },
		{ "0x7f0012345678", FRAME_UNKNOWN, "0x7f0012345678", "", "", 0 },
		{ "0xffffffff81000000 ([k])", FRAME_KERNEL, "0xffffffff81000000", "[k]", "", 0 },
		{ "Lapp/Main;::run+0x4 (perf-7.map)", FRAME_JIT, "Lapp/Main;::run", "perf-7.map", "", 4 },
		{ "main", FRAME_USER, "main", "", "", 0 },
		{ "f+0x2 (/tmp/lib.so (deleted))", FRAME_USER, "f", "/tmp/lib.so (deleted)", "", 2 },
		{ "A::operator()(int) const+0x9 (app)", FRAME_USER, "A::operator()(int) const", "app", "", 9 },
		{ "operator()(int)", FRAME_USER, "operator()(int)", "", "", 0 },
		{ "<T as core::ops::Add>::add+0x3 (app)", FRAME_USER, "<T as core::ops::Add>::add", "app", "", 3 },
		{ "main.(*T).f[go.shape.int]+0x8 (app)", FRAME_USER, "main.(*T).f[go.shape.int]", "app", "", 8 },
		{ "f [clone .cold]", FRAME_USER, "f [clone .cold]", "", "", 0 },
		{ "a+0x (b)", FRAME_USER, "a+0x", "b", "", 0 },
		{ "a+0x11223344556677889 (b)", FRAME_USER, "a+0x11223344556677889", "b", "", 0 },
		{ "", FRAME_USER, "", "", "", 0 },
		{ ")", FRAME_USER, ")", "", "", 0 },
		{ " ()", FRAME_USER, " ()", "", "", 0 },
		{ "((((", FRAME_USER, "((((", "", "", 0 },
		{ " [inline]", FRAME_INLINE, "", "", "", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct flame_frame f;

		flame_frame_read(rows[i].text, strlen(rows[i].text), &f);
		if (f.kind != rows[i].kind || f.offset != rows[i].offset)
			fail_msg("'%s': kind %d, offset %llx", rows[i].text, f.kind, (unsigned long long)f.offset);
		if (f.name.length != strlen(rows[i].name) ||
		    (f.name.length && memcmp(f.name.text, rows[i].name, f.name.length) != 0))
			fail_msg("'%s': name '%.*s'", rows[i].text, (int)f.name.length, f.name.text);
		if (f.library.length != strlen(rows[i].library) ||
		    (f.library.length && memcmp(f.library.text, rows[i].library, f.library.length) != 0))
			fail_msg("'%s': library '%.*s'", rows[i].text, (int)f.library.length, f.library.text);
		assert_int_equal(f.build_id.length, strlen(rows[i].build_id));
	}
}

static void test_texts_are_made_harmless(void **state)
{
	static const struct {
		const char *text, *clean;
	} rows[] = {
		{ "plain", "plain" },
		{ "a\nb\x1b[31m\x7f", "a?b?[31m?" },
		{ "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
		{ "\xff\xc3", "\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xe2\x80\xae"
		  "gpj.exe",
		  "\xef\xbf\xbdgpj.exe" },
		{ "\xc2\x85", "?" },
	};
	char room[FLAME_NAME_MAX + 4], *longest;
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		n = flame_clean(rows[i].text, strlen(rows[i].text), room);
		assert_int_equal(n, strlen(rows[i].clean));
		assert_memory_equal(room, rows[i].clean, n);
	}
	longest = malloc(100000);
	memset(longest, 'x', 100000);
	n = flame_clean(longest, 100000, room);
	assert_int_equal(n, FLAME_NAME_MAX + 3);
	assert_memory_equal(room + n - 3, "\xe2\x80\xa6", 3);
	free(longest);
}

/* --- folded --- */

struct written {
	char *text;
	size_t size;
	char note[256];
	int error;
};

static struct written fold(const struct row *rows, size_t n, size_t memory)
{
	struct written w = { 0 };
	FILE *out = open_memstream(&w.text, &w.size);
	struct folded *folded;
	uint8_t room[2048];

	assert_int_equal(folded_make(&folded, out, memory), 0);
	for (size_t i = 0; i < n && w.error == 0; i++)
		w.error = folded_add(folded, room, pack_row(room, &rows[i]));
	assert_int_equal(folded_end(folded), 0);
	snprintf(w.note, sizeof w.note, "%s", folded_note(folded) ? folded_note(folded) : "");
	folded_free(folded);
	fclose(out);
	return w;
}

#define CPU(amount, ...)                                                                                               \
	{                                                                                                              \
		.unit = "samples", .value = amount, .stack = { __VA_ARGS__ }                                           \
	}
#define OFF(amount, ...)                                                                                               \
	{                                                                                                              \
		.unit = "ns", .value = amount, .stack = { __VA_ARGS__ }                                                \
	}

static void test_folded_lines(void **state)
{
	static const struct row rows[] = {
		CPU(2, "copy+0x1 ([k])", "min (app) [inline]", "work+0x10 (app)", "main+0x5 (app)"),
		CPU(3, "copy+0x2 ([k])", "min (app) [inline]", "work+0x20 (app)", "main+0x6 (app)"),
		CPU(1, "libz.so.1+0x10 [aa]", "libz.so.1+0x20 [aa]", "a;b+0x1 (perf-1.map)"),
		{ .unit = "samples", .value = 4, .truncated = true, .stack = { "main+0x7 (app)" } },
		{ .unit = "samples", .value = 5 },
	};
	struct written w = fold(rows, ARRAY_SIZE(rows), MIB);

	assert_int_equal(w.error, 0);
	assert_string_equal(w.text, "app;main;work;min_[i];copy_[k] 5\n"
				    "app;a:b_[j];[libz.so.1];[libz.so.1] 1\n"
				    "app;[truncated];main 4\n"
				    "app;[no stack] 5\n");
	assert_string_equal(w.note, "");
	free(w.text);
}

static void test_folded_units(void **state)
{
	static const struct row burst[] = { CPU(1, "a"),
					    { .unit = "samples", .value = 10, .period_ns = 1000, .stack = { "a" } } };
	static const struct row both[] = { CPU(1, "a"), OFF(7, "a") };
	static const struct row counted[] = { { .value = 3, .stack = { "a" } },
					      { .no_value = true, .stack = { "a" } } };
	static const struct row mixed[] = { { .value = 3, .stack = { "a" } }, CPU(1, "a") };
	struct written w = fold(burst, 2, MIB);

	assert_string_equal(w.text, "app;a 10111010\n");
	assert_non_null(strstr(w.note, "nanoseconds"));
	free(w.text);
	w = fold(both, 2, MIB);
	assert_string_equal(w.text, "app;a 10101017\n");
	assert_non_null(strstr(w.note, "nanoseconds"));
	free(w.text);
	w = fold(counted, 2, MIB);
	assert_string_equal(w.text, "app;a 4\n");
	free(w.text);
	w = fold(mixed, 2, MIB);
	assert_int_equal(w.error, -EMEDIUMTYPE);
	free(w.text);
}

/* More stacks than fit: several parts, whose sum is the whole. */
static void test_folded_is_bounded(void **state)
{
	enum { ROWS = 20000 };
	struct row *rows = calloc(ROWS, sizeof *rows);
	char(*names)[32] = calloc(ROWS, sizeof *names);
	uint64_t sum = 0;

	for (int i = 0; i < ROWS; i++) {
		snprintf(names[i], sizeof *names, "f%d+0x1 (app)", i % 15000);
		rows[i] = (struct row){ .unit = "samples",
					.value = 1,
					.period_ns = 1000,
					.leaf = names[i],
					.stack = { "main+0x1 (app)" } };
	}
	struct written w = fold(rows, ROWS, MIB);

	assert_int_equal(w.error, 0);
	assert_non_null(strstr(w.note, "several lines"));
	for (char *line = strtok(w.text, "\n"); line; line = strtok(NULL, "\n"))
		sum += strtoull(strrchr(line, ' '), NULL, 10);
	assert_int_equal(sum, ROWS * 1000);
	free(w.text);
	free(names);
	free(rows);
}

/* --- pprof --- */

/* The profile as it was before compression. */
static uint8_t *unzip(const struct written *w, size_t *ret_size)
{
	z_stream z = { .next_in = (Bytef *)w->text, .avail_in = (uInt)w->size };
	uint8_t *room = malloc(64 * MIB);

	assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
	z.next_out = room;
	z.avail_out = 64 * MIB;
	assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
	*ret_size = z.total_out;
	inflateEnd(&z);
	return room;
}

static uint64_t read_varint(const uint8_t **at)
{
	uint64_t value = 0;

	for (unsigned shift = 0;; shift += 7) {
		uint8_t byte = *(*at)++;

		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return value;
	}
}

/* Counts the profile's fields, and sums the first value of all samples. */
static void read_profile(const uint8_t *at, size_t size, size_t fields[16], uint64_t *ret_sum)
{
	const uint8_t *end = at + size;

	*ret_sum = 0;
	memset(fields, 0, 16 * sizeof *fields);
	while (at < end) {
		uint64_t tag = read_varint(&at), length = read_varint(&at);
		const uint8_t *part = at;

		assert_true(tag >> 3 < 16);
		fields[tag >> 3]++;
		if ((tag & 7) == 0)
			continue;
		assert_int_equal(tag & 7, 2);
		at += length;
		for (; tag >> 3 == 2 && part < at;) {
			uint64_t inner = read_varint(&part), bytes = read_varint(&part);
			const uint8_t *values = part;

			if (inner == (2 << 3 | 2))
				*ret_sum += read_varint(&values);
			part += bytes;
		}
	}
	assert_ptr_equal(at, end);
}

static struct written profile(const struct row *rows, size_t n, size_t memory, uint64_t *ret_left_out)
{
	struct written w = { 0 };
	FILE *out = open_memstream(&w.text, &w.size);
	struct pprof *pprof;
	uint8_t room[2048];

	assert_int_equal(pprof_make(&pprof, memory), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(pprof_add(pprof, room, pack_row(room, &rows[i])), 0);
	w.error = pprof_write(pprof, out);
	*ret_left_out = pprof_left_out(pprof);
	pprof_free(pprof);
	fclose(out);
	return w;
}

static void test_pprof_sums(void **state)
{
	static const struct row rows[] = {
		{ .unit = "samples", .value = 2, .tid = 1, .ts = 5, .stack = { "a+0x1 (app)", "b+0x1 (app)" } },
		{ .unit = "samples", .value = 3, .tid = 1, .ts = 9, .stack = { "a+0x2 (app)", "b+0x7 (app)" } },
		{ .unit = "samples", .value = 4, .tid = 2, .ts = 9, .stack = { "a+0x1 (app)", "b+0x1 (app)" } },
		{ .unit = "ns", .value = 100, .tid = 2, .ts = 9, .state = "sleeping", .stack = { "a+0x1 (app)" } },
	};
	uint64_t left_out, sum;
	size_t size, fields[16];
	struct written w = profile(rows, ARRAY_SIZE(rows), MIB, &left_out);
	uint8_t *bytes = unzip(&w, &size);

	assert_int_equal(w.error, 0);
	assert_int_equal(left_out, 0);
	read_profile(bytes, size, fields, &sum);
	assert_int_equal(sum, 9);
	assert_int_equal(fields[1], 3); /* sample types: samples, cpu, offcpu */
	assert_int_equal(fields[2], 3); /* samples: the first two rows are one */
	assert_int_equal(fields[3], 1); /* mappings */
	assert_int_equal(fields[4], 2); /* locations */
	free(bytes);
	free(w.text);
}

static void test_pprof_without_rows(void **state)
{
	uint64_t left_out;
	struct written w = profile(NULL, 0, MIB, &left_out);

	assert_int_equal(w.error, -ENODATA);
	assert_int_equal(w.size, 0);
	free(w.text);
}

static void test_pprof_is_bounded(void **state)
{
	enum { ROWS = 30000 };
	struct row *rows = calloc(ROWS, sizeof *rows);
	char(*names)[32] = calloc(ROWS, sizeof *names);
	uint64_t left_out, sum;
	size_t size, fields[16];

	for (int i = 0; i < ROWS; i++) {
		snprintf(names[i], sizeof *names, "f%d+0x1 (app)", i);
		rows[i] = (struct row){ .unit = "samples", .value = 1, .leaf = names[i] };
	}
	struct written w = profile(rows, ROWS, MIB, &left_out);
	uint8_t *bytes = unzip(&w, &size);

	assert_true(left_out > 1000 && left_out < ROWS - 1000);
	read_profile(bytes, size, fields, &sum);
	assert_int_equal(sum, ROWS);
	free(bytes);
	free(w.text);
	free(names);
	free(rows);
}

/* --- pages --- */

/* Sums the "value" columns of a page's data, times the unit of each. */
static uint64_t sum_values(const char *json)
{
	uint64_t sum = 0;

	for (const char *group = json; (group = strstr(group, "\"unit\":"));) {
		uint64_t unit = strtoull(group + strlen("\"unit\":"), NULL, 10);
		const char *at = strstr(group, "\"value\":[");
		char *end;

		assert_non_null(at);
		for (at += strlen("\"value\":["); *at && at[-1] != ']'; at = end + 1)
			sum += strtoull(at, &end, 10) * unit;
		group = at;
	}
	return sum;
}

static struct written page(const struct row *rows, size_t n, const struct page_limits *limits)
{
	struct written w = { 0 };
	FILE *out = open_memstream(&w.text, &w.size);
	struct page_data *data;
	struct flame_row row;
	struct sink *sink;
	uint8_t room[2048];

	assert_int_equal(page_data_make(&data, limits), 0);
	for (int add = 0; add < 2; add++)
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(flame_row_read(room, pack_row(room, &rows[i]), &row), 0);
			if (add)
				assert_int_equal(page_data_add(data, 0, &row), 0);
			else
				page_data_look(data, 0, &row);
		}
	assert_int_equal(page_data_reduce(data), 0);
	snprintf(w.note, sizeof w.note, "%s", page_data_notes(data));
	assert_int_equal(sink_make(&sink, out, true), 0);
	assert_int_equal(page_data_write(data, FLAME_CPU, sink), 0);
	assert_int_equal(sink_end(sink), 0);
	page_data_free(data);
	fclose(out);
	return w;
}

static struct row *make_rows(size_t n, char (*names)[32])
{
	struct row *rows = calloc(n, sizeof *rows);

	for (size_t i = 0; i < n; i++) {
		snprintf(names[i], sizeof *names, "f%zu+0x1 (app)", i % 4000);
		rows[i] = (struct row){ .unit = "ns",
					.value = 1000 + i % 7,
					.ts = (i + 1) * NS_PER_SEC,
					.tid = 1 + i % 50,
					.leaf = names[i],
					.stack = { "main+0x1 (app)" } };
	}
	return rows;
}

/* Whatever has to be left out, the amounts are all there. */
static void test_pages_keep_their_sums(void **state)
{
	enum { ROWS = 12000 };
	static const struct {
		struct page_limits limits;
		const char *says;
	} cases[] = {
		{ { 64 * MIB, 100000, 100000, 100 }, "" },
		{ { 64 * MIB, 500, 100000, 100 }, "frames, the smallest" },
		{ { 64 * MIB, 100000, 5000, 100 }, "threads of a process" },
		{ { 64 * MIB, 100000, 50, 100 }, "threads of a process" },
		{ { 600 << 10, 100000, 100000, 100 }, "did not fit in memory" },
	};
	char(*names)[32] = calloc(ROWS, sizeof *names);
	struct row *rows = make_rows(ROWS, names);
	uint64_t sum = 0;

	for (size_t i = 0; i < ROWS; i++)
		sum += rows[i].value;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct written w = page(rows, ROWS, &cases[i].limits);

		if (sum_values(w.text) != sum)
			fail_msg("case %zu: %llu instead of %llu", i, (unsigned long long)sum_values(w.text),
				 (unsigned long long)sum);
		if (!strstr(w.note, cases[i].says) || (!*cases[i].says && *w.note))
			fail_msg("case %zu says '%s'", i, w.note);
		free(w.text);
	}
	free(names);
	free(rows);
}

static void test_pages_hold_no_markup_of_others(void **state)
{
	static const struct row rows[] = {
		{ .unit = "samples",
		  .value = 1,
		  .ts = 1,
		  .comm = "</script><b>",
		  .stack = { "<img src=x onerror=\"a\\b&\">+0x1 (<!--)" } },
	};
	struct page_limits limits = { MIB, 1000, 1000, 10 };
	struct written w = page(rows, 1, &limits);

	assert_null(strpbrk(w.text, "<>&"));
	assert_non_null(strstr(w.text, "\\u003cimg src=x onerror=\\u0022a\\u005cb\\u0026\\u0022\\u003e"));
	free(w.text);
}

/* --- into a device that is full --- */

static void test_full_devices_are_told(void **state)
{
	static const struct row row = CPU(1, "a");
	FILE *full = fopen("/dev/full", "w");
	uint8_t room[2048];
	size_t size = pack_row(room, &row);
	struct folded *folded;
	struct pprof *pprof;

	setvbuf(full, NULL, _IONBF, 0);
	assert_int_equal(folded_make(&folded, full, MIB), 0);
	assert_int_equal(folded_add(folded, room, size), 0);
	assert_int_equal(folded_end(folded), -ENOSPC);
	folded_free(folded);
	assert_int_equal(pprof_make(&pprof, MIB), 0);
	assert_int_equal(pprof_add(pprof, room, size), 0);
	assert_int_equal(pprof_write(pprof, full), -ENOSPC);
	pprof_free(pprof);
	fclose(full);
}

static void test_damaged_rows_are_refused(void **state)
{
	static const struct row row = CPU(1, "main+0x1 (app)");
	uint8_t room[2048];
	size_t size = pack_row(room, &row);
	struct flame_row read;

	for (size_t cut = 0; cut < size; cut++)
		assert_int_equal(flame_row_read(room, cut, &read), -EBADMSG);
	assert_int_equal(flame_row_read(room, size, &read), 0);
	assert_int_equal(flame_row_read("\x81\xa5stack\x01", 8, &read), -EBADMSG);
	assert_int_equal(flame_row_read("\x80", 1, &read), -ENODATA);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_are_taken_apart), cmocka_unit_test(test_texts_are_made_harmless),
		cmocka_unit_test(test_folded_lines),           cmocka_unit_test(test_folded_units),
		cmocka_unit_test(test_folded_is_bounded),      cmocka_unit_test(test_pprof_sums),
		cmocka_unit_test(test_pprof_without_rows),     cmocka_unit_test(test_pprof_is_bounded),
		cmocka_unit_test(test_pages_keep_their_sums),  cmocka_unit_test(test_pages_hold_no_markup_of_others),
		cmocka_unit_test(test_full_devices_are_told),  cmocka_unit_test(test_damaged_rows_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

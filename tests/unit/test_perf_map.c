/* SPDX-License-Identifier: Apache-2.0 */
/* Perf maps held against a model that paints every address in the order of the file, and against a real Node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "stacks/perf_map.h"

static _Alignas(8) uint8_t room[1u << 20];

static struct perf_map *build(const char *text, size_t size, size_t room_size)
{
	struct elf_file file = { .fd = -1, .bytes = (const uint8_t *)text, .size = size };

	assert_true(room_size <= sizeof room);
	assert_int_equal(perf_map_build(&file, room, room_size), 0);
	return (void *)room;
}

static void expect(const struct perf_map *map, uint64_t address, const char *name, uint64_t delta)
{
	uint64_t found_delta = 0;
	const char *found = perf_map_find(map, address, &found_delta);

	if (!name) {
		if (found)
			fail_msg("%llx is '%s'", (unsigned long long)address, found);
		return;
	}
	if (!found)
		fail_msg("%llx is not known", (unsigned long long)address);
	assert_string_equal(found, name);
	assert_int_equal(found_delta, delta);
}

static void test_names_of_the_runtimes(void **state)
{
	static const char text[] = "2a0b4c8d0e00 40 LazyCompile:*fib /srv/app.js:12:3\n"
				   "0x00007f1c2c000000 0x0000000000000300 Ljava/lang/String;::hashCode\n"
				   "7f3000001000 b py::work:/srv/job.py\n"
				   "7F3000002000 10 void [app] App.Program::Main(string[])[Optimized]\r\n"
				   "7f3000003000 10 tab\tand\x1b[31m\n";
	struct perf_map *map = build(text, sizeof text - 1, sizeof room);

	assert_int_equal(map->count, 5);
	assert_int_equal(map->lines, 5);
	assert_int_equal(map->end, sizeof text - 1);
	expect(map, 0x2a0b4c8d0e00, "LazyCompile:*fib /srv/app.js:12:3", 0);
	expect(map, 0x2a0b4c8d0e3f, "LazyCompile:*fib /srv/app.js:12:3", 0x3f);
	expect(map, 0x2a0b4c8d0e40, NULL, 0);
	expect(map, 0x7f1c2c0002ff, "Ljava/lang/String;::hashCode", 0x2ff);
	expect(map, 0x7f3000001005, "py::work:/srv/job.py", 5);
	expect(map, 0x7f3000002001, "void [app] App.Program::Main(string[])[Optimized]", 1);
	expect(map, 0x7f3000003001, "tab?and?[31m", 1);
	expect(map, 0, NULL, 0);
	expect(map, UINT64_MAX, NULL, 0);
}

static void test_last_line_wins(void **state)
{
	static const char text[] = "1000 100 old\n"
				   "1040 20 inner\n"
				   "2000 10 first\n"
				   "2000 10 second\n"
				   "1080 100 later\n"
				   "3000 10 cut off";
	struct perf_map *map = build(text, sizeof text - 1, sizeof room);

	expect(map, 0x103f, "old", 0x3f);
	expect(map, 0x1040, "inner", 0);
	expect(map, 0x1060, "old", 0x60);
	expect(map, 0x107f, "old", 0x7f);
	expect(map, 0x1080, "later", 0);
	expect(map, 0x117f, "later", 0xff);
	expect(map, 0x1180, NULL, 0);
	expect(map, 0x2005, "second", 5);
	expect(map, 0x3000, NULL, 0);
	assert_int_equal(map->end, strstr(text, "3000") - text);
	assert_int_equal(map->rubbish, 0);
}

static void test_rubbish_is_counted(void **state)
{
	static const char text[] = "\nhello\n1000\n1000 10\n1000 10 \n10000000000000000 1 too long\n5000 0 empty\n"
				   "ffffffffffffffff ffffffffffffffff end\n-1 5 minus\n2000 10 good\n\n";
	struct perf_map *map = build(text, sizeof text - 1, sizeof room);

	assert_int_equal(map->count, 1);
	assert_int_equal(map->rubbish, 7);
	expect(map, 0x2000, "good", 0);
}

static void test_long_names_and_lines(void **state)
{
	_cleanup_(free_pointer) char *text = malloc(100000);
	size_t size = 0;
	char cut[PERF_MAP_NAME_MAX];

	size += (size_t)sprintf(text + size, "1000 10 before\n2000 10 ");
	memset(text + size, 'x', 300);
	size += 300;
	size += (size_t)sprintf(text + size, "\n3000 10 ");
	memset(text + size, 'y', 70000);
	size += 70000;
	size += (size_t)sprintf(text + size, "\n4000 10 after\n5000 10 ");
	memset(text + size, 'z', 20000);
	size += 20000;
	memset(cut, 'x', sizeof cut - 1);
	cut[sizeof cut - 1] = 0;

	struct perf_map *map = build(text, size, sizeof room);

	expect(map, 0x1000, "before", 0);
	expect(map, 0x2001, cut, 1);
	expect(map, 0x3000, NULL, 0);
	expect(map, 0x4000, "after", 0);
	expect(map, 0x5000, NULL, 0);
	assert_int_equal(map->rubbish, 1);
}

static void test_newest_are_kept(void **state)
{
	_cleanup_(free_pointer) char *text = malloc(4u << 20);
	size_t size = 0;
	unsigned count = 100000, known = 0;
	char name[64];
	uint64_t delta;

	for (unsigned i = 0; i < count; i++)
		size += (size_t)sprintf(text + size, "%x 20 Function:~f%u file.js\n", 0x100000 + i * 0x20, i);

	struct perf_map *map = build(text, size, 256u << 10);

	assert_true(perf_map_bytes(map) <= 256u << 10);
	assert_true(map->skipped > 0 && map->skipped < size);
	for (unsigned i = 0; i < count; i++) {
		const char *found = perf_map_find(map, 0x100000 + i * 0x20 + 3, &delta);

		snprintf(name, sizeof name, "Function:~f%u file.js", i);
		if (found) {
			assert_string_equal(found, name);
			known++;
		} else {
			/* All that are known are newer than all that are not. */
			assert_int_equal(known, 0);
		}
	}
	assert_int_equal(known, map->count);
	assert_int_equal(known, map->lines);
	/* 16 + 8 + 23 bytes each, and the room the sweep writes in. */
	assert_true(known > (256u << 10) / 64);
}

static uint32_t random_below(uint32_t *state, uint32_t below)
{
	*state = *state * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)*state * below >> 32);
}

static void test_against_a_model(void **state)
{
	enum { SPAN = 4096, LINES = 200 };
	static int painted[SPAN];
	static unsigned begins[LINES];
	uint32_t seed = 7;
	char text[LINES * 40], name[16];

	for (unsigned round = 0; round < 300; round++) {
		unsigned lines = 1 + random_below(&seed, LINES), longest = round % 3 ? 60 : 1500;
		size_t size = 0;

		memset(painted, -1, sizeof painted);
		for (unsigned i = 0; i < lines; i++) {
			unsigned length = 1 + random_below(&seed, longest);

			begins[i] = random_below(&seed, SPAN - length);
			size += (size_t)sprintf(text + size, "%x %x f%u\n", begins[i], length, i);
			for (unsigned k = 0; k < length; k++)
				painted[begins[i] + k] = (int)i;
		}

		struct perf_map *map = build(text, size, sizeof room);

		assert_int_equal(map->lost, 0);
		for (unsigned at = 0; at < SPAN; at++) {
			snprintf(name, sizeof name, "f%d", painted[at]);
			if (painted[at] < 0)
				expect(map, at, NULL, 0);
			else
				expect(map, at, name, at - begins[painted[at]]);
		}
	}
}

static void test_file_that_shrinks_or_grows(void **state)
{
	char path[] = "/tmp/sonde-test-XXXXXX";
	_cleanup_(close_fd) int fd = mkstemp(path);
	static const char text[] = "1000 10 one\n2000 10 two\n";
	struct elf_file file = { .fd = fd, .size = sizeof text - 1 };

	unlink(path);
	assert_int_equal(write_all(fd, text, sizeof text - 1), 0);
	assert_int_equal(write_all(fd, text, sizeof text - 1), 0);
	assert_int_equal(perf_map_build(&file, room, sizeof room), 0);
	expect((void *)room, 0x2000, "two", 0);
	assert_int_equal(((struct perf_map *)room)->lines, 2);
	assert_int_equal(ftruncate(fd, 5), 0);
	assert_int_equal(perf_map_build(&file, room, sizeof room), -ESTALE);
	assert_int_equal(perf_map_build(&file, room, 8), -ENOSPC);
}

/* A real Node: the last line of each address is what the table says. */
static void test_map_of_node(void **state)
{
	char path[300], line[2048];
	_cleanup_(close_file) FILE *lines = NULL;
	_cleanup_(free_pointer) struct perf_map *large = malloc(16u << 20);
	struct stat st;
	unsigned checked = 0;
	int pid = 0;
	/* In a folder of its own, as it leaves a log where it is. */
	FILE *node = popen("d=$(mktemp -d) && cd $d && node --perf-basic-prof -e 'function fib(n) { return n < 2 ? n : "
			   "fib(n - 1) + fib(n - 2) } fib(27); console.log(process.pid)'; rm -rf $d",
			   "re");

	assert_int_equal(fscanf(node, "%d", &pid), 1);
	assert_int_equal(pclose(node), 0);
	snprintf(path, sizeof path, "/tmp/perf-%d.map", pid);
	lines = fopen(path, "re");
	assert_non_null(lines);
	assert_int_equal(fstat(fileno(lines), &st), 0);

	unlink(path);

	struct elf_file file = { .fd = fileno(lines), .size = (uint64_t)st.st_size };

	assert_int_equal(perf_map_build(&file, large, 16u << 20), 0);
	assert_int_equal(large->skipped, 0);
	while (fgets(line, sizeof line, lines)) {
		unsigned long long at, size;
		int name = 0;
		uint64_t delta;

		line[strcspn(line, "\n")] = 0;
		assert_int_equal(sscanf(line, "%llx %llx %n", &at, &size, &name), 2);
		if (!strstr(line + name, "fib "))
			continue;

		const char *found = perf_map_find(large, at, &delta);

		assert_non_null(found);
		assert_int_equal(strncmp(found, line + name, PERF_MAP_NAME_MAX - 1), 0);
		checked++;
	}
	assert_true(checked >= 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_of_the_runtimes),
		cmocka_unit_test(test_last_line_wins),
		cmocka_unit_test(test_rubbish_is_counted),
		cmocka_unit_test(test_long_names_and_lines),
		cmocka_unit_test(test_newest_are_kept),
		cmocka_unit_test(test_against_a_model),
		cmocka_unit_test(test_file_that_shrinks_or_grows),
		cmocka_unit_test(test_map_of_node),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

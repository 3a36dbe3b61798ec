/* SPDX-License-Identifier: Apache-2.0 */
/* Where debug files are looked for, held against what objcopy writes and what cksum-like tools compute. */
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
#include "stacks/debug_file.h"

static const uint8_t id[] = { 0xab, 0xcd, 0xef, 0x01 };

static void expect(const struct debug_file_hint *hint, unsigned index, const char *path)
{
	char found[256];
	bool there = debug_file_candidate(hint, index, found, sizeof found);

	assert_int_equal(there, path != NULL);
	if (path)
		assert_string_equal(found, path);
}

static void test_places_in_order(void **state)
{
	struct debug_file_hint hint = {
		.path = "/usr/bin/ls", .build_id = id, .build_id_length = sizeof id, .link = "ls.debug"
	};

	expect(&hint, 0, "/usr/lib/debug/.build-id/ab/cdef01.debug");
	expect(&hint, 1, "/usr/bin/ls.debug");
	expect(&hint, 2, "/usr/bin/.debug/ls.debug");
	expect(&hint, 3, "/usr/lib/debug/usr/bin/ls.debug");
	expect(&hint, DEBUG_FILE_CANDIDATES, NULL);
	hint.path = "/init";
	expect(&hint, 1, "/ls.debug");
	expect(&hint, 3, "/usr/lib/debug/ls.debug");
}

static void test_hints_that_lead_nowhere(void **state)
{
	struct debug_file_hint hint = { .path = "/usr/bin/ls", .build_id = id, .build_id_length = 1, .link = "" };
	static const char *const hostile[] = { "../../etc/shadow", "a/b", ".", "..", "/etc/passwd" };
	char small[20];

	for (unsigned i = 0; i < DEBUG_FILE_CANDIDATES; i++)
		expect(&hint, i, NULL);
	for (size_t h = 0; h < ARRAY_SIZE(hostile); h++) {
		hint.link = hostile[h];
		for (unsigned i = 0; i < DEBUG_FILE_CANDIDATES; i++)
			expect(&hint, i, NULL);
	}
	/* A link to the file itself; memory without a file; a path that does not fit. */
	hint.link = "ls";
	expect(&hint, 1, NULL);
	expect(&hint, 2, "/usr/bin/.debug/ls");
	hint.path = "[vdso]";
	expect(&hint, 1, NULL);
	hint.path = "/usr/bin/ls";
	hint.build_id_length = sizeof id;
	assert_false(debug_file_candidate(&hint, 0, small, sizeof small));
	assert_false(debug_file_candidate(&hint, 3, small, sizeof small));
}

static void test_link_by_objcopy(void **state)
{
	char folder[] = "/tmp/sonde-test-XXXXXX", command[700], path[300], name[64], *bytes;
	size_t size;
	uint32_t crc;
	struct stat st;

	assert_non_null(mkdtemp(folder));
	snprintf(command, sizeof command,
		 "cd %s && echo 'int main(void) { return 0; }' | cc -g -x c - -o whole && "
		 "objcopy --only-keep-debug whole whole.debug && strip whole -o stripped && "
		 "objcopy --add-gnu-debuglink=whole.debug stripped linked",
		 folder);
	assert_int_equal(system(command), 0);
	snprintf(path, sizeof path, "%s/linked", folder);

	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(fstat(fd, &st), 0);

	struct elf_file file = { .fd = fd, .size = (uint64_t)st.st_size };

	assert_int_equal(elf_debug_link(&file, name, sizeof name, &crc), 0);
	assert_string_equal(name, "whole.debug");
	snprintf(path, sizeof path, "%s/whole.debug", folder);
	assert_int_equal(read_small_file(path, 1u << 20, &bytes, &size), 0);
	assert_int_equal(crc, debug_file_crc(debug_file_crc(0, bytes, 100), bytes + 100, size - 100));
	free(bytes);
	/* A name that does not fit, and a file without one. */
	assert_int_equal(elf_debug_link(&file, name, 5, &crc), -ENOENT);
	snprintf(path, sizeof path, "%s/whole", folder);

	_cleanup_(close_fd) int other = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(fstat(other, &st), 0);
	file = (struct elf_file){ .fd = other, .size = (uint64_t)st.st_size };
	assert_int_equal(elf_debug_link(&file, name, sizeof name, &crc), -ENOENT);
	snprintf(command, sizeof command, "rm -r %s", folder);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places_in_order),
		cmocka_unit_test(test_hints_that_lead_nowhere),
		cmocka_unit_test(test_link_by_objcopy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

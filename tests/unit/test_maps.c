/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/PID/maps of real processes: of this one with very many mappings, and of those that are no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "stacks/maps.h"

/* `count` executable pages, none beside another. */
static char *map_pages(unsigned count, int fd)
{
	char *at = mmap(NULL, (size_t)count << 13, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(at != MAP_FAILED);
	for (unsigned i = 0; i < count; i++)
		assert_true(mmap(at + ((size_t)i << 13), 4096, PROT_READ | PROT_EXEC,
				 MAP_FIXED | MAP_PRIVATE | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0) != MAP_FAILED);
	return at;
}

/* How many of the pages of map_pages() are in the list, all with the right path. */
static unsigned found_pages(const struct maps *maps, const char *at, unsigned count, const char *path)
{
	unsigned found = 0;

	for (uint32_t i = 0; i < maps->count; i++) {
		const struct mapping *m = &maps->mappings[i];

		assert_true(m->start < m->end);
		assert_true(!i || m[-1].end <= m->start);
		assert_true(m->path < maps->text_size);
		if (m->start < (uintptr_t)at || m->start >= (uintptr_t)at + ((uintptr_t)count << 13))
			continue;
		assert_int_equal(m->end - m->start, 4096);
		assert_string_equal(maps->text + m->path, path);
		found++;
	}
	return found;
}

static void test_own_code_is_found(void **state)
{
	struct maps maps;
	unsigned found = 0;

	assert_int_equal(maps_read(getpid(), &maps), 0);
	for (uint32_t i = 0; i < maps.count; i++)
		if (maps.mappings[i].start <= (uintptr_t)test_own_code_is_found &&
		    (uintptr_t)test_own_code_is_found < maps.mappings[i].end)
			found += strstr(maps.text + maps.mappings[i].path, "test_maps") != NULL;
	assert_int_equal(found, 1);
	maps_free(&maps);
	assert_null(maps.mappings);
}

static void test_two_thousand_mappings(void **state)
{
	_cleanup_(close_fd) int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char *of_file = map_pages(2000, fd), *anonymous = map_pages(1000, -1), path[4096] = { 0 };
	struct maps maps;

	assert_true(readlink("/proc/self/exe", path, sizeof path - 1) > 0);
	assert_int_equal(maps_read(getpid(), &maps), 0);
	assert_int_equal(found_pages(&maps, of_file, 2000, path), 2000);
	assert_int_equal(found_pages(&maps, anonymous, 1000, ""), 1000);
	/* One path for all neighbours. */
	assert_true(maps.text_size < 4096 + strlen(path));
	maps_free(&maps);
	munmap(of_file, 2000 << 13);
	munmap(anonymous, 1000 << 13);
}

static void test_no_more_than_the_most(void **state)
{
	char *at = map_pages(MAPS_MAX + 100, -1);
	struct maps maps;

	assert_int_equal(maps_read(getpid(), &maps), 0);
	assert_int_equal(maps.count, MAPS_MAX);
	maps_free(&maps);
	munmap(at, (MAPS_MAX + 100) << 13);
}

/* Each mapping of a file of its own, with a long name. */
static void test_text_has_a_bound(void **state)
{
	char folder[] = "/tmp/sonde-maps-XXXXXX", name[200], path[256];
	char *at = mmap(NULL, 2000 << 13, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct maps maps;
	unsigned found;

	memset(name, 'n', sizeof name - 1);
	name[sizeof name - 1] = 0;
	assert_non_null(mkdtemp(folder));
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(path, sizeof path, "%s/%s%u", folder, name, i);

		_cleanup_(close_fd) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

		assert_true(mmap(at + ((size_t)i << 13), 4096, PROT_READ | PROT_EXEC, MAP_FIXED | MAP_PRIVATE, fd, 0) !=
			    MAP_FAILED);
		unlink(path);
	}
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(maps_read(getpid(), &maps), 0);
	assert_true(maps.text_size <= MAPS_TEXT_MAX);
	assert_true(maps.text_size > MAPS_TEXT_MAX - 256);
	found = maps.count;
	assert_true(found > 1000 && found < 2000);
	maps_free(&maps);
	munmap(at, 2000 << 13);
}

static void test_processes_that_are_no_more(void **state)
{
	struct maps maps = { 0 };
	int pid = fork();
	siginfo_t info;

	if (pid == 0)
		_exit(0);
	/* Ended, and not yet reaped. */
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(maps_read(pid, &maps), -ESRCH);
	waitpid(pid, NULL, 0);
	assert_int_equal(maps_read(pid, &maps), -ENOENT);
	assert_null(maps.mappings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_code_is_found),          cmocka_unit_test(test_two_thousand_mappings),
		cmocka_unit_test(test_no_more_than_the_most),      cmocka_unit_test(test_text_has_a_bound),
		cmocka_unit_test(test_processes_that_are_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The syscalls module's rows: that each time lies in its bucket, and what becomes of the kernel side's sums; names of numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <msgpack.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/base.h"
#include "probes/syscalls/row.h"

static struct syscalls_row row;
static struct syscalls_sums sums;
static const struct syscalls_key key = { .proc = 42, .nr = SYS_openat };

static int set_up(void **state)
{
	memset(&row, 0, sizeof row);
	memset(&sums, 0, sizeof sums);
	sums.pid = 7;
	return 0;
}

/* As the kernel side does. */
static void add(uint64_t ns)
{
	sums.count++;
	sums.buckets[syscalls_bucket(ns)]++;
	sums.sum_ns += ns;
	sums.max_ns = MAX_OF(sums.max_ns, ns);
}

static void add_error(unsigned at, uint32_t error, uint32_t count)
{
	sums.errors += count;
	if (at < SYSCALLS_ERRORS) {
		sums.errnos[at] = error;
		sums.by_errno[at] = count;
	}
}

static void check_bucket(uint64_t ns)
{
	unsigned bucket = syscalls_bucket(ns);

	assert_true(bucket < SYSCALLS_BUCKETS);
	assert_true(syscalls_least(bucket) <= ns);
	if (bucket + 1 < SYSCALLS_BUCKETS)
		assert_true(ns < syscalls_least(bucket + 1));
}

static void test_each_time_lies_in_its_bucket(void **state)
{
	for (uint64_t ns = 0; ns < 100000; ns++)
		check_bucket(ns);
	for (unsigned log = 4; log < 64; log++)
		for (int more = -1; more <= 1; more++)
			check_bucket((1ull << log) + (uint64_t)more);
	check_bucket(UINT64_MAX);
	for (unsigned i = 0; i < SYSCALLS_BUCKETS; i++)
		assert_int_equal(syscalls_bucket(syscalls_least(i)), i);
}

static bool within_an_eighth(uint64_t found, uint64_t truth)
{
	uint64_t off = found > truth ? found - truth : truth - found;

	return off <= truth / 8 + 1;
}

static void test_percentiles(void **state)
{
	for (uint64_t ns = 1000; ns <= 100000; ns++)
		add(ns);
	assert_true(syscalls_row(&row, &key, &sums, 5, 9));
	assert_true(within_an_eighth(row.row.p50_ns, 50500));
	assert_true(within_an_eighth(row.row.p90_ns, 90100));
	assert_true(within_an_eighth(row.row.p99_ns, 99010));
	assert_int_equal(row.row.max_ns, 100000);
	assert_int_equal(row.row.sum_ns, (1000ull + 100000) * 99001 / 2);
	assert_int_equal(row.row.window_ns, 9);
	assert_int_equal(row.row.event.time, 5);
}

static void test_one_time_is_all_percentiles(void **state)
{
	add(77);
	assert_true(syscalls_row(&row, &key, &sums, 0, 1));
	assert_true(within_an_eighth(row.row.p50_ns, 77) && within_an_eighth(row.row.p99_ns, 77));
	assert_true(row.row.p99_ns <= 77);
}

/* A msgpack map of texts to numbers: the number of `name`, -1 where there is none; its size in `ret_size`. */
static int64_t value_of(const struct sonde_text *text, const char *name, uint32_t *ret_size)
{
	msgpack_unpacked result;
	int64_t found = -1;

	msgpack_unpacked_init(&result);
	assert_int_equal(msgpack_unpack_next(&result, (const char *)&row + text->offset, text->length, NULL),
			 MSGPACK_UNPACK_SUCCESS);
	assert_int_equal(result.data.type, MSGPACK_OBJECT_MAP);
	*ret_size = result.data.via.map.size;
	for (uint32_t i = 0; i < *ret_size; i++) {
		const msgpack_object_kv *kv = &result.data.via.map.ptr[i];

		if (kv->key.via.str.size == strlen(name) && !memcmp(kv->key.via.str.ptr, name, strlen(name)))
			found = (int64_t)kv->val.via.u64;
	}
	msgpack_unpacked_destroy(&result);
	return found;
}

static void test_errors(void **state)
{
	uint32_t size;

	add(100);
	add_error(0, ENOENT, 3);
	add_error(1, 524, 2); /* the kernel's own ENOTSUPP has no name here */
	add_error(9, 0, 4);
	assert_true(syscalls_row(&row, &key, &sums, 0, 1));
	assert_int_equal(value_of(&row.row.errnos, "ENOENT", &size), 3);
	assert_int_equal(value_of(&row.row.errnos, "524", &size), 2);
	assert_int_equal(value_of(&row.row.errnos, "other", &size), 4);
	assert_int_equal(size, 3);
	assert_int_equal(value_of(&row.row.hist, "96", &size), 1);
	assert_int_equal(size, 1);
}

static void test_the_fullest_row_fits(void **state)
{
	uint32_t size;

	for (unsigned i = 0; i < SYSCALLS_BUCKETS; i++) {
		sums.buckets[i] = UINT32_MAX;
		sums.count += UINT32_MAX;
	}
	for (unsigned i = 0; i < SYSCALLS_ERRORS; i++)
		add_error(i, EPROTONOSUPPORT, UINT32_MAX);
	sums.errors = UINT64_MAX;
	assert_true(syscalls_row(&row, &key, &sums, 0, 1));
	value_of(&row.row.hist, "0", &size);
	assert_int_equal(size, SYSCALLS_BUCKETS);
	value_of(&row.row.errnos, "other", &size);
	assert_int_equal(size, SYSCALLS_ERRORS + 1);
}

static void test_nothing_to_say(void **state)
{
	assert_false(syscalls_row(&row, &key, &sums, 0, 1));
	add(1);
	sums.filtered = 1;
	assert_false(syscalls_row(&row, &key, &sums, 0, 1));
}

static void check_name(const struct syscalls_key *of, const char *name)
{
	assert_true(syscalls_row(&row, of, &sums, 0, 1));
	assert_int_equal(row.row.syscall.length, strlen(name));
	assert_memory_equal((const char *)&row + row.row.syscall.offset, name, strlen(name));
}

static void test_names(void **state)
{
	const struct syscalls_key compat = { .proc = 42, .nr = 5, .compat = 1 }, unknown = { .proc = 42, .nr = 99999 },
				  rest = { .nr = ~0u };

	add(1);
	check_name(&key, "openat");
	check_name(&compat, "open");
	check_name(&unknown, "99999");
	sums.pid = 0;
	check_name(&rest, "other");
	assert_true(row.row.event.flags & SONDE_FLAG_NO_TASK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_each_time_lies_in_its_bucket, set_up),
		cmocka_unit_test_setup(test_percentiles, set_up),
		cmocka_unit_test_setup(test_one_time_is_all_percentiles, set_up),
		cmocka_unit_test_setup(test_errors, set_up),
		cmocka_unit_test_setup(test_the_fullest_row_fits, set_up),
		cmocka_unit_test_setup(test_nothing_to_say, set_up),
		cmocka_unit_test_setup(test_names, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

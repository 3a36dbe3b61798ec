/* SPDX-License-Identifier: Apache-2.0 */
/* The turnaround module's rows: that the kernel side counts in the buckets of pipelines/flows, and what becomes of its sums. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <msgpack.h>
#include <string.h>

#include "probes/turnaround/row.h"

static struct turnaround_row *row;
static struct turnaround_sums *sums;

static int set_up(void **state)
{
	row = calloc(1, sizeof *row);
	sums = calloc(1, sizeof *sums);
	return row && sums ? 0 : -1;
}

static int tear_down(void **state)
{
	free(row);
	free(sums);
	return 0;
}

/* As the kernel side does. */
static void add(uint64_t ns)
{
	sums->buckets[turnaround_bucket(ns)]++;
	sums->sum_ns += ns;
	sums->max_ns = MAX_OF(sums->max_ns, ns);
}

/* Numbers of all lengths, the same in each run. */
static uint64_t next_number(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return *seed >> (*seed >> 58);
}

static void test_buckets_are_those_of_replay(void **state)
{
	uint64_t seed = 7;

	for (unsigned log = 0; log < 64; log++)
		for (int more = -1; more <= 1; more++)
			assert_int_equal(turnaround_bucket((1ull << log) + (uint64_t)more),
					 histogram_bucket((1ull << log) + (uint64_t)more));
	for (int i = 0; i < 200000; i++) {
		uint64_t ns = next_number(&seed);

		assert_int_equal(turnaround_bucket(ns), histogram_bucket(ns));
	}
}

static uint64_t between(uint64_t least, uint64_t end)
{
	uint64_t n = 0;

	for (unsigned b = turnaround_bucket(least); b < turnaround_bucket(end); b++)
		n += sums->buckets[b];
	return n;
}

/* Answers that were not measured are as those that were, and never slow ones; none of them is lost by rounding. */
static void test_what_passed_is_as_the_others(void **state)
{
	const uint64_t slow = 1000000000;

	for (int i = 0; i < 30; i++)
		add(1000);
	for (int i = 0; i < 10; i++)
		add(1000000);
	for (int i = 0; i < 5; i++)
		add(2 * slow);
	uint64_t sum = sums->sum_ns;

	sums->passed = 401;
	turnaround_spread(sums, slow);
	assert_in_range(between(512, 2048), 30 + 300, 30 + 301);
	assert_in_range(between(500000, 2000000), 10 + 100, 10 + 101);
	assert_int_equal(between(0, slow), 40 + 401);
	assert_int_equal(between(slow, UINT64_MAX), 5);
	/* 300 of 1 us and 100 of 1 ms, right to a bucket */
	assert_in_range(sums->sum_ns - sum, 98 * 1000000 + 300000, 104 * 1000000);
	/* Where nothing is slow, all are as all. */
	memset(sums, 0, sizeof *sums);
	add(1000);
	add(2 * slow);
	sums->passed = 100;
	turnaround_spread(sums, 0);
	assert_int_equal(between(512, 2048), 51);
	assert_int_equal(between(slow, UINT64_MAX), 51);
	/* What was measured is at the edge: neither is anything lost, nor slow. */
	memset(sums, 0, sizeof *sums);
	add(slow);
	sums->passed = 7;
	turnaround_spread(sums, slow);
	assert_int_equal(between(0, slow), 7);
	assert_int_equal(between(slow, UINT64_MAX), 1);
}

static void test_a_row_says_what_a_histogram_does(void **state)
{
	struct histogram *truth = calloc(1, sizeof *truth);
	struct turnaround_key key = { .side = TCP_SIDE_SERVER, .port = 80 };
	uint64_t seed = 3;

	assert_non_null(truth);
	for (int round = 0; round < 3; round++) { /* nothing is left of the row before */
		memset(sums, 0, sizeof *sums);
		histogram_clear(truth);
		for (int i = 0; i < 5000; i++) {
			uint64_t ns = next_number(&seed) >> (16 + 8 * round);

			add(ns);
			histogram_add(truth, ns);
		}
		assert_true(turnaround_row(row, &key, sums, 1, 2));
		assert_int_equal(row->row.count, 5000);
		assert_int_equal(row->row.sum_ns, truth->sum);
		assert_int_equal(row->row.max_ns, truth->max);
		assert_int_equal(row->row.p50_ns, histogram_percentile(truth, 500));
		assert_int_equal(row->row.p90_ns, histogram_percentile(truth, 900));
		assert_int_equal(row->row.p99_ns, histogram_percentile(truth, 990));
		assert_int_equal(row->row.p999_ns, histogram_percentile(truth, 999));
	}
	free(truth);
}

static void test_only_the_service_has_an_address(void **state)
{
	struct turnaround_key key = { .ip = { { 1 } }, .port = 80, .side = TCP_SIDE_SERVER, .proc = 5, .cgroup = 6 };

	add(100);
	sums->pid = 9;
	assert_true(turnaround_row(row, &key, sums, 11, 12));
	assert_int_equal(row->row.lport, 80);
	assert_int_equal(row->row.laddr.bytes[0], 1);
	assert_int_equal(row->row.rport | row->row.raddr.bytes[0], 0);
	assert_int_equal(row->row.event.proc, 5);
	assert_int_equal(row->row.event.cgroup, 6);
	assert_int_equal(row->row.event.flags, 0);
	assert_int_equal(row->row.event.time, 11);
	assert_int_equal(row->row.window_ns, 12);
	key.side = TCP_SIDE_CLIENT;
	assert_true(turnaround_row(row, &key, sums, 11, 12));
	assert_int_equal(row->row.rport, 80);
	assert_int_equal(row->row.raddr.bytes[0], 1);
	assert_int_equal(row->row.lport | row->row.laddr.bytes[0], 0);
}

static void test_what_is_not_said(void **state)
{
	struct turnaround_key key = { .side = TCP_SIDE_SERVER };

	assert_false(turnaround_row(row, &key, sums, 1, 2));
	sums->errors = 1; /* alone */
	assert_true(turnaround_row(row, &key, sums, 1, 2));
	assert_int_equal(row->row.errors, 1);
	assert_int_equal(row->row.count | row->row.p50_ns | row->row.max_ns, 0);
	assert_int_equal(row->row.event.flags, SONDE_FLAG_NO_TASK); /* nobody was seen to read */
	sums->filtered = 1;
	assert_false(turnaround_row(row, &key, sums, 1, 2));
}

/* The longest time may be lost to another CPU that had a longer one at the same moment: it is never below its bucket. */
static void test_the_longest_is_in_its_bucket(void **state)
{
	struct turnaround_key key = { .side = TCP_SIDE_SERVER };

	add(1000000);
	sums->max_ns = 5;
	assert_true(turnaround_row(row, &key, sums, 1, 2));
	assert_int_equal(row->row.max_ns, histogram_least(histogram_bucket(1000000)));
}

static void test_the_fullest_histogram_has_room(void **state)
{
	struct turnaround_key key = { .side = TCP_SIDE_SERVER };
	msgpack_unpacked result;
	size_t offset = 0;

	for (unsigned i = 0; i < TURNAROUND_BUCKETS; i++)
		sums->buckets[i] = UINT32_MAX;
	assert_true(turnaround_row(row, &key, sums, 1, 2));
	assert_int_equal(row->row.count, (uint64_t)TURNAROUND_BUCKETS * UINT32_MAX);
	assert_int_equal(row->row.hist.offset, sizeof row->row);
	assert_int_equal(row->row.event.size, sizeof row->row + row->row.hist.length);
	msgpack_unpacked_init(&result);
	assert_int_equal(msgpack_unpack_next(&result, (const char *)row->hist, row->row.hist.length, &offset),
			 MSGPACK_UNPACK_SUCCESS);
	assert_int_equal(offset, row->row.hist.length);
	assert_int_equal(result.data.via.map.size, TURNAROUND_BUCKETS);
	msgpack_unpacked_destroy(&result);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_buckets_are_those_of_replay),
		TEST(test_a_row_says_what_a_histogram_does),
		TEST(test_what_passed_is_as_the_others),
		TEST(test_only_the_service_has_an_address),
		TEST(test_what_is_not_said),
		TEST(test_the_longest_is_in_its_bucket),
		TEST(test_the_fullest_histogram_has_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The sched module's histograms: buckets, percentiles, the table of cgroups and what it does when it is full, the msgpack form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <msgpack.h>
#include <string.h>

#include "probes/sched/groups.h"

static struct sched_report make_report(uint64_t cgroup, unsigned bucket, uint32_t count)
{
	struct sched_report r = { .event = { .cgroup = cgroup },
				  .latency_sum_ns = count * sched_bucket_begin(bucket),
				  .latency_max_ns = sched_bucket_begin(bucket) };

	r._hist[bucket] = count;
	return r;
}

static void test_buckets_follow_each_other(void **state)
{
	assert_int_equal(sched_bucket_begin(0), 0);
	assert_int_equal(sched_bucket_begin(1), 1024);
	assert_int_equal(sched_bucket_begin(5), 2048);
	assert_int_equal(sched_bucket_begin(SCHED_BUCKETS - 1), 2ull << SCHED_LAST_LOG);
	for (unsigned i = 1; i + 1 < SCHED_BUCKETS; i++) {
		uint64_t begin = sched_bucket_begin(i), end = sched_bucket_begin(i + 1);

		assert_true(begin < end);
		assert_true(end - begin <= begin / 4);
	}
}

static void test_percentiles_are_right_to_a_quarter(void **state)
{
	struct sched_groups *g = calloc(1, sizeof *g);
	struct sched_group *all = NULL;

	assert_non_null(g);
	for (unsigned i = 0; i < 100; i++) { /* 98 of 2 us, one of 1 ms, one of 1 s */
		unsigned bucket = i < 98 ? 5 : i == 98 ? 1 + 4 * 10 : 1 + 4 * 20;
		struct sched_report r = make_report(7, bucket, 1);

		sched_groups_add(g, &r);
	}
	for (unsigned i = 0; i < SCHED_GROUPS_MAX; i++)
		if (g->groups[i].used)
			all = &g->groups[i];
	assert_non_null(all);
	assert_int_equal(all->count, 100);
	assert_in_range(sched_group_percentile(all, 500), 2048, 2560);
	assert_in_range(sched_group_percentile(all, 900), 2048, 2560);
	assert_in_range(sched_group_percentile(all, 990), 1u << 20, (1u << 20) / 4 * 5);
	assert_int_equal(sched_group_percentile(all, 999), all->max_ns);
	free(g);
}

static void test_full_table_loses_nothing(void **state)
{
	struct sched_groups *g = calloc(1, sizeof *g);
	uint64_t count = 0, sum = 0;

	assert_non_null(g);
	for (uint64_t cgroup = 1; cgroup <= SCHED_GROUPS_MAX + 100; cgroup++)
		for (int v1 = 0; v1 < 2; v1++) {
			struct sched_report r = make_report(cgroup, 3, 2);

			r.event.flags = v1 ? SONDE_FLAG_CGROUP_V1 : 0;
			sched_groups_add(g, &r);
		}
	for (unsigned i = 0; i < SCHED_GROUPS_MAX; i++) {
		count += g->groups[i].count;
		sum += g->groups[i].sum_ns;
	}
	assert_int_equal(g->used, SCHED_GROUPS_MAX);
	assert_true(g->rest.count > 0);
	assert_int_equal(count + g->rest.count, (SCHED_GROUPS_MAX + 100) * 4);
	assert_int_equal(sum + g->rest.sum_ns, (SCHED_GROUPS_MAX + 100) * 4 * sched_bucket_begin(3));
	sched_groups_clear(g);
	assert_int_equal(g->used + g->rest.count, 0);
	free(g);
}

static void test_histogram_is_a_map(void **state)
{
	struct sched_group group = { 0 };
	char packed[SCHED_HIST_ROOM];
	msgpack_unpacked result;
	size_t size;

	group.hist[0] = 5;
	group.hist[5] = UINT64_MAX;
	group.hist[SCHED_BUCKETS - 1] = 1;
	size = sched_group_pack(&group, packed, sizeof packed);
	assert_true(size > 0);
	msgpack_unpacked_init(&result);
	assert_int_equal(msgpack_unpack_next(&result, packed, size, NULL), MSGPACK_UNPACK_SUCCESS);
	assert_int_equal(result.data.type, MSGPACK_OBJECT_MAP);
	assert_int_equal(result.data.via.map.size, 3);
	for (unsigned i = 0; i < 3; i++) {
		static const uint64_t expected[3][2] = { { 0, 5 },
							 { 2048, UINT64_MAX },
							 { 2ull << SCHED_LAST_LOG, 1 } };
		const msgpack_object_kv *pair = &result.data.via.map.ptr[i];
		char begin[24];

		snprintf(begin, sizeof begin, "%llu", (unsigned long long)expected[i][0]);
		assert_int_equal(pair->key.via.str.size, strlen(begin));
		assert_memory_equal(pair->key.via.str.ptr, begin, strlen(begin));
		assert_int_equal(pair->val.via.u64, expected[i][1]);
	}
	msgpack_unpacked_destroy(&result);
	/* The largest of all fits, and what does not is not written in half. */
	for (unsigned i = 0; i < SCHED_BUCKETS; i++)
		group.hist[i] = UINT64_MAX;
	assert_true(sched_group_pack(&group, packed, sizeof packed) > 0);
	assert_int_equal(sched_group_pack(&group, packed, 100), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets_follow_each_other),
		cmocka_unit_test(test_percentiles_are_right_to_a_quarter),
		cmocka_unit_test(test_full_table_loses_nothing),
		cmocka_unit_test(test_histogram_is_a_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/base.h"
#include "when.h"

#define NOW (1795420692ull * NS_PER_SEC)

static void test_moments(void **state)
{
	/* The seconds are those of `date -d TEXT +%s`. */
	static const struct {
		const char *text;
		uint64_t ns;
	} rows[] = {
		{ "10s", NOW - 10 * NS_PER_SEC },
		{ "5m", NOW - 300 * NS_PER_SEC },
		{ "1h30m", NOW - 5400 * NS_PER_SEC },
		{ "0s", NOW },
		{ "1795420692", NOW },
		{ "1795420692.25", NOW + 250000000 },
		{ "1.000000001999", NS_PER_SEC + 1 },
		{ "0", 0 },
		{ "2026-11-23T07:58:12Z", NOW },
		{ "2026-11-23T07:58:12.5Z", NOW + 500000000 },
		{ "2026-11-23t08:58:12+01:00", NOW },
		{ "2026-11-23 02:28:12-05:30", NOW },
		{ "2024-02-29T00:00:00Z", 1709164800 * NS_PER_SEC },
		{ "1970-01-01T00:00:00Z", 0 },
		/* without a zone: local time, here two hours east */
		{ "2026-11-23T09:58:12", NOW },
		{ "2026-11-23", NOW - 28692 * NS_PER_SEC - 7200 * NS_PER_SEC },
	};

	setenv("TZ", "XYZ-2", 1);
	tzset();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t ns = 1;
		int r = parse_when(rows[i].text, NOW, &ns);

		if (r != 0 || ns != rows[i].ns)
			fail_msg("%s: %d, %llu, not %llu", rows[i].text, r, (unsigned long long)ns,
				 (unsigned long long)rows[i].ns);
	}
}

static void test_what_is_no_moment(void **state)
{
	static const char *const rows[] = { "",
					    "x",
					    "-5s",
					    "yesterday",
					    "2026-11",
					    "2026-11-23T",
					    "2026-11-23T10:00",
					    "2026-13-01",
					    "2026-02-30",
					    "2026-11-00",
					    "2026-11-23T24:00:00Z",
					    "2026-11-23T10:60:00Z",
					    "2026-11-23T10:00:00+1",
					    "2026-11-23T10:00:00ZZ",
					    "2026-11-23T10:00:00.Z",
					    "1.",
					    "1.x",
					    "10s ago",
					    " 10s" };
	uint64_t ns = 1;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(parse_when(rows[i], NOW, &ns), -EINVAL);
	assert_int_equal(parse_when("100000d", NOW, &ns), -ERANGE);
	assert_int_equal(parse_when("99999999999", NOW, &ns), -ERANGE);
	assert_int_equal(parse_when("99999999999999999999", NOW, &ns), -ERANGE);
	assert_int_equal(parse_when("1960-01-01T00:00:00Z", NOW, &ns), -ERANGE);
	assert_int_equal(parse_when("9999-01-01T00:00:00Z", NOW, &ns), -ERANGE);
	assert_int_equal(ns, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_moments), cmocka_unit_test(test_what_is_no_moment) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recorded stacks unwound again: every case in tests/data/stacks must come out as it was when somebody looked at it (tests/tools/
 * record_stack.c makes them). The damaged ones must not do harm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>

#include "tools/stack_case.h"

static void for_each_case(void (*each)(struct stack_case *c, const char *name), unsigned at_least)
{
	DIR *folder = opendir(STACKS);
	unsigned count = 0;

	assert_non_null(folder);
	for (struct dirent *entry; (entry = readdir(folder));) {
		static struct stack_case c;
		char path[1024];

		if (!strstr(entry->d_name, ".stack"))
			continue;
		snprintf(path, sizeof path, "%s/%s", STACKS, entry->d_name);
		if (!case_read(&c, path))
			fail_msg("%s cannot be read", path);
		each(&c, entry->d_name);
		case_free(&c);
		count++;
	}
	closedir(folder);
	assert_true(count >= at_least);
}

static void compare_case(struct stack_case *c, const char *name)
{
	static struct unwind_result result;
	uint32_t same = 0;

	case_unwind(c, &result);
	while (same < result.n_frames && same < c->head.n_frames && result.frames[same] == c->frames[same])
		same++;
	if (result.end != c->head.end || result.n_frames != c->head.n_frames || same != result.n_frames)
		fail_msg("%s: %u frames, end %d, the first %u right, instead of\n%s", name, result.n_frames,
			 (int)result.end, same, c->text);
}

static void test_cases_come_out_as_recorded(void **state)
{
	for_each_case(compare_case, 14);
}

/* With less of the stack the same frames come out, fewer of them, and it says so. */
static void cut_case(struct stack_case *c, const char *name)
{
	static struct unwind_result result;
	uint32_t whole = c->head.n_slice;

	c->head.cut = 1;
	for (uint32_t n = 0; n < whole; n += 8 + n / 16) {
		c->head.n_slice = n;
		case_unwind(c, &result);
		assert_true(result.n_frames <= c->head.n_frames);
		assert_memory_equal(result.frames, c->frames, result.n_frames * sizeof result.frames[0]);
		assert_int_not_equal(result.end, UNWIND_BROKEN);
		if (result.n_frames < c->head.n_frames)
			assert_int_equal(result.end, UNWIND_CUT);
	}
	c->head.n_slice = whole;
}

static void test_short_slices_say_so(void **state)
{
	for_each_case(cut_case, 14);
}

/* Any word of the stack overwritten: it ends, within its bounds. */
static void damage_case(struct stack_case *c, const char *name)
{
	static struct unwind_result result;

	for (uint32_t at = 0; at + 8 <= c->head.n_slice; at += 8 + c->head.n_slice / 512 * 8) {
		static const uint64_t bad[] = { 0, 1, ~0ull, 0x7ffffffff000 };
		uint64_t held;

		memcpy(&held, c->slice + at, 8);
		for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
			memcpy(c->slice + at, &bad[i], 8);
			case_unwind(c, &result);
			assert_in_range(result.n_frames, 1, UNWIND_FRAMES_MAX);
			assert_int_equal(result.frames[0], c->frames[0]);
		}
		memcpy(c->slice + at, &held, 8);
	}
	compare_case(c, name);
}

static void test_damaged_stacks_end(void **state)
{
	for_each_case(damage_case, 14);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases_come_out_as_recorded),
		cmocka_unit_test(test_short_slices_say_so),
		cmocka_unit_test(test_damaged_stacks_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

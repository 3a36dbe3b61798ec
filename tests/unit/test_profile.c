/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of samples, and the memory that samples lie in until they are unwound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "stacks/arena.h"
#include "stacks/shelf.h"
#include "stacks/sums.h"

static struct sums *open_sums(size_t bytes)
{
	struct sums *w;

	assert_int_equal(sums_open(&w, bytes, 64), 0);
	return w;
}

static void test_equal_samples_are_one_sum(void **state)
{
	struct sums *w = open_sums(1u << 20);
	struct sonde_event event = { .proc = 7, .pid = 7, .tid = 7, .comm = "made-up" };
	const __u64 kernel[] = { 1, 2 };
	const struct stack_frame user[] = { { 100, 1 }, { 100, 2 }, { 101, 3 } };
	struct sums_sample s = { .event = &event,
				 .kernel = kernel,
				 .user = user,
				 .n_kernel = 2,
				 .n_user = 3,
				 .value = 5,
				 .cause = "why",
				 .cause_size = 3 };
	struct sum *first, *fresh;

	assert_int_equal(sums_add(w, &s, &first), 0);
	assert_non_null(first);
	s.truncated = true;
	assert_int_equal(sums_add(w, &s, &fresh), 0);
	assert_null(fresh);
	assert_int_equal(first->value, 10);
	assert_int_equal(first->samples, 2);
	assert_true(first->truncated);
	assert_memory_equal(sum_kernel(first), kernel, sizeof kernel);
	assert_memory_equal(sum_user(first), user, sizeof user);
	assert_memory_equal(sum_cause(first), "why", 3);
	sums_close(w);
}

/* Whatever tells two samples apart makes two sums of them. */
static void test_differences_are_kept(void **state)
{
	struct sums *w = open_sums(1u << 20);
	struct sonde_event event = { .proc = 7, .pid = 7, .tid = 7, .comm = "made-up" };
	const __u64 kernel[] = { 1, 2 };
	const struct stack_frame user[] = { { 100, 1 }, { 100, 2 } };
	struct sums_sample s = { .event = &event,
				 .kernel = kernel,
				 .user = user,
				 .n_kernel = 2,
				 .n_user = 2,
				 .cause = "abc",
				 .cause_size = 3 };
	struct sum *fresh;

	assert_int_equal(sums_add(w, &s, &fresh), 0);
	s.n_kernel = 1;
	assert_int_equal(sums_add(w, &s, &fresh), 0);
	assert_non_null(fresh);
	s.n_user = 1;
	assert_int_equal(sums_add(w, &s, &fresh), 0);
	assert_non_null(fresh);
	s.cause_size = 2;
	assert_int_equal(sums_add(w, &s, &fresh), 0);
	assert_non_null(fresh);
	event.tid = 8;
	assert_int_equal(sums_add(w, &s, &fresh), 0);
	assert_non_null(fresh);
	strcpy(event.comm, "renamed");
	assert_int_equal(sums_add(w, &s, &fresh), 0);
	assert_non_null(fresh);
	event.proc = 8;
	assert_int_equal(sums_add(w, &s, &fresh), 0);
	assert_non_null(fresh);
	assert_int_equal(sums_count(w), 7);
	sums_clear(w);
	assert_null(sums_next(w, NULL));
	sums_close(w);
}

static void test_full_sums_say_so(void **state)
{
	struct sums *w = open_sums(4096);
	struct sonde_event event = { .comm = "made-up" };
	struct sums_sample s = { .event = &event };
	struct sum *fresh;
	unsigned n = 0;

	while (sums_add(w, &s, &fresh) == 0) {
		event.tid++;
		n++;
		assert_true(n < 4096);
	}
	assert_int_equal(sums_add(w, &s, &fresh), -ENOSPC);
	assert_int_equal(sums_count(w), n);
	sums_close(w);
}

/* Against a map of who owns which block. */
static void test_arena_hands_out_each_block_once(void **state)
{
	enum { BLOCKS = 300, HELD = 64 };
	struct {
		uint32_t block;
		size_t bytes;
	} held[HELD];
	uint8_t owner[BLOCKS] = { 0 };
	struct arena a;
	uint64_t random = 7;
	unsigned refused = 0;

	assert_int_equal(arena_open(&a, BLOCKS * ARENA_BLOCK), 0);
	for (unsigned i = 0; i < HELD; i++)
		held[i].block = ARENA_NONE;
	for (unsigned round = 0; round < 20000; round++) {
		unsigned i = (random >> 33) % HELD;

		random = random * 6364136223846793005ull + 1442695040888963407ull;
		if (held[i].block != ARENA_NONE) {
			arena_give(&a, held[i].block, held[i].bytes);
			for (size_t b = 0; b * ARENA_BLOCK < held[i].bytes; b++)
				owner[held[i].block + b] = 0;
			held[i].block = ARENA_NONE;
			continue;
		}
		held[i].bytes = 1 + (random >> 40) % (12 * ARENA_BLOCK);
		held[i].block = arena_take(&a, held[i].bytes);
		refused += held[i].block == ARENA_NONE;
		for (size_t b = 0; held[i].block != ARENA_NONE && b * ARENA_BLOCK < held[i].bytes; b++) {
			assert_true(held[i].block + b < BLOCKS);
			assert_int_equal(owner[held[i].block + b], 0);
			owner[held[i].block + b] = 1;
		}
	}
	assert_true(refused > 0);
	for (unsigned i = 0; i < HELD; i++)
		if (held[i].block != ARENA_NONE)
			arena_give(&a, held[i].block, held[i].bytes);
	assert_int_equal(a.n_used, 0);
	assert_int_equal(arena_take(&a, BLOCKS * ARENA_BLOCK), 0);
	arena_close(&a);
}

static void test_shelf_keeps_within_its_bound(void **state)
{
	size_t bound = 64u << 10, room;
	uint8_t *memory = calloc(1, bound + SHELF_SCRATCH);
	struct shelf *shelf = calloc(1, sizeof *shelf);

	shelf_open(shelf, memory, bound);
	for (uint64_t file = 1; file <= 3000; file++) {
		uint8_t *at = shelf_room(shelf, &room);
		size_t bytes = 100 + file * 37 % 5000;

		assert_true(room >= SHELF_SCRATCH);
		memset(at, (int)(file & 0xff), bytes);
		shelf_keep(shelf, file, file % 2 ? SHELF_UNWIND : SHELF_SYMBOLS, file % 50 ? 0 : -ENOENT, bytes, bytes);
		assert_true(shelf->filled <= bound);
		/* The first one is used again and again, so it stays. */
		struct shelf_entry *first = shelf_find(shelf, 1, SHELF_UNWIND);

		assert_non_null(first);
		assert_int_equal(*(uint8_t *)shelf_table(shelf, first), 1);
	}
	for (unsigned i = 0; i < shelf->count; i++) {
		struct shelf_entry *e = &shelf->entries[i];

		assert_ptr_equal(shelf_find(shelf, e->file, e->kind), e);
		if (!e->status)
			assert_int_equal(*(uint8_t *)shelf_table(shelf, e), e->file & 0xff);
	}
	assert_null(shelf_find(shelf, 2, SHELF_SYMBOLS));
	assert_null(shelf_find(shelf, 3000, SHELF_UNWIND));
	free(shelf);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal_samples_are_one_sum),
		cmocka_unit_test(test_differences_are_kept),
		cmocka_unit_test(test_full_sums_say_so),
		cmocka_unit_test(test_arena_hands_out_each_block_once),
		cmocka_unit_test(test_shelf_keeps_within_its_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Address spaces from made-up events: what was mapped when, through exec, fork, exit, pid reuse, /proc, and the
 * bound on memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <malloc.h>
#include <string.h>

#include "base/base.h"
#include "base/siphash.h"
#include "stacks/spaces.h"

#define GRACE 1000u
#define BOUND (4u << 20)

static int set_up(void **state)
{
	struct spaces_options options = { .bytes = BOUND, .grace_ns = GRACE };

	return spaces_open((struct spaces **)state, &options);
}

static int tear_down(void **state)
{
	struct spaces_health health;

	spaces_health(*state, &health);
	spaces_close(*state);
	return health.bytes > BOUND;
}

/* A mapping of the file with inode `ino`, named after it. */
static void map(struct spaces *s, int pid, uint64_t time, uint64_t start, uint64_t end, uint64_t offset, uint64_t ino)
{
	struct space_map_event event = {
		.pid = pid, .time = time, .start = start, .end = end, .offset = offset, .dev = ino ? 7 : 0, .ino = ino
	};
	char path[32];

	snprintf(path, sizeof path, "/lib/%llu", (unsigned long long)ino);
	event.path = ino ? path : "//anon";
	spaces_map(s, &event);
}

/* What is at `address`: inode and offset, or -1 where there is none. */
static void expect(struct spaces *s, int pid, uint64_t time, uint64_t address, int64_t ino, uint64_t offset)
{
	const struct space *space = spaces_find(s, pid, time);
	int64_t found = -1;
	uint64_t found_offset = 0;

	assert_non_null(space);
	assert_int_equal(space->pid, pid);
	for (uint32_t i = 0; i < space->n_mappings; i++) {
		const struct space_mapping *m = &space->mappings[i];

		assert_true(m->start < m->end);
		assert_true(!i || m[-1].end <= m->start);
		if (address < m->start || address >= m->end)
			continue;
		found = m->file ? (int64_t)spaces_file(s, m->file)->ino : 0;
		found_offset = m->offset + (address - m->start);
	}
	assert_int_equal(found, ino);
	if (ino > 0)
		assert_int_equal(found_offset, offset);
}

static struct spaces_health health_of(struct spaces *s)
{
	struct spaces_health health;

	spaces_health(s, &health);
	return health;
}

/* /proc of a process: one mapping for each inode, at inode * 0x1000. */
static void give(struct spaces *s, int pid, uint64_t time, const uint64_t *inodes, unsigned count)
{
	struct mapping mappings[16] = { 0 };
	struct maps maps = { .count = count, .mappings = mappings, .text = (char *)"/old\0[vdso]" };

	for (unsigned i = 0; i < count; i++)
		mappings[i] = (struct mapping){
			.start = inodes[i] << 12, .end = (inodes[i] + 1) << 12, .dev = 7, .ino = inodes[i]
		};
	spaces_give(s, pid, time, &maps);
}

/* ---- events ---- */

static void test_nothing_is_known_of_a_stranger(void **state)
{
	struct spaces *s = *state;

	assert_null(spaces_find(s, 1, 100));
	assert_null(spaces_file(s, 0));
	assert_null(spaces_file(s, 12345));
	spaces_exit(s, 1, 100);
	assert_null(spaces_find(s, 1, 100));
	assert_int_equal(health_of(s).spaces, 0);
}

static void test_exec_begins_a_space(void **state)
{
	struct spaces *s = *state;

	spaces_fork(s, 1, 10, 100);
	spaces_exec(s, 10, 110);
	map(s, 10, 111, 0x1000, 0x3000, 0, 5);
	spaces_exec(s, 10, 200);
	map(s, 10, 201, 0x2000, 0x4000, 0x8000, 6);
	spaces_exit(s, 10, 300);

	expect(s, 10, 150, 0x1000, 5, 0);
	expect(s, 10, 150, 0x3000, -1, 0);
	expect(s, 10, 250, 0x1000, -1, 0);
	expect(s, 10, 250, 0x3000, 6, 0x9000);
	assert_int_equal(spaces_find(s, 10, 150)->begin, 110);
	assert_int_equal(spaces_find(s, 10, 150)->end, 200);
	assert_int_equal(spaces_find(s, 10, 250)->end, 300);
	assert_true(spaces_find(s, 10, 250)->known);
	assert_int_equal(spaces_find(s, 10, 105)->begin, 100);
	assert_null(spaces_find(s, 10, 99));
}

static void test_a_mapping_takes_the_place_of_older_ones(void **state)
{
	struct spaces *s = *state;

	spaces_exec(s, 10, 100);
	map(s, 10, 101, 0x1000, 0x9000, 0x10000, 1);
	map(s, 10, 102, 0x3000, 0x5000, 0x70000, 2); /* in the middle */
	expect(s, 10, 103, 0x2fff, 1, 0x11fff);
	expect(s, 10, 103, 0x3000, 2, 0x70000);
	expect(s, 10, 103, 0x4fff, 2, 0x71fff);
	expect(s, 10, 103, 0x5000, 1, 0x14000);
	map(s, 10, 104, 0x2000, 0x6000, 0, 3); /* over three */
	expect(s, 10, 105, 0x1fff, 1, 0x10fff);
	expect(s, 10, 105, 0x2000, 3, 0);
	expect(s, 10, 105, 0x6000, 1, 0x15000);
	map(s, 10, 106, 0, 0xa000, 0, 0); /* over all */
	expect(s, 10, 107, 0x8fff, 0, 0);
	assert_int_equal(health_of(s).mappings, 1);
	assert_string_equal(spaces_find(s, 10, 107)->mappings[0].name, "//anon");
	assert_int_equal(health_of(s).evicted, 0);
}

static void test_parts_of_one_mapping_join(void **state)
{
	struct spaces *s = *state;
	uint64_t number;

	spaces_exec(s, 10, 100);
	map(s, 10, 101, 0x1000, 0x2000, 0, 1);
	map(s, 10, 101, 0x3000, 0x4000, 0x2000, 1);
	map(s, 10, 101, 0x2000, 0x3000, 0x1000, 1);
	map(s, 10, 101, 0x8000, 0x9000, 0x8000, 0);
	map(s, 10, 101, 0x9000, 0xa000, 0x9000, 0);
	assert_int_equal(spaces_find(s, 10, 102)->n_mappings, 2);
	expect(s, 10, 102, 0x3456, 1, 0x2456);
	number = spaces_find(s, 10, 102)->number;
	map(s, 10, 103, 0x2000, 0x3000, 0x1000, 1); /* said before */
	map(s, 10, 103, 0x8000, 0xa000, 0x8000, 0);
	assert_int_equal(spaces_find(s, 10, 104)->number, number);
	map(s, 10, 105, 0x4000, 0x5000, 0x2000, 1); /* beside it, but of another place of the file */
	assert_int_equal(spaces_find(s, 10, 106)->n_mappings, 3);
	assert_int_not_equal(spaces_find(s, 10, 106)->number, number);
}

static void test_fork_shares_until_one_changes(void **state)
{
	struct spaces *s = *state;
	uint64_t before;

	spaces_exec(s, 10, 100);
	map(s, 10, 101, 0x1000, 0x2000, 0, 1);
	before = health_of(s).mappings;
	spaces_fork(s, 10, 11, 200);
	spaces_fork(s, 11, 12, 210);
	spaces_fork(s, 12, 13, 220);
	assert_int_equal(health_of(s).mappings, before);
	expect(s, 13, 230, 0x1000, 1, 0);
	map(s, 11, 300, 0x1000, 0x2000, 0, 2);
	map(s, 10, 310, 0x3000, 0x4000, 0, 3);
	expect(s, 10, 320, 0x1000, 1, 0);
	expect(s, 10, 320, 0x3000, 3, 0);
	expect(s, 11, 320, 0x1000, 2, 0);
	expect(s, 11, 320, 0x3000, -1, 0);
	expect(s, 12, 320, 0x1000, 1, 0);
	expect(s, 13, 320, 0x1000, 1, 0);
	expect(s, 13, 320, 0x3000, -1, 0);
	assert_true(spaces_find(s, 13, 320)->known);
	/* The parent's end is not the child's. */
	spaces_exit(s, 10, 400);
	spaces_exit(s, 12, 400);
	spaces_sweep(s, 400 + 2 * GRACE);
	assert_null(spaces_find(s, 10, 500));
	assert_null(spaces_find(s, 12, 500));
	expect(s, 13, 500, 0x1000, 1, 0);
}

static void test_spaces_have_numbers_of_their_own(void **state)
{
	struct spaces *s = *state;

	spaces_exec(s, 10, 100);
	map(s, 10, 101, 0x1000, 0x2000, 0, 1);
	spaces_fork(s, 10, 11, 200);
	assert_int_not_equal(spaces_find(s, 10, 300)->number, spaces_find(s, 11, 300)->number);
	assert_int_equal(spaces_find(s, 10, 300)->number, spaces_find(s, 10, 400)->number);
}

static void test_pid_used_again(void **state)
{
	struct spaces *s = *state;

	spaces_fork(s, 1, 10, 100);
	spaces_exec(s, 10, 110);
	map(s, 10, 111, 0x1000, 0x2000, 0, 1);
	spaces_exit(s, 10, 200);
	spaces_fork(s, 1, 10, 300);
	spaces_exec(s, 10, 310);
	map(s, 10, 311, 0x1000, 0x2000, 0, 2);
	expect(s, 10, 150, 0x1000, 1, 0);
	expect(s, 10, 350, 0x1000, 2, 0);
	/* An exit of the one before, told late. */
	spaces_exit(s, 10, 299);
	assert_int_equal(spaces_find(s, 10, 350)->end, 0);
	/* And again, with the exit lost. */
	spaces_fork(s, 1, 10, 400);
	assert_int_equal(spaces_find(s, 10, 350)->end, 400);
	assert_int_equal(spaces_find(s, 10, 450)->n_mappings, 0);
}

static void test_what_ended_stays_for_the_grace(void **state)
{
	struct spaces *s = *state;

	spaces_exec(s, 10, 100);
	map(s, 10, 101, 0x1000, 0x2000, 0, 1);
	spaces_exit(s, 10, 200);
	spaces_sweep(s, 200 + GRACE);
	expect(s, 10, 150, 0x1000, 1, 0);
	spaces_sweep(s, 200 + GRACE + 1);
	assert_null(spaces_find(s, 10, 150));
	assert_int_equal(health_of(s).mappings, 0);
	assert_int_equal(health_of(s).evicted, 0);
}

static void test_samples_after_the_end_keep_a_space(void **state)
{
	struct spaces *s = *state;

	spaces_exec(s, 10, 100);
	map(s, 10, 101, 0x1000, 0x2000, 0, 1);
	spaces_exit(s, 10, 200); /* its first thread, while others run on */
	expect(s, 10, 900, 0x1000, 1, 0);
	spaces_sweep(s, 200 + GRACE + 1);
	expect(s, 10, 1500, 0x1000, 1, 0);
	spaces_sweep(s, 1500 + GRACE);
	/* What maps lives. */
	map(s, 10, 2400, 0x2000, 0x3000, 0, 2);
	spaces_sweep(s, 100000);
	expect(s, 10, 150, 0x1000, 1, 0);
	expect(s, 10, 100000, 0x2000, 2, 0);
	assert_int_equal(spaces_find(s, 10, 100000)->end, 0);
}

static void test_execs_without_a_pause_are_bounded(void **state)
{
	struct spaces *s = *state;

	for (uint64_t time = 100; time < 1100; time++)
		spaces_exec(s, 10, time);
	assert_true(health_of(s).spaces < 16);
	assert_true(health_of(s).evicted > 900);
	assert_int_equal(spaces_find(s, 10, 1099)->begin, 1099);
	assert_int_equal(spaces_find(s, 10, 1095)->begin, 1095);
}

static void test_more_mappings_than_are_kept(void **state)
{
	struct spaces *s = *state;

	spaces_exec(s, 10, 100);
	for (uint64_t i = 0; i < 5000; i++)
		map(s, 10, 101, i << 13, (i << 13) + 0x1000, 0, 1);
	assert_int_equal(spaces_find(s, 10, 102)->n_mappings, 4096);
	assert_int_equal(health_of(s).evicted, 5000 - 4096);
	expect(s, 10, 102, 1999 << 13, 1, 0);
	/* What takes the place of others still can. */
	map(s, 10, 103, 0, 1 << 20, 0, 2);
	expect(s, 10, 104, 0, 2, 0);
}

static void test_an_empty_mapping_is_no_mapping(void **state)
{
	struct spaces *s = *state;

	spaces_exec(s, 10, 100);
	map(s, 10, 101, 0x1000, 0x1000, 0, 1);
	map(s, 10, 101, 0x2000, 0x1000, 0, 1);
	assert_int_equal(spaces_find(s, 10, 102)->n_mappings, 0);
}

static void test_names_of_memory_without_a_file(void **state)
{
	struct spaces *s = *state;
	struct space_map_event event = { .pid = 10, .time = 101, .start = 0x1000, .end = 0x3000, .path = "[vdso]" };

	spaces_exec(s, 10, 100);
	spaces_map(s, &event);
	event.start = 0x8000;
	event.end = 0x9000;
	event.path = "whatever";
	spaces_map(s, &event);
	assert_string_equal(spaces_find(s, 10, 102)->mappings[0].name, "[vdso]");
	assert_int_equal(spaces_find(s, 10, 102)->mappings[0].file, 0);
	assert_string_equal(spaces_find(s, 10, 102)->mappings[1].name, "//anon");
}

/* ---- files ---- */

static uint64_t number_of(struct spaces *s, uint64_t at)
{
	const struct space *space = spaces_find(s, 10, 1000);

	for (uint32_t i = 0; i < space->n_mappings; i++)
		if (space->mappings[i].start == at)
			return space->mappings[i].file;
	return 0;
}

static void test_one_entry_for_each_content(void **state)
{
	struct spaces *s = *state;
	struct space_map_event event = { .pid = 10, .time = 101, .build_id_length = 20, .build_id = { 1, 2, 3 } };
	static const char *const paths[] = { "/one/a", "/two/a", "/a", "/d", "/d" };

	spaces_exec(s, 10, 100);
	for (unsigned i = 0; i < 5; i++) {
		event.start = 0x10000 * (i + 1);
		event.end = event.start + 0x1000;
		event.path = paths[i];
		event.build_id[19] = i == 2; /* the third has another */
		if (i >= 3)
			event.build_id_length = 0; /* the same inode under one name */
		event.dev = event.ino = i >= 3 ? 9 : 0;
		spaces_map(s, &event);
	}
	event.start = 0x60000;
	event.end = 0x61000;
	event.path = "/e"; /* the inode under another name */
	spaces_map(s, &event);
	event = (struct space_map_event){ .pid = 10, .time = 101, .start = 0x70000, .end = 0x71000, .path = "/b" };
	event.build_id_length = 20; /* the first one's content under another name */
	memcpy(event.build_id, (uint8_t[]){ 1, 2, 3 }, 3);
	spaces_map(s, &event);
	assert_int_not_equal(number_of(s, 0x10000), number_of(s, 0x70000));
	assert_int_equal(number_of(s, 0x10000), number_of(s, 0x20000));
	assert_int_not_equal(number_of(s, 0x10000), number_of(s, 0x30000));
	assert_int_equal(number_of(s, 0x40000), number_of(s, 0x50000));
	assert_int_not_equal(number_of(s, 0x40000), number_of(s, 0x60000));
	assert_int_equal(health_of(s).files, 5);
	assert_string_equal(spaces_file(s, number_of(s, 0x20000))->path, "/one/a");
	assert_int_equal(spaces_file(s, number_of(s, 0x20000))->number, number_of(s, 0x20000));
	assert_int_equal(spaces_file(s, number_of(s, 0x20000))->build_id_length, 20);
	assert_int_equal(spaces_file(s, number_of(s, 0x20000))->build_id[2], 3);
	assert_int_equal(spaces_file(s, number_of(s, 0x60000))->ino, 9);
}

static void test_numbers_are_of_this_run(void **state)
{
	struct spaces *other;
	uint64_t number;

	spaces_exec(*state, 10, 100);
	map(*state, 10, 101, 0x1000, 0x2000, 0, 1);
	number = number_of(*state, 0x1000);
	assert_int_equal(set_up((void **)&other), 0);
	spaces_exec(other, 10, 100);
	map(other, 10, 101, 0x1000, 0x2000, 0, 1);
	assert_int_not_equal(number_of(other, 0x1000), number);
	spaces_close(other);
}

/* The vector of the paper's appendix. */
static void test_siphash_is_siphash(void **state)
{
	struct siphash_key key;
	uint8_t bytes[16];

	for (unsigned i = 0; i < 16; i++)
		bytes[i] = (uint8_t)i;
	memcpy(&key, bytes, sizeof key);
	assert_int_equal(siphash(&key, bytes, 15), 0xa129ca6149be45e5ull);
}

/* ---- older than the agent ---- */

static void test_older_process_is_read_once(void **state)
{
	static const uint64_t inodes[] = { 1, 2, 3 };
	struct spaces *s = *state;

	give(s, 10, 500, inodes, 3);
	expect(s, 10, 400, 0x1000, 1, 0);
	expect(s, 10, 600, 0x3fff, 3, 0xfff);
	assert_true(spaces_find(s, 10, 600)->known);
	assert_int_equal(spaces_find(s, 10, 600)->begin, 0);
}

static void test_events_win_over_proc(void **state)
{
	static const uint64_t inodes[] = { 1, 2, 3 };
	struct spaces *s = *state;

	map(s, 10, 400, 0x2000, 0x3000, 0, 9);
	assert_false(spaces_find(s, 10, 450)->known);
	assert_int_equal(spaces_find(s, 10, 450)->source, 10);
	expect(s, 10, 450, 0x2000, 9, 0);
	map(s, 10, 600, 0x3800, 0x5000, 0, 8);
	give(s, 10, 500, inodes, 3);
	assert_true(spaces_find(s, 10, 700)->known);
	expect(s, 10, 700, 0x1000, 1, 0);
	expect(s, 10, 700, 0x2000, 9, 0);
	expect(s, 10, 700, 0x3000, 3, 0);
	expect(s, 10, 700, 0x3800, 8, 0);
	assert_int_equal(health_of(s).mappings, 4);
	/* A second reading changes nothing. */
	give(s, 10, 650, inodes, 1);
	expect(s, 10, 700, 0x2000, 9, 0);
}

static void test_proc_of_another_program_is_not_taken(void **state)
{
	static const uint64_t inodes[] = { 1 };
	struct spaces *s = *state;

	map(s, 10, 400, 0x2000, 0x3000, 0, 9);
	spaces_exec(s, 10, 600);
	give(s, 10, 500, inodes, 1);
	expect(s, 10, 550, 0x1000, -1, 0);
	expect(s, 10, 700, 0x1000, -1, 0);
	/* And nobody needs to ask again. */
	assert_true(spaces_find(s, 10, 550)->known);
	/* Neither is what was read later any use for the program before. */
	map(s, 11, 400, 0x2000, 0x3000, 0, 9);
	spaces_exec(s, 11, 450);
	give(s, 11, 500, inodes, 1);
	expect(s, 11, 425, 0x1000, -1, 0);
	assert_true(spaces_find(s, 11, 425)->known);
	expect(s, 11, 500, 0x1000, -1, 0);
}

static void test_exec_of_a_stranger_leaves_no_question(void **state)
{
	struct spaces *s = *state;

	spaces_exec(s, 10, 100);
	assert_true(spaces_find(s, 10, 50)->known);
	assert_int_equal(spaces_find(s, 10, 50)->n_mappings, 0);
	assert_int_equal(spaces_find(s, 10, 50)->end, 100);
}

static void test_empty_proc_is_an_answer(void **state)
{
	struct spaces *s = *state;

	give(s, 10, 100, NULL, 0);
	assert_true(spaces_find(s, 10, 200)->known);
	assert_int_equal(spaces_find(s, 10, 200)->n_mappings, 0);
	/* But not for those who share the list. */
	spaces_fork(s, 20, 21, 100);
	give(s, 21, 200, NULL, 0);
	assert_true(spaces_find(s, 21, 200)->known);
	assert_false(spaces_find(s, 20, 200)->known);
}

static void test_children_become_known_with_their_parent(void **state)
{
	static const uint64_t inodes[] = { 1, 2 };
	struct spaces *s = *state;

	spaces_fork(s, 10, 11, 100);
	spaces_fork(s, 11, 12, 110);
	spaces_fork(s, 10, 13, 120);
	map(s, 13, 130, 0x1000, 0x2000, 0, 9); /* has its own list from here */
	spaces_exit(s, 12, 140);
	assert_int_equal(spaces_find(s, 12, 130)->source, 10);
	assert_int_equal(spaces_find(s, 11, 130)->source, 10);
	assert_int_equal(spaces_find(s, 13, 130)->source, 13);
	give(s, 10, 200, inodes, 2);
	expect(s, 12, 130, 0x2000, 2, 0);
	assert_true(spaces_find(s, 12, 130)->known);
	assert_true(spaces_find(s, 11, 300)->known);
	assert_false(spaces_find(s, 13, 300)->known);
	expect(s, 13, 300, 0x1000, 9, 0);
	give(s, 13, 300, inodes, 2);
	expect(s, 13, 400, 0x1000, 9, 0);
	expect(s, 13, 400, 0x2000, 2, 0);
}

static void test_a_parent_that_changed_is_no_source(void **state)
{
	static const uint64_t inodes[] = { 1, 2 };
	struct spaces *s = *state;

	spaces_fork(s, 10, 11, 100);
	map(s, 10, 130, 0x8000, 0x9000, 0, 9);
	assert_int_equal(spaces_find(s, 11, 140)->source, 11);
	give(s, 10, 150, inodes, 2);
	assert_true(spaces_find(s, 10, 160)->known);
	assert_false(spaces_find(s, 11, 160)->known);
	spaces_fork(s, 20, 21, 200);
	spaces_exec(s, 20, 210);
	assert_int_equal(spaces_find(s, 21, 220)->source, 21);
	give(s, 21, 220, inodes, 2);
	expect(s, 21, 230, 0x2000, 2, 0);
	expect(s, 20, 205, 0x2000, 2, 0);
}

static void test_fork_told_after_proc_was_read(void **state)
{
	static const uint64_t inodes[] = { 1, 2 };
	struct spaces *s = *state;

	/* Of which of the two was it? */
	give(s, 10, 500, inodes, 2);
	spaces_fork(s, 1, 10, 400);
	assert_false(spaces_find(s, 10, 500)->known);
	assert_int_equal(spaces_find(s, 10, 500)->n_mappings, 0);
	assert_int_equal(spaces_find(s, 10, 500)->begin, 400);
	assert_int_equal(spaces_find(s, 10, 300)->n_mappings, 0);
	assert_true(spaces_find(s, 10, 300)->known);
	/* The same with an end. */
	give(s, 20, 500, inodes, 2);
	spaces_exit(s, 20, 450);
	assert_int_equal(spaces_find(s, 20, 300)->n_mappings, 0);
	give(s, 21, 500, inodes, 2);
	spaces_exit(s, 21, 501);
	expect(s, 21, 300, 0x2000, 2, 0);
}

/* Read after an end that was told: whoever that was lives. */
static void test_proc_of_a_process_that_had_ended(void **state)
{
	static const uint64_t inodes[] = { 1, 2 };
	struct spaces *s = *state;

	map(s, 10, 100, 0x8000, 0x9000, 0, 9);
	spaces_exit(s, 10, 200);
	give(s, 10, 300, inodes, 2);
	expect(s, 10, 150, 0x8000, 9, 0);
	expect(s, 10, 150, 0x1000, -1, 0);
	expect(s, 10, 350, 0x1000, 1, 0);
	assert_int_equal(spaces_find(s, 10, 350)->begin, 200);
	assert_int_equal(spaces_find(s, 10, 350)->end, 0);
}

/* Read after the exec, told before it: neither the program before nor those forked from it had these mappings. */
static void test_exec_told_after_proc_was_read(void **state)
{
	static const uint64_t inodes[] = { 1, 2 };
	struct spaces *s = *state;

	spaces_fork(s, 10, 11, 100);
	give(s, 10, 500, inodes, 2);
	expect(s, 11, 500, 0x1000, 1, 0);
	spaces_exec(s, 10, 400);
	map(s, 10, 410, 0x1000, 0x2000, 0, 1);
	expect(s, 10, 450, 0x1000, 1, 0);
	expect(s, 10, 450, 0x2000, -1, 0);
	assert_true(spaces_find(s, 10, 450)->known);
	expect(s, 10, 350, 0x1000, -1, 0);
	assert_true(spaces_find(s, 10, 350)->known);
	assert_false(spaces_find(s, 11, 450)->known);
	assert_int_equal(spaces_find(s, 11, 450)->source, 11);
	assert_int_equal(health_of(s).mappings, 1);
	/* An exec after the reading takes nothing back. */
	give(s, 11, 600, inodes, 2);
	spaces_exec(s, 11, 601);
	expect(s, 11, 600, 0x2000, 2, 0);
}

/* ---- lost events ---- */

static void test_what_lived_during_a_loss_is_unknown(void **state)
{
	static const uint64_t inodes[] = { 1, 2 };
	struct spaces *s = *state;

	spaces_exec(s, 10, 100);
	map(s, 10, 101, 0x1000, 0x2000, 0, 7);
	spaces_exec(s, 20, 100);
	spaces_exit(s, 20, 150);
	spaces_exec(s, 11, 250); /* during the loss */
	map(s, 11, 251, 0x1000, 0x2000, 0, 8);
	spaces_exec(s, 13, 305); /* after it, and told before it */
	map(s, 13, 306, 0x1000, 0x2000, 0, 9);
	spaces_lost(s, 200, 300);
	spaces_exec(s, 12, 310);
	map(s, 12, 311, 0x1000, 0x2000, 0, 9);

	expect(s, 10, 199, 0x1000, 7, 0);
	assert_int_equal(spaces_find(s, 10, 199)->end, 200);
	assert_false(spaces_find(s, 10, 400)->known);
	assert_int_equal(spaces_find(s, 10, 400)->n_mappings, 0);
	assert_int_equal(spaces_find(s, 10, 400)->source, 10);
	assert_false(spaces_find(s, 11, 400)->known);
	assert_int_equal(spaces_find(s, 11, 400)->n_mappings, 0);
	assert_int_equal(spaces_find(s, 11, 299)->begin, 250);
	assert_int_equal(spaces_find(s, 11, 299)->n_mappings, 0);
	assert_int_equal(spaces_find(s, 20, 140)->end, 150);
	assert_true(spaces_find(s, 12, 400)->known);
	expect(s, 12, 400, 0x1000, 9, 0);
	assert_true(spaces_find(s, 13, 400)->known);
	expect(s, 13, 400, 0x1000, 9, 0);

	give(s, 10, 500, inodes, 2);
	expect(s, 10, 600, 0x1000, 1, 0);
	/* Of the time of the loss nobody knows. */
	expect(s, 10, 250, 0x2000, -1, 0);
	expect(s, 10, 300, 0x2000, 2, 0);
	assert_true(spaces_find(s, 10, 250)->known);
	assert_true(spaces_find(s, 10, 600)->known);
	/* A fork of one that nobody has looked at since. */
	spaces_exec(s, 30, 700);
	map(s, 30, 701, 0x1000, 0x2000, 0, 7);
	spaces_lost(s, 710, 720);
	spaces_fork(s, 30, 31, 730);
	assert_false(spaces_find(s, 31, 740)->known);
	assert_int_equal(spaces_find(s, 31, 740)->source, 30);
	give(s, 30, 740, inodes, 2);
	expect(s, 31, 740, 0x2000, 2, 0);
}

/* An exec between the reading and its program's last told event may be among the lost. */
static void test_a_loss_takes_back_what_was_read_in_it(void **state)
{
	static const uint64_t inodes[] = { 1, 2 };
	struct spaces *s = *state;

	/* Alive, and shared by a child of before. */
	spaces_fork(s, 10, 11, 100);
	spaces_exit(s, 11, 110);
	give(s, 10, 250, inodes, 2);
	expect(s, 11, 105, 0x1000, 1, 0);
	/* Ended since. */
	give(s, 20, 250, inodes, 2);
	spaces_exit(s, 20, 260);
	/* Copied since. */
	give(s, 30, 250, inodes, 2);
	spaces_fork(s, 30, 31, 255);
	map(s, 30, 260, 0x8000, 0x9000, 0, 9);
	/* Read before. */
	give(s, 40, 199, inodes, 2);

	spaces_lost(s, 200, 300);
	expect(s, 11, 105, 0x1000, -1, 0);
	expect(s, 10, 105, 0x1000, -1, 0);
	expect(s, 20, 150, 0x1000, -1, 0);
	expect(s, 30, 150, 0x1000, -1, 0);
	expect(s, 31, 257, 0x1000, -1, 0);
	expect(s, 40, 150, 0x1000, 1, 0);
	assert_int_equal(health_of(s).mappings, 2);
}

static void test_a_loss_costs_no_more_than_the_bound(void **state)
{
	struct spaces *s = *state;

	for (int pid = 1000; pid < 8000; pid++) {
		spaces_exec(s, pid, 100);
		map(s, pid, 101, 0x1000, 0x2000, 0, 7);
	}
	for (unsigned loss = 1; loss < 20; loss++) {
		spaces_lost(s, loss * 1000, loss * 1000 + 1);
		for (int pid = 1000; pid < 8000; pid++) {
			spaces_find(s, pid, loss * 1000 + 2);
			assert_true(health_of(s).bytes <= BOUND);
		}
	}
}

/* ---- the bound ---- */

static void exec_with_mappings(struct spaces *s, int parent, int pid, uint64_t time, unsigned mappings)
{
	spaces_fork(s, parent, pid, time);
	spaces_exec(s, pid, time + 1);
	for (unsigned i = 0; i < mappings; i++)
		map(s, pid, time + 2, ((uint64_t)pid * 64 + 2 * i) << 12, ((uint64_t)pid * 64 + 2 * i + 1) << 12, 0,
		    1 + (unsigned)pid % 8 * mappings + i);
}

static void test_five_thousand_processes_fit(void **state)
{
	struct spaces *s = *state;

	for (int pid = 1000; pid < 6000; pid++) {
		exec_with_mappings(s, 1, pid, (uint64_t)pid * 10, 10);
		spaces_sweep(s, (uint64_t)pid * 10 + 5);
	}
	spaces_fork(s, 1000, 900, 70000);
	spaces_exec(s, 900, 70001);
	for (uint64_t i = 0; i < 2000; i++)
		map(s, 900, 70002, i << 13, (i << 13) + 0x1000, 0, 1 + i % 100);
	/* Forked without exec: next to nothing. */
	for (int pid = 6000; pid < 6500; pid++)
		spaces_fork(s, 900, pid, 70010);
	print_message("5 500 processes: %llu bytes\n", (unsigned long long)health_of(s).bytes);
	assert_int_equal(health_of(s).evicted, 0);
	assert_true(health_of(s).bytes <= BOUND);
	assert_int_equal(health_of(s).mappings, 52000);
	for (int pid = 1000; pid < 6000; pid++)
		expect(s, pid, 80000, ((uint64_t)pid * 64 + 18) << 12, 1 + pid % 8 * 10 + 9, 0);
	expect(s, 6499, 80000, 1999 << 13, 100, 0);
}

static void test_bytes_are_what_malloc_gave(void **state)
{
	struct mallinfo2 before = mallinfo2(), after;
	struct spaces *s;

	assert_int_equal(set_up((void **)&s), 0);
	for (int pid = 1000; pid < 3000; pid++)
		exec_with_mappings(s, 1, pid, (uint64_t)pid * 10, 10);
	after = mallinfo2();
	/* Under a sanitizer malloc says nothing. */
	if (after.uordblks > before.uordblks) {
		double ratio = (double)health_of(s).bytes /
			       (double)(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd);

		assert_true(ratio > 0.97 && ratio < 1.03);
	}
	spaces_close(s);
}

static void test_beyond_the_bound_the_least_used_goes(void **state)
{
	struct spaces *s = *state;

	for (int pid = 1000; pid < 21000; pid++) {
		exec_with_mappings(s, 1, pid, (uint64_t)pid * 10, 10);
		assert_true(health_of(s).bytes <= BOUND);
		expect(s, 1000, (uint64_t)pid * 10 + 5, (1000ull * 64) << 12, 1, 0); /* in use all the time */
	}
	assert_true(health_of(s).evicted > 10000);
	assert_null(spaces_find(s, 1001, 300000));
	assert_non_null(spaces_find(s, 20999, 300000));
}

static void test_ended_ones_go_before_living(void **state)
{
	struct spaces *s = *state;

	for (int pid = 1000; pid < 1500; pid++)
		exec_with_mappings(s, 1, pid, (uint64_t)pid * 10, 10);
	for (int pid = 2000; pid < 12000; pid++) {
		exec_with_mappings(s, 1, pid, (uint64_t)pid * 10, 10);
		spaces_exit(s, pid, (uint64_t)pid * 10 + 5);
	}
	assert_true(health_of(s).evicted > 0);
	for (int pid = 1000; pid < 1500; pid++)
		assert_non_null(spaces_find(s, pid, 300000));
}

static void test_files_of_living_spaces_stay(void **state)
{
	struct spaces *s = *state;

	spaces_exec(s, 10, 100);
	map(s, 10, 101, 0x1000, 0x2000, 0, 77777);
	spaces_exec(s, 11, 100);
	/* One mapping after the other over the same place, each of a file of its own. */
	for (uint64_t i = 0; i < 50000; i++)
		map(s, 11, 101, 0x1000, 0x2000, 0, 100000 + i);
	assert_true(health_of(s).files < 50000);
	assert_true(health_of(s).evicted == 0);
	expect(s, 10, 200, 0x1000, 77777, 0);
	expect(s, 11, 200, 0x1000, 149999, 0);
}

static void test_a_bound_too_small_for_anything(void **state)
{
	struct spaces_options options = { .bytes = 1, .grace_ns = GRACE };
	struct spaces *s;

	assert_int_equal(spaces_open(&s, &options), 0);
	exec_with_mappings(s, 1, 10, 100, 10);
	give(s, 11, 100, NULL, 0);
	assert_null(spaces_find(s, 10, 200));
	assert_true(health_of(s).evicted > 0);
	assert_int_equal(health_of(s).spaces, 0);
	spaces_close(s);
	spaces_close(NULL);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		EACH(test_nothing_is_known_of_a_stranger),
		EACH(test_exec_begins_a_space),
		EACH(test_a_mapping_takes_the_place_of_older_ones),
		EACH(test_parts_of_one_mapping_join),
		EACH(test_fork_shares_until_one_changes),
		EACH(test_spaces_have_numbers_of_their_own),
		EACH(test_pid_used_again),
		EACH(test_what_ended_stays_for_the_grace),
		EACH(test_samples_after_the_end_keep_a_space),
		EACH(test_execs_without_a_pause_are_bounded),
		EACH(test_more_mappings_than_are_kept),
		EACH(test_an_empty_mapping_is_no_mapping),
		EACH(test_names_of_memory_without_a_file),
		EACH(test_one_entry_for_each_content),
		EACH(test_numbers_are_of_this_run),
		EACH(test_older_process_is_read_once),
		EACH(test_events_win_over_proc),
		EACH(test_proc_of_another_program_is_not_taken),
		EACH(test_exec_of_a_stranger_leaves_no_question),
		EACH(test_empty_proc_is_an_answer),
		EACH(test_children_become_known_with_their_parent),
		EACH(test_a_parent_that_changed_is_no_source),
		EACH(test_fork_told_after_proc_was_read),
		EACH(test_proc_of_a_process_that_had_ended),
		EACH(test_exec_told_after_proc_was_read),
		EACH(test_what_lived_during_a_loss_is_unknown),
		EACH(test_a_loss_takes_back_what_was_read_in_it),
		EACH(test_a_loss_costs_no_more_than_the_bound),
		EACH(test_five_thousand_processes_fit),
		EACH(test_beyond_the_bound_the_least_used_goes),
		EACH(test_ended_ones_go_before_living),
		EACH(test_files_of_living_spaces_stay),
		cmocka_unit_test(test_bytes_are_what_malloc_gave),
		cmocka_unit_test(test_a_bound_too_small_for_anything),
		cmocka_unit_test(test_siphash_is_siphash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

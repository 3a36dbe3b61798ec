/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address spaces against a naive model: random events over few pids and a small address range; the model keeps, for
 * each space, what is at each page, and copies it at every fork. After each step random questions of any time must have
 * the same answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/base.h"
#include "stacks/spaces.h"

#define PIDS   8
#define PAGES  48
#define FILES  5
#define SPACES 4096
#define RECENT 6 /* spaces of a pid whose past is asked for; more are kept, but not without end */
#define STEPS  3000

/* A page of file `file` (1 and up) at `offset`; file 0: anonymous; -1: nothing. */
struct page {
	int file;
	unsigned offset;
};

struct model_space {
	int pid;
	uint64_t begin, end;
	struct page pages[PAGES];
};

struct model {
	unsigned count;
	struct model_space spaces[SPACES];
};

static uint64_t random_state;

static unsigned pick(unsigned below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)(random_state >> 33) % below;
}

/* The youngest space of the pid that had begun at `time`; `skip` younger ones are passed over. */
static struct model_space *model_at(struct model *m, int pid, uint64_t time)
{
	for (unsigned i = m->count; i--;)
		if (m->spaces[i].pid == pid && m->spaces[i].begin <= time)
			return &m->spaces[i];
	return NULL;
}

static struct model_space *model_begin(struct model *m, int pid, uint64_t time, const struct model_space *from)
{
	struct model_space *last = model_at(m, pid, time), *space = &m->spaces[m->count++];

	if (last && !last->end)
		last->end = time;
	if (from)
		memcpy(space->pages, from->pages, sizeof space->pages);
	else
		for (unsigned i = 0; i < PAGES; i++)
			space->pages[i] = (struct page){ .file = -1 };
	space->pid = pid;
	space->begin = time;
	space->end = 0;
	return space;
}

static void do_map(struct model *m, struct spaces *s, int pid, uint64_t time)
{
	unsigned start = pick(PAGES), length = 1 + pick(MIN_OF(PAGES - start, 12u)), file = pick(FILES),
		 offset = pick(3) ? start : pick(20); /* often such that neighbours continue */
	struct model_space *space = model_at(m, pid, time);
	struct space_map_event event = { .pid = pid,
					 .time = time,
					 .start = start << 12,
					 .end = (start + length) << 12,
					 .offset = offset << 12,
					 .dev = file ? 1 : 0,
					 .ino = file,
					 .path = file ? "/f" : "//anon" };

	for (unsigned i = 0; i < length; i++)
		space->pages[start + i] = (struct page){ .file = (int)file, .offset = file ? offset + i : 0 };
	space->end = 0;
	spaces_map(s, &event);
}

static void step(struct model *m, struct spaces *s, uint64_t time)
{
	int pid = 1 + (int)pick(PIDS);
	struct model_space *space = model_at(m, pid, time);
	unsigned what = pick(100);
	int other = 1 + (int)pick(PIDS);

	if (!space || what < 4) {
		model_begin(m, pid, time, NULL);
		spaces_exec(s, pid, time);
	} else if (what < 16 && other != pid && !space->end) {
		model_begin(m, other, time, space);
		spaces_fork(s, pid, other, time);
	} else if (what < 20 && !space->end) {
		space->end = time;
		spaces_exit(s, pid, time);
	} else {
		do_map(m, s, pid, time);
	}
}

static unsigned younger_than(const struct model *m, const struct model_space *space)
{
	unsigned count = 0;

	for (const struct model_space *i = space + 1; i < m->spaces + m->count; i++)
		count += i->pid == space->pid;
	return count;
}

static void compare_page(struct spaces *s, const struct space *space, const struct page *page, uint64_t address)
{
	for (uint32_t i = 0; i < space->n_mappings; i++) {
		const struct space_mapping *m = &space->mappings[i];

		if (address < m->start || address >= m->end)
			continue;
		assert_int_equal(page->file, m->file ? (int)spaces_file(s, m->file)->ino : 0);
		if (m->file)
			assert_int_equal((uint64_t)page->offset << 12, m->offset + (address - m->start));
		else
			assert_string_equal(m->name, "//anon");
		return;
	}
	assert_int_equal(page->file, -1);
}

static void ask(struct model *m, struct spaces *s, uint64_t now)
{
	int pid = 1 + (int)pick(PIDS);
	uint64_t time = pick(2) ? now : pick((unsigned)now + 1);
	struct model_space *expected = model_at(m, pid, time);
	const struct space *found;

	if (!expected || younger_than(m, expected) > RECENT)
		return;
	found = spaces_find(s, pid, time);
	assert_non_null(found);
	assert_int_equal(found->begin, expected->begin);
	assert_int_equal(found->end, expected->end);
	assert_true(found->known);
	for (uint32_t i = 0; i < found->n_mappings; i++) {
		const struct space_mapping *a = &found->mappings[i];

		assert_true(a->start < a->end && (!i || a[-1].end <= a->start));
	}
	for (unsigned i = 0; i < PAGES; i++)
		compare_page(s, found, &expected->pages[i], (uint64_t)i << 12);
}

/* A space's number names its mappings: asked for again without a change, it is the same. */
static void test_same_as_the_model(void **state)
{
	static struct model model;
	struct spaces_options options = { .bytes = 16 << 20, .grace_ns = UINT32_MAX };
	struct spaces_health health;
	struct spaces *s;

	for (unsigned seed = 1; seed <= 40; seed++) {
		random_state = seed * 0x9e3779b97f4a7c15ull;
		model.count = 0;
		assert_int_equal(spaces_open(&s, &options), 0);
		for (uint64_t time = 1; time <= STEPS; time++) {
			step(&model, s, time);
			ask(&model, s, time);
			ask(&model, s, time);
		}
		spaces_sweep(s, UINT64_MAX);
		spaces_health(s, &health);
		assert_true(health.spaces <= PIDS);
		for (int pid = 1; pid <= PIDS; pid++)
			spaces_exit(s, pid, STEPS);
		spaces_sweep(s, UINT64_MAX);
		/* All references are gone with the last space. */
		spaces_health(s, &health);
		assert_int_equal(health.spaces, 0);
		assert_int_equal(health.mappings, 0);
		spaces_close(s);
	}
}

/* With a bound that is always passed: whatever is still found is right. */
static void test_never_wrong_under_pressure(void **state)
{
	static struct model model;
	struct spaces_options options = { .bytes = 6000, .grace_ns = UINT32_MAX };
	struct spaces_health health;
	unsigned found = 0, gone = 0;
	struct spaces *s;

	for (unsigned seed = 1; seed <= 20; seed++) {
		random_state = seed * 0x9e3779b97f4a7c15ull;
		model.count = 0;
		assert_int_equal(spaces_open(&s, &options), 0);
		for (uint64_t time = 1; time <= STEPS; time++) {
			int pid = 1 + (int)pick(PIDS);
			struct model_space *expected;
			const struct space *space;

			step(&model, s, time);
			spaces_health(s, &health);
			assert_true(health.bytes <= options.bytes);
			expected = model_at(&model, pid, time);
			space = spaces_find(s, pid, time);
			gone += !space;
			/* Not known: taken in anew after it had to go; then parts are missing, and none is wrong. */
			if (!space || !expected)
				continue;
			found++;
			for (unsigned i = 0; i < PAGES; i++)
				for (uint32_t j = 0; j < space->n_mappings; j++)
					if (space->mappings[j].start <= i << 12 && i << 12 < space->mappings[j].end)
						compare_page(s, space, &expected->pages[i], (uint64_t)i << 12);
		}
		assert_true(health.evicted > 0);
		spaces_close(s);
	}
	assert_true(found > 1000);
	assert_true(gone > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_as_the_model),
		cmocka_unit_test(test_never_wrong_under_pressure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's records as bytes: parsing with every length checked, the walk through a ring with wraps, and the
 * count of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "base/base.h"
#include "stacks/perf_events.h"
#include "stacks/perf_merge.h"
#include "stacks/perf_record.h"
#include "stacks/perf_ring.h"
#include "stacks/perf_threads.h"

/* ---- making records ---- */

struct bytes {
	size_t size;
	uint8_t at[8192];
};

static void add(struct bytes *b, const void *value, size_t size)
{
	memcpy(b->at + b->size, value, size);
	b->size += size;
}

static void add32(struct bytes *b, uint32_t value)
{
	add(b, &value, sizeof value);
}

static void add64(struct bytes *b, uint64_t value)
{
	add(b, &value, sizeof value);
}

static void begin(struct bytes *b, uint32_t type, uint16_t misc)
{
	struct perf_event_header header = { .type = type, .misc = misc };

	b->size = 0;
	add(b, &header, sizeof header);
}

static void end(struct bytes *b, uint64_t time)
{
	uint16_t size;

	add32(b, 1);
	add32(b, 1);
	add64(b, time);
	add64(b, 0);
	size = (uint16_t)b->size;
	memcpy(b->at + offsetof(struct perf_event_header, size), &size, sizeof size);
}

struct mapped {
	uint64_t address, length;
	uint32_t protection;
	const uint8_t *build_id;
	uint8_t build_id_size;
	const char *path;
	size_t path_size; /* 0: of the path, padded as the kernel does */
};

static void make_map(struct bytes *b, const struct mapped *m, uint64_t time)
{
	size_t size = m->path_size ? m->path_size : ALIGN_UP(strlen(m->path) + 1, (size_t)8);
	uint8_t id[20] = { 0 };
	char padded[4104] = { 0 };

	begin(b, PERF_RECORD_MMAP2, m->build_id ? PERF_RECORD_MISC_MMAP_BUILD_ID : 0);
	add32(b, 10);
	add32(b, 11);
	add64(b, m->address);
	add64(b, m->length);
	add64(b, 0x5000);
	if (m->build_id) {
		memcpy(id, m->build_id, MIN_OF(m->build_id_size, sizeof id));
		add32(b, m->build_id_size);
		add(b, id, sizeof id);
	} else {
		add32(b, 8);
		add32(b, 3);
		add64(b, 1234);
		add64(b, 1);
	}
	add32(b, m->protection);
	add32(b, MAP_PRIVATE);
	memcpy(padded, m->path, MIN_OF(size, strlen(m->path)));
	add(b, padded, size);
	end(b, time);
}

static void make_task(struct bytes *b, uint32_t type, int pid, int parent, int tid, uint64_t time)
{
	begin(b, type, 0);
	add32(b, (uint32_t)pid);
	add32(b, (uint32_t)parent);
	add32(b, (uint32_t)tid);
	add32(b, (uint32_t)parent);
	add64(b, time);
	end(b, time);
}

/* ---- what came of it ---- */

struct seen {
	unsigned maps, execs, forks, exits;
	int pid, parent;
	uint64_t time;
	struct space_map_event map;
	char path[4200];
};

static void on_map(void *context, const struct space_map_event *event)
{
	struct seen *s = context;

	s->maps++;
	s->map = *event;
	snprintf(s->path, sizeof s->path, "%s", event->path);
}

static void on_exec(void *context, int pid, uint64_t time)
{
	struct seen *s = context;

	s->execs++;
	s->pid = pid;
	s->time = time;
}

static void on_fork(void *context, int parent, int pid, uint64_t time)
{
	struct seen *s = context;

	s->forks++;
	s->parent = parent;
	s->pid = pid;
	s->time = time;
}

static void on_exit_of(void *context, int pid, uint64_t time)
{
	struct seen *s = context;

	s->exits++;
	s->pid = pid;
	s->time = time;
}

/* In memory of exactly its size, so that reading past it is found. */
static int parse_bytes(const uint8_t *at, size_t size, struct seen *seen)
{
	struct perf_events_handler handler = { seen, on_map, on_exec, on_fork, on_exit_of, NULL };
	uint8_t *exact = malloc(size);
	int r;

	memcpy(exact, at, size);
	*seen = (struct seen){ 0 };
	r = perf_events_parse(exact, size, &handler);
	free(exact);
	return r;
}

static int parse(const struct bytes *b, struct seen *seen)
{
	return parse_bytes(b->at, b->size, seen);
}

/* ---- parsing ---- */

static void test_mapping_with_inode(void **state)
{
	struct bytes b;
	struct seen seen;

	make_map(&b, &(struct mapped){ 0x7000, 0x2000, PROT_READ | PROT_EXEC, .path = "/usr/lib/x.so (deleted)" }, 99);
	assert_int_equal(parse(&b, &seen), 0);
	assert_int_equal(seen.maps, 1);
	assert_int_equal(seen.map.pid, 10);
	assert_int_equal(seen.map.time, 99);
	assert_int_equal(seen.map.start, 0x7000);
	assert_int_equal(seen.map.end, 0x9000);
	assert_int_equal(seen.map.offset, 0x5000);
	assert_int_equal(seen.map.dev, makedev(8, 3));
	assert_int_equal(seen.map.ino, 1234);
	assert_int_equal(seen.map.build_id_length, 0);
	assert_string_equal(seen.path, "/usr/lib/x.so (deleted)");
}

static void test_mapping_with_build_id(void **state)
{
	static const uint8_t id[20] = { 1, 2, 3, [19] = 20 };
	struct bytes b;
	struct seen seen;

	make_map(&b, &(struct mapped){ 0x7000, 0x2000, PROT_EXEC, id, 20, .path = "/usr/lib/x.so" }, 99);
	assert_int_equal(parse(&b, &seen), 0);
	assert_int_equal(seen.map.build_id_length, 20);
	assert_memory_equal(seen.map.build_id, id, 20);
	assert_int_equal(seen.map.ino, 0);
	make_map(&b, &(struct mapped){ 0x7000, 0x2000, PROT_EXEC, id, 21, .path = "/usr/lib/x.so" }, 99);
	assert_int_equal(parse(&b, &seen), -EBADMSG);
	make_map(&b, &(struct mapped){ 0x7000, 0x2000, PROT_EXEC, id, 0, .path = "/usr/lib/x.so" }, 99);
	assert_int_equal(parse(&b, &seen), -EBADMSG);
	assert_int_equal(seen.maps, 0);
}

static void test_only_executable_mappings(void **state)
{
	struct bytes b;
	struct seen seen;

	make_map(&b, &(struct mapped){ 0x7000, 0x2000, PROT_READ | PROT_WRITE, .path = "//anon" }, 99);
	assert_int_equal(parse(&b, &seen), 0);
	assert_int_equal(seen.maps, 0);
}

static void test_bad_mappings(void **state)
{
	struct bytes b;
	struct seen seen;

	make_map(&b, &(struct mapped){ 0x7000, 0, PROT_EXEC, .path = "x" }, 99);
	assert_int_equal(parse(&b, &seen), -EBADMSG);
	make_map(&b, &(struct mapped){ UINT64_MAX - 4096, 8192, PROT_EXEC, .path = "x" }, 99);
	assert_int_equal(parse(&b, &seen), -EBADMSG);
	/* Its path has no end. */
	make_map(&b, &(struct mapped){ 0x7000, 0x1000, PROT_EXEC, .path = "12345678", .path_size = 8 }, 99);
	assert_int_equal(parse(&b, &seen), -EBADMSG);
	assert_int_equal(seen.maps, 0);
}

static void test_longest_path(void **state)
{
	static char path[4096];
	struct bytes b;
	struct seen seen;

	memset(path, 'x', sizeof path - 1);
	make_map(&b, &(struct mapped){ 0x7000, 0x1000, PROT_EXEC, .path = path }, 99);
	assert_int_equal(parse(&b, &seen), 0);
	assert_string_equal(seen.path, path);
}

static void test_exec_is_a_name_by_exec(void **state)
{
	struct bytes b;
	struct seen seen;

	for (unsigned exec = 0; exec < 2; exec++) {
		begin(&b, PERF_RECORD_COMM, exec ? PERF_RECORD_MISC_COMM_EXEC : 0);
		add32(&b, 10);
		add32(&b, 10);
		add(&b, "sleep\0\0", 8);
		end(&b, 77);
		assert_int_equal(parse(&b, &seen), 0);
		assert_int_equal(seen.execs, exec);
		assert_int_equal(seen.pid, exec ? 10 : 0);
		assert_int_equal(seen.time, exec ? 77 : 0);
	}
}

static void test_forks_of_processes_and_threads(void **state)
{
	struct bytes b;
	struct seen seen;

	make_task(&b, PERF_RECORD_FORK, 20, 10, 20, 55);
	assert_int_equal(parse(&b, &seen), 0);
	assert_int_equal(seen.forks, 1);
	assert_int_equal(seen.parent, 10);
	assert_int_equal(seen.pid, 20);
	assert_int_equal(seen.time, 55);
	make_task(&b, PERF_RECORD_FORK, 20, 20, 21, 55);
	assert_int_equal(parse(&b, &seen), 0);
	assert_int_equal(seen.forks, 0);
	make_task(&b, PERF_RECORD_EXIT, 20, 10, 20, 56);
	assert_int_equal(parse(&b, &seen), 0);
	assert_int_equal(seen.exits, 1);
	make_task(&b, PERF_RECORD_EXIT, 20, 10, 21, 56);
	assert_int_equal(parse(&b, &seen), 0);
	assert_int_equal(seen.exits, 0);
	/* A task of another pid namespace. */
	make_task(&b, PERF_RECORD_EXIT, -1, 0, -1, 56);
	assert_int_equal(parse(&b, &seen), 0);
	assert_int_equal(seen.exits, 0);
}

/* Any record cut anywhere, with its size set accordingly or not, is refused or harmless. */
static void test_records_cut_short(void **state)
{
	static const uint8_t id[20] = { 1 };
	struct bytes records[4];
	struct seen seen;

	make_map(&records[0], &(struct mapped){ 0x7000, 0x2000, PROT_EXEC, id, 20, .path = "/usr/lib/x.so" }, 99);
	make_task(&records[1], PERF_RECORD_FORK, 20, 10, 20, 55);
	make_task(&records[2], PERF_RECORD_EXIT, 20, 10, 20, 55);
	begin(&records[3], PERF_RECORD_LOST, 0);
	add64(&records[3], 1);
	add64(&records[3], 2);
	end(&records[3], 1);
	for (unsigned i = 0; i < ARRAY_SIZE(records); i++) {
		struct bytes *b = &records[i];

		assert_int_equal(parse(b, &seen), 0);
		for (uint16_t size = 0; size < b->size; size++) {
			assert_int_equal(parse_bytes(b->at, size, &seen), -EBADMSG);
			if (size < sizeof(struct perf_event_header))
				continue;

			struct bytes cut = *b;

			cut.size = size;
			memcpy(cut.at + offsetof(struct perf_event_header, size), &size, sizeof size);
			/* A path may be shorter; all else has its length. */
			if (size < (i ? b->size : 72 + PERF_RECORD_TRAILER + 1))
				assert_int_equal(parse(&cut, &seen), -EBADMSG);
			else
				parse(&cut, &seen);
		}
	}
}

static void test_lost_and_other_records(void **state)
{
	struct perf_record record;
	struct bytes b;
	struct seen seen;

	begin(&b, PERF_RECORD_LOST, 0);
	add64(&b, 1);
	add64(&b, 42);
	end(&b, 1);
	assert_int_equal(perf_record_parse(b.at, b.size, &record), 0);
	assert_int_equal(record.lost, 42);
	begin(&b, 4711, 0);
	end(&b, 1);
	assert_int_equal(parse(&b, &seen), 0);
	assert_int_equal(seen.maps + seen.execs + seen.forks + seen.exits, 0);
}

/* ---- the ring ---- */

struct fake_ring {
	struct perf_event_mmap_page page; /* 4096 bytes in the kernel's; here what there is */
	uint8_t data[4096];
};

static void ring_init(struct perf_ring *ring, struct fake_ring *fake, size_t size)
{
	*fake = (struct fake_ring){ 0 };
	perf_ring_init(ring, fake, offsetof(struct fake_ring, data), size);
}

/* As the kernel writes. False: no room. */
static bool ring_write(struct perf_ring *ring, struct fake_ring *fake, const struct bytes *b)
{
	uint64_t head = fake->page.data_head;

	if (head + b->size - fake->page.data_tail > ring->size)
		return false;
	for (size_t i = 0; i < b->size; i++)
		fake->data[(head + i) & (ring->size - 1)] = b->at[i];
	fake->page.data_head = head + b->size;
	return true;
}

static void test_ring_gives_back_what_was_written(void **state)
{
	static uint8_t scratch[PERF_RING_RECORD_MAX];
	static struct fake_ring fake;
	struct perf_ring ring;
	uint64_t written = 0, read = 0, time, wrapped = 0;
	struct bytes b;

	ring_init(&ring, &fake, 1024);
	assert_false(perf_ring_look(&ring));
	while (read < 2000) {
		/* Sizes that go through all places of the ring. */
		static const char path[] = "/0123456789012345678901234567890123456789/012345678901234567890123456789";
		const char *at = path + sizeof path - 2 - written % 60;

		for (make_map(&b, &(struct mapped){ 0x1000, 0x1000, PROT_EXEC, .path = at }, written);
		     ring_write(&ring, &fake, &b); written++)
			;
		perf_ring_look(&ring);
		while (perf_ring_peek(&ring, &time) == 0) {
			struct perf_record record;
			size_t size;
			const void *bytes = perf_ring_take(&ring, scratch, &size);

			assert_non_null(bytes);
			assert_int_equal(perf_record_parse(bytes, size, &record), 0);
			assert_int_equal(record.kind, PERF_MAP);
			assert_int_equal(record.time, time);
			wrapped += bytes == scratch;
			read++;
			perf_ring_release(&ring);
		}
		assert_null(perf_ring_take(&ring, scratch, &(size_t){ 0 }));
		assert_int_equal(fake.page.data_tail, fake.page.data_head);
	}
	assert_true(wrapped > 100);
	assert_int_equal(ring.broken, 0);
}

static void test_ring_passes_over_what_is_no_record(void **state)
{
	static uint8_t scratch[PERF_RING_RECORD_MAX];
	static struct fake_ring fake;
	struct perf_ring ring;
	uint64_t time;
	struct bytes b;

	ring_init(&ring, &fake, 1024);
	make_task(&b, PERF_RECORD_FORK, 20, 10, 20, 55);
	assert_true(ring_write(&ring, &fake, &b));
	fake.data[6] = 3; /* its size */
	fake.data[7] = 0;
	perf_ring_look(&ring);
	assert_int_equal(perf_ring_peek(&ring, &time), -ENODATA);
	assert_int_equal(ring.broken, 1);
	perf_ring_release(&ring);
	/* On with the next. */
	assert_true(ring_write(&ring, &fake, &b));
	perf_ring_look(&ring);
	assert_int_equal(perf_ring_peek(&ring, &time), 0);
	assert_int_equal(time, 55);
	/* A head further than the ring is long, and one behind. */
	fake.page.data_head += 4096;
	perf_ring_look(&ring);
	assert_int_equal(perf_ring_peek(&ring, &time), -ENODATA);
	fake.page.data_head -= 64;
	perf_ring_look(&ring);
	assert_null(perf_ring_take(&ring, scratch, &(size_t){ 0 }));
	assert_int_equal(ring.broken, 3);
	/* A record larger than what was written. */
	perf_ring_release(&ring);
	assert_true(ring_write(&ring, &fake, &b));
	fake.page.data_head -= 8;
	perf_ring_look(&ring);
	assert_int_equal(perf_ring_peek(&ring, &time), -ENODATA);
	assert_int_equal(ring.broken, 4);
}

/* ---- several rings ---- */

#define RINGS 7

/* Fills the rings with records of rising times; which ring gets the next one is as good as random. Returns how many. */
static unsigned fill_rings(struct perf_ring *rings, struct fake_ring *fakes, uint64_t *time, unsigned seed)
{
	unsigned count = 0;
	struct bytes b;

	for (unsigned i = 0; i < 50; i++) {
		unsigned n = (seed + i * i * 31 + i / 3) % RINGS;

		make_task(&b, PERF_RECORD_FORK, 20, 10, 20, *time + 1);
		if (!ring_write(&rings[n], &fakes[n], &b))
			continue;
		*time += 1 + i % 2 * 5;
		count++;
	}
	return count;
}

/* Takes what is not later than `until`; times must rise from `*last` on. Returns how many. */
static unsigned merge_all(struct perf_merge *merge, struct perf_ring *rings, uint64_t until, uint64_t *last)
{
	static uint8_t scratch[PERF_RING_RECORD_MAX];
	struct perf_ring *ring;
	unsigned count = 0;

	for (unsigned i = 0; i < RINGS; i++)
		perf_merge_add(merge, &rings[i]);
	for (; (ring = perf_merge_first(merge, until)); count++) {
		struct perf_record record;
		size_t size;
		const void *bytes = perf_ring_take(ring, scratch, &size);

		assert_int_equal(perf_record_parse(bytes, size, &record), 0);
		assert_true(record.time >= *last);
		assert_true(record.time <= until);
		*last = record.time;
		perf_merge_advance(merge);
	}
	perf_merge_end(merge);
	return count;
}

static void test_records_of_several_rings_come_in_order(void **state)
{
	static struct fake_ring fakes[RINGS];
	struct perf_merge_next heap[RINGS];
	struct perf_merge merge = { .heap = heap };
	struct perf_ring rings[RINGS];
	uint64_t time = 0, last = 0;
	unsigned written = 0, taken = 0, held_back = 0;

	for (unsigned i = 0; i < RINGS; i++)
		ring_init(&rings[i], &fakes[i], 1024);
	for (unsigned round = 0; round < 500; round++) {
		written += fill_rings(rings, fakes, &time, round);
		taken += merge_all(&merge, rings, time - 20, &last);
		held_back += written != taken;
	}
	taken += merge_all(&merge, rings, UINT64_MAX, &last);
	assert_int_equal(taken, written);
	assert_true(written > 10000);
	assert_true(held_back > 400);
	for (unsigned i = 0; i < RINGS; i++)
		assert_int_equal(fakes[i].page.data_tail, fakes[i].page.data_head);
}

/* ---- threads ---- */

static int threads_set_up(void **state)
{
	static struct perf_threads threads;

	*state = &threads;
	return perf_threads_open(&threads);
}

static int threads_tear_down(void **state)
{
	struct perf_threads *t = *state;
	int left = (int)t->count;

	perf_threads_close(t);
	return left;
}

static void test_process_ends_with_its_last_thread(void **state)
{
	struct perf_threads *t = *state;

	assert_true(perf_threads_end(t, 10, 10));
	perf_threads_begin(t, 10);
	perf_threads_begin(t, 10);
	assert_false(perf_threads_end(t, 10, 11));
	assert_false(perf_threads_end(t, 10, 10));
	assert_true(perf_threads_end(t, 10, 12));
	perf_threads_begin(t, 10);
	assert_false(perf_threads_end(t, 10, 11));
	assert_true(perf_threads_end(t, 10, 10));
	/* A thread that nobody saw begin. */
	assert_false(perf_threads_end(t, 20, 21));
	assert_true(perf_threads_end(t, 20, 20));
}

static void test_exec_leaves_one_thread(void **state)
{
	struct perf_threads *t = *state;

	/* The second thread execs: the first ends before, and the second takes its number. */
	perf_threads_begin(t, 10);
	perf_threads_begin(t, 10);
	assert_false(perf_threads_end(t, 10, 12));
	assert_false(perf_threads_end(t, 10, 10));
	perf_threads_reset(t, 10);
	assert_true(perf_threads_end(t, 10, 10));
	perf_threads_reset(t, 11);
}

static void test_many_processes_with_threads(void **state)
{
	struct perf_threads *t = *state;
	uint64_t before = perf_threads_bytes(t);

	for (int pid = 1; pid <= 10000; pid++)
		for (int i = 0; i <= pid % 3; i++)
			perf_threads_begin(t, pid);
	assert_int_equal(t->count, 10000);
	assert_true(perf_threads_bytes(t) > before);
	/* In another order than they came. */
	for (int i = 0; i < 10000; i++) {
		int pid = 1 + i * 7919 % 10000;

		assert_false(perf_threads_end(t, pid, pid));
		for (int left = pid % 3; left >= 0; left--)
			assert_int_equal(perf_threads_end(t, pid, pid + 100000), left == 0);
	}
	assert_int_equal(t->count, 0);
}

static void test_table_of_threads_is_bounded(void **state)
{
	struct perf_threads *t = *state;

	for (int pid = 1; pid <= 200000; pid++)
		perf_threads_begin(t, pid);
	assert_true(perf_threads_bytes(t) <= 512 << 10);
	assert_true(t->count < 40000);
	/* Those that found no room end with their first thread. */
	assert_false(perf_threads_end(t, 1, 1));
	assert_true(perf_threads_end(t, 200000, 200000));
	for (int pid = 1; pid <= 200000; pid++)
		perf_threads_reset(t, pid);
}

int main(void)
{
#define THREADS(test) cmocka_unit_test_setup_teardown(test, threads_set_up, threads_tear_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mapping_with_inode),
		cmocka_unit_test(test_mapping_with_build_id),
		cmocka_unit_test(test_only_executable_mappings),
		cmocka_unit_test(test_bad_mappings),
		cmocka_unit_test(test_longest_path),
		cmocka_unit_test(test_exec_is_a_name_by_exec),
		cmocka_unit_test(test_forks_of_processes_and_threads),
		cmocka_unit_test(test_records_cut_short),
		cmocka_unit_test(test_lost_and_other_records),
		cmocka_unit_test(test_ring_gives_back_what_was_written),
		cmocka_unit_test(test_ring_passes_over_what_is_no_record),
		cmocka_unit_test(test_records_of_several_rings_come_in_order),
		THREADS(test_process_ends_with_its_last_thread),
		THREADS(test_exec_leaves_one_thread),
		THREADS(test_many_processes_with_threads),
		THREADS(test_table_of_threads_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

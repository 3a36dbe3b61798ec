/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal against the real file system: what each verb promises, and a property test, in which a seeded random sequence
 * of appends, reads, reopenings, kills and damage is held against a model. The model is small because a record says
 * itself what it must be: its size and each of its bytes follow from its seq.
 *
 * SONDE_TEST_ROUNDS sets the number of lives of the property test, SONDE_TEST_SEED repeats one.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "journal/crc32c.h"
#include "journal/journal.h"
#include "test_times.h"

#define SEGMENT 65536u

static char folder[64];

/* ---- helpers ---- */

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static uint64_t random_state;

static uint64_t roll(uint64_t n)
{
	random_state += 0x9e3779b97f4a7c15ull;
	return mix(random_state) % n;
}

/* Mostly small, sometimes large, sometimes empty. */
static uint32_t size_of(uint64_t seq)
{
	uint64_t x = mix(seq * 3 + 1);

	return x % 50 == 0 ? (uint32_t)(x >> 32) % 20000 : (uint32_t)(x >> 32) % 700;
}

static void fill(uint8_t *map, uint32_t size, uint64_t seq)
{
	for (uint32_t i = 0; i < size; i++)
		map[i] = (uint8_t)((seq * 31 + i) ^ (seq >> 8));
}

static bool is_right(const struct journal_record *record)
{
	if (record->size != size_of(record->seq) || record->next <= record->position)
		return false;
	for (uint32_t i = 0; i < record->size; i++)
		if (record->map[i] != (uint8_t)((record->seq * 31 + i) ^ (record->seq >> 8)))
			return false;
	return true;
}

static bool append(struct journal *journal, uint64_t seq)
{
	uint32_t size = size_of(seq);
	uint8_t *room = journal_reserve(journal, size + (seq % 3 ? 0 : 40));

	if (!room)
		return false;
	fill(room, size, seq);
	if (seq % 3 == 0)
		memset(room + size, 0xee, 40); /* more was reserved than is committed */
	journal_commit(journal, size, seq);
	return true;
}

static void wipe(const char *path)
{
	char name[512];
	DIR *entries = opendir(path);

	if (!entries)
		return;
	for (struct dirent *entry; (entry = readdir(entries));) {
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		unlink(name);
	}
	closedir(entries);
	rmdir(path);
}

static int fresh_folder(void **state)
{
	snprintf(folder, sizeof(folder), "/dev/shm/sonde-journal.%d", getpid());
	wipe(folder);
	return 0;
}

static int remove_folder(void **state)
{
	wipe(folder);
	return 0;
}

static struct journal *open_with(void (*expired)(void *, const struct journal_record *), void *context,
				 unsigned segments)
{
	struct journal_options options = { .path = folder,
					   .size_bytes = (uint64_t)segments * SEGMENT,
					   .segment_bytes = SEGMENT,
					   .expired = expired,
					   .context = context };
	struct journal *journal = NULL;
	struct fault fault = { 0 };

	if (journal_open(&journal, &options, &fault))
		fail_msg("%s", fault.text);
	return journal;
}

static struct journal_reader *open_reader(uint64_t position)
{
	struct journal_reader *reader = NULL;

	assert_int_equal(journal_reader_open(&reader, folder, position, NULL), 0);
	return reader;
}

/* Segments in the folder by name, ascending. */
static unsigned list_segments(char names[64][32])
{
	unsigned n = 0;
	DIR *entries = opendir(folder);

	for (struct dirent *entry; entries && (entry = readdir(entries)) && n < 64;)
		if (strlen(entry->d_name) == 20)
			memcpy(names[n++], entry->d_name, 21);
	if (entries)
		closedir(entries);
	qsort(names, n, 32, (int (*)(const void *, const void *))strcmp);
	return n;
}

static int open_segment(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return open(path, O_RDWR | O_CLOEXEC);
}

/* ---- one verb at a time ---- */

static void test_crc_is_castagnoli(void **state)
{
	uint8_t zeros[32] = { 0 }, bytes[300];

	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa); /* RFC 3720, B.4 */
	fill(bytes, sizeof(bytes), 7);
	for (unsigned n = 0; n < sizeof(bytes); n++) {
		assert_int_equal(crc32c(5, bytes, n), crc32c_portable(5, bytes, n));
		assert_int_equal(crc32c(crc32c(0, bytes, n), bytes + n, sizeof(bytes) - n),
				 crc32c(0, bytes, sizeof(bytes)));
	}
}

static void test_what_is_committed_is_read(void **state)
{
	struct journal *journal = open_with(NULL, NULL, 32);
	struct journal_reader *reader = open_reader(0);
	struct journal_record record;
	uint64_t bad, lost, position = 0;

	assert_int_equal(journal_reader_next(reader, &record), 0);
	for (uint64_t seq = 1; seq <= 1000; seq++) {
		memset(journal_reserve(journal, 300), 0xff, 300); /* never committed */
		assert_true(append(journal, seq));
		assert_int_equal(journal_reader_next(reader, &record), 1);
		assert_int_equal(record.seq, seq);
		assert_true(is_right(&record));
		assert_true(record.position == position);
		position = record.next;
		assert_int_equal(journal_reader_next(reader, &record), 0);
	}
	journal_reader_counts(reader, &bad, &lost);
	assert_int_equal(bad + lost + journal_reader_lost_records(reader), 0);
	journal_reader_close(reader);
	journal_close(journal);
}

static void test_limits(void **state)
{
	struct journal_options options = { .path = folder, .size_bytes = 3 * SEGMENT, .segment_bytes = SEGMENT };
	struct journal *journal = open_with(NULL, NULL, 4), *second = NULL;
	struct fault fault = { 0 };
	char pid[32];

	assert_null(journal_reserve(journal, SEGMENT));
	assert_int_equal(errno, EMSGSIZE);
	assert_null(journal_reserve(journal, UINT32_MAX));
	assert_int_equal(errno, EMSGSIZE);
	assert_int_equal(journal_open(&second, &options, &fault), -EINVAL);
	options.size_bytes = 4 * SEGMENT;
	assert_int_equal(journal_open(&second, &options, &fault), -EBUSY);
	snprintf(pid, sizeof(pid), "pid %d", getpid());
	assert_non_null(strstr(fault.text, pid));
	options.path = "/proc/self/exe";
	assert_int_equal(journal_open(&second, &options, &fault), -ENOTDIR);
	assert_non_null(strstr(fault.text, "/proc/self/exe"));
	journal_close(journal);
}

static void test_cursor_survives_a_torn_slot(void **state)
{
	struct journal *journal = open_with(NULL, NULL, 4);
	struct journal_cursor *cursor = NULL;
	char path[128];
	int fd;

	assert_int_equal(journal_cursor_open(&cursor, folder, "../x", NULL), -EINVAL);
	assert_int_equal(journal_cursor_open(&cursor, folder, "kafka", NULL), 0);
	assert_int_equal(journal_cursor_load(cursor), 0);
	journal_cursor_store(cursor, 800);
	journal_cursor_store(cursor, 1600);
	journal_cursor_close(cursor);
	assert_int_equal(journal_cursor_open(&cursor, folder, "kafka", NULL), 0);
	assert_int_equal(journal_cursor_load(cursor), 1600);
	journal_cursor_close(cursor);
	snprintf(path, sizeof(path), "%s/cursor.kafka", folder);
	fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, "x", 1, 9), 1); /* generation 2 lies in slot 0 */
	close(fd);
	assert_int_equal(journal_cursor_open(&cursor, folder, "kafka", NULL), 0);
	assert_int_equal(journal_cursor_load(cursor), 800);
	journal_cursor_close(cursor);
	journal_close(journal);
}

/* After a power loss a cursor may be ahead of what is left of the journal. */
static void test_records_after_a_lost_tail_are_behind_the_cursor(void **state)
{
	struct journal *journal = open_with(NULL, NULL, 8);
	struct journal_cursor *cursor = NULL;
	struct journal_reader *reader;
	struct journal_record record;

	assert_true(append(journal, 1));
	journal_close(journal);
	assert_int_equal(journal_cursor_open(&cursor, folder, "kafka", NULL), 0);
	journal_cursor_store(cursor, 500000);
	journal = open_with(NULL, NULL, 8);
	assert_true(append(journal, 2));
	reader = open_reader(journal_cursor_load(cursor));
	assert_int_equal(journal_reader_next(reader, &record), 1);
	assert_int_equal(record.seq, 2);
	journal_reader_close(reader);
	reader = open_reader(0);
	assert_int_equal(journal_reader_next(reader, &record), 1);
	assert_int_equal(record.seq, 1);
	assert_int_equal(journal_reader_next(reader, &record), 1);
	assert_int_equal(record.seq, 2);
	journal_reader_close(reader);
	journal_cursor_close(cursor);
	journal_close(journal);
}

static void test_header_has_a_copy(void **state)
{
	struct journal *journal = open_with(NULL, NULL, 4);
	struct journal_reader *reader;
	struct journal_record record;
	struct journal_health health;
	char names[64][32];
	int fd;

	assert_true(append(journal, 1));
	journal_close(journal);
	assert_int_equal(list_segments(names), 1);
	fd = open_segment(names[0]);
	assert_int_equal(pwrite(fd, "xxxx", 4, 16), 4);
	journal = open_with(NULL, NULL, 4);
	journal_health(journal, &health);
	assert_int_equal(health.bad_records + health.torn_bytes, 0);
	assert_int_equal(health.segments, 1);
	journal_close(journal);
	assert_int_equal(pwrite(fd, "xxxx", 4, 2048 + 16), 4);
	close(fd);
	journal = open_with(NULL, NULL, 4);
	journal_health(journal, &health);
	assert_int_equal(health.bad_records, 1);
	assert_true(append(journal, 2));
	reader = open_reader(0);
	assert_int_equal(journal_reader_next(reader, &record), 1);
	assert_int_equal(record.seq, 2);
	journal_reader_close(reader);
	journal_close(journal);
}

/* The bytes of a record that stand in another record's map are not a record, even when the one around is damaged. */
static void test_content_cannot_pose_as_a_record(void **state)
{
	struct journal *journal = open_with(NULL, NULL, 4);
	struct journal_reader *reader;
	struct journal_record record;
	char names[64][32], image[16 + 704];
	uint64_t bad, lost;
	int fd;

	assert_true(append(journal, 1));
	list_segments(names);
	fd = open_segment(names[0]);
	assert_int_equal(pread(fd, image, sizeof(image), 4096), sizeof(image));
	memcpy(journal_reserve(journal, sizeof(image)), image, sizeof(image));
	journal_commit(journal, sizeof(image), 2);
	assert_true(append(journal, 3));
	reader = open_reader(0);
	assert_int_equal(journal_reader_next(reader, &record), 1);
	assert_int_equal(pwrite(fd, "\1", 1, (off_t)(4096 + record.next + 4)), 1); /* the crc of 2 */
	close(fd);
	assert_int_equal(journal_reader_next(reader, &record), 1);
	assert_int_equal(record.seq, 3);
	journal_reader_counts(reader, &bad, &lost);
	assert_int_equal(bad, 1);
	assert_int_equal(journal_reader_lost_records(reader), 1);
	journal_reader_close(reader);
	journal_close(journal);
}

static void test_end_is_what_comes_from_now_on(void **state)
{
	struct journal *journal = open_with(NULL, NULL, 8);
	struct journal_reader *reader;
	struct journal_record record;
	uint64_t seq = 1;

	while (seq < 500)
		assert_true(append(journal, seq++));
	reader = open_reader(JOURNAL_END);
	assert_int_equal(journal_reader_next(reader, &record), 0);
	assert_true(append(journal, seq));
	assert_int_equal(journal_reader_next(reader, &record), 1);
	assert_int_equal(record.seq, seq);
	journal_reader_close(reader);
	journal_close(journal);
}

static void test_holding_and_seeking(void **state)
{
	struct journal *journal = open_with(NULL, NULL, 4);
	struct journal_reader *reader = open_reader(0);
	struct journal_record first = { 0 }, record;
	uint64_t seq = 0;

	journal_reader_hold(reader, 0);
	while (seq < 2000) {
		assert_true(append(journal, ++seq));
		assert_int_equal(journal_reader_next(reader, &record), 1);
		if (seq == 1)
			first = record;
	}
	assert_true(is_right(&first)); /* long removed from the folder */
	assert_int_equal(journal_reader_seek(reader, 0), 0);
	for (uint64_t i = 1; i <= seq; i++) {
		assert_int_equal(journal_reader_next(reader, &record), 1);
		assert_int_equal(record.seq, i);
		assert_true(is_right(&record));
	}
	assert_int_equal(journal_reader_next(reader, &record), 0);
	journal_reader_hold(reader, record.next);
	assert_int_equal(journal_reader_seek(reader, 0), -ENOENT);
	journal_reader_close(reader);
	journal_close(journal);
}

/* Another process waits, and wakes on publish long before its fallback of 100 ms would have it look. */
static void test_waiting_crosses_processes(void **state)
{
	struct journal *journal = open_with(NULL, NULL, 4);
	uint64_t begin;
	int pipes[2], status;
	pid_t child;
	char byte;

	assert_true(append(journal, 1));
	assert_int_equal(pipe(pipes), 0);
	child = fork();
	if (!child) {
		struct journal_reader *reader = NULL;
		struct journal_record record;
		int ok = !journal_reader_open(&reader, folder, 0, NULL) && journal_reader_next(reader, &record) &&
			 !journal_reader_wait(reader, 1);

		for (unsigned i = 0; ok && i < 20; i++) {
			ok = write(pipes[1], "r", 1) == 1 && journal_reader_wait(reader, 5000) == 1 &&
			     journal_reader_next(reader, &record) == 1 && is_right(&record);
		}
		journal_reader_close(reader);
		_exit(!ok);
	}
	begin = now_boottime_ns();
	for (uint64_t seq = 2; seq < 22; seq++) {
		assert_int_equal(read(pipes[0], &byte, 1), 1);
		usleep(1000); /* so that it mostly sleeps already; right either way */
		assert_true(append(journal, seq));
		journal_publish(journal);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(now_boottime_ns() - begin < 1500 * NS_PER_MS);
	close(pipes[0]);
	close(pipes[1]);
	journal_close(journal);
}

/* ---- a full disk ---- */

static void test_full_disk_recovers(void **state)
{
	char ballast[128];
	struct journal_health health;
	struct journal_reader *reader;
	struct journal_record record;
	struct journal *journal;
	uint64_t seq = 0, errors, end, got = 0;
	int fd;

	if (geteuid() || mkdir(folder, 0700) || mount("tmpfs", folder, "tmpfs", 0, "size=512k"))
		skip();
	snprintf(ballast, sizeof(ballast), "%s/ballast", folder);
	fd = open(ballast, O_RDWR | O_CREAT, 0600);
	assert_int_equal(fallocate(fd, 0, 0, 512 * 1024 - 80 * 1024), 0);
	journal = open_with(NULL, NULL, 32);
	while (append(journal, seq + 1))
		seq++;
	assert_int_equal(errno, ENOSPC);
	journal_health(journal, &health);
	errors = health.disk_errors;
	assert_true(errors >= 1);
	assert_int_equal(health.segments, 1);
	end = now_boottime_ns() + 2 * NS_PER_SEC;
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	while (!append(journal, seq + 1) && now_boottime_ns() < end)
		usleep(5000);
	seq++;
	/* Now 512 KiB bound it below its own size: the oldest go, and appending never fails. */
	for (unsigned i = 0; i < 3000; i++)
		assert_true(append(journal, ++seq));
	journal_health(journal, &health);
	assert_true(health.segments >= 4 && health.segments < 8);
	assert_true(journal_bound(journal) < 32 * SEGMENT);
	reader = open_reader(0);
	while (journal_reader_next(reader, &record)) {
		assert_true(is_right(&record));
		got = record.seq;
	}
	assert_true(got == seq);
	journal_reader_close(reader);
	journal_close(journal);
	umount(folder);
}

/* ---- the follower: each record is acknowledged, expired or still on disk, exactly one of them ---- */

#define FOLLOWED 60000u

struct following {
	struct journal *journal;
	uint8_t fate[FOLLOWED + 1];  /* how often it was expired */
	uint8_t taken[FOLLOWED + 1]; /* how often it was acknowledged */
	uint64_t cursor;
	bool slow, wrong, done; /* done: atomic */
	unsigned lives;
};

static void count_fate(void *context, const struct journal_record *record)
{
	struct following *following = context;

	if (record->seq <= FOLLOWED)
		following->fate[record->seq]++;
}

/* One life of a follower: takes records, acknowledges a part late, and ends with some unacknowledged. */
static void follow_once(struct following *f, uint64_t *state)
{
	struct journal_reader *reader = open_reader(f->cursor);
	struct journal_record records[64], record;
	unsigned n = 0, total = 0;

	journal_reader_hold(reader, f->cursor);
	if (journal_follow(f->journal, reader))
		f->wrong = true;
	while (total < 4000 && !(__atomic_load_n(&f->done, __ATOMIC_ACQUIRE) && !journal_reader_wait(reader, 0))) {
		if (!journal_reader_next(reader, &record)) {
			journal_reader_wait(reader, 5);
			continue;
		}
		f->wrong |= !is_right(&record);
		records[n++] = record;
		total++;
		if (n < ARRAY_SIZE(records))
			continue;
		*state = mix(*state + 1);
		for (unsigned i = 0; i < 32; i++) { /* the older half is acknowledged */
			f->wrong |= !is_right(&records[i]);
			f->taken[records[i].seq]++;
		}
		f->cursor = records[31].next;
		memmove(records, records + 32, 32 * sizeof(*records));
		n = 32;
		journal_protect(f->journal, f->cursor);
		journal_reader_hold(reader, f->cursor);
		if (*state % 3 == 0)
			usleep((unsigned)(*state >> 8) % 800);
	}
	journal_reader_close(reader);
	f->lives++;
}

static void *follower_thread(void *context)
{
	struct following *f = context;
	uint64_t state = 42;

	while (!__atomic_load_n(&f->done, __ATOMIC_ACQUIRE))
		follow_once(f, &state);
	return NULL;
}

static void test_follower_accounting_is_exact(void **state)
{
	struct following *f = calloc(1, sizeof(*f));
	struct journal_reader *reader;
	struct journal_record record;
	uint64_t expired = 0, taken = 0, pending = 0;
	pthread_t thread;

	f->journal = open_with(count_fate, f, 4);
	assert_int_equal(pthread_create(&thread, NULL, follower_thread, f), 0);
	for (uint64_t seq = 1; seq <= FOLLOWED; seq++) {
		assert_true(append(f->journal, seq));
		if (seq % 32 == 0)
			journal_publish(f->journal);
		if (seq % 512 == 0)
			usleep(300);
	}
	journal_publish(f->journal);
	__atomic_store_n(&f->done, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	journal_close(f->journal);
	assert_false(f->wrong);
	reader = open_reader(f->cursor);
	for (; journal_reader_next(reader, &record); pending++) {
		assert_int_equal(f->fate[record.seq] + f->taken[record.seq], 0);
		f->fate[record.seq] = 2;
	}
	journal_reader_close(reader);
	for (uint64_t seq = 1; seq <= FOLLOWED; seq++) {
		if (f->fate[seq] == 2)
			continue;
		if (f->fate[seq] + f->taken[seq] != 1)
			fail_msg("record %" PRIu64 ": expired %u, acknowledged %u", seq, f->fate[seq], f->taken[seq]);
		expired += f->fate[seq];
		taken += f->taken[seq];
	}
	assert_int_equal(expired + taken + pending, FOLLOWED);
	print_message("%u lives: %" PRIu64 " acknowledged, %" PRIu64 " expired, %" PRIu64 " pending\n", f->lives, taken,
		      expired, pending);
	assert_true(expired > 0 && taken > 0);
	free(f);
}

/* ---- the property test ---- */

#define READERS 3

struct model {
	struct journal *journal;
	unsigned segments;
	uint64_t seq;     /* last committed */
	uint64_t expired; /* last expired */
	bool damaged;     /* from then on gaps are allowed, wrong records are not */
	struct {
		struct journal_reader *reader;
		bool reading;           /* it has read since it was opened */
		uint64_t position, seq; /* the last read; 0: none */
	} readers[READERS];
	struct journal_cursor *cursor;
	uint64_t cursor_position, cursor_seq;
	uint64_t *shared; /* [0]: last committed by a child, [1]: last expired in it */
	char failed[160];
};

static void check(struct model *m, bool truth, const char *text)
{
	if (!truth && !*m->failed)
		snprintf(m->failed, sizeof(m->failed), "%s", text);
}

static void model_expired(void *context, const struct journal_record *record)
{
	struct model *m = context;

	check(m, is_right(record), "a wrong record expired");
	check(m, m->damaged ? record->seq > m->expired : record->seq == m->expired + 1, "expired out of order");
	m->expired = record->seq;
	m->shared[1] = record->seq;
}

static void open_model(struct model *m)
{
	struct journal_health health;

	m->journal = open_with(model_expired, m, m->segments);
	journal_health(m->journal, &health);
	check(m, m->damaged || !health.bad_records, "bad records without damage");
}

static void do_append(struct model *m)
{
	for (uint64_t n = roll(400); n--;) {
		check(m, append(m->journal, m->seq + 1), "append failed");
		m->seq++;
	}
	journal_publish(m->journal);
}

static void check_read(struct model *m, unsigned i, const struct journal_record *record)
{
	uint64_t before = m->readers[i].seq;

	check(m, is_right(record), "a wrong record was read");
	check(m, record->seq > before && record->seq <= m->seq, "records out of order");
	check(m, record->position >= m->readers[i].position, "positions out of order");
	if (!m->damaged)
		check(m, record->seq == before + 1 || (before <= m->expired && record->seq > before),
		      "a gap that nothing explains");
	m->readers[i].seq = record->seq;
	m->readers[i].position = record->next;
}

/* Reads some or all; at the end of all, the reader must have come to the last record, and its count of lost ones be right. */
static void do_read(struct model *m)
{
	unsigned i = (unsigned)roll(READERS);
	bool all = roll(2);
	uint64_t n = all ? UINT64_MAX : roll(600), lost, bad, bytes, gaps = 0;
	struct journal_record record;

	if (!m->readers[i].reader)
		m->readers[i].reader = open_reader(m->readers[i].position);
	lost = journal_reader_lost_records(m->readers[i].reader);
	for (uint64_t got = 0; got < n && journal_reader_next(m->readers[i].reader, &record); got++) {
		/* The first record after an opening has none before it to count from. */
		gaps += m->readers[i].reading ? record.seq - m->readers[i].seq - 1 : 0;
		check_read(m, i, &record);
		m->readers[i].reading = true;
	}
	if (m->damaged)
		return;
	check(m, !all || m->readers[i].seq == m->seq, "the reader stopped before the end");
	journal_reader_counts(m->readers[i].reader, &bad, &bytes);
	check(m, bad == 0, "bad records read without damage");
	check(m, journal_reader_lost_records(m->readers[i].reader) == lost + gaps,
	      "lost records are not counted right");
}

static void close_readers(struct model *m)
{
	for (unsigned i = 0; i < READERS; i++) {
		journal_reader_close(m->readers[i].reader);
		m->readers[i].reader = NULL;
		m->readers[i].reading = false;
	}
}

/* A reader restarts from a stored cursor exactly where it was. */
static void do_cursor(struct model *m)
{
	unsigned i = (unsigned)roll(READERS);

	if (roll(2) && m->readers[i].seq >= m->cursor_seq) {
		journal_cursor_store(m->cursor, m->readers[i].position);
		m->cursor_position = m->readers[i].position;
		m->cursor_seq = m->readers[i].seq;
		return;
	}
	journal_cursor_close(m->cursor);
	check(m, !journal_cursor_open(&m->cursor, folder, "test", NULL), "the cursor does not open");
	check(m, journal_cursor_load(m->cursor) == m->cursor_position, "the cursor forgot");
	journal_reader_close(m->readers[i].reader);
	m->readers[i].reader = NULL;
	m->readers[i].reading = false;
	m->readers[i].position = m->cursor_position;
	m->readers[i].seq = m->cursor_seq;
}

static void do_reopen(struct model *m)
{
	struct journal_health before, after;

	journal_health(m->journal, &before);
	journal_close(m->journal);
	open_model(m);
	journal_health(m->journal, &after);
	check(m, after.end >= before.end, "positions went back");
	if (!m->damaged)
		check(m, after.end == before.end && !after.torn_bytes, "a clean end was not continued");
}

/* What the folder holds reaches from just behind the expired to the last committed. */
static void check_all(struct model *m)
{
	struct journal_reader *reader = open_reader(0);
	struct journal_record record;
	uint64_t last = m->expired;

	while (journal_reader_next(reader, &record)) {
		check(m, is_right(&record), "a wrong record was read");
		check(m, m->damaged ? record.seq > last : record.seq == last + 1,
		      "journaled is not expired plus readable");
		last = record.seq;
	}
	check(m, m->damaged || last == m->seq, "the last records are not readable");
	journal_reader_close(reader);
}

/* A writer in a process of its own is killed in the middle of its appends. */
static void do_kill(struct model *m)
{
	pid_t child;
	int status;

	journal_close(m->journal);
	m->journal = NULL;
	m->shared[0] = m->seq;
	m->shared[1] = m->expired;
	child = fork();
	if (!child) {
		m->journal = open_with(model_expired, m, m->segments);
		for (uint64_t seq = m->seq + 1; append(m->journal, seq); seq++)
			__atomic_store_n(&m->shared[0], seq, __ATOMIC_RELEASE);
		_exit(1);
	}
	usleep((unsigned)roll(3000));
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	check(m, WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the child ended by itself");
	m->seq = m->shared[0];
	m->expired = MAX_OF(m->expired, m->shared[1]);
	open_model(m);
}

/* The kill may have come between publishing and telling, and between removing and telling of each expired. */
static void settle_kill(struct model *m)
{
	struct journal_reader *reader = open_reader(0);
	struct journal_record record;
	bool any = false;

	while (journal_reader_next(reader, &record)) {
		if (!any && !m->damaged) {
			check(m, record.seq > m->expired, "an expired record is still there");
			m->expired = record.seq - 1;
		}
		any = true;
		if (record.seq == m->seq + 1)
			m->seq++;
	}
	m->shared[1] = m->expired;
	journal_reader_close(reader);
}

static void damage(const char *name)
{
	int fd = open_segment(name);
	off_t size = lseek(fd, 0, SEEK_END), place = (off_t)roll((uint64_t)size + 1);
	uint8_t bytes[512] = { 0 };

	switch (roll(4)) {
	case 0: /* one bit */
		if (pread(fd, bytes, 1, place) == 1) {
			bytes[0] ^= (uint8_t)(1u << roll(8));
			assert_int_equal(pwrite(fd, bytes, 1, place), 1);
		}
		break;
	case 1: /* a lost block */
		place &= ~511;
		if (place < size)
			assert_int_equal(pwrite(fd, bytes, sizeof(bytes), place), sizeof(bytes));
		break;
	case 2: /* nonsense */
		for (unsigned i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)roll(256);
		if (place + (off_t)sizeof(bytes) <= size)
			assert_int_equal(pwrite(fd, bytes, sizeof(bytes), place), sizeof(bytes));
		break;
	default:
		assert_int_equal(ftruncate(fd, place), 0);
	}
	close(fd);
}

static void do_damage(struct model *m)
{
	char names[64][32];
	unsigned n;

	close_readers(m);
	journal_close(m->journal);
	n = list_segments(names);
	if (n)
		damage(names[roll(n)]);
	m->damaged = true;
	open_model(m);
}

static void check_bound(struct model *m)
{
	char names[64][32];
	struct journal_health health;
	uint64_t bytes = 0;

	for (unsigned n = list_segments(names); n--;) {
		int fd = open_segment(names[n]);

		bytes += (uint64_t)lseek(fd, 0, SEEK_END);
		close(fd);
	}
	journal_health(m->journal, &health);
	check(m, bytes == health.bytes, "the bytes in the folder are not those told");
	check(m, bytes <= (uint64_t)m->segments * SEGMENT, "the bound is exceeded");
}

static void step(struct model *m)
{
	switch (roll(12)) {
	case 0 ... 4:
		do_append(m);
		break;
	case 5 ... 7:
		do_read(m);
		break;
	case 8:
		do_cursor(m);
		break;
	case 9:
		do_reopen(m);
		break;
	case 10:
		if (roll(4) == 0) {
			do_kill(m);
			settle_kill(m);
		}
		break;
	default:
		if (roll(6) == 0)
			do_damage(m);
		else
			check_all(m);
	}
	check_bound(m);
}

static void live(struct model *m, uint64_t seed)
{
	random_state = seed;
	m->segments = 4 + (unsigned)roll(6);
	open_model(m);
	check(m, !journal_cursor_open(&m->cursor, folder, "test", NULL), "the cursor does not open");
	for (unsigned i = 0; i < 60 && !*m->failed; i++)
		step(m);
	check_all(m);
	close_readers(m);
	journal_cursor_close(m->cursor);
	journal_close(m->journal);
}

static void test_property(void **state)
{
	const char *rounds = getenv("SONDE_TEST_ROUNDS"), *given = getenv("SONDE_TEST_SEED");
	uint64_t n = rounds ? strtoull(rounds, NULL, 10) : TEST_TIMES(200);
	uint64_t seed = given ? strtoull(given, NULL, 0) : now_realtime_ns();
	uint64_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	for (uint64_t i = 0; i < n; i++) {
		struct model m = { .shared = shared };
		uint64_t own = given ? seed : mix(seed + i);

		memset(shared, 0, 4096);
		live(&m, own);
		if (*m.failed)
			fail_msg("SONDE_TEST_SEED=%#" PRIx64 ": %s", own, m.failed);
		wipe(folder);
	}
	munmap(shared, 4096);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_crc_is_castagnoli),
		TEST(test_what_is_committed_is_read),
		TEST(test_limits),
		TEST(test_cursor_survives_a_torn_slot),
		TEST(test_records_after_a_lost_tail_are_behind_the_cursor),
		TEST(test_header_has_a_copy),
		TEST(test_content_cannot_pose_as_a_record),
		TEST(test_end_is_what_comes_from_now_on),
		TEST(test_holding_and_seeking),
		TEST(test_waiting_crosses_processes),
		TEST(test_full_disk_recovers),
		TEST(test_follower_accounting_is_exact),
		TEST(test_property),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

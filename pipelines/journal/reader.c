/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader: it maps segments read-only and walks them. `held` are its mapped segments, ascending by base; `current`
 * is the one that `position` lies in. A segment that the writer removed stays readable through its mapping.
 *
 * A step ends in one of four ways: a whole record at `position`; nothing yet (the live tail); damage (the search for
 * the next good record in the segment); the segment was left (on to the next one in the folder). That a segment was
 * left is told by its live words; as these may be damaged too, the folder itself is looked at every LOOK_NS when
 * nothing comes.
 *
 * Invariants: `position` never decreases, but by journal_reader_seek(); a record is returned only with a right crc at
 * the place it was written for. A damaged segment is counted once.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include "journal/segment.h"

#define LOOK_NS  (100 * NS_PER_MS)
#define EMPTY_NS (20 * NS_PER_MS) /* between looks at a folder without a segment to wait on */

struct journal_reader {
	int folder;
	struct segment **held;
	size_t n_held, room, current; /* current is valid while n_held is not 0 */
	uint64_t position, hold;
	uint64_t look_ns; /* not before, at the live tail */
	uint64_t stuck;   /* the damaged tail at this position has been searched */
	uint64_t last_seq;
	bool has_seq, gap; /* last_seq is set; something was skipped since */
	uint64_t bad_base; /* the newest segment counted as damaged, plus one */
	uint64_t bad_records, lost_bytes, lost_records;
	struct journal *journal; /* followed, or NULL */
};

/* Passes over all that is there. */
static void go_to_end(struct journal_reader *reader)
{
	_cleanup_(free_pointer) uint64_t *bases = NULL;
	struct journal_record record;
	size_t n = 0;

	reader->position = 0;
	if (!segment_list(reader->folder, &bases, &n) && n)
		reader->position = bases[n - 1];
	while (journal_reader_next(reader, &record))
		;
	reader->bad_records = reader->lost_bytes = reader->lost_records = 0;
}

int journal_reader_open(struct journal_reader **ret, const char *path, uint64_t position, struct fault *fault)
{
	struct journal_reader *reader;
	int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (folder < 0)
		return fault_set(fault, -errno, "%s: %s", path, strerror(errno));
	reader = calloc(1, sizeof(*reader));
	if (!reader) {
		close_fd(&folder);
		return fault_set(fault, -ENOMEM, "%s: out of memory", path);
	}
	reader->folder = folder;
	reader->position = position > SEGMENT_POSITION_MAX ? SEGMENT_POSITION_MAX : ALIGN_UP(position, 8);
	reader->hold = reader->stuck = UINT64_MAX;
	if (position == JOURNAL_END)
		go_to_end(reader);
	*ret = reader;
	return 0;
}

void journal_reader_close(struct journal_reader *reader)
{
	if (!reader)
		return;
	if (reader->journal)
		journal_unfollow(reader->journal, reader->held, reader->n_held);
	for (size_t i = 0; i < reader->n_held; i++)
		segment_unmap(reader->held[i]);
	free(reader->held);
	close_fd(&reader->folder);
	free(reader);
}

int reader_follow(struct journal_reader *reader, struct journal *journal)
{
	if (reader->n_held || reader->journal)
		return -EINVAL;
	journal_protect(journal, reader->position);
	reader->journal = journal;
	return 0;
}

/* ---- moving between segments ---- */

static struct segment *current_segment(const struct journal_reader *reader)
{
	return reader->n_held ? reader->held[reader->current] : NULL;
}

/* What is neither current nor held back goes. The end of a segment that is not the last is at most the next one's base.
 */
static void release(struct journal_reader *reader)
{
	size_t n = 0;

	while (n < reader->current && reader->held[n + 1]->base <= reader->hold)
		segment_unmap(reader->held[n++]);
	if (!n)
		return;
	reader->n_held -= n;
	reader->current -= n;
	memmove(reader->held, reader->held + n, reader->n_held * sizeof(struct segment *));
}

static int push(struct journal_reader *reader, struct segment *segment)
{
	if (reader->n_held == reader->room) {
		size_t room = reader->room ? reader->room * 2 : 8;
		struct segment **more = reallocarray(reader->held, room, sizeof(struct segment *));

		if (!more)
			return -ENOMEM;
		reader->held = more;
		reader->room = room;
	}
	reader->held[reader->n_held++] = segment;
	reader->current = reader->n_held - 1;
	return 0;
}

/* The first in `bases` to try: behind the current segment; else the one that `position` lies in, or the oldest. */
static size_t first_choice(const struct journal_reader *reader, const uint64_t *bases, size_t n)
{
	const struct segment *segment = current_segment(reader);
	size_t i = 0;

	if (segment) {
		while (i < n && bases[i] <= segment->base)
			i++;
		return i;
	}
	while (i + 1 < n && bases[i + 1] <= reader->position)
		i++;
	return i;
}

static void count_damaged_segment(struct journal_reader *reader, uint64_t base)
{
	if (base + 1 <= reader->bad_base)
		return;
	reader->bad_base = base + 1;
	reader->bad_records++;
	reader->gap = true;
}

/* Maps the next segment there is. One that vanished meanwhile, or has no good header, is passed over. */
static struct segment *open_next(struct journal_reader *reader)
{
	_cleanup_(free_pointer) uint64_t *bases = NULL;
	struct segment *segment = NULL;
	size_t n = 0;

	if (segment_list(reader->folder, &bases, &n))
		return NULL;
	for (size_t i = first_choice(reader, bases, n); i < n; i++) {
		int r = segment_map(&segment, reader->folder, bases[i], false);

		if (!r && !push(reader, segment))
			return segment;
		if (!r)
			segment_unmap(segment);
		if (r == -EBADMSG)
			count_damaged_segment(reader, bases[i]);
		else if (r != -ENOENT)
			return NULL;
	}
	return NULL;
}

/* Goes to the next segment; `end` is where the current one is known to end, or where the reader stands. */
static bool enter(struct journal_reader *reader, uint64_t end)
{
	struct segment *segment;

	if (reader->journal)
		journal_enter(reader->journal);
	segment = open_next(reader);
	if (reader->journal)
		journal_entered(reader->journal, segment);
	if (!segment)
		return false;
	if (segment->base > end && end) {
		reader->lost_bytes += segment->base - end;
		reader->gap = true;
	}
	reader->position = MAX_OF(reader->position, segment->base);
	reader->look_ns = 0;
	release(reader);
	return true;
}

static bool leave(struct journal_reader *reader, uint64_t end)
{
	if (reader->current + 1 == reader->n_held)
		return enter(reader, MAX_OF(end, reader->position));
	reader->current++;
	reader->position = MAX_OF(reader->position, current_segment(reader)->base);
	release(reader);
	return true;
}

/* Whether the folder has a segment behind the current one, whatever the current one says of itself; and where that
 * begins. */
static bool superseded(const struct journal_reader *reader, uint64_t *ret_base)
{
	_cleanup_(free_pointer) uint64_t *bases = NULL;
	size_t n = 0, i;

	if (segment_list(reader->folder, &bases, &n))
		return false;
	i = first_choice(reader, bases, n);
	if (i == n)
		return false;
	*ret_base = bases[i];
	return true;
}

/* ---- moving within a segment ---- */

/* Whether the current segment is left, and where it ended. Without the writer's word for it the folder tells, every
 * LOOK_NS. */
static bool left_behind(struct journal_reader *reader, uint64_t *ret_end, bool *ret_looked)
{
	const struct segment *segment = current_segment(reader);
	uint64_t most = segment->base + segment->capacity, now, next;

	*ret_looked = false;
	if (segment_left(segment, ret_end))
		return true;
	*ret_end = most;
	now = now_boottime_ns();
	if (now < reader->look_ns)
		return false;
	reader->look_ns = now + LOOK_NS;
	*ret_looked = true;
	if (!superseded(reader, &next))
		return false;
	*ret_end = MIN_OF(next, most);
	return true;
}

/* Searches for the next good record up to `end`. False: there is none. */
static bool resync(struct journal_reader *reader, uint64_t end)
{
	struct segment *segment = current_segment(reader);
	uint64_t good;

	if (!segment_resync(segment, reader->position - segment->base, end - segment->base, &good))
		return false;
	reader->bad_records++;
	reader->gap = true;
	reader->position = segment->base + good;
	return true;
}

/* Nothing good is at `position`: goes on to where something may be. False: there is nothing yet. */
static bool pass(struct journal_reader *reader, enum segment_found found)
{
	struct segment *segment = current_segment(reader);
	struct journal_record record;
	uint64_t end;
	bool looked, left = left_behind(reader, &end, &looked);

	if (!left && (found == SEGMENT_EMPTY || (!looked && reader->stuck == reader->position)))
		return false;
	if (reader->position >= end)
		return left && leave(reader, end);
	/* What was published between the look at the record and the look at the end. */
	if (found == SEGMENT_EMPTY &&
	    segment_record(segment, reader->position - segment->base, &record) != SEGMENT_EMPTY)
		return true;
	reader->stuck = left ? UINT64_MAX : reader->position;
	if (resync(reader, end))
		return true;
	if (!left || !leave(reader, end))
		return false;
	reader->bad_records++;
	reader->gap = true;
	return true;
}

/* Moves to the next record and reads it, without consuming it. */
static bool settle(struct journal_reader *reader, struct journal_record *ret)
{
	for (;;) {
		struct segment *segment = current_segment(reader);
		enum segment_found found;

		if (!segment) {
			if (!enter(reader, reader->position))
				return false;
			continue;
		}
		found = segment_record(segment, reader->position - segment->base, ret);
		if (found == SEGMENT_RECORD)
			return true;
		if (!pass(reader, found))
			return false;
	}
}

int journal_reader_next(struct journal_reader *reader, struct journal_record *ret)
{
	struct journal_record record;

	if (!settle(reader, &record))
		return 0;
	if (reader->gap && reader->has_seq && record.seq > reader->last_seq)
		reader->lost_records += record.seq - reader->last_seq - 1;
	reader->gap = false;
	reader->has_seq = true;
	reader->last_seq = record.seq;
	reader->position = record.next;
	*ret = record;
	return 1;
}

/* ---- waiting ---- */

/* Sleeps until the writer publishes (the word no longer is `seen`) or `ns` have passed. False: a signal came. */
static bool doze(const struct segment *segment, uint32_t seen, uint64_t ns)
{
	struct timespec time = { .tv_sec = (time_t)(ns / NS_PER_SEC), .tv_nsec = (long)(ns % NS_PER_SEC) };

	if (!segment)
		return !nanosleep(&time, NULL);
	/* The kernel takes a read-only mapping of a file for waiting; the key is the file's page, so it crosses
	 * processes. */
	return !syscall(SYS_futex, &segment_live(segment)->wake, FUTEX_WAIT, seen, &time, NULL, 0) || errno != EINTR;
}

int journal_reader_wait(struct journal_reader *reader, int timeout_ms)
{
	uint64_t end = now_boottime_ns() + (timeout_ms > 0 ? (uint64_t)timeout_ms * NS_PER_MS : 0);
	struct journal_record record;

	for (;;) {
		const struct segment *segment = current_segment(reader);
		uint32_t seen = segment ? __atomic_load_n(&segment_live(segment)->wake, __ATOMIC_ACQUIRE) : 0;
		uint64_t now, nap;

		if (settle(reader, &record))
			return 1;
		if (current_segment(reader) != segment)
			continue;
		now = now_boottime_ns();
		if (timeout_ms >= 0 && now >= end)
			return 0;
		nap = segment ? LOOK_NS : EMPTY_NS;
		if (timeout_ms >= 0)
			nap = MIN_OF(nap, end - now);
		if (!doze(segment, seen, nap))
			return 0;
	}
}

/* ---- the rest ---- */

void journal_reader_hold(struct journal_reader *reader, uint64_t position)
{
	reader->hold = position;
	if (reader->n_held)
		release(reader);
}

int journal_reader_seek(struct journal_reader *reader, uint64_t position)
{
	for (size_t i = reader->n_held; i-- > 0;) {
		if (reader->held[i]->base > position)
			continue;
		if (position - reader->held[i]->base > reader->held[i]->capacity && position != reader->position)
			return -ENOENT;
		reader->current = i;
		reader->position = position;
		reader->has_seq = false;
		reader->stuck = UINT64_MAX;
		return 0;
	}
	return position == reader->position ? 0 : -ENOENT;
}

uint64_t journal_reader_position(const struct journal_reader *reader)
{
	return reader->position;
}

void journal_reader_counts(const struct journal_reader *reader, uint64_t *ret_bad_records, uint64_t *ret_lost_bytes)
{
	*ret_bad_records = reader->bad_records;
	*ret_lost_bytes = reader->lost_bytes;
}

uint64_t journal_reader_lost_records(const struct journal_reader *reader)
{
	return reader->lost_records;
}

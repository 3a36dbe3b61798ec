/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal: the stream as a log on disk, and the only way from the probes to any reader.
 *
 * A folder of segments, each one file of a fixed size, mapped and allocated whole when it is begun (so a full disk is an
 * error at that moment, never a SIGBUS later). A record is { length, crc32c, seq, map } padded to 8 bytes; the crc covers
 * length, seq and map. The writer fills a record in place and then publishes its length, so a reader (another thread,
 * another process) sees whole records or nothing, and a process that dies mid-record leaves nothing behind. A position
 * is the byte offset since the journal's first segment: it only grows, over restarts of the agent too, and names a record for good.
 * One writer (a lock in the folder), any number of readers; a reader takes nothing from the writer but page cache.
 *
 * Invariants: positions of records strictly grow; within a run `seq` grows by one from record to record; a segment once
 * left by the writer is never written again; the folder never holds more than `size_bytes` of segments.
 */
#ifndef SONDE_JOURNAL_H
#define SONDE_JOURNAL_H

#include "base/base.h"

#define JOURNAL_RECORD_MAX (1u << 20) /* bytes of one map; more is refused with -EMSGSIZE */

struct journal; /* opaque: the writer */
struct journal_reader; /* opaque */

struct journal_record {
	uint64_t position;
	uint64_t next; /* the position after it: what a cursor keeps once this record is done with */
	uint64_t seq;
	const uint8_t *map; /* valid until the reader moves on by journal_reader_release() past it, or is closed */
	uint32_t size;
};

struct journal_options {
	const char *path; /* made with mode 0700 when absent */
	uint64_t size_bytes; /* bound of all segments together; at least four segments */
	uint32_t segment_bytes; /* 0: size_bytes / 32, clamped to 64 KiB ... 64 MiB */
	/* Called for each record of a segment that goes to make room, before it goes, and only for those at or after
	 * `journal_protect()`'s position: what no follower has taken yet. */
	void (*expired)(void *context, const struct journal_record *record);
	void *context;
};

struct journal_health {
	uint64_t segments, bytes; /* on disk now */
	uint64_t begin, end; /* first readable position, position after the last record */
	uint64_t bad_records; /* skipped: crc or framing wrong */
	uint64_t torn_bytes; /* cut from the tail at open */
	uint64_t disk_errors; /* segments that could not be begun (disk full, I/O) */
};

/* Opens the folder for writing. Damage is repaired and counted, never an error. A torn tail is cut.
 * -EBUSY: another writer has it (`fault` says the pid); -EACCES, -ENOSPC, -ENOTDIR ...: with the path in `fault`. */
int journal_open(struct journal **ret, const struct journal_options *options, struct fault *fault);
void journal_close(struct journal *journal);

/* Room for a map of at most `size` bytes, to be filled in place. NULL with errno ENOSPC when no segment can be begun
 * (disk full: tried again at most every 100 ms), EMSGSIZE when over JOURNAL_RECORD_MAX.
 * `journal_commit` publishes the `size` bytes really written; without it the room is simply reused. */
uint8_t *journal_reserve(struct journal *journal, uint32_t size);
void journal_commit(struct journal *journal, uint32_t size, uint64_t seq);

/* Wakes the readers that wait; called once after a batch of commits. */
void journal_publish(struct journal *journal);

/* Tells from which position on records still wait for a follower; without a follower never called, and everything that
 * goes counts as expired. Any thread. */
void journal_protect(struct journal *journal, uint64_t position);

/* Bytes between the protected position (or the begin) and the end, and the bound: what the overflow policies compare. */
uint64_t journal_backlog(const struct journal *journal);
uint64_t journal_bound(const struct journal *journal);
void journal_health(const struct journal *journal, struct journal_health *ret);

/* Opens the folder for reading only; a folder without segments is an empty journal. `position` 0 is the oldest. A position before the
 * oldest moves there; one behind the end waits for it. -ENOENT, -EACCES, -ENOTDIR with the path in `fault`. */
int journal_reader_open(struct journal_reader **ret, const char *path, uint64_t position, struct fault *fault);
void journal_reader_close(struct journal_reader *reader);

/* The next record: 1, or 0 when there is none yet. Bad records are skipped and counted; never an error. A segment
 * that vanished under the reader moves it to the oldest there is, and the skipped bytes are counted in `lost_bytes`. */
int journal_reader_next(struct journal_reader *reader, struct journal_record *ret);

/* Waits for a record to be published: 1, or 0 after `timeout_ms` (-1: for ever; a signal ends it early with 0). */
int journal_reader_wait(struct journal_reader *reader, int timeout_ms);

/* Keeps mapped only what is at or after `position`. A reader that never calls it keeps only its current segment. */
void journal_reader_hold(struct journal_reader *reader, uint64_t position);
uint64_t journal_reader_position(const struct journal_reader *reader);
void journal_reader_counts(const struct journal_reader *reader, uint64_t *ret_bad_records, uint64_t *ret_lost_bytes);

/* A cursor: a position that survives kill -9 and power loss (two slots, each with its own crc, in `path/cursor.NAME`).
 * Storing is a store to mapped memory, cheap enough for every acknowledgement. An unreadable cursor is position 0. */
struct journal_cursor; /* opaque */
int journal_cursor_open(struct journal_cursor **ret, const char *path, const char *name, struct fault *fault);
uint64_t journal_cursor_load(const struct journal_cursor *cursor);
void journal_cursor_store(struct journal_cursor *cursor, uint64_t position);
void journal_cursor_close(struct journal_cursor *cursor);

#endif

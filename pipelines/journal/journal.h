/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal: the stream as a log on disk, and the only way from the probes to any reader.
 *
 * A folder of segments, each one file of a fixed size, mapped and allocated whole when it is begun (so a full disk is
 * an error at that moment, never a SIGBUS later). A record is { length, crc32c, seq, map } padded to 8 bytes; the crc
 * covers length, seq, map, and the place it was written for. The writer fills a record in place and then publishes its
 * length, so a reader (another thread, another process) sees whole records or nothing, and a process that dies
 * mid-record leaves nothing behind. A position is the offset of a record in the bytes of all records ever written
 * (segment headers not counted): it only grows, over restarts of the agent too, and names a record for good. One writer
 * (a lock in the folder), any number of readers; a reader takes nothing from the writer but page cache.
 *
 * Invariants: positions of records strictly grow; within a run `seq` grows by one from record to record; a record once
 * published is never written again; the folder never holds more than `size_bytes` of segments, from the first segment
 * begun after open. Segments removed while a follower still maps them are no longer in the folder; their space is
 * returned when it lets go of them (journal_reader_hold).
 *
 * Threads: all functions of one journal are called from one thread, and all functions of one reader or cursor from one
 * thread (not the same one), except where "any thread" is said.
 */
#ifndef SONDE_JOURNAL_H
#define SONDE_JOURNAL_H

#include "base/base.h"

#define JOURNAL_RECORD_MAX                                                                                             \
	(1u << 20) /* bytes of one map; more, or more than a segment holds, is refused with EMSGSIZE */

struct journal;        /* opaque: the writer */
struct journal_reader; /* opaque */

struct journal_record {
	uint64_t position;
	uint64_t next; /* the position after it: what a cursor keeps once this record is done with */
	uint64_t seq;
	const uint8_t *map; /* valid until the next journal_reader_next(), or, for a reader that holds, until hold()
			       passes it */
	uint32_t size;
};

struct journal_options {
	const char *path;       /* made with mode 0700 when absent */
	uint64_t size_bytes;    /* bound of all segments together; at least four segments */
	uint32_t segment_bytes; /* 0: size_bytes / 32, clamped to 64 KiB ... 64 MiB */
	/* Called for each record that goes to make room and that no follower has had or will have: those at or after
	 * journal_protect()'s position, in segments that the follower (journal_follow) has not entered. On the writer's
	 * thread, within journal_reserve(), journal_publish() or journal_close(); it must call nothing of this journal
	 * but journal_protect(). */
	void (*expired)(void *context, const struct journal_record *record);
	void *context;
};

struct journal_health {
	uint64_t segments, bytes; /* on disk now */
	uint64_t begin, end;      /* first readable position, position after the last record */
	uint64_t bad_records;     /* skipped: crc or framing wrong */
	uint64_t torn_bytes;      /* cut from the tail at open */
	uint64_t disk_errors;     /* segments that could not be begun (disk full, I/O) */
};

/* Opens the folder for writing. Damage is repaired and counted, never an error. A torn tail is cut.
 * -EBUSY: another writer has it (`fault` says the pid); -EACCES, -ENOSPC, -ENOTDIR ...: with the path in `fault`. */
int journal_open(struct journal **ret, const struct journal_options *options, struct fault *fault);
void journal_close(struct journal *journal);

/* Room for a map of at most `size` bytes, to be filled in place. NULL with errno ENOSPC when no segment can be begun
 * (disk full: the oldest goes to make room, one at a time, and it is tried again at most every 100 ms), EMSGSIZE when
 * it is larger than a record may be. `journal_commit` publishes the `size` bytes really written; without it the room is
 * simply reused. */
uint8_t *journal_reserve(struct journal *journal, uint32_t size);
void journal_commit(struct journal *journal, uint32_t size, uint64_t seq);

/* Wakes the readers that wait; called once after a batch of commits. */
void journal_publish(struct journal *journal);

/* Tells that all records before `position` are done with (acknowledged): they never count as expired. It only moves
 * forward. Without a follower never called, and everything that goes counts as expired. Any thread. */
void journal_protect(struct journal *journal, uint64_t position);

/* Makes `reader`, opened on the same folder and before its first journal_reader_next(), the one follower of this
 * journal, from the thread of the reader. It implies journal_protect() of the reader's position. From then on, exactly:
 * - entering a segment and removing one exclude each other. A segment that the follower has entered is its own: it
 * reads it to the end even after it left the folder, and none of its records counts as expired;
 * - a segment removed before the follower entered it is counted record by record (those not protected), and the
 * follower never sees any of it;
 * - when the follower closes, records that are still not protected in segments that it holds and that have left the
 *   folder are counted too (nobody can read them any more): at the writer's next journal_publish(), or journal_close().
 *   So it holds (journal_reader_hold) what is not yet acknowledged, and protects what is before it closes.
 * Every record from the follower's start is thus either given to it or counted, once. It is closed before the journal
 * is. -EBUSY: there is another follower; -EINVAL: the reader has already read. */
int journal_follow(struct journal *journal, struct journal_reader *reader);

/* Bytes of records between the protected position (or the begin) and the end, and the bound: what the overflow policies
 * compare. While the disk is full the bound is what the journal holds now. */
uint64_t journal_backlog(const struct journal *journal);
uint64_t journal_bound(const struct journal *journal);
uint64_t journal_end(const struct journal *journal); /* the next record's position */
void journal_health(const struct journal *journal, struct journal_health *ret);

/* Whether reserving `size` bytes now would make records go that are not protected: what the policies `block` and
 * `drop-newest` ask. Those that a follower has entered and holds are among them: they would be gone with its process. */
bool journal_would_expire(const struct journal *journal, uint32_t size);

/* Opens the folder for reading only; a folder without segments is an empty journal. `position` 0 is the oldest,
 * JOURNAL_END what comes from now on. A position before the oldest moves there (counted in lost_bytes); one behind the
 * end waits for it. -ENOENT, -EACCES, -ENOTDIR with the path in `fault`. */
#define JOURNAL_END UINT64_MAX
int journal_reader_open(struct journal_reader **ret, const char *path, uint64_t position, struct fault *fault);
void journal_reader_close(struct journal_reader *reader);

/* The next record: 1, or 0 when there is none yet. Bad records are skipped and counted; never an error. A segment
 * that vanished under the reader moves it to the oldest there is, and the skipped bytes are counted in `lost_bytes`. */
int journal_reader_next(struct journal_reader *reader, struct journal_record *ret);

/* Waits for a record to be published: 1, or 0 after `timeout_ms` (-1: for ever; a signal ends it early with 0). */
int journal_reader_wait(struct journal_reader *reader, int timeout_ms);

/* Keeps mapped all that the reader reads from now on at or after `position`, until called again with a greater one. A
 * reader that never calls it keeps only its current segment. */
void journal_reader_hold(struct journal_reader *reader, uint64_t position);

/* Goes back (or forward) to `position`, which lies in what is held, to read from there again: a sender that starts over
 * from its cursor. 0, or -ENOENT when it is not held. */
int journal_reader_seek(struct journal_reader *reader, uint64_t position);
uint64_t journal_reader_position(const struct journal_reader *reader);
void journal_reader_counts(const struct journal_reader *reader, uint64_t *ret_bad_records, uint64_t *ret_lost_bytes);

/* Records that the reader missed by vanished segments and by damage, as the gaps in `seq` tell. A gap across the begin
 * of an agent run, where `seq` starts over, is not told right: there only `lost_bytes` tells. */
uint64_t journal_reader_lost_records(const struct journal_reader *reader);

/* A cursor: a position that survives kill -9 and power loss (two slots, each with its own crc, in `path/cursor.NAME`).
 * Should a power loss take records that a cursor had already passed, the writer goes on behind the cursor.
 * Storing is a store to mapped memory, cheap enough for every acknowledgement. An unreadable cursor is position 0. */
struct journal_cursor; /* opaque */
int journal_cursor_open(struct journal_cursor **ret, const char *path, const char *name, struct fault *fault);
uint64_t journal_cursor_load(const struct journal_cursor *cursor);
void journal_cursor_store(struct journal_cursor *cursor, uint64_t position);
void journal_cursor_close(struct journal_cursor *cursor);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One segment: the file format, shared by the writer and the readers of the journal (internal to this folder).
 *
 *	0     struct segment_header     what the segment is; never changes
 *	64    struct segment_live       what the writer tells readers: left, wake
 *	2048  struct segment_header     a copy, for when a bit of the first has flipped
 *	4096  records, each at a multiple of 8, up to size - 8; the last 8 bytes stay zero
 *
 * The file is named by its base, the position of its first record, in 16 hex digits. All numbers are in the byte order
 * of the machine: a journal stays on its host.
 */
#ifndef SONDE_SEGMENT_H
#define SONDE_SEGMENT_H

#include "base/base.h"
#include "journal/journal.h"

#define SEGMENT_HEADER       4096u
#define SEGMENT_GUARD        8u /* so that the word behind the last record can always be zeroed */
#define SEGMENT_LEAST        (64u << 10)
#define SEGMENT_MOST         (1u << 30)
#define SEGMENT_POSITION_MAX (1ull << 62) /* beyond is damage: positions must have room to grow */
#define SEGMENT_NAME         21           /* "0123456789abcdef.seg" and the NUL */
#define SEGMENT_FRESH        "new.tmp"    /* the name while a segment is being made */

#define RECORD_HEADER 16u
/* A length that no record has: the first word of a hole that recovery found between good records. */
#define RECORD_HOLE UINT32_MAX

struct segment_header {
	char magic[8];
	uint32_t version;
	uint32_t reserved;
	uint64_t base;
	uint64_t bytes; /* of the file */
	uint64_t salt;  /* random; in the crc of each record, so that no record's content can pose as a record */
	uint32_t padding;
	uint32_t crc; /* of all that is before */
};
_Static_assert(sizeof(struct segment_header) == 48, "a file format");

/* `end` and `end_check` are written when the writer leaves the segment: the position after its last record. */
struct segment_live {
	uint64_t end, end_check;
	uint32_t wake; /* futex: grows with each publish */
	uint32_t padding;
};

struct record_header {
	uint32_t length; /* header and map; 0: not published */
	uint32_t crc;
	uint64_t seq;
};
_Static_assert(sizeof(struct record_header) == RECORD_HEADER, "a file format");

/* A mapped segment. */
struct segment {
	uint64_t base, salt;
	uint8_t *bytes;
	size_t size;
	uint32_t capacity;    /* bytes for records */
	uint64_t budget;      /* bytes that resynchronising may still check: damage costs bounded time */
	struct segment *next; /* in the writer's list of what followers left behind */
	uint64_t wanted;      /* there: from which position on nobody has had the records */
};

enum segment_found { SEGMENT_EMPTY, SEGMENT_RECORD, SEGMENT_BAD };

/* The bases of all segments in the folder, ascending; freed by the caller. */
int segment_list(int folder, uint64_t **ret_bases, size_t *ret_n);
void segment_name(char name[SEGMENT_NAME], uint64_t base);

/* Allocates the file whole, writes its header, and maps it for writing. The name appears in the folder at the end. */
int segment_create(struct segment **ret, int folder, uint64_t base, uint32_t bytes);

/* Maps an existing one. -EBADMSG: its header is damaged, or it is too short to hold anything. */
int segment_map(struct segment **ret, int folder, uint64_t base, bool writable);
void segment_unmap(struct segment *segment);
static inline void segment_drop(struct segment **segment)
{
	segment_unmap(*segment);
	*segment = NULL;
}

/* What stands at `offset` of the record area; SEGMENT_EMPTY behind the area too. Only whole records with a right crc
 * are SEGMENT_RECORD. */
enum segment_found segment_record(const struct segment *segment, uint64_t offset, struct journal_record *ret);

/* The first good record behind `offset` and before `limit` (offsets). */
bool segment_resync(struct segment *segment, uint64_t offset, uint64_t limit, uint64_t *ret_offset);

/* Calls `each` for all good records at or after `position`. */
void segment_each(struct segment *segment, uint64_t position,
		  void (*each)(void *context, const struct journal_record *record), void *context);

uint32_t record_crc(const struct segment *segment, uint64_t position, uint64_t seq, const void *map, uint32_t size);

static inline struct segment_live *segment_live(const struct segment *segment)
{
	return (struct segment_live *)(segment->bytes + 64);
}

/* Whether the writer has left it, and where it ended. */
bool segment_left(const struct segment *segment, uint64_t *ret_end);
void segment_leave(struct segment *segment, uint64_t end);
void segment_wake(struct segment *segment);

/* Between a follower and the writer (journal.c): entering excludes removing. */
void journal_enter(struct journal *journal);
void journal_entered(struct journal *journal, const struct segment *segment); /* NULL: nothing was entered */
/* The follower ends: takes over, of the `n` it holds, those that have left the folder, by setting their place to NULL.
 */
void journal_unfollow(struct journal *journal, struct segment **held, size_t n);

/* Between journal_follow() and the reader (reader.c): -EINVAL when it has already entered a segment. */
int reader_follow(struct journal_reader *reader, struct journal *journal);

#endif

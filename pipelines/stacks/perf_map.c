/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file is read from its end to its begin, so that the newest lines are in when the room is full. While reading, the
 * room holds segments from the front and names from the back:
 *
 *	[ header | segment segment ... -> free <- ... name name ]
 *
 * A name is preceded by the address of its function's begin, because a segment may be what is left of a function whose
 * first part was replaced. The later a name was read, the older it is, so its place is its age as well. Then the segments
 * are sorted and overlaps resolved by a sweep over the addresses, and names move behind the segments.
 *
 * The sweep holds the functions that cover the current address, newest on top; below it only those that reach further
 * than all newer ones. It writes into the array that it reads, which lies at the end of the free room for that: two
 * functions can become three segments.
 *
 * Invariants: after the build segments are sorted and do not overlap; every name ends with a NUL within the names.
 */
#include "stacks/perf_map.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/heap_sort.h"

#define PIECE      16384u
#define COVERS_MAX 64u
/* What a line takes of the room: its segment, and a share of the room in which the sweep writes. */
#define SEGMENT_SHARE (sizeof(struct perf_map_segment) * 3 / 2)
#define ROOM_MOST     (1u << 31)
/* Of a file that holds much that is no line. */
#define READ_MOST (128ull << 20)

struct builder {
	struct perf_map *map;
	uint8_t *room;
	uint32_t size;  /* of the room */
	uint32_t names; /* bytes taken at its end */
	bool full;
};

struct line {
	uint64_t at, size;
	const char *name;
	size_t length;
};

/* A function that covers the sweep's address. */
struct cover {
	uint64_t end;
	uint32_t name;
};

struct sweep {
	struct perf_map *map;
	uint64_t at;
	uint32_t unread; /* index of the first segment not read yet: what is before may be written */
	uint32_t depth;
	struct cover covers[COVERS_MAX]; /* oldest first */
};

/* ---- lines ---- */

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A number and the blank behind it. Returns what follows, NULL when it is none. */
static const char *take_number(const char *at, const char *end, uint64_t *ret)
{
	unsigned digits = 0;

	if (end - at > 2 && at[0] == '0' && (at[1] | 0x20) == 'x')
		at += 2;
	*ret = 0;
	for (; at < end && digit(*at) >= 0; at++, digits++)
		*ret = *ret << 4 | (uint64_t)digit(*at);
	if (!digits || digits > 16 || at == end || *at != ' ')
		return NULL;
	while (at < end && *at == ' ')
		at++;
	return at;
}

static bool take_line(const char *begin, const char *end, struct line *ret)
{
	const char *at = take_number(begin, end, &ret->at);

	if (at)
		at = take_number(at, end, &ret->size);
	if (at && end > at && end[-1] == '\r')
		end--;
	if (!at || at == end || !ret->size)
		return false;
	ret->name = at;
	ret->length = (size_t)(end - at);
	return true;
}

static size_t cut_length(const char *name, size_t length)
{
	if (length < PERF_MAP_NAME_MAX)
		return length;
	length = PERF_MAP_NAME_MAX - 1;
	/* Not within a UTF-8 character. */
	for (unsigned i = 0; i < 3 && ((unsigned char)name[length] & 0xc0) == 0x80; i++)
		length--;
	return length;
}

static void add_line(struct builder *b, const struct line *line)
{
	size_t length = cut_length(line->name, line->length), record = sizeof line->at + length + 1;
	size_t used = sizeof *b->map + b->names + b->map->count * SEGMENT_SHARE;

	if (b->size - used < record + SEGMENT_SHARE) {
		b->full = true;
		return;
	}
	b->map->lines++;
	b->names += (uint32_t)record;

	uint8_t *text = b->room + b->size - b->names;
	uint64_t size = line->size > UINT32_MAX ? UINT32_MAX : line->size;

	if (size > UINT64_MAX - line->at)
		size = UINT64_MAX - line->at;
	memcpy(text, &line->at, sizeof line->at);
	text += sizeof line->at;
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)line->name[i];

		text[i] = c < 0x20 || c == 0x7f ? '?' : c;
	}
	text[length] = 0;
	if (size)
		b->map->segments[b->map->count++] = (struct perf_map_segment){ line->at, (uint32_t)size, b->names };
}

static void take(struct builder *b, const char *begin, const char *end)
{
	struct line line;

	if (take_line(begin, end, &line))
		add_line(b, &line);
	else if (begin != end)
		b->map->rubbish++;
}

/* ---- reading ---- */

static int read_piece(const struct elf_file *file, uint64_t at, char *into, size_t size)
{
	if (file->bytes) {
		memcpy(into, file->bytes + at, size);
		return 0;
	}
	for (size_t done = 0; done < size;) {
		ssize_t n = pread(file->fd, into + done, size - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -EIO : -ESTALE;
		done += (size_t)n;
	}
	return 0;
}

static size_t line_begin(const char *piece, size_t end)
{
	const char *newline = memrchr(piece, '\n', end);

	return newline ? (size_t)(newline - piece) + 1 : 0;
}

/* Takes the lines of piece[end], which ends with one, last first. The line at the piece's begin is taken only when it is
 * `first` in the file. Returns where what was not taken ends. */
static size_t take_lines(struct builder *b, const char *piece, size_t end, bool first)
{
	while (end) {
		size_t begin = line_begin(piece, end - 1);

		if (!begin && !first)
			return end;
		take(b, piece + begin, piece + end - 1);
		if (b->full)
			return end;
		end = begin;
	}
	return 0;
}

static int read_lines(struct builder *b, const struct elf_file *file)
{
	char piece[PIECE];
	/* Whether the byte before `end` ends a line: not so within one that is cut or too long. */
	bool whole = false;
	uint64_t end = file->size, least = end > READ_MOST ? end - READ_MOST : 0;

	while (end > least && !b->full) {
		size_t size = end < PIECE ? (size_t)end : PIECE, usable, left;
		uint64_t base = end - size;
		int r = read_piece(file, base, piece, size);

		if (r < 0)
			return r;
		usable = whole ? size : line_begin(piece, size);
		whole = usable > 0;
		if (whole && !b->map->end)
			b->map->end = base + usable;
		left = take_lines(b, piece, usable, base == 0);
		if (left == PIECE && !b->full) {
			/* One line fills the piece. */
			b->map->rubbish++;
			whole = false;
			left = 0;
		}
		end = base + left;
	}
	b->map->skipped = end;
	return 0;
}

/* ---- overlaps ---- */

/* The segment's key holds 64 bits of address; the order of equal ones is up to the sweep. */
static uint64_t address_of(const void *segment)
{
	return ((const struct perf_map_segment *)segment)->at;
}

static void emit(struct sweep *s, uint64_t end, uint32_t name)
{
	struct perf_map_segment *segments = s->map->segments, *last;

	last = s->map->count ? &segments[s->map->count - 1] : NULL;
	if (last && last->name == name && last->at + last->length == s->at && end - last->at <= UINT32_MAX)
		last->length = (uint32_t)(end - last->at);
	else if (s->map->count < s->unread)
		segments[s->map->count++] = (struct perf_map_segment){ s->at, (uint32_t)(end - s->at), name };
	else
		s->map->lost++;
}

/* Writes what covers the addresses up to `to`. */
static void advance(struct sweep *s, uint64_t to)
{
	while (s->depth) {
		struct cover *top = &s->covers[s->depth - 1];
		uint64_t end = top->end < to ? top->end : to;

		if (end > s->at) {
			emit(s, end, top->name);
			s->at = end;
		}
		if (top->end > to)
			break;
		s->depth--;
	}
	s->at = to;
}

/* Adds a function that begins at the sweep's address. A larger `name` is an older one. */
static void cover(struct sweep *s, const struct perf_map_segment *segment)
{
	struct cover new = { segment->at + segment->length, segment->name };
	uint32_t older = s->depth, kept;

	while (older && s->covers[older - 1].name < new.name)
		older--;
	if (older < s->depth && s->covers[older].end >= new.end)
		return;
	for (kept = older; kept && s->covers[kept - 1].end <= new.end;)
		kept--;
	if (kept == older && s->depth == COVERS_MAX) {
		/* So many functions over one address are no real code: the oldest goes. */
		memmove(&s->covers[0], &s->covers[1], (--s->depth) * sizeof new);
		s->map->lost++;
		if (!older)
			return;
		kept = --older;
	}
	memmove(&s->covers[kept + 1], &s->covers[older], (s->depth - older) * sizeof new);
	s->covers[kept] = new;
	s->depth = s->depth - (older - kept) + 1;
}

static void resolve_overlaps(struct perf_map *map, uint32_t slots)
{
	struct sweep s = { .map = map, .unread = slots - map->count };
	struct perf_map_segment *moved = map->segments + s.unread;

	heap_sort(map->segments, map->count, sizeof map->segments[0], address_of);
	memmove(moved, map->segments, map->count * sizeof *moved);
	map->count = 0;
	while (s.unread < slots) {
		struct perf_map_segment next = map->segments[s.unread];

		advance(&s, next.at);
		cover(&s, &next);
		s.unread++;
	}
	advance(&s, UINT64_MAX);
}

/* ---- the table ---- */

int perf_map_build(const struct elf_file *file, void *room, size_t size)
{
	struct builder b = { .map = room, .room = room, .size = size > ROOM_MOST ? ROOM_MOST : (uint32_t)size };
	struct perf_map *map = room;
	int r;

	if (size < sizeof *map)
		return -ENOSPC;
	memset(map, 0, sizeof *map);
	b.size &= ~7u;
	r = read_lines(&b, file);
	if (r < 0)
		return r;
	resolve_overlaps(map, (uint32_t)((b.size - sizeof *map - b.names) / sizeof map->segments[0]));
	/* Places from the room's end become places in the names. */
	for (uint32_t i = 0; i < map->count; i++)
		map->segments[i].name = b.names - map->segments[i].name;
	map->names_size = b.names;
	memmove(&map->segments[map->count], b.room + b.size - b.names, b.names);
	return 0;
}

const char *perf_map_find(const struct perf_map *map, uint64_t address, uint64_t *ret_delta)
{
	const char *names = (const char *)&map->segments[map->count];
	uint32_t low = 0, high = map->count;
	uint64_t begin;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (map->segments[middle].at <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || address - map->segments[low - 1].at >= map->segments[low - 1].length)
		return NULL;
	names += map->segments[low - 1].name;
	memcpy(&begin, names, sizeof begin);
	*ret_delta = address - begin;
	return names + sizeof begin;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text under construction: it begins in the caller's frame and moves to the heap only when it outgrows that. A failed
 * allocation sets `failed` and stays; nothing more is added. Used to write a whole record or nothing of it.
 */
#ifndef SONDE_TEXT_H
#define SONDE_TEXT_H

#include "base/base.h"

#include <errno.h>
#include <string.h>

struct text {
	char *bytes;
	size_t size, room;
	bool failed;
	char first[6144];
};

static inline void text_begin(struct text *t)
{
	t->bytes = t->first;
	t->size = 0;
	t->room = sizeof t->first;
	t->failed = false;
}

static inline void text_end(struct text *t)
{
	if (t->bytes != t->first)
		free(t->bytes);
}

/* Makes `size` more bytes writable at the end; false when memory ran out. */
bool text_grow(struct text *t, size_t size);

static inline bool text_room(struct text *t, size_t size)
{
	return __builtin_expect(t->room - t->size >= size, 1) || text_grow(t, size);
}

static inline void text_put(struct text *t, const void *bytes, size_t size)
{
	if (!text_room(t, size))
		return;
	memcpy(t->bytes + t->size, bytes, size);
	t->size += size;
}

static inline void text_char(struct text *t, char c)
{
	if (text_room(t, 1))
		t->bytes[t->size++] = c;
}

static inline void text_string(struct text *t, const char *s)
{
	text_put(t, s, strlen(s));
}

void text_uint(struct text *t, uint64_t value);

/* Writes it out and gives the memory back: 0, -ENOMEM when it is not whole, or the stream's error. */
int text_write(struct text *t, FILE *out);

/* The code point at `at` (before `end`) and its length in bytes. Bytes that are not UTF-8 give -1 and the length of the
 * longest beginning of a character that they are (at least 1), as the Unicode standard (chapter 3.9, table 3-8) and all
 * browsers do. */
int32_t utf8_next(const uint8_t *at, const uint8_t *end, unsigned *ret_length);

#endif

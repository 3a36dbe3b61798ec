/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading records back: a bounded walk over msgpack bytes, and the notations that people and programs read.
 */
#ifndef SONDE_RECORD_H
#define SONDE_RECORD_H

#include "base/base.h"

enum value_kind {
	VALUE_NIL,
	VALUE_BOOL,
	VALUE_UINT,
	VALUE_INT,
	VALUE_FLOAT,
	VALUE_STR,
	VALUE_BIN,
	VALUE_ARRAY,
	VALUE_MAP
};

/* One msgpack value in place. Arrays and maps say their count; their members follow at `body`. */
struct value {
	enum value_kind kind;
	union {
		bool truth;
		uint64_t u;
		int64_t i; /* VALUE_INT: negative */
		double f;
		uint32_t count; /* elements, or pairs of a map */
	};
	const uint8_t *body; /* str, bin: bytes; array, map: first member */
	uint32_t length;     /* str, bin */
	const uint8_t *next; /* behind the whole value; for arrays and maps NULL until value_skip() */
};

/* Decodes the value at `at` without its members. 0, or -EBADMSG when the bytes end or are no msgpack. Never reads at or past `end`. */
int value_read(const uint8_t *at, const uint8_t *end, struct value *ret);

/* The end of the value at `at` with all its members (nesting at most 32), or NULL. */
const uint8_t *value_skip(const uint8_t *at, const uint8_t *end);

/* The same of what is to be a member of a record: nesting at most 31. */
const uint8_t *value_skip_member(const uint8_t *at, const uint8_t *end);

/* Calls `take` for each top-level key and its value; `next` is behind the value. 0, -EBADMSG, or what `take` returned that is negative, which ends it. */
int record_each(const void *map, size_t size,
		int (*take)(void *context, const struct value *key, const struct value *value, const uint8_t *next),
		void *context);

/* The value of a top-level key. 0, -ENOENT, -EBADMSG. */
int record_get(const void *map, size_t size, const char *key, struct value *ret);

/* The record's type (its first key's value), not terminated. 0 or -EBADMSG. */
int record_type(const void *map, size_t size, const char **ret_type, size_t *ret_length);

/* One JSON object, no newline. Text that is not UTF-8 has its bad bytes written as U+FFFD, bin as base64; floats keep 17 digits;
 * integers are exact. */
int record_write_json(FILE *out, const void *map, size_t size);

/* One line for a person, no newline: local time, type, comm[pid], then what matters of this type, in colour when `colour`. Control
 * characters of hostile text are escaped. `columns` bounds the line's width on a terminal (0: unbounded). */
int record_write_line(FILE *out, const void *map, size_t size, bool colour, unsigned columns);

#endif

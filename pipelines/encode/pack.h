/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The msgpack writer of the hot path: a cursor over memory that the caller reserved (in the journal, usually). It never
 * fails and never writes past the end: when room runs out, `full` is set and stays set, and nothing more is written.
 * Lengths that are known only later (maps whose keys may be absent) are written as map16/array16 and patched.
 * Format: https://github.com/msgpack/msgpack/blob/master/spec.md
 */
#ifndef SONDE_PACK_H
#define SONDE_PACK_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct pack {
	uint8_t *at, *end;
	bool full;
};

static inline struct pack pack_over(void *room, size_t size)
{
	return (struct pack){ .at = room, .end = (uint8_t *)room + size };
}

static inline bool pack_room(struct pack *p, size_t size)
{
	if (__builtin_expect((size_t)(p->end - p->at) < size, 0))
		p->full = true;
	return !p->full;
}

/* Bytes already in msgpack form, such as a pre-packed key. */
static inline void pack_raw(struct pack *p, const void *bytes, size_t size)
{
	if (!pack_room(p, size))
		return;
	memcpy(p->at, bytes, size);
	p->at += size;
}

static inline void pack_be(struct pack *p, uint8_t tag, uint64_t value, unsigned bytes)
{
	if (!pack_room(p, 1 + bytes))
		return;
	*p->at++ = tag;
	for (unsigned i = bytes; i-- > 0;)
		*p->at++ = (uint8_t)(value >> (8 * i));
}

static inline void pack_uint(struct pack *p, uint64_t value)
{
	if (value < 128) {
		if (pack_room(p, 1))
			*p->at++ = (uint8_t)value;
	} else if (value <= UINT8_MAX) {
		pack_be(p, 0xcc, value, 1);
	} else if (value <= UINT16_MAX) {
		pack_be(p, 0xcd, value, 2);
	} else if (value <= UINT32_MAX) {
		pack_be(p, 0xce, value, 4);
	} else {
		pack_be(p, 0xcf, value, 8);
	}
}

static inline void pack_int(struct pack *p, int64_t value)
{
	if (value >= 0)
		pack_uint(p, (uint64_t)value);
	else if (value >= -32)
		pack_be(p, (uint8_t)value, 0, 0);
	else if (value >= INT8_MIN)
		pack_be(p, 0xd0, (uint64_t)value, 1);
	else if (value >= INT16_MIN)
		pack_be(p, 0xd1, (uint64_t)value, 2);
	else if (value >= INT32_MIN)
		pack_be(p, 0xd2, (uint64_t)value, 4);
	else
		pack_be(p, 0xd3, (uint64_t)value, 8);
}

static inline void pack_bool(struct pack *p, bool value)
{
	pack_be(p, value ? 0xc3 : 0xc2, 0, 0);
}

static inline void pack_str_header(struct pack *p, size_t length)
{
	if (length < 32)
		pack_be(p, (uint8_t)(0xa0 | length), 0, 0);
	else if (length <= UINT8_MAX)
		pack_be(p, 0xd9, length, 1);
	else if (length <= UINT16_MAX)
		pack_be(p, 0xda, length, 2);
	else
		pack_be(p, 0xdb, length, 4);
}

static inline void pack_str(struct pack *p, const char *text, size_t length)
{
	pack_str_header(p, length);
	pack_raw(p, text, length);
}

static inline void pack_text(struct pack *p, const char *text)
{
	pack_str(p, text, strlen(text));
}

static inline void pack_bin(struct pack *p, const void *bytes, uint32_t length)
{
	if (length <= UINT8_MAX)
		pack_be(p, 0xc4, length, 1);
	else if (length <= UINT16_MAX)
		pack_be(p, 0xc5, length, 2);
	else
		pack_be(p, 0xc6, length, 4);
	pack_raw(p, bytes, length);
}

static inline void pack_array_header(struct pack *p, uint16_t count)
{
	if (count < 16)
		pack_be(p, (uint8_t)(0x90 | count), 0, 0);
	else
		pack_be(p, 0xdc, count, 2);
}

/* A map or array whose count is given later: open returns the place to patch, close writes the count there. */
static inline uint8_t *pack_open_map(struct pack *p)
{
	uint8_t *place = p->at;

	pack_be(p, 0xde, 0, 2);
	return place;
}

static inline uint8_t *pack_open_array(struct pack *p)
{
	uint8_t *place = p->at;

	pack_be(p, 0xdc, 0, 2);
	return place;
}

static inline void pack_close(struct pack *p, uint8_t *place, uint16_t count)
{
	if (p->full)
		return;
	place[1] = (uint8_t)(count >> 8);
	place[2] = (uint8_t)count;
}

#endif

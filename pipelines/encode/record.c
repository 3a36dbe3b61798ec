/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading msgpack in place. A value is decoded where it lies: scalars into `struct value`, text and binary as a pointer
 * into the record, arrays and maps as a count and the address of their first member, so that a reader visits only what
 * it asks for and nothing is allocated.
 *
 * Invariants: no byte at or past `end` is read; a count larger than the bytes that are left is refused at once, so no
 * loop is longer than its record; nesting deeper than 32 is refused. Extension types are not part of the stream and are
 * refused. Format: https://github.com/msgpack/msgpack/blob/master/spec.md
 */
#include "encode/record.h"

#include <errno.h>
#include <string.h>

#define NESTING_MAX 32

/* What each first byte from 0xc0 on stands for: a kind, and how many bytes of number or length follow it. */
struct format {
	uint8_t kind;
	uint8_t bytes; /* 0xff: no value of the stream */
};

#define NO_VALUE 0xff

static const struct format formats[32] = {
	[0x00] = { VALUE_NIL, 0 },  [0x01] = { 0, NO_VALUE },    [0x02] = { VALUE_BOOL, 0 },
	[0x03] = { VALUE_BOOL, 0 }, [0x04] = { VALUE_BIN, 1 },   [0x05] = { VALUE_BIN, 2 },
	[0x06] = { VALUE_BIN, 4 },  [0x07] = { 0, NO_VALUE },    [0x08] = { 0, NO_VALUE },
	[0x09] = { 0, NO_VALUE },   [0x0a] = { VALUE_FLOAT, 4 }, [0x0b] = { VALUE_FLOAT, 8 },
	[0x0c] = { VALUE_UINT, 1 }, [0x0d] = { VALUE_UINT, 2 },  [0x0e] = { VALUE_UINT, 4 },
	[0x0f] = { VALUE_UINT, 8 }, [0x10] = { VALUE_INT, 1 },   [0x11] = { VALUE_INT, 2 },
	[0x12] = { VALUE_INT, 4 },  [0x13] = { VALUE_INT, 8 },   [0x14] = { 0, NO_VALUE },
	[0x15] = { 0, NO_VALUE },   [0x16] = { 0, NO_VALUE },    [0x17] = { 0, NO_VALUE },
	[0x18] = { 0, NO_VALUE },   [0x19] = { VALUE_STR, 1 },   [0x1a] = { VALUE_STR, 2 },
	[0x1b] = { VALUE_STR, 4 },  [0x1c] = { VALUE_ARRAY, 2 }, [0x1d] = { VALUE_ARRAY, 4 },
	[0x1e] = { VALUE_MAP, 2 },  [0x1f] = { VALUE_MAP, 4 },
};

static uint64_t load_be(const uint8_t *at, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value = value << 8 | at[i];
	return value;
}

static int set_bytes(struct value *v, enum value_kind kind, const uint8_t *body, const uint8_t *end, uint64_t length)
{
	if (length > (uint64_t)(end - body))
		return -EBADMSG;
	v->kind = kind;
	v->body = body;
	v->length = (uint32_t)length;
	v->next = body + length;
	return 0;
}

/* Every member takes at least one byte: a larger count is a lie, and is found out before anyone loops over it. */
static int set_members(struct value *v, enum value_kind kind, const uint8_t *body, const uint8_t *end, uint64_t count)
{
	if (count * (kind == VALUE_MAP ? 2 : 1) > (uint64_t)(end - body))
		return -EBADMSG;
	v->kind = kind;
	v->count = (uint32_t)count;
	v->body = body;
	v->next = NULL;
	return 0;
}

static void set_signed(struct value *v, int64_t number)
{
	v->kind = number < 0 ? VALUE_INT : VALUE_UINT;
	v->i = number;
}

static void set_float(struct value *v, uint64_t bits, unsigned bytes)
{
	uint32_t narrow = (uint32_t)bits;
	float f;

	v->kind = VALUE_FLOAT;
	if (bytes == 4) {
		memcpy(&f, &narrow, sizeof f);
		v->f = f;
	} else {
		memcpy(&v->f, &bits, sizeof v->f);
	}
}

/* Values whose first byte is 0xc0...0xdf. */
static int read_tagged(const uint8_t *at, const uint8_t *end, struct value *v)
{
	struct format format = formats[*at - 0xc0];
	const uint8_t *body = at + 1 + format.bytes;

	if (format.bytes == NO_VALUE || (size_t)(end - at) < 1u + format.bytes)
		return -EBADMSG;

	uint64_t number = load_be(at + 1, format.bytes);
	unsigned unused_bits = 64 - 8 * format.bytes;

	switch (format.kind) {
	case VALUE_STR:
	case VALUE_BIN:
		return set_bytes(v, format.kind, body, end, number);
	case VALUE_ARRAY:
	case VALUE_MAP:
		return set_members(v, format.kind, body, end, number);
	case VALUE_UINT:
		v->kind = VALUE_UINT;
		v->u = number;
		break;
	case VALUE_INT:
		set_signed(v, (int64_t)(number << unused_bits) >> unused_bits);
		break;
	case VALUE_FLOAT:
		set_float(v, number, format.bytes);
		break;
	default:
		v->kind = format.kind;
		v->truth = *at == 0xc3;
		break;
	}
	v->next = body;
	return 0;
}

int value_read(const uint8_t *at, const uint8_t *end, struct value *ret)
{
	struct value v = { 0 };
	int r = 0;

	if (at >= end)
		return -EBADMSG;
	v.next = at + 1;
	if (*at < 0x80) {
		v.kind = VALUE_UINT;
		v.u = *at;
	} else if (*at < 0x90) {
		r = set_members(&v, VALUE_MAP, at + 1, end, *at & 0x0f);
	} else if (*at < 0xa0) {
		r = set_members(&v, VALUE_ARRAY, at + 1, end, *at & 0x0f);
	} else if (*at < 0xc0) {
		r = set_bytes(&v, VALUE_STR, at + 1, end, *at & 0x1f);
	} else if (*at < 0xe0) {
		r = read_tagged(at, end, &v);
	} else {
		set_signed(&v, (int8_t)*at);
	}
	if (r == 0)
		*ret = v;
	return r;
}

/* `outside`: the depth at which the value itself is. */
static const uint8_t *skip(const uint8_t *at, const uint8_t *end, unsigned outside)
{
	uint64_t left[NESTING_MAX + 1]; /* members still to come, at each depth */
	unsigned depth = outside;
	struct value v;

	left[depth] = 1;
	for (;;) {
		while (left[depth] == 0) {
			if (depth == outside)
				return at;
			depth--;
		}
		left[depth]--;
		if (value_read(at, end, &v) < 0)
			return NULL;
		at = v.next;
		if (v.kind < VALUE_ARRAY)
			continue;
		if (depth == NESTING_MAX)
			return NULL;
		at = v.body;
		left[++depth] = (uint64_t)v.count * (v.kind == VALUE_MAP ? 2 : 1);
	}
}

const uint8_t *value_skip(const uint8_t *at, const uint8_t *end)
{
	return skip(at, end, 0);
}

const uint8_t *value_skip_member(const uint8_t *at, const uint8_t *end)
{
	return skip(at, end, 1);
}

int record_each(const void *map, size_t size,
		int (*take)(void *context, const struct value *key, const struct value *value, const uint8_t *next),
		void *context)
{
	const uint8_t *end = (const uint8_t *)map + size, *at;
	struct value record, key, v;

	if (value_read(map, end, &record) < 0 || record.kind != VALUE_MAP)
		return -EBADMSG;
	at = record.body;
	for (uint32_t i = 0; i < record.count; i++) {
		int r;

		if (value_read(at, end, &key) < 0 || key.kind != VALUE_STR || value_read(key.next, end, &v) < 0)
			return -EBADMSG;
		at = v.next ? v.next : value_skip(key.next, end);
		if (!at)
			return -EBADMSG;
		r = take(context, &key, &v, at);
		if (r < 0)
			return r;
	}
	return 0;
}

int record_get(const void *map, size_t size, const char *key, struct value *ret)
{
	const uint8_t *end = (const uint8_t *)map + size, *at;
	size_t length = strlen(key);
	struct value record, name;

	if (value_read(map, end, &record) < 0 || record.kind != VALUE_MAP)
		return -EBADMSG;
	at = record.body;
	for (uint32_t i = 0; i < record.count; i++) {
		if (value_read(at, end, &name) < 0)
			return -EBADMSG;
		at = name.next ? name.next : value_skip(at, end);
		if (!at)
			return -EBADMSG;
		if (name.kind == VALUE_STR && name.length == length && memcmp(name.body, key, length) == 0)
			return value_read(at, end, ret);
		at = value_skip(at, end);
		if (!at)
			return -EBADMSG;
	}
	return -ENOENT;
}

int record_type(const void *map, size_t size, const char **ret_type, size_t *ret_length)
{
	const uint8_t *end = (const uint8_t *)map + size;
	struct value record, key, type;

	if (value_read(map, end, &record) < 0 || record.kind != VALUE_MAP || record.count == 0)
		return -EBADMSG;
	if (value_read(record.body, end, &key) < 0 || key.kind != VALUE_STR || key.length != 4 ||
	    memcmp(key.body, "type", 4) != 0)
		return -EBADMSG;
	if (value_read(key.next, end, &type) < 0 || type.kind != VALUE_STR)
		return -EBADMSG;
	*ret_type = (const char *)type.body;
	*ret_length = type.length;
	return 0;
}

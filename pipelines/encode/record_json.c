/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record as one JSON object (RFC 8259) on one line. The object is built whole before a byte goes out, so a record
 * that turns out to be damaged leaves nothing behind. Text goes through in runs, eight bytes at a time, for as long as
 * it needs no escape.
 *
 * JSON has no NaN or infinity: they are null. A key that is no text is its JSON in quotes; an array or map as a key is
 * refused. Besides what JSON demands, everything that ends a line for some reader (U+007F to U+009F, U+2028, U+2029) is
 * escaped.
 */
#include "encode/record.h"
#include "encode/text.h"

#include <math.h>

#define NESTING_MAX 32

static void put_escape(struct text *t, uint32_t point)
{
	char escape[8];

	switch (point) {
	case '"':
		return text_put(t, "\\\"", 2);
	case '\\':
		return text_put(t, "\\\\", 2);
	case '\n':
		return text_put(t, "\\n", 2);
	case '\t':
		return text_put(t, "\\t", 2);
	case '\r':
		return text_put(t, "\\r", 2);
	default:
		snprintf(escape, sizeof escape, "\\u%04x", point & 0xffff);
		text_put(t, escape, 6);
	}
}

/* True when one of the eight bytes is a control character, a quote, a backslash, DEL, or not ASCII. It may err on the
 * side of true (a borrow from the byte below), never of false. */
static bool needs_care(uint64_t bytes)
{
	const uint64_t ones = 0x0101010101010101ull, tops = 0x8080808080808080ull;
	uint64_t quote = bytes ^ ones * '"', backslash = bytes ^ ones * '\\', del = bytes ^ ones * 0x7f;

	return (bytes | (bytes - ones * 0x20) | (quote - ones) | (backslash - ones) | (del - ones)) & tops;
}

static const uint8_t *plain_end(const uint8_t *at, const uint8_t *end)
{
	uint64_t bytes;

	while (end - at >= 8) {
		memcpy(&bytes, at, sizeof bytes);
		if (needs_care(bytes))
			break;
		at += 8;
	}
	while (at < end && *at >= 0x20 && *at < 0x7f && *at != '"' && *at != '\\')
		at++;
	return at;
}

static void put_string(struct text *t, const uint8_t *at, size_t size)
{
	const uint8_t *end = at + size;
	unsigned length;

	text_char(t, '"');
	while (at < end) {
		const uint8_t *plain = plain_end(at, end);

		text_put(t, at, (size_t)(plain - at));
		at = plain;
		if (at == end)
			break;

		int32_t point = utf8_next(at, end, &length);

		if (point < 0)
			text_put(t, "\xef\xbf\xbd", 3);
		else if (point >= 0xa0 && point != 0x2028 && point != 0x2029)
			text_put(t, at, length);
		else
			put_escape(t, (uint32_t)point);
		at += length;
	}
	text_char(t, '"');
}

/* RFC 4648, with padding. */
static void put_base64(struct text *t, const uint8_t *bytes, size_t size)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	text_char(t, '"');
	for (size_t i = 0; i < size; i += 3) {
		size_t n = MIN_OF(size - i, (size_t)3);
		uint32_t group = (uint32_t)bytes[i] << 16;

		if (n > 1)
			group |= (uint32_t)bytes[i + 1] << 8;
		if (n > 2)
			group |= bytes[i + 2];
		char four[4] = { letters[group >> 18], letters[group >> 12 & 63],
				 n > 1 ? letters[group >> 6 & 63] : '=', n > 2 ? letters[group & 63] : '=' };

		text_put(t, four, sizeof four);
	}
	text_char(t, '"');
}

/* 17 digits bring back the same double; ".0" keeps a whole one from being read as an integer. */
static void put_float(struct text *t, double f)
{
	char digits[40];

	if (!isfinite(f))
		return text_put(t, "null", 4);
	snprintf(digits, sizeof digits, "%.17g", f);
	text_string(t, digits);
	if (!strpbrk(digits, ".e"))
		text_put(t, ".0", 2);
}

static void put_scalar(struct text *t, const struct value *v)
{
	switch (v->kind) {
	case VALUE_BOOL:
		return v->truth ? text_put(t, "true", 4) : text_put(t, "false", 5);
	case VALUE_UINT:
		return text_uint(t, v->u);
	case VALUE_INT:
		text_char(t, '-');
		return text_uint(t, 0 - (uint64_t)v->i);
	case VALUE_FLOAT:
		return put_float(t, v->f);
	case VALUE_STR:
		return put_string(t, v->body, v->length);
	case VALUE_BIN:
		return put_base64(t, v->body, v->length);
	default:
		return text_put(t, "null", 4);
	}
}

static const uint8_t *put_key(struct text *t, const uint8_t *at, const uint8_t *end)
{
	struct value key;

	if (value_read(at, end, &key) < 0 || key.kind >= VALUE_ARRAY)
		return NULL;
	if (key.kind == VALUE_STR || key.kind == VALUE_BIN) {
		put_scalar(t, &key);
	} else {
		text_char(t, '"');
		put_scalar(t, &key);
		text_char(t, '"');
	}
	text_char(t, ':');
	return key.next;
}

/* Returns the end of the value, or NULL when it is damaged. Recursion ends at NESTING_MAX. */
static const uint8_t *put_value(struct text *t, const uint8_t *at, const uint8_t *end, unsigned depth)
{
	struct value v;

	if (value_read(at, end, &v) < 0)
		return NULL;
	if (v.kind < VALUE_ARRAY) {
		put_scalar(t, &v);
		return v.next;
	}
	if (depth == NESTING_MAX)
		return NULL;
	at = v.body;
	text_char(t, v.kind == VALUE_MAP ? '{' : '[');
	for (uint32_t i = 0; i < v.count; i++) {
		if (i)
			text_char(t, ',');
		if (v.kind == VALUE_MAP)
			at = put_key(t, at, end);
		if (at)
			at = put_value(t, at, end, depth + 1);
		if (!at)
			return NULL;
	}
	text_char(t, v.kind == VALUE_MAP ? '}' : ']');
	return at;
}

int record_write_json(FILE *out, const void *map, size_t size)
{
	const uint8_t *at = map, *end = at + size;
	struct value record;
	struct text t;

	if (value_read(at, end, &record) < 0 || record.kind != VALUE_MAP)
		return -EBADMSG;
	text_begin(&t);
	if (put_value(&t, at, end, 0) != end) {
		text_end(&t);
		return -EBADMSG;
	}
	return text_write(&t, out);
}

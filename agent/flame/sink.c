/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes are gathered, deflated and encoded block by block; base64 keeps up to two bytes between blocks. */
#include "flame/sink.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <zlib.h>

#define BLOCK 16384u

struct sink {
	FILE *out;
	bool plain;
	int error;
	z_stream z;
	uint8_t gathered[BLOCK];
	size_t n_gathered;
	uint8_t carry[3];
	size_t n_carry;
};

int sink_make(struct sink **ret, FILE *out, bool plain)
{
	struct sink *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	s->out = out;
	s->plain = plain;
	if (!plain && deflateInit2(&s->z, 6, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) != Z_OK) {
		free(s);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

static void write_out(struct sink *s, const void *bytes, size_t size)
{
	errno = 0;
	if (!s->error && fwrite_unlocked(bytes, 1, size, s->out) != size)
		s->error = errno ? -errno : -EIO;
}

/* The three bytes of `carry`, of which `n` count, as four characters. */
static void encode_group(const uint8_t carry[3], size_t n, char *to)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t bits = (uint32_t)carry[0] << 16 | (n > 1 ? (uint32_t)carry[1] << 8 : 0) | (n > 2 ? carry[2] : 0);

	for (size_t i = 0; i < 4; i++)
		to[i] = i <= n ? digits[bits >> (18 - 6 * i) & 63] : '=';
}

static void encode(struct sink *s, const uint8_t *bytes, size_t size)
{
	char text[BLOCK / 3 * 4 + 8];
	size_t n = 0;

	for (size_t i = 0; i < size; i++) {
		s->carry[s->n_carry++] = bytes[i];
		if (s->n_carry < 3)
			continue;
		encode_group(s->carry, 3, text + n);
		n += 4;
		s->n_carry = 0;
	}
	write_out(s, text, n);
}

static void hand_on(struct sink *s, int flush)
{
	uint8_t room[BLOCK];

	if (s->plain) {
		write_out(s, s->gathered, s->n_gathered);
		s->n_gathered = 0;
		return;
	}
	s->z.next_in = s->gathered;
	s->z.avail_in = (uInt)s->n_gathered;
	do {
		s->z.next_out = room;
		s->z.avail_out = sizeof room;
		deflate(&s->z, flush);
		encode(s, room, sizeof room - s->z.avail_out);
	} while (s->z.avail_out == 0);
	s->n_gathered = 0;
}

void sink_put(struct sink *s, const void *bytes, size_t size)
{
	const uint8_t *at = bytes;

	while (size > 0) {
		size_t n = MIN_OF(size, BLOCK - s->n_gathered);

		memcpy(s->gathered + s->n_gathered, at, n);
		s->n_gathered += n;
		at += n;
		size -= n;
		if (s->n_gathered == BLOCK)
			hand_on(s, Z_NO_FLUSH);
	}
}

void sink_format(struct sink *s, const char *format, ...)
{
	char text[256];
	va_list values;
	int n;

	va_start(values, format);
	n = vsnprintf(text, sizeof text, format, values);
	va_end(values);
	if (n > 0)
		sink_put(s, text, MIN_OF((size_t)n, sizeof text - 1));
}

void sink_number(struct sink *s, uint64_t number)
{
	char digits[20];
	size_t at = sizeof digits;

	do {
		digits[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	sink_put(s, digits + at, sizeof digits - at);
}

void sink_string(struct sink *s, struct flame_span text)
{
	sink_put(s, "\"", 1);
	for (size_t i = 0; i < text.length; i++) {
		uint8_t c = (uint8_t)text.text[i];

		if (c < 0x20 || strchr("\"\\<>&", c))
			sink_format(s, "\\u%04x", c);
		else
			sink_put(s, &c, 1);
	}
	sink_put(s, "\"", 1);
}

int sink_end(struct sink *s)
{
	char text[4];
	int error;

	hand_on(s, Z_FINISH);
	if (s->n_carry) {
		encode_group(s->carry, s->n_carry, text);
		write_out(s, text, sizeof text);
	}
	if (!s->plain)
		deflateEnd(&s->z);
	error = s->error;
	free(s);
	return error;
}

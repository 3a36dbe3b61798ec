/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking values off a run of hostile bytes: past the end there are zeros, and `bad` stays set. Little-endian, as both processors are.
 */
#ifndef SONDE_UNWIND_BYTES_H
#define SONDE_UNWIND_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct unwind_bytes {
	const uint8_t *at, *end;
	bool bad;
};

/* `size` bytes, or NULL and bad. */
static inline const uint8_t *bytes_take(struct unwind_bytes *b, uint64_t size)
{
	const uint8_t *at = b->at;

	if (size > (uint64_t)(b->end - b->at)) {
		b->bad = true;
		b->at = b->end;
		return NULL;
	}
	b->at += size;
	return at;
}

static inline uint8_t bytes_u8(struct unwind_bytes *b)
{
	if (b->at == b->end) {
		b->bad = true;
		return 0;
	}
	return *b->at++;
}

static inline uint64_t bytes_unsigned(struct unwind_bytes *b, unsigned size)
{
	const uint8_t *at = bytes_take(b, size);
	uint64_t value = 0;

	if (at)
		memcpy(&value, at, size);
	return value;
}

static inline int64_t bytes_signed(struct unwind_bytes *b, unsigned size)
{
	unsigned unused = 64 - 8 * size;

	return (int64_t)(bytes_unsigned(b, size) << unused) >> unused;
}

/* LEB128. What does not fit 64 bits is cut. */
static inline uint64_t bytes_uleb(struct unwind_bytes *b)
{
	uint64_t value = 0;

	for (unsigned shift = 0;; shift += 7) {
		uint8_t byte = bytes_u8(b);

		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return value;
	}
}

static inline int64_t bytes_sleb(struct unwind_bytes *b)
{
	uint64_t value = 0;

	for (unsigned shift = 0;; shift += 7) {
		uint8_t byte = bytes_u8(b);

		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte & 0x80)
			continue;
		if (shift < 57 && byte & 0x40)
			value |= ~0ull << (shift + 7);
		return (int64_t)value;
	}
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growing text, numbers in decimal, and UTF-8 read strictly: what the writers of JSON and of lines share.
 */
#include "encode/text.h"

bool text_grow(struct text *t, size_t size)
{
	size_t room = t->room;

	if (t->failed)
		return false;
	while (room - t->size < size)
		room *= 2;

	char *more = t->bytes == t->first ? malloc(room) : realloc(t->bytes, room);

	if (!more) {
		t->failed = true;
		return false;
	}
	if (t->bytes == t->first)
		memcpy(more, t->first, t->size);
	t->bytes = more;
	t->room = room;
	return true;
}

void text_uint(struct text *t, uint64_t value)
{
	char digits[20];
	unsigned at = sizeof digits;

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	text_put(t, digits + at, sizeof digits - at);
}

int text_write(struct text *t, FILE *out)
{
	int r = t->failed ? -ENOMEM : 0;

	errno = 0;
	if (r == 0 && fwrite_unlocked(t->bytes, 1, t->size, out) != t->size)
		r = errno ? -errno : -EIO;
	text_end(t);
	return r;
}

int32_t utf8_next(const uint8_t *at, const uint8_t *end, unsigned *ret_length)
{
	uint8_t lead = *at, low = 0x80, high = 0xbf;
	unsigned more;
	uint32_t point;

	*ret_length = 1;
	if (lead < 0x80)
		return lead;
	if (lead < 0xc2 || lead > 0xf4)
		return -1;
	more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
	point = lead & (0x3fu >> more);
	/* The second byte alone rules out overlong forms, surrogates and all above U+10FFFF. */
	if (lead == 0xe0)
		low = 0xa0;
	else if (lead == 0xed)
		high = 0x9f;
	else if (lead == 0xf0)
		low = 0x90;
	else if (lead == 0xf4)
		high = 0x8f;
	for (unsigned i = 1; i <= more; i++) {
		if (at + i >= end || at[i] < low || at[i] > high)
			return -1;
		point = point << 6 | (at[i] & 0x3f);
		*ret_length = i + 1;
		low = 0x80;
		high = 0xbf;
	}
	return (int32_t)point;
}

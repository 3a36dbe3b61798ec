/* SPDX-License-Identifier: Apache-2.0 */
/* Read from the end: names of functions hold spaces, parentheses and brackets (C++, Rust, Go); what follows them does not. */
#include "flame/frame.h"

#include "encode/text.h"

static bool ends_with(struct flame_span s, const char *end)
{
	size_t length = strlen(end);

	return s.length >= length && memcmp(s.text + s.length - length, end, length) == 0;
}

static bool begins_with(struct flame_span s, const char *begin)
{
	size_t length = strlen(begin);

	return s.length >= length && memcmp(s.text, begin, length) == 0;
}

/* Value of the hex digits that are all of `s`, at most 16. */
static bool read_hex(struct flame_span s, uint64_t *ret)
{
	uint64_t value = 0;

	if (s.length == 0 || s.length > 16)
		return false;
	for (size_t i = 0; i < s.length; i++) {
		char c = s.text[i];
		int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

		if (digit < 0)
			return false;
		value = value << 4 | (unsigned)digit;
	}
	*ret = value;
	return true;
}

static bool all_hex(struct flame_span s)
{
	uint64_t ignored;

	for (size_t at = 0; at < s.length; at += 16)
		if (!read_hex((struct flame_span){ s.text + at, MIN_OF(s.length - at, 16u) }, &ignored))
			return false;
	return s.length > 0;
}

/* Takes " (inner)" or " [inner]" off the end; brackets inside are balanced, as in "(lib.so (deleted))". */
static bool take_bracket(struct flame_span *s, char open, char close, struct flame_span *ret)
{
	unsigned depth = 0;

	if (s->length < 4 || s->text[s->length - 1] != close)
		return false;
	for (size_t i = s->length; i-- > 1;) {
		depth += s->text[i] == close;
		if (s->text[i] != open || --depth > 0)
			continue;
		if (s->text[i - 1] != ' ' || i < 2)
			return false;
		*ret = (struct flame_span){ s->text + i + 1, s->length - i - 2 };
		s->length = i - 1;
		return true;
	}
	return false;
}

static void take_offset(struct flame_span *s, struct flame_frame *frame)
{
	size_t at = s->length;

	while (at > 0 && s->text[at - 1] != '+')
		at--;
	if (at < 2 || s->length - at < 3 || memcmp(s->text + at, "0x", 2) != 0)
		return;
	if (!read_hex((struct flame_span){ s->text + at + 2, s->length - at - 2 }, &frame->offset))
		return;
	frame->has_offset = true;
	s->length = at - 1;
}

static bool is_address(struct flame_span s)
{
	uint64_t ignored;

	return begins_with(s, "0x") && read_hex((struct flame_span){ s.text + 2, s.length - 2 }, &ignored);
}

void flame_frame_read(const char *text, size_t length, struct flame_frame *ret)
{
	struct flame_frame frame = { .kind = FRAME_USER };
	struct flame_span s = { text, length };

	if (ends_with(s, " [inline]")) {
		frame.kind = FRAME_INLINE;
		s.length -= strlen(" [inline]");
	}
	if (take_bracket(&s, '(', ')', &frame.library)) {
		if (frame.kind != FRAME_INLINE && begins_with(frame.library, "[k"))
			frame.kind = FRAME_KERNEL;
		else if (begins_with(frame.library, "perf-") && ends_with(frame.library, ".map"))
			frame.kind = FRAME_JIT;
	} else if (take_bracket(&s, '[', ']', &frame.build_id) && !all_hex(frame.build_id)) {
		frame.build_id.length = 0;
		s.length = length; /* brackets of the name itself */
	}
	take_offset(&s, &frame);
	if (frame.build_id.length) {
		frame.kind = FRAME_UNKNOWN;
		frame.library = s;
	} else {
		if (is_address(s) && frame.kind != FRAME_KERNEL)
			frame.kind = FRAME_UNKNOWN;
		frame.name = s;
	}
	*ret = frame;
}

/* Marks that turn the direction of the text around them would let a name pose as another. */
static bool turns_text(int32_t point)
{
	return (point >= 0x202a && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069) || point == 0x200e ||
	       point == 0x200f || point == 0x2028 || point == 0x2029;
}

size_t flame_clean(const char *text, size_t length, char *room)
{
	const uint8_t *at = (const uint8_t *)text, *end = length ? at + length : at; /* an absent text is NULL */
	size_t n = 0;

	while (at < end) {
		unsigned bytes;
		int32_t point = utf8_next(at, end, &bytes);
		bool bad = point < 0 || turns_text(point);
		size_t needed = bad ? 3 : bytes;

		if (n + needed > FLAME_NAME_MAX) {
			memcpy(room + n, "\xe2\x80\xa6", 3); /* an ellipsis */
			return n + 3;
		}
		if (bad)
			memcpy(room + n, "\xef\xbf\xbd", 3); /* U+FFFD */
		else if (point < 0x20 || (point >= 0x7f && point < 0xa0))
			memset(room + n, '?', needed = 1);
		else
			memcpy(room + n, at, bytes);
		n += needed;
		at += bytes;
	}
	return n;
}

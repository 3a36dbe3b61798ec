/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Matching goes on from the last `*` only: what an earlier one could take, the last one can take as well. So the work is at most the product
 * of both lengths, whatever the pattern.
 */
#include "rules/glob.h"

#include "rules/class.h"
#include "rules/utf8.h"

static uint32_t folded(uint32_t c, bool fold)
{
	return fold && c >= 'A' && c <= 'Z' ? c + 32 : c;
}

/* The end of the brackets that begin at `at`, behind the `]`, or NULL: an open bracket that is never closed is a plain one. */
static const char *bracket_end(const char *at, const char *end)
{
	size_t size;

	at++;
	if (at < end && (*at == '!' || *at == '^'))
		at++;
	if (at < end && *at == ']')
		at++;
	while (at < end && *at != ']') {
		if (class_at(at, end, &size) >= 0)
			at += size;
		else if (*at == '\\' && end - at > 1)
			at += 2;
		else
			at++;
	}
	return at < end ? at + 1 : NULL;
}

/* One character within brackets, that a backslash may precede. */
static uint32_t bracket_character(const char **at, const char *end)
{
	unsigned size;
	uint32_t c;

	if (**at == '\\' && end - *at > 1)
		(*at)++;
	c = utf8_read(*at, end, &size);
	*at += size;
	return c;
}

/* Whether the brackets from `at` (behind the `[`) to `end` (the `]`) have the character. */
static bool bracket_has(const char *at, const char *end, uint32_t c, bool fold)
{
	bool negated = at < end && (*at == '!' || *at == '^'), found = false;

	at += negated;
	while (at < end) {
		size_t size;
		int class = class_at(at, end, &size);
		uint32_t low, high;

		if (class >= 0) {
			found |= class_has(class, c) ||
				 (fold && (class_has(class, c ^ 32) && (c | 32) >= 'a' && (c | 32) <= 'z'));
			at += size;
			continue;
		}
		low = high = bracket_character(&at, end);
		if (end - at >= 2 && *at == '-') {
			at++;
			high = bracket_character(&at, end);
		}
		found |= c >= low && c <= high;
		found |= fold && folded(c, true) >= folded(low, true) && folded(c, true) <= folded(high, true);
	}
	return found != negated;
}

/* Whether one element of the pattern at `*p` takes the character at `*t`; both move behind what they took. */
static bool take_one(const char **p, const char *p_end, const char **t, const char *t_end, bool fold)
{
	const char *close = **p == '[' ? bracket_end(*p, p_end) : NULL;
	unsigned size = 1, p_size = 1;
	uint32_t c;

	if (**p == '?' || close) {
		c = utf8_read(*t, t_end, &size);
		if (close && !bracket_has(*p + 1, close - 1, c, fold))
			return false;
		*p = close ? close : *p + 1;
		*t += size;
		return true;
	}
	if (**p == '\\' && p_end - *p > 1)
		p_size = 2;
	if (folded((unsigned char)(*p)[p_size - 1], fold) != folded((unsigned char)**t, fold))
		return false;
	*p += p_size;
	*t += 1;
	return true;
}

bool glob_match(const char *pattern, size_t pattern_length, const char *text, size_t length, bool fold)
{
	const char *p = pattern, *p_end = pattern + pattern_length, *t = text, *t_end = text + length;
	const char *star = NULL, *star_text = NULL;

	while (t < t_end || p < p_end) {
		if (p < p_end && *p == '*') {
			star = ++p;
			star_text = t;
			continue;
		}
		if (p < p_end && t < t_end && take_one(&p, p_end, &t, t_end, fold))
			continue;
		if (!star || star_text >= t_end)
			return false;
		p = star;
		t = ++star_text;
	}
	return true;
}

bool glob_is_pattern(const char *text, size_t length)
{
	return glob_prefix(text, length) < length;
}

size_t glob_prefix(const char *pattern, size_t length)
{
	size_t n = 0;

	while (n < length && !strchr("*?[\\", pattern[n]))
		n++;
	return n;
}

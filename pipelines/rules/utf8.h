/* SPDX-License-Identifier: Apache-2.0 */
/* Text of hostile programs, one character after another. */
#ifndef SONDE_RULE_UTF8_H
#define SONDE_RULE_UTF8_H

#include "base/base.h"

#define UTF8_REPLACEMENT 0xfffdu

/* The character at `at`, which is before `end`; `ret_size`: its bytes. A byte that begins no whole character stands for U+FFFD. */
static inline uint32_t utf8_read(const char *at, const char *end, unsigned *ret_size)
{
	const unsigned char *p = (const unsigned char *)at;
	size_t left = (size_t)(end - at);
	unsigned size = *p < 0x80                 ? 1
			: *p >= 0xc2 && *p < 0xe0 ? 2
			: *p >= 0xe0 && *p < 0xf0 ? 3
			: *p >= 0xf0 && *p < 0xf5 ? 4
						  : 0;
	uint32_t c;

	*ret_size = 1;
	if (size == 1)
		return *p;
	if (size == 0 || size > left)
		return UTF8_REPLACEMENT;
	c = *p & (0x7fu >> size);
	for (unsigned i = 1; i < size; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return UTF8_REPLACEMENT;
		c = c << 6 | (p[i] & 0x3f);
	}
	if ((size == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) || (size == 4 && (c < 0x10000 || c > 0x10ffff)))
		return UTF8_REPLACEMENT;
	*ret_size = size;
	return c;
}

#endif

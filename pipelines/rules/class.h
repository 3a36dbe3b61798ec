/* SPDX-License-Identifier: Apache-2.0 */
/* [:alpha:] and its kind, in brackets of patterns and of regular expressions: ASCII, whatever the locale. */
#ifndef SONDE_RULE_CLASS_H
#define SONDE_RULE_CLASS_H

#include "base/base.h"

#include <ctype.h>
#include <string.h>

/* The number of the class at `at` ("[:alpha:]"), or -1; `ret_size`: its bytes. */
static inline int class_at(const char *at, const char *end, size_t *ret_size)
{
	static const char *const names[] = { "alnum", "alpha", "blank", "cntrl", "digit", "graph",
					     "lower", "print", "punct", "space", "upper", "xdigit" };

	if (end - at < 4 || at[0] != '[' || at[1] != ':')
		return -1;
	for (int i = 0; i < (int)ARRAY_SIZE(names); i++) {
		size_t length = strlen(names[i]);

		if ((size_t)(end - at) >= length + 4 && memcmp(at + 2, names[i], length) == 0 &&
		    at[length + 2] == ':' && at[length + 3] == ']') {
			*ret_size = length + 4;
			return i;
		}
	}
	return -1;
}

static inline bool class_has(int class, uint32_t c)
{
	static int (*const tests[])(int) = { isalnum, isalpha, isblank, iscntrl, isdigit, isgraph,
					     islower, isprint, ispunct, isspace, isupper, isxdigit };

	return c < 0x80 && tests[class]((int)c);
}

#endif

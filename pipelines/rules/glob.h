/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns of the shell: * ? [a-z] [!a-z] [[:digit:]] and \ before a character, as glob(7) and fnmatch(3) without flags have them: `*`
 * and `?` also match a slash. Bounded: at most as many steps as pattern and text are long, multiplied. */
#ifndef SONDE_RULE_GLOB_H
#define SONDE_RULE_GLOB_H

#include "base/base.h"

/* Whether the pattern matches the whole text; `fold`: capital and small ASCII letters are the same. `?` matches one character of UTF-8,
 * or one byte that is none. */
bool glob_match(const char *pattern, size_t pattern_length, const char *text, size_t length, bool fold);

/* Whether it has anything but plain characters. */
bool glob_is_pattern(const char *text, size_t length);

/* How many plain bytes it begins with. */
size_t glob_prefix(const char *pattern, size_t length);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --where: a condition over the keys of one record, in the language of the rules (syntax.h), without macros and named lists.
 *
 *   key   = name { "." name | "[" number "]" }       e.g. pid, event.type, args[0]; a name may be "quoted"
 *   value = number | 10s, 5ms (ns) | 64MiB (bytes) | bare word | "quoted \" text" | true | false
 *
 * An absent key makes every test on it false, except that `exists` says so. On an array, a test is true when it is true of one element. Text
 * compares as text, numbers as numbers; a number against text compares as text.
 */
#ifndef SONDE_EXPR_H
#define SONDE_EXPR_H

#include "base/base.h"

struct expr; /* opaque */

/* -EINVAL with line, column and what was expected in `fault`; -E2BIG past 4 KiB of text or 64 levels of nesting. */
int expr_compile(struct expr **ret, const char *text, struct fault *fault);
void expr_free(struct expr *expr);

/* Whether the msgpack map of `size` bytes fulfils it. Bytes that are no map fulfil nothing. Allocates nothing. */
bool expr_match(const struct expr *expr, const void *map, size_t size);

#endif

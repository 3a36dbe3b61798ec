/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regular expressions with a bound: POSIX extended syntax, matched against the whole text, character by character.
 *
 * Rules of others run over text of hostile programs, so time and memory must not depend on how an expression and a text meet. libc's
 * regexec and PCRE2 backtrack; RE2, which Falco uses, does not but is C++. This one is the position automaton of Glushkov: each
 * character or class of the expression is a state, the states reached are one set of bits, and a character of the text costs at most one pass over
 * them. There is no backtracking, matching allocates nothing, and a match costs at most length x states.
 *
 * Syntax, as RE2 has it in its POSIX mode: . [a-z] [^a-z] [[:alpha:]] * + ? {m} {m,} {m,n} | ( ), \ before punctuation, \n \t \r \f
 * \v \a, \xHH, \x{H...}, and ^ $ at the ends, where they say nothing as the whole text must match. `.` is any character but a newline.
 */
#ifndef SONDE_RULE_REGEX_H
#define SONDE_RULE_REGEX_H

#include "base/base.h"

#define REGEX_STATES_MAX 512u
#define REGEX_TEXT_MAX   4096u

struct regex; /* opaque */

/* -EINVAL with `column` of the fault (from 1) in the text, -E2BIG past the bounds, -ENOMEM. */
int regex_compile(struct regex **ret, const char *text, size_t length, struct fault *fault);
void regex_free(struct regex *regex);

bool regex_match(const struct regex *regex, const char *text, size_t length);

#endif

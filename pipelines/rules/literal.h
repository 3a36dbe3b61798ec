/* SPDX-License-Identifier: Apache-2.0 */
/* The values of conditions, as the field that they are compared with has them. Private to this folder. */
#ifndef SONDE_RULE_LITERAL_H
#define SONDE_RULE_LITERAL_H

#include "rules/program.h"

/* Reads a word for a field of `type` under `op`. `text` of the literal is the word's own. -EINVAL with what is wrong (no place). */
int literal_read(struct literal *ret, const struct syntax_word *word, enum rule_type type, enum rule_operator op,
		 struct fault *fault);

/* An address of either family, as 16 bytes. */
bool address_read(const char *text, size_t length, uint8_t ret[16], bool *ret_four);

#endif

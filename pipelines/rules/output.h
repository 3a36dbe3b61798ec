/* SPDX-License-Identifier: Apache-2.0 */
/* The output of a rule: text with %fields. `%%` is a percent sign, `%10field` a field of ten bytes, `%tolower(field)` a transformed one; a `*` at the
 * begin, which Falco has for formats whose fields may be absent, says nothing here: absent ones are always <NA>. */
#ifndef SONDE_RULE_OUTPUT_H
#define SONDE_RULE_OUTPUT_H

#include "rules/program.h"

#define OUTPUT_FIELDS_MAX 256u

struct output_piece {
	const char *text; /* of the format; NULL: a field */
	uint32_t length;
	uint32_t width; /* of a field; 0: as long as it is */
	struct operand operand;
	const char *name; /* of the field as it stands in the format */
};

struct output {
	struct output_piece *pieces;
	uint32_t n;
};

/* -EINVAL with the place by `options`, -ENOENT for an unknown field. Pieces belong to the program. */
int output_compile(struct output *ret, struct program *program, const char *text, size_t size,
		   const struct syntax_options *options, const struct program_scope *scope, struct fault *fault);
/* `ret_cut` (may be NULL): not all had room. */
size_t output_write(const struct output *output, const struct program *program, struct rule_event *event, char *room,
		    size_t size, bool *ret_cut);

#endif

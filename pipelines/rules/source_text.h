/* SPDX-License-Identifier: Apache-2.0 */
/* Conditions and outputs, put together from the values of YAML files, whose bytes keep their places: of each, which line and column it came from. */
#ifndef SONDE_RULE_SOURCE_TEXT_H
#define SONDE_RULE_SOURCE_TEXT_H

#include "rules/syntax.h"
#include "rules/rules.h"
#include "yaml/yaml_tree.h"

/* A value and the file that it stands in. */
struct rule_part {
	const struct rules_file *file;
	const struct yaml_node *node;
};

#define SOURCE_TEXT_MAX (256u << 10)

struct text_piece {
	size_t at;
	struct rule_part part;
	size_t skip; /* bytes of the value in front of the piece */
};

struct source_text {
	char *bytes;
	size_t size, room;
	struct text_piece *pieces;
	size_t n_pieces, pieces_room;
	bool failed; /* out of memory, once */
	bool full;   /* SOURCE_TEXT_MAX was not enough */
};

void source_text_free(struct source_text *text);

/* Glue: what is between values, for which the value `part` stands. */
void source_text_glue(struct source_text *text, const struct rule_part *part, const char *bytes);
void source_text_add(struct source_text *text, const struct rule_part *part, const char *bytes, size_t size,
		     size_t skip);

/* For struct syntax_options: `context` is the struct source_text. */
void source_text_place(const void *context, uint32_t at, struct syntax_place *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conditions, read: text to a tree. One language for --where over records and for the rules of Falco:
 *
 *   condition = or; or = and { "or" and }; and = not { "and" not }; not = "not" not | "(" or ")" | test | macro
 *   test      = operand "exists"
 *             | operand comparison ( value | right | quantifier list )
 *             | operand ( "in" | "intersects" | "pmatch" ) ( list | right | name of a list )
 *   comparison = "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "contains" | "icontains" | "bcontains" | "startswith" | "bstartswith"
 *             | "endswith" | "glob" | "iglob" | "regex"
 *   quantifier = "anyof" | "allof" | "oneof"
 *   list      = "(" [ value { "," value } ] ")"
 *   operand   = field | transformer "(" operand ")"
 *   right     = "val" "(" field ")" | transformer "(" operand ")"
 *   field     = name { "." name | "[" argument "]" }; a name may be "quoted"
 *   value     = bare word | "quoted" | 'quoted', in which \ precedes \ " ' / b f n r t xHH
 */
#ifndef SONDE_RULE_SYNTAX_H
#define SONDE_RULE_SYNTAX_H

#include "rules/value.h"

#define SYNTAX_NESTING_MAX    64u
#define SYNTAX_TRANSFORMS_MAX 4u

enum rule_operator {
	OP_EQUAL,
	OP_UNEQUAL,
	OP_LESS,
	OP_LESS_EQUAL,
	OP_MORE,
	OP_MORE_EQUAL,
	OP_CONTAINS,
	OP_ICONTAINS,
	OP_BCONTAINS,
	OP_STARTSWITH,
	OP_BSTARTSWITH,
	OP_ENDSWITH,
	OP_GLOB,
	OP_IGLOB,
	OP_REGEX,
	OP_IN,
	OP_INTERSECTS,
	OP_PMATCH,
	OP_EXISTS,
};

enum rule_quantifier { OF_ONE, ANY_OF, ALL_OF, ONE_OF };
enum rule_transform { TRANSFORM_LOWER, TRANSFORM_UPPER, TRANSFORM_BASE64, TRANSFORM_BASENAME, TRANSFORM_LENGTH };

struct syntax_word {
	const char *text;
	uint32_t length, at;
	bool quoted;
};

struct syntax_operand {
	uint32_t steps, n_steps;                                 /* n_steps 0: none */
	uint32_t at, length;                                     /* of the field itself, in the text */
	uint8_t transforms[SYNTAX_TRANSFORMS_MAX], n_transforms; /* the innermost first */
};

struct syntax_test {
	enum rule_operator op;
	enum rule_quantifier quantifier;
	struct syntax_operand left, right;
	uint32_t words, n_words;
	uint32_t at, operator_at;
	bool named; /* `in NAME`: the word is a list's name */
};

enum syntax_kind { SYNTAX_TEST, SYNTAX_AND, SYNTAX_OR, SYNTAX_NOT, SYNTAX_MACRO };

struct syntax_node {
	enum syntax_kind kind;
	uint32_t left, right; /* nodes; a test: its number in `left`; a macro: the number of its word */
};

/* Where a place of the text is for a person: in which file, line and column. */
struct syntax_place {
	const char *label; /* NULL: the text stands for itself */
	unsigned line, column;
};

struct syntax_options {
	size_t size_max;
	bool macros;      /* a name alone is a macro; else it is a mistake */
	const char *noun; /* "key", "field" */
	void (*place)(const void *context, uint32_t at,
		      struct syntax_place *ret); /* NULL: line and column of the text */
	const void *context;
};

struct syntax {
	struct syntax_options options;
	struct syntax_node *nodes; /* from 1 on */
	struct syntax_test *tests;
	struct syntax_word *words;
	struct rule_step *steps;
	uint32_t n_nodes, n_tests, n_words, n_steps;
	uint32_t nodes_room, tests_room, words_room, steps_room;
	char *text, *arena; /* the text; names and values, unescaped */
	uint32_t root;
	void *compiled; /* the compiler's: each test as it is compiled once */
	bool open;      /* the compiler's: it is inside of this one */
};

/* Reads `text`. -EINVAL with the place, -E2BIG past size_max or SYNTAX_NESTING_MAX, -ENOMEM. */
int syntax_parse(struct syntax **ret, const char *text, size_t size, const struct syntax_options *options,
		 struct fault *fault);
/* Reads one operand that `text` begins with (an output's %field); `ret_used`: its bytes. The root of such a syntax is no node; the operand is the
 * left one of test 0. */
int syntax_parse_operand(struct syntax **ret, const char *text, size_t size, const struct syntax_options *options,
			 size_t *ret_used, struct fault *fault);
void syntax_free(struct syntax *syntax);

/* A sentence about the place `at` of the text, with where that is; returns `error`. */
int syntax_fault(const struct syntax *syntax, struct fault *fault, int error, uint32_t at, const char *format, ...)
	_printf_(5, 6);

const char *rule_operator_text(enum rule_operator op);
const char *rule_transform_text(enum rule_transform transform);
/* The operator of exactly this text, or -1. */
int rule_operator_of(const char *text);

static inline bool rule_operator_takes_list(enum rule_operator op)
{
	return op == OP_IN || op == OP_INTERSECTS || op == OP_PMATCH;
}

/* What a quoted text means, into `room` of `length` bytes; *ret_length its length. -EINVAL with what is wrong. */
int rule_unescape(const char *text, size_t length, char *room, uint32_t *ret_length, struct fault *fault);

#endif

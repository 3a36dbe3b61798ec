/* SPDX-License-Identifier: Apache-2.0 */
/* What expr_compile.c makes and expr.c walks. Private to this folder. */
#ifndef SONDE_EXPR_PROGRAM_H
#define SONDE_EXPR_PROGRAM_H

#include "rules/expr.h"

#define EXPR_TEXT_MAX 4096u
/* The shortest test is `a=1 or `: more keys or tests do not fit the text. */
#define EXPR_KEYS_MAX 1024u
#define EXPR_FAILS    0xfffffffeu /* the ends of the walk: all tests have smaller numbers */
#define EXPR_HOLDS    0xffffffffu

enum operator{
	OP_EQUAL,
	OP_UNEQUAL,
	OP_LESS,
	OP_LESS_EQUAL,
	OP_MORE,
	OP_MORE_EQUAL,
	OP_CONTAINS,
	OP_STARTSWITH,
	OP_ENDSWITH,
	OP_IN,
	OP_EXISTS,
};

/* In the arena; at least one byte long. */
struct name {
	const char *text;
	uint32_t length;
};

/* One step below a top-level key: by name, or (name.text NULL) by index. */
struct step {
	struct name name;
	uint32_t index;
};

/* A value keeps its text, for what it may be compared with, beside the number it stands for. */
struct literal {
	enum literal_kind { LITERAL_TEXT, LITERAL_WHOLE, LITERAL_FRACTION } kind;
	uint32_t length;
	const char *text;
	union {
		__int128 whole;
		double fraction;
	};
};

struct test {
	enum operator op;
	uint32_t key;            /* number of the top-level key */
	uint32_t steps, n_steps; /* from there down */
	uint32_t literals, n_literals;
	uint32_t if_true, if_false; /* number of a test, EXPR_FAILS or EXPR_HOLDS */
};

struct expr {
	struct test *tests;
	struct literal *literals;
	struct step *steps;
	struct name *keys;
	char *arena; /* all names and texts */
	uint32_t n_tests, n_literals, n_steps, n_keys;
	uint32_t entry;
};

#endif

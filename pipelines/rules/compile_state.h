/* SPDX-License-Identifier: Apache-2.0 */
/* What both halves of the compiler share: compile.c (plans and walks) and compile_test.c (tests). Private to this folder. */
#ifndef SONDE_RULE_COMPILE_STATE_H
#define SONDE_RULE_COMPILE_STATE_H

#include "rules/program.h"

/* A test as it is compiled once, kept with its syntax. */
enum known { UNKNOWN, ALWAYS, NEVER };
struct compiled_test {
	bool done;
	enum known known;
	struct rule_test test;
};

struct compiler {
	struct program *program;
	const struct program_scope *scope;
	struct fault *fault;
	uint32_t tests;  /* of this condition */
	uint32_t *stack; /* children of the groups being built */
	uint32_t n_stack, stack_room;
};

/* Room for `more` rows behind the `n` that `table` has. */
bool compile_grow(void *table, uint32_t *room, uint32_t n, uint32_t more, size_t size);
#define GROW(program, table, more)                                                                                     \
	compile_grow(&(program)->table, &(program)->table##_room, (program)->n_##table, more, sizeof *(program)->table)

/* Reports it; returns -ENOMEM. */
int compile_no_memory(struct compiler *c);

/* The test of this number, compiled once. */
int compile_test(struct compiler *c, struct syntax *s, uint32_t number, const struct compiled_test **ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conditions, compiled: what compile.c makes and evaluate.c walks. One program holds the conditions of one expression or of a whole set of rules,
 * which then share the slots of what they ask events for.
 *
 * A condition is a row of tests, each of which knows the test that follows when it holds and the one that follows when it does not: `and`,
 * `or` and `not` are nothing but those two numbers, and evaluation is a walk without a stack.
 *
 * Invariants: a test is in one place of one condition, and what follows it stands behind it there, so a walk ends; nothing is allocated and
 * nothing of the program is written after compilation, so any number of threads may share it.
 */
#ifndef SONDE_RULE_PROGRAM_H
#define SONDE_RULE_PROGRAM_H

#include "rules/event_type.h"
#include "rules/field.h"
#include "rules/syntax.h"

#define PROGRAM_FAILS         0xfffffffeu /* the ends of the walk: all tests have smaller numbers */
#define PROGRAM_HOLDS         0xffffffffu
#define PROGRAM_TESTS_MAX     65536u /* of one condition, macros expanded */
#define PROGRAM_ALL_TESTS_MAX 131072u
#define PROGRAM_DEPTH_MAX     512u /* of one condition, macros expanded */
#define NO_SET                UINT32_MAX

struct operand {
	uint32_t ref; /* RULE_NO_REF: none */
	uint8_t transforms[SYNTAX_TRANSFORMS_MAX], n_transforms;
};

/* A value keeps its text, for what it may be compared with, beside what it stands for. */
struct literal {
	enum literal_kind { LITERAL_TEXT, LITERAL_WHOLE, LITERAL_FRACTION, LITERAL_NETWORK } kind;
	uint32_t length;
	const char *text;
	union {
		__int128 whole;
		double fraction;
		struct {
			uint8_t address[16];
			unsigned bits;
		} network;
		const struct regex *regex;
	};
};

/* Of text: a hash table of `mask` + 1 slots, each a number of a literal of the test + 1, or 0. */
struct literal_set {
	uint32_t slots, mask;
	uint32_t shortest, longest; /* text */
};

struct rule_test {
	enum rule_operator op;
	enum rule_quantifier quantifier;
	enum rule_many many;
	struct operand left, right;
	uint32_t literals, n_literals; /* numbers are sorted where `sorted`; of pmatch, patterns come last */
	uint32_t n_patterns;
	bool sorted;
	uint32_t set; /* or NO_SET */
	uint32_t cost;
	uint32_t if_true, if_false; /* number of a test, PROGRAM_FAILS or PROGRAM_HOLDS */
};

/* A condition as a tree, folded, with `not` at the tests and the cheap things first; for what looks at conditions as a whole. */
enum plan_kind { PLAN_TRUE, PLAN_FALSE, PLAN_TEST, PLAN_AND, PLAN_OR };
struct plan_node {
	enum plan_kind kind;
	bool negated;      /* of a test */
	uint32_t first, n; /* of `children`; a test: its number in `first` */
	uint32_t cost;
};

struct program {
	struct rule_ref *refs;
	struct rule_test *tests;
	struct literal *literals;
	struct literal_set *sets;
	struct plan_node *nodes;
	uint32_t *slots, *children;
	struct regex **regexes;
	uint32_t n_refs, n_tests, n_literals, n_sets, n_nodes, n_slots, n_children, n_regexes;
	uint32_t refs_room, tests_room, literals_room, sets_room, nodes_room, slots_room, children_room, regexes_room;
	uint32_t visits;
	struct program_block *blocks; /* texts */
};

struct condition {
	uint32_t entry; /* of the walk */
	uint32_t root;  /* of the plan */
};

/* The values that a list's name stands for. */
struct rule_list {
	const struct syntax_word *words;
	uint32_t n_words;
};

/* What a condition may name. `macro` and `list` may be NULL: there are none. */
struct program_scope {
	void *context;
	/* Fills `ret` but for its slot: what the operand asks for. -EINVAL with the sentence, placed. */
	int (*resolve)(void *context, struct program *program, const struct syntax *syntax,
		       const struct syntax_operand *operand, struct rule_ref *ret, struct fault *fault);
	struct syntax *(*macro)(void *context, const char *name, size_t length);
	const struct rule_list *(*list)(void *context, const char *name, size_t length);
	/* A thing worth telling that is no mistake; may be NULL. */
	void (*warn)(void *context, const struct syntax *syntax, uint32_t at, const char *sentence);
};

int program_new(struct program **ret);
void program_free(struct program *program);

/* Compiles what `syntax` holds, behind what the program has. -EINVAL, -E2BIG, -ENOMEM with the place; -ENOENT: a field is unknown. */
int program_add(struct program *program, struct syntax *syntax, const struct program_scope *scope,
		struct condition *ret, struct fault *fault);
/* Compiles an operand alone, for output. */
int program_add_operand(struct program *program, const struct syntax *syntax, const struct syntax_operand *operand,
			const struct program_scope *scope, struct operand *ret, struct fault *fault);
/* Memory that lives as long as the program. */
void *program_take(struct program *program, size_t size);
char *program_keep(struct program *program, const char *text, size_t length);

/* Whether the event fulfils the condition. */
bool program_holds(const struct program *program, const struct condition *condition, struct rule_event *event);
/* One test alone, of one value instead of the event's. */
bool test_holds_for(const struct program *program, const struct rule_test *test, const struct rule_value *value);

/* The values of an operand, transformed, one after another. `room` is for text that has to be made. */
struct operand_walk {
	const struct program *program;
	const struct operand *operand;
	struct rule_event *event;
	const struct rule_ref *ref; /* which one answers */
	struct rule_value raw;      /* as the source gave it */
	bool ended;
	char room[RULE_ROOM];
};
bool operand_first(struct operand_walk *walk, struct rule_value *ret);
bool operand_next(struct operand_walk *walk, struct rule_value *value);

/* What a field is made of where the source has no answer: its first value, and the one behind. */
bool rule_derive(struct operand_walk *walk, struct rule_value *ret);
bool rule_derive_next(struct operand_walk *walk, struct rule_value *value);

/* A value as text: its own bytes, or its notation in `room`. */
size_t rule_value_text(const struct rule_value *value, char room[64], const char **ret_text);

/* Which types of events it can hold for. */
void plan_event_types(const struct program *program, uint32_t node, struct event_types *ret);
/* Whether it can hold for an event of which only evt.type and evt.category are known; NULL: that is not. */
bool plan_may_hold(const struct program *program, uint32_t node, const char *type, const char *category);
/* Likewise of an event of which also is known that a file was opened, for reading alone. */
bool plan_may_hold_for_read(const struct program *program, uint32_t node, const char *type, const char *category);

/* What a field's value must look like for the condition to hold at all: one of `n` needs. */
enum need_kind { NEED_EXACT, NEED_PREFIX, NEED_SUFFIX, NEED_PART, NEED_BELOW };
struct need {
	enum need_kind kind;
	const char *text;
	uint32_t length;
	uint32_t ref; /* of which slot */
};
#define NEEDS_MAX 1024u
/* The needs of what slot `ref` holds; 0: it may have any value, or none. At most NEEDS_MAX. */
uint32_t plan_needs(const struct program *program, uint32_t node, uint32_t ref, struct need *room);
/* Likewise of whatever slots, by such tests alone whose needs all fit. */
uint32_t plan_needs_that(const struct program *program, uint32_t node,
			 bool (*fits)(const void *context, const struct need *need), const void *context,
			 struct need *room);

/* A field that nothing gives and without which the node cannot hold; NULL: there is none. */
const struct rule_ref *plan_lacks(const struct program *program, uint32_t node);

#endif

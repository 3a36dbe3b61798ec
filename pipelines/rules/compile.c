/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conditions, compiled: tree to plan to walk.
 *
 * The plan is the tree with macros expanded, constants folded, `not` brought down to the tests (so that there are only `and`, `or` and tests),
 * groups of a kind joined, and the children of each group ordered by what they cost: values have no side effects and a test is true or false, never
 * unknown, so any order means the same. Then each test of the plan is told which one follows it.
 *
 * A test is compiled once, however often a macro brings it in: its constants are shared, only its place is its own.
 *
 * Invariants: recursion is bounded by PROGRAM_DEPTH_MAX, long rows of `and` and `or` are walked in a loop; the plan of one condition has at most
 * PROGRAM_TESTS_MAX tests, and expanding all of a program visits at most VISITS_MAX nodes, so nested macros cannot multiply without end.
 */
#include "rules/compile_state.h"
#include "rules/regex.h"

#include <errno.h>
#include <string.h>

#define VISITS_MAX 1048576u

struct program_block {
	struct program_block *next;
	max_align_t bytes[];
};

/* --- memory --- */

int program_new(struct program **ret)
{
	*ret = calloc(1, sizeof **ret);
	return *ret ? 0 : -ENOMEM;
}

void program_free(struct program *program)
{
	if (!program)
		return;
	for (uint32_t i = 0; i < program->n_regexes; i++)
		regex_free(program->regexes[i]);
	while (program->blocks) {
		struct program_block *block = program->blocks;

		program->blocks = block->next;
		free(block);
	}
	free(program->refs);
	free(program->tests);
	free(program->literals);
	free(program->sets);
	free(program->nodes);
	free(program->slots);
	free(program->children);
	free(program->regexes);
	free(program);
}

void *program_take(struct program *program, size_t size)
{
	struct program_block *block = calloc(1, sizeof *block + size);

	if (!block)
		return NULL;
	block->next = program->blocks;
	program->blocks = block;
	return block->bytes;
}

char *program_keep(struct program *program, const char *text, size_t length)
{
	char *copy = program_take(program, length + 1);

	if (copy)
		memcpy(copy, text, length);
	return copy;
}

int compile_no_memory(struct compiler *c)
{
	return fault_set(c->fault, -ENOMEM, "out of memory");
}

bool compile_grow(void *table, uint32_t *room, uint32_t n, uint32_t more, size_t size)
{
	uint64_t wanted = MAX_OF(*room, 16u);
	void *rows;

	while (wanted < (uint64_t)n + more)
		wanted *= 2;
	if (wanted == *room && n + more <= *room)
		return true;
	if (wanted > UINT32_MAX / 2)
		return false;
	rows = realloc(*(void **)table, wanted * size);
	if (!rows)
		return false;
	*(void **)table = rows;
	*room = (uint32_t)wanted;
	return true;
}

/* --- the plan --- */

static int add_node(struct compiler *c, const struct plan_node *node, uint32_t *ret)
{
	if (!GROW(c->program, nodes, 1))
		return compile_no_memory(c);
	*ret = c->program->n_nodes;
	c->program->nodes[c->program->n_nodes++] = *node;
	return 0;
}

static int add_constant(struct compiler *c, bool truth, uint32_t *ret)
{
	return add_node(c, &(struct plan_node){ .kind = truth ? PLAN_TRUE : PLAN_FALSE }, ret);
}

static int plan_test(struct compiler *c, struct syntax *s, uint32_t number, bool negated, uint32_t *ret)
{
	const struct compiled_test *compiled = NULL;
	struct plan_node node = { .kind = PLAN_TEST, .negated = negated };
	int r = compile_test(c, s, number, &compiled);

	if (r < 0)
		return r;
	if (compiled->known != UNKNOWN)
		return add_constant(c, (compiled->known == ALWAYS) != negated, ret);
	if (++c->tests > PROGRAM_TESTS_MAX || c->program->n_tests >= PROGRAM_ALL_TESTS_MAX)
		return syntax_fault(s, c->fault, -E2BIG, s->tests[number].at,
				    "more than %u tests, or %u in all, macros expanded", PROGRAM_TESTS_MAX,
				    PROGRAM_ALL_TESTS_MAX);
	if (!GROW(c->program, tests, 1))
		return compile_no_memory(c);
	node.first = c->program->n_tests;
	node.cost = compiled->test.cost;
	c->program->tests[c->program->n_tests++] = compiled->test;
	return add_node(c, &node, ret);
}

static int push(struct compiler *c, uint32_t node)
{
	if (!compile_grow(&c->stack, &c->stack_room, c->n_stack, 1, sizeof *c->stack))
		return compile_no_memory(c);
	c->stack[c->n_stack++] = node;
	return 0;
}

/* Cheap ones first; of the same cost, as they were written: a row is built from its end. */
static int by_cost(const void *a, const void *b, void *nodes)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	const struct plan_node *n = nodes;

	if (n[x].cost != n[y].cost)
		return n[x].cost < n[y].cost ? -1 : 1;
	return x > y ? -1 : x < y;
}

/* The children on the stack from `from` on, as one node. */
static int close_group(struct compiler *c, enum plan_kind kind, uint32_t from, uint32_t *ret)
{
	struct program *program = c->program;
	struct plan_node node = { .kind = kind, .first = program->n_children, .n = c->n_stack - from };
	uint64_t cost = 0;

	c->n_stack = from;
	if (node.n == 0)
		return add_constant(c, kind == PLAN_AND, ret);
	if (node.n == 1) {
		*ret = c->stack[from];
		return 0;
	}
	if (!GROW(program, children, node.n))
		return compile_no_memory(c);
	memcpy(&program->children[node.first], &c->stack[from], node.n * sizeof *c->stack);
	program->n_children += node.n;
	qsort_r(&program->children[node.first], node.n, sizeof *c->stack, by_cost, program->nodes);
	for (uint32_t i = 0; i < node.n; i++)
		cost += program->nodes[program->children[node.first + i]].cost;
	node.cost = (uint32_t)MIN_OF(cost, (uint64_t)UINT32_MAX);
	return add_node(c, &node, ret);
}

static int plan(struct compiler *c, struct syntax *s, uint32_t node, bool negated, unsigned depth, uint32_t *ret);

/* Takes a child into the group: constants decide it or are left out, groups of its kind are joined. */
static int take_child(struct compiler *c, enum plan_kind kind, uint32_t child, bool *decided)
{
	const struct plan_node node = c->program->nodes[child];
	int r = 0;

	if (node.kind == (kind == PLAN_AND ? PLAN_FALSE : PLAN_TRUE))
		*decided = true;
	if (node.kind == PLAN_FALSE || node.kind == PLAN_TRUE)
		return 0;
	if (node.kind != kind)
		return push(c, child);
	for (uint32_t i = 0; i < node.n && r == 0; i++)
		r = push(c, c->program->children[node.first + i]);
	return r;
}

/* A row of `and`, or of `or`. Its left ends are walked in a loop, from the last child to the first. */
static int plan_group(struct compiler *c, struct syntax *s, uint32_t node, bool negated, unsigned depth, uint32_t *ret)
{
	const enum syntax_kind kind = s->nodes[node].kind;
	const enum plan_kind becomes = (kind == SYNTAX_AND) != negated ? PLAN_AND : PLAN_OR;
	const uint32_t from = c->n_stack;
	bool decided = false;

	while (node) {
		bool last = s->nodes[node].kind != kind;
		uint32_t child;
		int r;

		if (++c->program->visits > VISITS_MAX)
			return syntax_fault(s, c->fault, -E2BIG, 0, "macros expand to more than %u parts", VISITS_MAX);
		r = plan(c, s, last ? node : s->nodes[node].right, negated, depth + 1, &child);
		r = r < 0 ? r : take_child(c, becomes, child, &decided);
		if (r < 0)
			return r;
		node = last ? 0 : s->nodes[node].left;
	}
	if (decided) {
		c->n_stack = from;
		return add_constant(c, becomes == PLAN_OR, ret);
	}
	return close_group(c, becomes, from, ret);
}

static int plan_macro(struct compiler *c, struct syntax *s, uint32_t word, bool negated, unsigned depth, uint32_t *ret)
{
	const struct syntax_word *name = &s->words[word];
	struct syntax *macro = c->scope->macro ? c->scope->macro(c->scope->context, name->text, name->length) : NULL;
	int r;

	if (!macro)
		return syntax_fault(s, c->fault, -EINVAL, name->at, "unknown macro '%.*s'",
				    (int)MIN_OF(name->length, 80u), name->text);
	if (macro->open)
		return syntax_fault(s, c->fault, -EINVAL, name->at, "macro '%.*s' leads back to itself",
				    (int)MIN_OF(name->length, 80u), name->text);
	macro->open = true;
	r = plan(c, macro, macro->root, negated, depth + 1, ret);
	macro->open = false;
	return r;
}

static int plan(struct compiler *c, struct syntax *s, uint32_t node, bool negated, unsigned depth, uint32_t *ret)
{
	const struct syntax_node *n = &s->nodes[node];

	if (++c->program->visits > VISITS_MAX)
		return syntax_fault(s, c->fault, -E2BIG, 0, "macros expand to more than %u parts", VISITS_MAX);
	if (depth > PROGRAM_DEPTH_MAX)
		return syntax_fault(s, c->fault, -E2BIG, 0, "nested deeper than %u levels, macros expanded",
				    PROGRAM_DEPTH_MAX);
	switch (n->kind) {
	case SYNTAX_AND:
	case SYNTAX_OR:
		return plan_group(c, s, node, negated, depth, ret);
	case SYNTAX_NOT:
		return plan(c, s, n->left, !negated, depth + 1, ret);
	case SYNTAX_MACRO:
		return plan_macro(c, s, n->left, negated, depth, ret);
	default:
		return plan_test(c, s, n->left, negated, ret);
	}
}

/* --- the walk --- */

/* Tells the tests below `node` where to go on; returns its first test. */
static uint32_t thread(struct program *program, uint32_t node, uint32_t if_true, uint32_t if_false)
{
	const struct plan_node *n = &program->nodes[node];
	uint32_t next;

	switch (n->kind) {
	case PLAN_TRUE:
		return if_true;
	case PLAN_FALSE:
		return if_false;
	case PLAN_TEST:
		program->tests[n->first].if_true = n->negated ? if_false : if_true;
		program->tests[n->first].if_false = n->negated ? if_true : if_false;
		return n->first;
	default:
		next = n->kind == PLAN_AND ? if_true : if_false;
		for (uint32_t i = n->n; i-- > 0;) {
			uint32_t child = program->children[n->first + i];

			next = n->kind == PLAN_AND ? thread(program, child, next, if_false)
						   : thread(program, child, if_true, next);
		}
		return next;
	}
}

int program_add(struct program *program, struct syntax *syntax, const struct program_scope *scope,
		struct condition *ret, struct fault *fault)
{
	struct compiler c = { .program = program, .scope = scope, .fault = fault };
	int r = plan(&c, syntax, syntax->root, false, 0, &ret->root);

	free(c.stack);
	if (r < 0)
		return r;
	ret->entry = thread(program, ret->root, PROGRAM_HOLDS, PROGRAM_FAILS);
	return 0;
}

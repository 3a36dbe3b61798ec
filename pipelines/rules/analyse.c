/* SPDX-License-Identifier: Apache-2.0 */
/* What a condition says of events as a whole, before any comes: which types it can hold for, and what a field's value must look like. */
#include "rules/glob.h"
#include "rules/program.h"

#include <string.h>

/* --- types --- */

static bool is_named(const struct program *program, const struct rule_test *test, const char *name)
{
	const struct rule_ref *ref = &program->refs[test->left.ref];

	return ref->field && strcmp(ref->field->name, name) == 0;
}

/* A source of what is known of an event before it comes. */
struct trial {
	struct rule_event event;
	const char *type, *category; /* NULL: not known */
	bool reads;                  /* known: a file was opened, for reading alone */
};

static bool give_known(struct rule_event *event, const struct rule_ref *ref, struct rule_value *ret)
{
	const struct trial *trial = (const struct trial *)event;

	if (!strncmp(ref->field->name, "evt.is_open_", 12)) {
		ret->kind = RULE_TRUTH;
		ret->truth = !strcmp(ref->field->name, "evt.is_open_read");
		return true;
	}
	ret->kind = RULE_TEXT;
	ret->text = strcmp(ref->field->name, "evt.category") ? trial->type : trial->category;
	ret->length = (uint32_t)strlen(ret->text);
	return true;
}

static bool give_no_more(struct rule_event *event, const struct rule_ref *ref, struct rule_value *value)
{
	return false;
}

static bool test_holds_alone(const struct program *program, uint32_t number, struct trial *trial)
{
	struct rule_test test = program->tests[number];
	const struct program one = { .refs = program->refs,
				     .n_refs = program->n_refs,
				     .tests = &test,
				     .n_tests = 1,
				     .literals = program->literals,
				     .sets = program->sets,
				     .slots = program->slots };
	const struct condition condition = { 0, 0 };

	test.if_true = PROGRAM_HOLDS;
	test.if_false = PROGRAM_FAILS;
	return program_holds(&one, &condition, &trial->event);
}

/* A test on the type alone is tried on every type there is. */
static void try_types(const struct program *program, uint32_t number, bool negated, bool calls_only,
		      struct event_types *ret)
{
	struct trial trial = { .event = { give_known, give_no_more } };

	for (unsigned i = 0; i < event_types_known(); i++) {
		bool there = !calls_only || event_type_is_call(i);

		trial.type = event_type_name(i);
		if ((there && test_holds_alone(program, number, &trial)) != negated)
			event_types_add(ret, i);
	}
}

/* `evt.type.is.open = 1`: the type that the argument names against all others. */
static void try_is_type(const struct program *program, const struct plan_node *node, struct event_types *ret)
{
	const struct rule_test *test = &program->tests[node->first];
	const char *name = program->refs[test->left.ref].argument;

	for (unsigned i = 0; i < event_types_known(); i++) {
		struct rule_value is = { .kind = RULE_NUMBER, .number = strcmp(event_type_name(i), name) == 0 };

		if (test_holds_for(program, test, &is) != node->negated)
			event_types_add(ret, i);
	}
}

static void test_types(const struct program *program, const struct plan_node *node, struct event_types *ret)
{
	const struct rule_test *test = &program->tests[node->first];
	bool calls = is_named(program, test, "syscall.type");

	if (test->right.ref == RULE_NO_REF && (calls || is_named(program, test, "evt.type")))
		try_types(program, node->first, node->negated, calls, ret);
	else if (test->right.ref == RULE_NO_REF && !test->left.n_transforms && is_named(program, test, "evt.type.is"))
		try_is_type(program, node, ret);
	else
		event_types_all(ret);
}

void plan_event_types(const struct program *program, uint32_t node, struct event_types *ret)
{
	const struct plan_node *n = &program->nodes[node];

	memset(ret, 0, sizeof *ret);
	if (n->kind == PLAN_TEST)
		test_types(program, n, ret);
	if (n->kind == PLAN_TRUE || n->kind == PLAN_AND)
		event_types_all(ret);
	if (n->kind != PLAN_AND && n->kind != PLAN_OR)
		return;
	for (uint32_t i = 0; i < n->n; i++) {
		struct event_types child;

		plan_event_types(program, program->children[n->first + i], &child);
		for (unsigned w = 0; w < EVENT_TYPE_WORDS; w++)
			ret->words[w] =
				n->kind == PLAN_AND ? ret->words[w] & child.words[w] : ret->words[w] | child.words[w];
	}
}

static bool asks_for_known(const struct program *program, const struct rule_test *test, const struct trial *trial)
{
	if (test->right.ref != RULE_NO_REF)
		return false;
	return (trial->type && is_named(program, test, "evt.type")) ||
	       (trial->category && is_named(program, test, "evt.category")) ||
	       (trial->reads &&
		(is_named(program, test, "evt.is_open_read") || is_named(program, test, "evt.is_open_write")));
}

static bool may_hold(const struct program *program, uint32_t node, struct trial *trial)
{
	const struct plan_node *n = &program->nodes[node];

	if (n->kind == PLAN_TEST)
		return !asks_for_known(program, &program->tests[n->first], trial) ||
		       test_holds_alone(program, n->first, trial) != n->negated;
	if (n->kind == PLAN_TRUE || n->kind == PLAN_FALSE)
		return n->kind == PLAN_TRUE;
	for (uint32_t i = 0; i < n->n; i++)
		if (may_hold(program, program->children[n->first + i], trial) == (n->kind == PLAN_OR))
			return n->kind == PLAN_OR;
	return n->kind == PLAN_AND;
}

bool plan_may_hold(const struct program *program, uint32_t node, const char *type, const char *category)
{
	struct trial trial = { { give_known, give_no_more }, type, category, false };

	return may_hold(program, node, &trial);
}

bool plan_may_hold_for_read(const struct program *program, uint32_t node, const char *type, const char *category)
{
	struct trial trial = { { give_known, give_no_more }, type, category, true };

	return may_hold(program, node, &trial);
}

/* --- needs --- */

static bool need_kind_of(enum rule_operator op, const struct literal *l, struct need *ret)
{
	*ret = (struct need){ .kind = NEED_EXACT, .text = l->text, .length = l->length };
	switch (op) {
	case OP_EQUAL:
	case OP_IN:
		return true;
	case OP_STARTSWITH:
		ret->kind = NEED_PREFIX;
		return l->length > 0;
	case OP_ENDSWITH:
		ret->kind = NEED_SUFFIX;
		return l->length > 0;
	case OP_CONTAINS:
		ret->kind = NEED_PART;
		return l->length > 0;
	case OP_GLOB:
	case OP_PMATCH:
		ret->kind = glob_is_pattern(l->text, l->length) ? NEED_PREFIX
			    : op == OP_PMATCH                   ? NEED_BELOW
								: NEED_EXACT;
		ret->length = (uint32_t)glob_prefix(l->text, l->length);
		return ret->length > 0;
	default:
		return false;
	}
}

/* Which needs are looked for. */
struct search {
	const struct program *program;
	uint32_t ref;                                               /* RULE_NO_REF: any */
	bool (*fits)(const void *context, const struct need *need); /* NULL: any */
	const void *context;
};

/* The needs of one test: each constant is one. 0: none that is known, or more than `max`, or one that does not fit. */
static uint32_t test_needs(const struct search *s, const struct plan_node *node, struct need *room, uint32_t max)
{
	const struct rule_test *test = &s->program->tests[node->first];
	uint32_t ref = test->left.ref;

	if (node->negated || ref == RULE_NO_REF || (s->ref != RULE_NO_REF && ref != s->ref) ||
	    test->left.n_transforms || test->right.ref != RULE_NO_REF || test->n_literals > max ||
	    test->many == RULE_LIST)
		return 0;
	for (uint32_t i = 0; i < test->n_literals; i++) {
		if (!need_kind_of(test->op, &s->program->literals[test->literals + i], &room[i]))
			return 0;
		room[i].ref = ref;
		if (s->fits && !s->fits(s->context, &room[i]))
			return 0;
	}
	return test->n_literals;
}

static uint32_t node_needs(const struct search *s, uint32_t node, struct need *room, uint32_t max);

/* All children together, or nothing where one has none. */
static uint32_t needs_of_or(const struct search *s, const struct plan_node *n, struct need *room, uint32_t max)
{
	uint32_t total = 0;

	for (uint32_t i = 0; i < n->n; i++) {
		uint32_t found = node_needs(s, s->program->children[n->first + i], room + total, max - total);

		if (found == 0)
			return 0;
		total += found;
	}
	return total;
}

/* The fewest of one child. */
static uint32_t needs_of_and(const struct search *s, const struct plan_node *n, struct need *room, uint32_t max)
{
	uint32_t best = 0;

	for (uint32_t i = 0; i < n->n; i++) {
		uint32_t found = node_needs(s, s->program->children[n->first + i], room + best, max - best);

		if (found > 0 && (best == 0 || found < best)) {
			memmove(room, room + best, found * sizeof *room);
			best = found;
		}
	}
	return best;
}

static uint32_t node_needs(const struct search *s, uint32_t node, struct need *room, uint32_t max)
{
	const struct plan_node *n = &s->program->nodes[node];

	switch (n->kind) {
	case PLAN_TEST:
		return test_needs(s, n, room, max);
	case PLAN_AND:
		return needs_of_and(s, n, room, max);
	case PLAN_OR:
		return needs_of_or(s, n, room, max);
	default:
		return 0;
	}
}

uint32_t plan_needs(const struct program *program, uint32_t node, uint32_t ref, struct need *room)
{
	const struct search s = { .program = program, .ref = ref };

	return node_needs(&s, node, room, NEEDS_MAX);
}

uint32_t plan_needs_that(const struct program *program, uint32_t node,
			 bool (*fits)(const void *context, const struct need *need), const void *context,
			 struct need *room)
{
	const struct search s = { program, RULE_NO_REF, fits, context };

	return node_needs(&s, node, room, NEEDS_MAX);
}

/* --- fields that nothing gives --- */

static const struct rule_ref *ref_lacks(const struct program *program, uint32_t number)
{
	const struct rule_ref *ref = number == RULE_NO_REF ? NULL : &program->refs[number];

	return ref && ref->field && !ref->field->key ? ref : NULL;
}

/* A test on what is not there is false. */
static const struct rule_ref *test_lacks(const struct program *program, const struct plan_node *n)
{
	const struct rule_test *test = &program->tests[n->first];
	const struct rule_ref *left = ref_lacks(program, test->left.ref);

	if (n->negated)
		return NULL;
	return left ? left : ref_lacks(program, test->right.ref);
}

const struct rule_ref *plan_lacks(const struct program *program, uint32_t node)
{
	const struct plan_node *n = &program->nodes[node];
	const struct rule_ref *lacks = NULL;

	if (n->kind == PLAN_TEST)
		return test_lacks(program, n);
	if (n->kind != PLAN_AND && n->kind != PLAN_OR)
		return NULL;
	for (uint32_t i = 0; i < n->n; i++) {
		lacks = plan_lacks(program, program->children[n->first + i]);
		if (!lacks == (n->kind == PLAN_OR))
			break; /* of `and` one that lacks is enough, of `or` one that does not */
	}
	return lacks;
}

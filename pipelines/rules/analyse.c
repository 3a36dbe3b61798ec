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

/* A source of one value: the type that is tried. */
struct trial {
	struct rule_event event;
	const char *type;
};

static bool give_type(struct rule_event *event, const struct rule_ref *ref, struct rule_value *ret)
{
	const struct trial *trial = (const struct trial *)event;

	ret->kind = RULE_TEXT;
	ret->text = trial->type;
	ret->length = (uint32_t)strlen(trial->type);
	return true;
}

static bool give_no_more(struct rule_event *event, const struct rule_ref *ref, struct rule_value *value)
{
	return false;
}

/* A test on the type alone is tried on every type there is. */
static void try_types(const struct program *program, uint32_t number, bool negated, bool calls_only,
		      struct event_types *ret)
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
	struct trial trial = { { give_type, give_no_more }, NULL };

	test.if_true = PROGRAM_HOLDS;
	test.if_false = PROGRAM_FAILS;
	for (unsigned i = 0; i < event_types_known(); i++) {
		bool there = !calls_only || event_type_is_call(i);

		trial.type = event_type_name(i);
		if ((there && program_holds(&one, &condition, &trial.event)) != negated)
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

/* --- needs --- */

static bool need_kind_of(enum rule_operator op, const struct literal *l, struct need *ret)
{
	*ret = (struct need){ NEED_EXACT, l->text, l->length };
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
		ret->kind = glob_is_pattern(l->text, l->length) || op == OP_PMATCH ? NEED_PREFIX : NEED_EXACT;
		ret->length = (uint32_t)glob_prefix(l->text, l->length);
		return ret->length > 0;
	default:
		return false;
	}
}

/* The needs of one test: each constant is one. 0: none that is known, or more than `max`. */
static uint32_t test_needs(const struct program *program, const struct plan_node *node, uint32_t ref, struct need *room,
			   uint32_t max)
{
	const struct rule_test *test = &program->tests[node->first];

	if (node->negated || test->left.ref != ref || test->left.n_transforms || test->right.ref != RULE_NO_REF ||
	    test->n_literals > max || test->many == RULE_LIST)
		return 0;
	for (uint32_t i = 0; i < test->n_literals; i++)
		if (!need_kind_of(test->op, &program->literals[test->literals + i], &room[i]))
			return 0;
	return test->n_literals;
}

static uint32_t node_needs(const struct program *program, uint32_t node, uint32_t ref, struct need *room, uint32_t max);

/* All children together, or nothing where one has none. */
static uint32_t needs_of_or(const struct program *program, const struct plan_node *n, uint32_t ref, struct need *room,
			    uint32_t max)
{
	uint32_t total = 0;

	for (uint32_t i = 0; i < n->n; i++) {
		uint32_t found = node_needs(program, program->children[n->first + i], ref, room + total, max - total);

		if (found == 0)
			return 0;
		total += found;
	}
	return total;
}

/* The fewest of one child. */
static uint32_t needs_of_and(const struct program *program, const struct plan_node *n, uint32_t ref, struct need *room,
			     uint32_t max)
{
	uint32_t best = 0;

	for (uint32_t i = 0; i < n->n; i++) {
		uint32_t found = node_needs(program, program->children[n->first + i], ref, room + best, max - best);

		if (found > 0 && (best == 0 || found < best)) {
			memmove(room, room + best, found * sizeof *room);
			best = found;
		}
	}
	return best;
}

static uint32_t node_needs(const struct program *program, uint32_t node, uint32_t ref, struct need *room, uint32_t max)
{
	const struct plan_node *n = &program->nodes[node];

	switch (n->kind) {
	case PLAN_TEST:
		return test_needs(program, n, ref, room, max);
	case PLAN_AND:
		return needs_of_and(program, n, ref, room, max);
	case PLAN_OR:
		return needs_of_or(program, n, ref, room, max);
	default:
		return 0;
	}
}

uint32_t plan_needs(const struct program *program, uint32_t node, uint32_t ref, struct need *room)
{
	return node_needs(program, node, ref, room, NEEDS_MAX);
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

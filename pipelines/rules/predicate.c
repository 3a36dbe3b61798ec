/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the plan of a condition (compile.c: `not` at the tests, groups joined) to clauses. What does not depend on the event, once it is known to be the begin
 * of a program, is folded away; what then is left must be a test that the kernel has all values for, or an `or` of such tests.
 */
#include "rules/predicate.h"

#include <errno.h>
#include <string.h>

#include "rules/load_state.h"

struct making {
	const struct program *program;
	enum predicate_moment moment;
	struct predicate *predicate;
	struct fault *fault;
	bool never; /* it was found that it cannot hold */
};

enum folded { FOLDED_NOT, FOLDED_TRUE, FOLDED_FALSE };

/* --- what is the same for each event --- */

/* What fields are while a program begins. evt.type is either of two, as one cannot tell from the event which call it was. */
static const struct {
	const char *field, *values[2];
} constants[] = {
	{ "evt.type", { "execve", "execveat" } },
	{ "syscall.type", { "execve", "execveat" } },
	{ "evt.dir", { "<", "<" } },
	{ "evt.source", { "syscall", "syscall" } },
};

static bool holds_for_text(const struct making *m, const struct rule_test *test, const char *text)
{
	const struct rule_value value = { .kind = RULE_TEXT, .text = text, .length = (uint32_t)strlen(text) };

	return test_holds_for(m->program, test, &value);
}

static enum folded fold(const struct making *m, const struct rule_test *test, const char *field, bool negated)
{
	for (size_t i = 0; i < ARRAY_SIZE(constants); i++) {
		bool first, second;

		if (strcmp(constants[i].field, field))
			continue;
		first = holds_for_text(m, test, constants[i].values[0]);
		second = holds_for_text(m, test, constants[i].values[1]);
		if (first != second)
			return FOLDED_NOT;
		return first != negated ? FOLDED_TRUE : FOLDED_FALSE;
	}
	return FOLDED_NOT;
}

/* --- tests --- */

static int refuse(const struct making *m, const struct rule_ref *ref, const char *why)
{
	return fault_set(m->fault, -EOPNOTSUPP, "%.80s: %s", ref->name, why);
}

/* As the kernel writes a path: from the root, with nothing empty in it. `folder`: it ends with its slash. */
static bool is_path(const struct literal *l, bool folder)
{
	if (l->kind != LITERAL_TEXT || l->length < 2 || l->length > PREDICATE_PATH_MAX || l->text[0] != '/' ||
	    memchr(l->text, 0, l->length) || memmem(l->text, l->length, "//", 2))
		return false;
	return (l->text[l->length - 1] == '/') == folder;
}

static bool are_paths(const struct literal *values, uint32_t n, bool folders)
{
	for (uint32_t i = 0; i < n; i++)
		if (!is_path(&values[i], folders))
			return false;
	return true;
}

static bool are_numbers(const struct literal *values, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (values[i].kind != LITERAL_WHOLE || values[i].whole < 0 || values[i].whole > UINT32_MAX)
			return false;
	return true;
}

/* A set of values, and whether it is one that must not hold. */
static int make_test(const struct making *m, const struct rule_test *test, bool negated, struct predicate_test *ret)
{
	const struct rule_ref *ref = &m->program->refs[test->left.ref];
	const char *field = ref->field ? ref->field->name : "";
	const bool is_exe = !strcmp(field, "proc.exepath");

	*ret = (struct predicate_test){ .negated = negated != (test->op == OP_UNEQUAL),
					.values = &m->program->literals[test->literals],
					.n_values = test->n_literals };
	if (test->right.ref != RULE_NO_REF || test->left.n_transforms || test->quantifier != OF_ONE)
		return refuse(m, ref, "compared with another field, or transformed");
	if (test->n_literals > PREDICATE_VALUES_MAX)
		return refuse(m, ref, "more than 1024 values");
	if (is_exe && test->op == OP_STARTSWITH) {
		ret->field = PREDICATE_EXE_BELOW;
		return are_paths(ret->values, 1, true)
			       ? 0
			       : refuse(m, ref, "startswith without a whole folder, such as /tmp/");
	}
	if (test->op != OP_EQUAL && test->op != OP_UNEQUAL && test->op != OP_IN)
		return refuse(m, ref, "compared by more than =, != and in");
	if (is_exe) {
		ret->field = PREDICATE_EXE;
		return are_paths(ret->values, ret->n_values, false)
			       ? 0
			       : refuse(m, ref, "a value is no whole path of at most 255 bytes");
	}
	if (strcmp(field, "proc.name") && strcmp(field, "user.uid"))
		return refuse(m, ref, "only user space knows it");
	if (m->moment == PREDICATE_BEFORE_EXEC)
		return refuse(m, ref, "not known before the program is loaded");
	ret->field = *field == 'p' ? PREDICATE_NAME : PREDICATE_UID;
	return *field == 'p' || are_numbers(ret->values, ret->n_values) ? 0 : refuse(m, ref, "a value is no number");
}

/* --- clauses --- */

/* A test of a clause. 1: the clause holds whatever comes. */
static int add_test(struct making *m, uint32_t node)
{
	const struct plan_node *n = &m->program->nodes[node];
	const struct rule_test *test;
	const struct rule_ref *ref;
	enum folded folded;

	if (n->kind != PLAN_TEST)
		return fault_set(m->fault, -EOPNOTSUPP, "`and` within `or`");
	test = &m->program->tests[n->first];
	ref = &m->program->refs[test->left.ref];
	folded = test->right.ref == RULE_NO_REF && !test->left.n_transforms && ref->field
			 ? fold(m, test, ref->field->name, n->negated)
			 : FOLDED_NOT;
	if (folded != FOLDED_NOT)
		return folded == FOLDED_TRUE;
	if (m->predicate->n == PREDICATE_TESTS_MAX)
		return fault_set(m->fault, -EOPNOTSUPP, "more than 16 tests");
	return make_test(m, test, n->negated, &m->predicate->tests[m->predicate->n++]);
}

static int add_clause(struct making *m, uint32_t node)
{
	const struct plan_node *n = &m->program->nodes[node];
	const uint32_t from = m->predicate->n, *children = &node;
	uint32_t n_children = 1;
	int r = 0;

	if (n->kind == PLAN_OR) {
		children = &m->program->children[n->first];
		n_children = n->n;
	}
	for (uint32_t i = 0; i < n_children && r == 0; i++)
		r = add_test(m, children[i]);
	if (r < 0)
		return r;
	if (r == 1) {
		m->predicate->n = from; /* it says nothing */
		return 0;
	}
	if (m->predicate->n == from)
		m->never = true;
	else
		m->predicate->tests[m->predicate->n - 1].ends = true;
	return 0;
}

/* What the rest says does not matter where one part cannot hold. */
static int add_all(struct making *m, uint32_t root)
{
	const struct plan_node *n = &m->program->nodes[root];
	int r = 0;

	if (n->kind == PLAN_TRUE)
		return 0;
	if (n->kind == PLAN_FALSE)
		m->never = true;
	else if (n->kind != PLAN_AND)
		return add_clause(m, root);
	for (uint32_t i = 0; !m->never && i < n->n; i++) {
		int one = add_clause(m, m->program->children[n->first + i]);

		r = r < 0 ? r : one;
	}
	return m->never ? 0 : r;
}

static bool can_be(const struct rule_info *info, const char *call)
{
	int type = event_type_of(call, strlen(call));

	return type >= 0 && event_types_have(&info->types, (unsigned)type);
}

int rules_predicate(const struct rules *rules, uint32_t rule, enum predicate_moment moment, struct predicate *ret,
		    struct fault *fault)
{
	struct making m = { .program = rules->program, .moment = moment, .predicate = ret, .fault = fault };
	const struct rule_info *info = &rules->rules[rule].info;
	int r;

	ret->n = 0;
	if (!info->enabled || info->skipped || (!can_be(info, "execve") && !can_be(info, "execveat")))
		return fault_set(fault, -ENOENT, "it cannot fire on the begin of a program");
	r = add_all(&m, rules->rules[rule].condition.root);
	if (m.never)
		return fault_set(fault, -ENOENT, "it cannot fire on the begin of a program");
	return r;
}

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

/* What fields are at a moment. evt.type is any of the calls that may have been made, as one cannot tell from the event which it was: of these two must agree, and an open
 * is all five to a rule (alerts/calls.c). */
static const struct constant {
	const char *field, *values[5];
	bool any; /* a test that one of them passes is passed */
} at_exec[] = {
	{ "evt.type", { "execve", "execveat" }, false },
	{ "syscall.type", { "execve", "execveat" }, false },
	{ "evt.dir", { "<" }, false },
	{ "evt.source", { "syscall" }, false },
}, at_open[] = {
	{ "evt.type", { "openat", "open", "openat2", "creat", "open_by_handle_at" }, true },
	{ "syscall.type", { "openat", "open", "openat2", "creat", "open_by_handle_at" }, true },
	{ "evt.dir", { "<" }, false },
	{ "evt.source", { "syscall" }, false },
}, at_connect[] = {
	{ "evt.type", { "connect" }, false },
	{ "syscall.type", { "connect" }, false },
	{ "evt.dir", { "<" }, false },
	{ "evt.source", { "syscall" }, false },
};

/* What there is of each moment. */
static const struct moment {
	const struct constant *constants;
	size_t n_constants;
	const char *calls[5], *never, *unknown;
	bool descriptor; /* fd.num is one */
} moments[] = {
	[PREDICATE_AT_EXEC] = { at_exec,
				ARRAY_SIZE(at_exec),
				{ "execve", "execveat" },
				"it cannot fire on the begin of a program",
				"it is no field of a program that begins",
				false },
	[PREDICATE_BEFORE_EXEC] = { at_exec,
				    ARRAY_SIZE(at_exec),
				    { "execve", "execveat" },
				    "it cannot fire on the begin of a program",
				    "not known before the program is loaded",
				    false },
	[PREDICATE_AT_OPEN] = { at_open,
				ARRAY_SIZE(at_open),
				{ "openat", "open", "openat2", "creat", "open_by_handle_at" },
				"it cannot fire on an open",
				"only user space knows it, as it was when the program began",
				true },
	[PREDICATE_AT_CONNECT] = { at_connect,
				   ARRAY_SIZE(at_connect),
				   { "connect" },
				   "it cannot fire on a connect",
				   "only user space knows it, or only before",
				   true },
	[PREDICATE_BEFORE_CONNECT] = { at_connect,
				       ARRAY_SIZE(at_connect),
				       { "connect" },
				       "it cannot fire on a connect",
				       "only user space knows it, or only after",
				       false },
};

static bool holds_for_text(const struct making *m, const struct rule_test *test, const char *text)
{
	const struct rule_value value = { .kind = RULE_TEXT, .text = text, .length = (uint32_t)strlen(text) };

	return test_holds_for(m->program, test, &value);
}

static bool holds_for_number(const struct making *m, const struct rule_test *test, int64_t number)
{
	const struct rule_value value = { .kind = RULE_NUMBER, .number = number };

	return test_holds_for(m->program, test, &value);
}

static enum folded folded_as(bool holds, bool negated)
{
	return holds != negated ? FOLDED_TRUE : FOLDED_FALSE;
}

static enum folded fold_constant(const struct making *m, const struct rule_test *test, const struct constant *c,
				 bool negated)
{
	unsigned n = 0, held = 0;

	while (n < ARRAY_SIZE(c->values) && c->values[n])
		held += holds_for_text(m, test, c->values[n++]);
	if (held == 0 || held == n)
		return folded_as(held, negated);
	return c->any && (test->op == OP_EQUAL || test->op == OP_IN) ? folded_as(true, negated) : FOLDED_NOT;
}

/* A descriptor is some number from 0 on: what both ends of these agree in, with what a condition could set apart between. */
static enum folded fold_descriptor(const struct making *m, const struct rule_test *test, bool negated)
{
	static const int64_t some[] = { 1, 2, 3, 255, 1024, INT32_MAX };
	bool first = holds_for_number(m, test, 0);

	if (test->op == OP_EQUAL || test->op == OP_UNEQUAL || test->op == OP_IN)
		return FOLDED_NOT;
	for (size_t i = 0; i < ARRAY_SIZE(some); i++)
		if (holds_for_number(m, test, some[i]) != first)
			return FOLDED_NOT;
	return folded_as(first, negated);
}

static enum folded fold(const struct making *m, const struct rule_test *test, const char *field, bool negated)
{
	const struct moment *moment = &moments[m->moment];

	for (size_t i = 0; i < moment->n_constants; i++)
		if (!strcmp(moment->constants[i].field, field))
			return fold_constant(m, test, &moment->constants[i], negated);
	return moment->descriptor && !strcmp(field, "fd.num") ? fold_descriptor(m, test, negated) : FOLDED_NOT;
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

/* What an open and a connect can be of, as fd.type and fd.typechar have it. */
static const struct {
	const char *name;
	char letter;
	bool socket;
} kinds[] = { { "file", 'f', false }, { "directory", 'd', false }, { "pipe", 'p', false },
	      { "unix", 'u', false }, { "ipv4", '4', true },       { "ipv6", '6', true } };

char predicate_kind(const struct literal *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (value->length == strlen(kinds[i].name) && !memcmp(value->text, kinds[i].name, value->length))
			return kinds[i].letter;
	return value->text[0];
}

static bool is_kind(const struct literal *value, bool letter, bool socket)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds) && value->kind == LITERAL_TEXT; i++) {
		if (kinds[i].socket != socket)
			continue;
		if (letter ? value->length == 1 && value->text[0] == kinds[i].letter
			   : value->length == strlen(kinds[i].name) &&
				     !memcmp(value->text, kinds[i].name, value->length))
			return true;
	}
	return false;
}

static bool are_kinds(const struct making *m, const struct literal *values, uint32_t n, const char *field)
{
	for (uint32_t i = 0; i < n; i++)
		if (!is_kind(&values[i], !strcmp(field, "fd.typechar"), m->moment != PREDICATE_AT_OPEN))
			return false;
	return true;
}

static bool are_networks(const struct literal *values, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (values[i].kind != LITERAL_NETWORK)
			return false;
	return true;
}

static bool are_protocols(const struct literal *values, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (values[i].kind != LITERAL_TEXT || values[i].length != 3 ||
		    (memcmp(values[i].text, "tcp", 3) && memcmp(values[i].text, "udp", 3)))
			return false;
	return true;
}

/* A truth about the open: `= true`, or another way to say that or its contrary. */
static int make_truth(const struct making *m, const struct rule_test *test, const struct rule_ref *ref,
		      enum predicate_field field, struct predicate_test *ret)
{
	const struct rule_value yes = { .kind = RULE_TRUTH, .truth = true },
				no = { .kind = RULE_TRUTH, .truth = false };
	const bool if_so = test_holds_for(m->program, test, &yes), if_not = test_holds_for(m->program, test, &no);

	if (if_so == if_not)
		return refuse(m, ref, "compared with what is no truth");
	ret->field = field;
	ret->negated = (ret->negated != (test->op == OP_UNEQUAL)) != if_not;
	ret->n_values = 0;
	return 0;
}

#define AT(moment)  (1u << PREDICATE_##moment)
#define CONNECTS    (AT(AT_CONNECT) | AT(BEFORE_CONNECT))
#define BUT_LOADING (AT(AT_EXEC) | AT(AT_OPEN) | CONNECTS)

static const struct served_field {
	const char *name;
	enum predicate_field field;
	unsigned moments; /* at which it is known, as bits */
} served[] = {
	{ "proc.name", PREDICATE_NAME, BUT_LOADING },
	{ "user.uid", PREDICATE_UID, BUT_LOADING },
	{ "proc.exepath", PREDICATE_PATH, AT(AT_EXEC) | AT(BEFORE_EXEC) },
	{ "fd.name", PREDICATE_PATH, AT(AT_OPEN) },
	{ "fd.directory", PREDICATE_FOLDER, AT(AT_OPEN) },
	{ "fd.typechar", PREDICATE_KIND, AT(AT_OPEN) | CONNECTS },
	{ "fd.type", PREDICATE_KIND, AT(AT_OPEN) | CONNECTS },
	{ "evt.is_open_write", PREDICATE_WRITES, AT(AT_OPEN) },
	{ "evt.is_open_read", PREDICATE_READS, AT(AT_OPEN) },
	{ "evt.is_open_create", PREDICATE_CREATES, AT(AT_OPEN) },
	{ "fd.rip", PREDICATE_ADDRESS, CONNECTS },
	{ "fd.sip", PREDICATE_ADDRESS, CONNECTS },
	{ "fd.rnet", PREDICATE_ADDRESS, CONNECTS },
	{ "fd.snet", PREDICATE_ADDRESS, CONNECTS },
	{ "fd.rport", PREDICATE_PORT, CONNECTS },
	{ "fd.sport", PREDICATE_PORT, CONNECTS },
	{ "fd.l4proto", PREDICATE_PROTOCOL, CONNECTS },
};

static const struct served_field *find_served(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(served); i++)
		if (!strcmp(served[i].name, name))
			return &served[i];
	return NULL;
}

static bool is_known(const struct served_field *f, enum predicate_moment moment)
{
	return f->moments >> moment & 1;
}

static bool is_truth(enum predicate_field field)
{
	return field == PREDICATE_WRITES || field == PREDICATE_READS || field == PREDICATE_CREATES;
}

static int check_values(const struct making *m, const struct rule_ref *ref, const struct predicate_test *test)
{
	switch (test->field) {
	case PREDICATE_PATH:
	case PREDICATE_FOLDER:
		return are_paths(test->values, test->n_values, false)
			       ? 0
			       : refuse(m, ref, "a value is no whole path of at most 255 bytes");
	case PREDICATE_UID:
	case PREDICATE_PORT:
		return are_numbers(test->values, test->n_values) ? 0 : refuse(m, ref, "a value is no number");
	case PREDICATE_KIND:
		return are_kinds(m, test->values, test->n_values, ref->field->name)
			       ? 0
			       : refuse(m, ref,
					m->moment == PREDICATE_AT_OPEN ? "a value is no kind of file"
								       : "a value is neither ipv4 nor ipv6");
	case PREDICATE_ADDRESS:
		return are_networks(test->values, test->n_values) ? 0 : refuse(m, ref, "a value is no address");
	case PREDICATE_PROTOCOL:
		return are_protocols(test->values, test->n_values) ? 0
								   : refuse(m, ref, "a value is neither tcp nor udp");
	default:
		return 0;
	}
}

/* A set of values, and whether it is one that must not hold. */
static int make_test(const struct making *m, const struct rule_test *test, bool negated, struct predicate_test *ret)
{
	const struct rule_ref *ref = &m->program->refs[test->left.ref];
	const struct served_field *f = ref->field ? find_served(ref->field->name) : NULL;

	*ret = (struct predicate_test){ .negated = negated != (test->op == OP_UNEQUAL),
					.values = &m->program->literals[test->literals],
					.n_values = test->n_literals };
	if (test->right.ref != RULE_NO_REF || test->left.n_transforms || test->quantifier != OF_ONE)
		return refuse(m, ref, "compared with another field, or transformed");
	if (test->n_literals > PREDICATE_VALUES_MAX)
		return refuse(m, ref, "more than 1024 values");
	if (f && is_truth(f->field) && is_known(f, m->moment))
		return make_truth(m, test, ref, f->field, ret);
	if (f && f->field == PREDICATE_PATH && is_known(f, m->moment) && test->op == OP_STARTSWITH) {
		ret->field = PREDICATE_PATH_BELOW;
		return are_paths(ret->values, 1, true)
			       ? 0
			       : refuse(m, ref, "startswith without a whole folder, such as /tmp/");
	}
	if (test->op != OP_EQUAL && test->op != OP_UNEQUAL && test->op != OP_IN)
		return refuse(m, ref, "compared by more than =, != and in");
	if (!f)
		return refuse(m, ref, "only user space knows it");
	if (!is_known(f, m->moment))
		return refuse(m, ref, moments[m->moment].unknown);
	ret->field = f->field;
	return check_values(m, ref, ret);
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

static bool can_fire(const struct rule_info *info, enum predicate_moment moment)
{
	const char *const *calls = moments[moment].calls;

	for (size_t i = 0; i < ARRAY_SIZE(moments[moment].calls) && calls[i]; i++)
		if (info->enabled && !info->skipped && can_be(info, calls[i]))
			return true;
	return false;
}

int rules_predicate(const struct rules *rules, uint32_t rule, enum predicate_moment moment, struct predicate *ret,
		    struct fault *fault)
{
	struct making m = { .program = rules->program, .moment = moment, .predicate = ret, .fault = fault };
	int r;

	*ret = (struct predicate){ .n = 0 };
	if (!can_fire(&rules->rules[rule].info, moment))
		return fault_set(fault, -ENOENT, "%s", moments[moment].never);
	r = add_all(&m, rules->rules[rule].condition.root);
	if (m.never)
		return fault_set(fault, -ENOENT, "%s", moments[moment].never);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One test, compiled: what it asks for gets its slot, its operator is held against the type of the field, its constants are read as that type, sorted or
 * hashed, and its cost is estimated. Where its outcome is known before any event, that is said.
 */
#include "rules/compile_state.h"
#include "rules/glob.h"
#include "rules/literal.h"
#include "rules/regex.h"

#include <errno.h>
#include <string.h>

#define REGEXES_MAX 1024u
#define HASH_FROM   6u /* constants; fewer are compared one by one */

/* --- what is asked for --- */

/* The slot of `ref`, a new one where none is of its name. */
static int add_ref(struct compiler *c, const struct rule_ref *ref, uint32_t *ret)
{
	struct program *program = c->program;

	for (uint32_t i = 0; i < program->n_refs; i++)
		if (strcmp(program->refs[i].name, ref->name) == 0) {
			*ret = i;
			return 0;
		}
	if (!GROW(program, refs, 1))
		return compile_no_memory(c);
	*ret = program->n_refs;
	program->refs[program->n_refs] = *ref;
	program->refs[program->n_refs++].slot = *ret;
	return 0;
}

static int add_base(struct compiler *c, const char *name, uint32_t *ret)
{
	struct rule_ref ref = { .name = name, .index = -1, .base = RULE_NO_REF, .other = RULE_NO_REF };

	*ret = RULE_NO_REF;
	if (!name)
		return 0;
	ref.field = rule_field_of(name);
	return ref.field ? add_ref(c, &ref, ret) : 0;
}

static int add_operand(struct compiler *c, const struct syntax *s, const struct syntax_operand *from,
		       struct operand *ret)
{
	struct rule_ref ref = { .index = -1, .base = RULE_NO_REF, .other = RULE_NO_REF };
	int r = c->scope->resolve(c->scope->context, c->program, s, from, &ref, c->fault);

	if (r < 0)
		return r;
	if (ref.field && ref.field->derive != RULE_NOT_DERIVED) {
		r = add_base(c, ref.field->base, &ref.base);
		r = r < 0 ? r : add_base(c, ref.field->other, &ref.other);
		if (r < 0)
			return r;
	}
	*ret = (struct operand){ .n_transforms = from->n_transforms };
	memcpy(ret->transforms, from->transforms, sizeof ret->transforms);
	return add_ref(c, &ref, &ret->ref);
}

int program_add_operand(struct program *program, const struct syntax *syntax, const struct syntax_operand *operand,
			const struct program_scope *scope, struct operand *ret, struct fault *fault)
{
	struct compiler c = { .program = program, .scope = scope, .fault = fault };

	return add_operand(&c, syntax, operand, ret);
}

/* --- types --- */

static bool is_textual(enum rule_type type)
{
	return type == RULE_TYPE_TEXT || type == RULE_TYPE_BYTES || type == RULE_TYPE_ANY;
}

/* What an operand gives behind its transformers, and of how many. */
static int type_of(struct compiler *c, const struct syntax *s, const struct syntax_operand *from,
		   const struct operand *operand, enum rule_type *ret_type, enum rule_many *ret_many)
{
	const struct rule_ref *ref = &c->program->refs[operand->ref];

	*ret_type = ref->field ? ref->field->type : RULE_TYPE_ANY;
	*ret_many = ref->field ? rule_field_many(ref->field, ref->argument) : RULE_ANY_OF;
	for (unsigned i = 0; i < operand->n_transforms; i++) {
		bool length = operand->transforms[i] == TRANSFORM_LENGTH;

		if (!is_textual(*ret_type) && !(length && *ret_many == RULE_LIST))
			return syntax_fault(s, c->fault, -EINVAL, from->at, "%s() takes text, and '%s' is of type %s",
					    rule_transform_text(operand->transforms[i]), ref->name,
					    rule_type_name(*ret_type));
		if (length) {
			*ret_type = RULE_TYPE_NUMBER;
			*ret_many = *ret_many == RULE_LIST ? RULE_ONE : *ret_many;
		}
	}
	return 0;
}

static bool operator_takes(enum rule_operator op, enum rule_type type, enum rule_many many)
{
	bool bytes = op == OP_BCONTAINS || op == OP_BSTARTSWITH;

	if (op == OP_EXISTS || op == OP_IN || op == OP_INTERSECTS)
		return true;
	if (many == RULE_LIST)
		return false;
	switch (type) {
	case RULE_TYPE_NUMBER:
	case RULE_TYPE_FRACTION:
	case RULE_TYPE_PORT:
		return op <= OP_MORE_EQUAL;
	case RULE_TYPE_TRUTH:
	case RULE_TYPE_ADDRESS:
	case RULE_TYPE_NETWORK:
		return op <= OP_UNEQUAL;
	case RULE_TYPE_TEXT:
		return !bytes;
	case RULE_TYPE_BYTES:
		return op <= OP_UNEQUAL || bytes || op == OP_CONTAINS || op == OP_STARTSWITH || op == OP_ENDSWITH;
	default:
		return true;
	}
}

/* --- constants --- */

static bool is_event_type(const struct rule_ref *ref)
{
	return ref->field &&
	       (strcmp(ref->field->name, "evt.type") == 0 || strcmp(ref->field->name, "syscall.type") == 0);
}

static int check_event_type(struct compiler *c, const struct syntax *s, const struct syntax_word *word)
{
	char name[64];
	const char *near;

	if (event_type_of(word->text, word->length) >= 0)
		return 0;
	snprintf(name, sizeof name, "%.*s", (int)MIN_OF(word->length, 63u), word->text);
	near = event_type_near(name);
	if (near)
		return syntax_fault(s, c->fault, -EINVAL, word->at, "unknown event type '%s'; did you mean '%s'?", name,
				    near);
	return syntax_fault(s, c->fault, -EINVAL, word->at, "unknown event type '%s'", name);
}

static int add_regex(struct compiler *c, struct literal *l)
{
	struct program *program = c->program;
	struct regex *regex;
	struct fault fault;
	int r;

	if (program->n_regexes == REGEXES_MAX)
		return fault_set(c->fault, -E2BIG, "more than %u regular expressions", REGEXES_MAX);
	if (!GROW(program, regexes, 1))
		return compile_no_memory(c);
	r = regex_compile(&regex, l->text, l->length, &fault);
	if (r < 0)
		return fault_set(c->fault, r, "in the regular expression, at its byte %u: %s", fault.column,
				 fault.text);
	program->regexes[program->n_regexes++] = regex;
	l->regex = regex;
	return 0;
}

/* The bytes that hexadecimal digits stand for. */
static int keep_bytes(struct compiler *c, struct literal *l)
{
	char *bytes = program_take(c->program, l->length / 2 + 1);

	if (!bytes)
		return compile_no_memory(c);
	for (uint32_t i = 0; i < l->length / 2; i++) {
		char digits[3] = { l->text[2 * i], l->text[2 * i + 1], '\0' };

		bytes[i] = (char)strtoul(digits, NULL, 16);
	}
	l->text = bytes;
	l->length /= 2;
	return 0;
}

static int finish_literal(struct compiler *c, enum rule_operator op, struct literal *l)
{
	if (op == OP_BCONTAINS || op == OP_BSTARTSWITH)
		return keep_bytes(c, l);
	l->text = program_keep(c->program, l->text, l->length);
	if (!l->text)
		return compile_no_memory(c);
	if (op == OP_PMATCH)
		while (l->length > 0 && l->text[l->length - 1] == '/')
			l->length--;
	return op == OP_REGEX ? add_regex(c, l) : 0;
}

static int add_literal(struct compiler *c, const struct syntax *s, uint32_t at, const struct syntax_word *word,
		       enum rule_type type, struct rule_test *test)
{
	struct program *program = c->program;
	struct literal literal;
	struct fault fault = { 0 };
	int r = literal_read(&literal, word, type, test->op, &fault);

	if (r < 0)
		return syntax_fault(s, c->fault, r, at, "%s", fault.text);
	r = finish_literal(c, test->op, &literal);
	if (r == -EINVAL || r == -E2BIG) {
		fault = c->fault ? *c->fault : (struct fault){ .text = "the regular expression is wrong" };
		return syntax_fault(s, c->fault, r, at, "%s", fault.text);
	}
	if (r < 0)
		return r;
	if (!GROW(program, literals, 1))
		return compile_no_memory(c);
	program->literals[program->n_literals++] = literal;
	test->n_literals++;
	return 0;
}

static int add_listed(struct compiler *c, const struct syntax *s, uint32_t at, const struct rule_list *list,
		      enum rule_type type, struct rule_test *test)
{
	for (uint32_t i = 0; i < list->n_words; i++) {
		int r = add_literal(c, s, at, &list->words[i], type, test);

		if (r < 0)
			return r;
	}
	return 0;
}

/* A bare word of a list may be the name of one. */
static int add_word(struct compiler *c, const struct syntax *s, const struct syntax_test *from,
		    const struct syntax_word *word, enum rule_type type, struct rule_test *test)
{
	bool many = rule_operator_takes_list(from->op) || from->quantifier != OF_ONE;
	const struct rule_list *list = NULL;
	const struct rule_ref *ref = &c->program->refs[test->left.ref];

	if (many && !word->quoted && c->scope->list)
		list = c->scope->list(c->scope->context, word->text, word->length);
	if (list)
		return add_listed(c, s, word->at, list, type, test);
	if (from->named)
		return syntax_fault(s, c->fault, -EINVAL, word->at,
				    "expected '(' and values, or the name of a list, found '%.*s'",
				    (int)MIN_OF(word->length, 40u), word->text);
	if (is_event_type(ref) && (from->op <= OP_UNEQUAL || from->op == OP_IN || from->op == OP_INTERSECTS)) {
		int r = check_event_type(c, s, word);

		if (r < 0)
			return r;
	}
	return add_literal(c, s, word->at, word, type, test);
}

static int by_number(const void *a, const void *b)
{
	const struct literal *x = a, *y = b;

	return x->whole < y->whole ? -1 : x->whole > y->whole;
}

static int patterns_last(const void *a, const void *b)
{
	const struct literal *x = a, *y = b;

	return (int)glob_is_pattern(x->text, x->length) - (int)glob_is_pattern(y->text, y->length);
}

static void sort_literals(struct program *program, struct rule_test *test)
{
	struct literal *l;
	bool numbers = test->n_literals > 1;

	if (test->n_literals == 0)
		return;
	l = &program->literals[test->literals];
	for (uint32_t i = 0; i < test->n_literals; i++)
		numbers &= l[i].kind == LITERAL_WHOLE;
	if (test->op == OP_PMATCH) {
		qsort(l, test->n_literals, sizeof *l, patterns_last);
		for (uint32_t i = 0; i < test->n_literals; i++)
			test->n_patterns += glob_is_pattern(l[i].text, l[i].length);
	} else if (numbers && (test->op == OP_IN || test->op == OP_INTERSECTS)) {
		qsort(l, test->n_literals, sizeof *l, by_number);
		test->sorted = true;
	}
}

static void put_in_set(struct program *program, const struct rule_test *test, struct literal_set *set, uint32_t number)
{
	const struct literal *l = &program->literals[test->literals + number];
	uint32_t i = (uint32_t)hash_bytes(l->text, l->length) & set->mask;

	while (program->slots[set->slots + i])
		i = (i + 1) & set->mask;
	program->slots[set->slots + i] = number + 1;
	set->shortest = MIN_OF(set->shortest, l->length);
	set->longest = MAX_OF(set->longest, l->length);
}

static int make_set(struct compiler *c, struct rule_test *test)
{
	struct program *program = c->program;
	struct literal_set set = { .slots = program->n_slots, .mask = 7, .shortest = UINT32_MAX };
	uint32_t n = test->n_literals - test->n_patterns;

	while (set.mask < n * 2)
		set.mask = set.mask * 2 + 1;
	if (!GROW(program, slots, set.mask + 1) || !GROW(program, sets, 1))
		return compile_no_memory(c);
	memset(&program->slots[set.slots], 0, ((size_t)set.mask + 1) * sizeof program->slots[0]);
	program->n_slots += set.mask + 1;
	for (uint32_t i = 0; i < n; i++)
		put_in_set(program, test, &set, i);
	test->set = program->n_sets;
	program->sets[program->n_sets++] = set;
	return 0;
}

static int index_literals(struct compiler *c, struct rule_test *test, enum rule_type type)
{
	bool listed = test->op == OP_IN || test->op == OP_INTERSECTS;

	sort_literals(c->program, test);
	if ((test->op == OP_PMATCH && test->n_literals > test->n_patterns) ||
	    (listed && is_textual(type) && test->n_literals >= HASH_FROM))
		return make_set(c, test);
	return 0;
}

/* --- tests --- */

/* What it costs, in units of about a nanosecond. */
static uint32_t cost_of(const struct program *program, const struct rule_test *test)
{
	static const uint32_t by_operator[] = {
		[OP_EQUAL] = 2,      [OP_UNEQUAL] = 2,    [OP_LESS] = 2,        [OP_LESS_EQUAL] = 2,
		[OP_MORE] = 2,       [OP_MORE_EQUAL] = 2, [OP_CONTAINS] = 12,   [OP_ICONTAINS] = 60,
		[OP_BCONTAINS] = 12, [OP_STARTSWITH] = 3, [OP_BSTARTSWITH] = 3, [OP_ENDSWITH] = 3,
		[OP_GLOB] = 40,      [OP_IGLOB] = 50,     [OP_REGEX] = 200,     [OP_IN] = 4,
		[OP_INTERSECTS] = 4, [OP_PMATCH] = 30,    [OP_EXISTS] = 1
	};
	static const uint32_t by_origin[] = {
		[RULE_FROM_EVENT] = 2,   [RULE_FROM_PROCESS] = 6, [RULE_FROM_CONTAINER] = 6,
		[RULE_FROM_RUNTIME] = 8, [RULE_FROM_USERS] = 12,  [RULE_FROM_NOWHERE] = 2
	};
	const struct rule_ref *ref = &program->refs[test->left.ref];
	uint32_t cost = by_operator[test->op], values = test->many == RULE_ANY_OF ? 8 : test->many == RULE_ONE ? 1 : 2;
	bool one_by_one = test->quantifier != OF_ONE || (test->set == NO_SET && !test->sorted);

	if (one_by_one && test->n_literals > 1)
		cost *= test->n_literals;
	if (test->right.ref != RULE_NO_REF)
		cost += 60;
	cost += 30u * (test->left.n_transforms + test->right.n_transforms);
	cost += ref->field ? by_origin[ref->field->origin] : 10;
	if (ref->field && is_event_type(ref))
		return 1;
	return cost * values;
}

/* Fields whose value is known before any event: every event is an exit, counts as one, and is numbered from 1. */
static enum known known_of(const struct program *program, const struct rule_test *test)
{
	const struct rule_ref *ref = &program->refs[test->left.ref];
	struct rule_value direction = { .kind = RULE_TEXT, .text = "<", .length = 1 };
	struct rule_value first = { .kind = RULE_NUMBER, .number = 1 };
	const struct literal *l;

	if (test->op != OP_EXISTS && test->right.ref == RULE_NO_REF && test->n_literals == 0)
		return NEVER;
	if (!ref->field || test->right.ref != RULE_NO_REF || test->left.n_transforms)
		return UNKNOWN;
	if (strcmp(ref->field->name, "evt.dir") == 0)
		return test_holds_for(program, test, &direction) ? ALWAYS : NEVER;
	if (strcmp(ref->field->name, "evt.count") == 0)
		return test_holds_for(program, test, &first) ? ALWAYS : NEVER;
	if (strcmp(ref->field->name, "evt.num") != 0 || test->op > OP_MORE_EQUAL || test->quantifier != OF_ONE)
		return UNKNOWN;
	/* Where 1 and everything above it agree. */
	l = &program->literals[test->literals];
	switch (test->op) {
	case OP_EQUAL:
		return l->whole < 1 ? NEVER : UNKNOWN;
	case OP_UNEQUAL:
		return l->whole < 1 ? ALWAYS : UNKNOWN;
	case OP_LESS:
		return l->whole <= 1 ? NEVER : UNKNOWN;
	case OP_LESS_EQUAL:
		return l->whole < 1 ? NEVER : UNKNOWN;
	case OP_MORE:
		return l->whole < 1 ? ALWAYS : UNKNOWN;
	default:
		return l->whole <= 1 ? ALWAYS : UNKNOWN;
	}
}

static void warn_of(struct compiler *c, const struct syntax *s, const struct syntax_test *from,
		    const struct rule_ref *ref)
{
	char sentence[160];

	if (!c->scope->warn || !ref->field || !(ref->field->flags & RULE_DEPRECATED))
		return;
	if (strcmp(ref->field->name, "evt.dir") == 0)
		snprintf(sentence, sizeof sentence,
			 "'evt.dir' is deprecated: every event is an exit ('<'); leave it out");
	else
		snprintf(sentence, sizeof sentence, "'%s' is deprecated and has no value", ref->field->name);
	c->scope->warn(c->scope->context, s, from->at, sentence);
}

static int check_operator(struct compiler *c, const struct syntax *s, const struct syntax_test *from,
			  const struct rule_test *test, enum rule_type type)
{
	const struct rule_ref *ref = &c->program->refs[test->left.ref];

	if (operator_takes(from->op, type, test->many))
		return 0;
	if (test->many == RULE_LIST)
		return syntax_fault(s, c->fault, -EINVAL, from->operator_at,
				    "'%s' is a list, which 'in', 'intersects' and 'exists' are for", ref->name);
	return syntax_fault(s, c->fault, -EINVAL, from->operator_at, "'%s' is of type %s, which '%s' is not for",
			    ref->name, rule_type_name(type), rule_operator_text(from->op));
}

/* The right operand: of the same kind, and where the operator needs no constant. */
static int add_right(struct compiler *c, const struct syntax *s, const struct syntax_test *from, struct rule_test *test,
		     enum rule_type type)
{
	enum rule_type right;
	enum rule_many many;
	int r;

	if (from->op == OP_GLOB || from->op == OP_IGLOB || from->op == OP_REGEX)
		return syntax_fault(s, c->fault, -EINVAL, from->right.at, "'%s' takes a constant on its right",
				    rule_operator_text(from->op));
	r = add_operand(c, s, &from->right, &test->right);
	if (r < 0)
		return r;
	r = type_of(c, s, &from->right, &test->right, &right, &many);
	if (r < 0)
		return r;
	if (type == RULE_TYPE_ANY || right == RULE_TYPE_ANY || is_textual(type) == is_textual(right))
		return 0;
	return syntax_fault(s, c->fault, -EINVAL, from->right.at, "a value of type %s is compared with one of type %s",
			    rule_type_name(type), rule_type_name(right));
}

static int fill_test(struct compiler *c, struct syntax *s, const struct syntax_test *from, struct rule_test *test)
{
	enum rule_type type;
	int r = add_operand(c, s, &from->left, &test->left);

	if (r < 0)
		return r;
	warn_of(c, s, from, &c->program->refs[test->left.ref]);
	r = type_of(c, s, &from->left, &test->left, &type, &test->many);
	if (r < 0)
		return r;
	r = check_operator(c, s, from, test, type);
	if (r < 0)
		return r;
	if (from->right.n_steps)
		return add_right(c, s, from, test, type);
	for (uint32_t i = 0; i < from->n_words; i++) {
		r = add_word(c, s, from, &s->words[from->words + i], type, test);
		if (r < 0)
			return r;
	}
	return index_literals(c, test, type);
}

int compile_test(struct compiler *c, struct syntax *s, uint32_t number, const struct compiled_test **ret)
{
	const struct syntax_test *from = &s->tests[number];
	struct compiled_test *compiled;
	int r;

	if (!s->compiled)
		s->compiled = calloc(s->n_tests, sizeof *compiled);
	if (!s->compiled)
		return compile_no_memory(c);
	compiled = (struct compiled_test *)s->compiled + number;
	*ret = compiled;
	if (compiled->done)
		return 0;
	compiled->test = (struct rule_test){ .op = from->op,
					     .quantifier = from->quantifier,
					     .right = { .ref = RULE_NO_REF },
					     .literals = c->program->n_literals,
					     .set = NO_SET };
	r = fill_test(c, s, from, &compiled->test);
	if (r < 0)
		return r;
	compiled->test.cost = cost_of(c->program, &compiled->test);
	compiled->known = known_of(c->program, &compiled->test);
	compiled->done = true;
	return 0;
}

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
#include "rules/glob.h"
#include "rules/literal.h"
#include "rules/regex.h"

#include <errno.h>
#include <string.h>

#define VISITS_MAX  1048576u
#define REGEXES_MAX 1024u
#define HASH_FROM   6u /* constants; fewer are compared one by one */

struct program_block {
	struct program_block *next;
	max_align_t bytes[];
};

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

static int no_memory(struct compiler *c)
{
	return fault_set(c->fault, -ENOMEM, "out of memory");
}

/* Room for `more` rows behind the `n` that `table` has. */
static bool grow(void *table, uint32_t *room, uint32_t n, uint32_t more, size_t size)
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

#define GROW(program, table, more)                                                                                     \
	grow(&(program)->table, &(program)->table##_room, (program)->n_##table, more, sizeof *(program)->table)

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
		return no_memory(c);
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
		return no_memory(c);
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
		return no_memory(c);
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
		return no_memory(c);
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
		return no_memory(c);
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
		return no_memory(c);
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

static int compile_test(struct compiler *c, struct syntax *s, uint32_t number, const struct compiled_test **ret)
{
	const struct syntax_test *from = &s->tests[number];
	struct compiled_test *compiled;
	int r;

	if (!s->compiled)
		s->compiled = calloc(s->n_tests, sizeof *compiled);
	if (!s->compiled)
		return no_memory(c);
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

/* --- the plan --- */

static int add_node(struct compiler *c, const struct plan_node *node, uint32_t *ret)
{
	if (!GROW(c->program, nodes, 1))
		return no_memory(c);
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
		return no_memory(c);
	node.first = c->program->n_tests;
	node.cost = compiled->test.cost;
	c->program->tests[c->program->n_tests++] = compiled->test;
	return add_node(c, &node, ret);
}

static int push(struct compiler *c, uint32_t node)
{
	if (!grow(&c->stack, &c->stack_room, c->n_stack, 1, sizeof *c->stack))
		return no_memory(c);
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
		return no_memory(c);
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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expressions, compiled: recursive descent over the text, one function for each rule of the grammar in expr.h.
 *
 * A rule returns a node of a binary tree; when the text is read whole, the tree is threaded: from its right end to its
 * left each test is told which test follows in either case, and the tree is thrown away. All tables are allocated once,
 * from the length of the text: no element of any of them takes less than two bytes of it.
 *
 * Invariant: recursion is bounded by NESTING_MAX while parsing, and by the number of operators in EXPR_TEXT_MAX bytes
 * while threading.
 */
#include "rules/expr_program.h"

#include <ctype.h>
#include <stdarg.h>
#include <errno.h>
#include <string.h>

#define NESTING_MAX 64u
#define NO_NODE     0u

struct node {
	enum node_kind { NODE_TEST, NODE_AND, NODE_OR, NODE_NOT } kind;
	uint32_t left, right; /* nodes; a test: its number is in `left` */
};

struct parser {
	struct expr *expr;
	struct node *nodes; /* from 1 on: 0 is no node */
	uint32_t n_nodes;
	const char *text, *at;
	size_t arena_used;
	unsigned depth;
	int error;
	struct fault *fault;
};

/* --- faults --- */

static uint32_t fail(struct parser *p, const char *at, const char *format, ...) _printf_(3, 4);
static uint32_t fail(struct parser *p, const char *at, const char *format, ...)
{
	unsigned line = 1, column = 1;
	char what[256];
	va_list args;

	if (p->error)
		return NO_NODE;
	for (const char *c = p->text; c < at; c++) {
		column = *c == '\n' ? 1 : column + 1;
		line += *c == '\n';
	}
	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	if (line == 1)
		p->error = fault_at(p->fault, -EINVAL, line, column, "column %u: %s", column, what);
	else
		p->error = fault_at(p->fault, -EINVAL, line, column, "line %u, column %u: %s", line, column, what);
	return NO_NODE;
}

static size_t word_length(const char *at)
{
	return strcspn(at, " \t\r\n()\",'");
}

/* "expected X, found 'y'", with what stands at the cursor. */
static uint32_t expected(struct parser *p, const char *what)
{
	size_t length = word_length(p->at);

	if (!*p->at)
		return fail(p, p->at, "expected %s, found the end", what);
	return fail(p, p->at, "expected %s, found '%.*s'", what, (int)MIN_OF(MAX_OF(length, (size_t)1), (size_t)40),
		    p->at);
}

/* --- words --- */

static void skip_space(struct parser *p)
{
	while (*p->at == ' ' || *p->at == '\t' || *p->at == '\r' || *p->at == '\n')
		p->at++;
}

static bool is_name_char(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '@';
}

static size_t name_length(const char *at)
{
	size_t length = 0;

	while (is_name_char(at[length]))
		length++;
	return length;
}

/* Whether the word `word` stands at the cursor, whole. */
static bool at_word(const struct parser *p, const char *word)
{
	size_t length = strlen(word);

	return strncmp(p->at, word, length) == 0 && !is_name_char(p->at[length]) && p->at[length] != '.' &&
	       p->at[length] != '[';
}

static bool take_word(struct parser *p, const char *word)
{
	skip_space(p);
	if (!at_word(p, word))
		return false;
	p->at += strlen(word);
	return true;
}

static bool take_sign(struct parser *p, const char *sign)
{
	skip_space(p);
	if (strncmp(p->at, sign, strlen(sign)) != 0)
		return false;
	p->at += strlen(sign);
	return true;
}

/* The arena is as long as the text, and every byte of the text is stored at most once. */
static char *store(struct parser *p, const char *bytes, size_t size)
{
	char *place = p->expr->arena + p->arena_used;

	memcpy(place, bytes, size);
	p->arena_used += size;
	return place;
}

/* The text in quotes at the cursor; within, a backslash makes the next character itself, or \n, \t. */
static bool take_quoted(struct parser *p, struct name *ret)
{
	const char *begin = p->at, quote = *p->at++;
	char *place = p->expr->arena + p->arena_used;

	ret->text = place;
	while (*p->at != quote) {
		char c = *p->at;

		if (c == '\\' && p->at[1]) {
			c = *++p->at;
			c = c == 'n' ? '\n' : c == 't' ? '\t' : c;
		} else if (!c) {
			fail(p, begin, "the text that begins here is never closed");
			return false;
		}
		*place++ = c;
		p->at++;
	}
	p->at++;
	ret->length = (uint32_t)(place - ret->text);
	p->arena_used += ret->length;
	return true;
}

/* --- keys --- */

static bool take_name(struct parser *p, struct name *ret)
{
	size_t length;

	if (*p->at == '"' || *p->at == '\'') {
		const char *begin = p->at;

		if (!take_quoted(p, ret))
			return false;
		if (ret->length == 0)
			fail(p, begin, "a key has at least one character");
		return ret->length > 0;
	}
	length = name_length(p->at);
	if (length == 0 || !(isalnum((unsigned char)*p->at) || *p->at == '_' || *p->at == '@')) {
		expected(p, "a key");
		return false;
	}
	ret->text = store(p, p->at, length);
	ret->length = (uint32_t)length;
	p->at += length;
	return true;
}

static uint32_t key_number(struct expr *expr, const struct name *name)
{
	for (uint32_t i = 0; i < expr->n_keys; i++)
		if (expr->keys[i].length == name->length && memcmp(expr->keys[i].text, name->text, name->length) == 0)
			return i;
	expr->keys[expr->n_keys] = *name;
	return expr->n_keys++;
}

static bool take_index(struct parser *p, struct step *step)
{
	uint64_t index = 0;
	const char *digits = p->at;

	while (isdigit((unsigned char)*p->at) && index <= UINT32_MAX)
		index = index * 10 + (uint64_t)(*p->at++ - '0');
	if (p->at == digits || index > UINT32_MAX || *p->at != ']') {
		expected(p, "a number and ']'");
		return false;
	}
	p->at++;
	step->index = (uint32_t)index;
	return true;
}

static bool take_key(struct parser *p, struct test *test)
{
	struct expr *expr = p->expr;
	struct name name;

	skip_space(p);
	if (at_word(p, "and") || at_word(p, "or") || at_word(p, "in") || at_word(p, "not")) {
		expected(p, "a key");
		return false;
	}
	if (!take_name(p, &name))
		return false;
	test->key = key_number(expr, &name);
	test->steps = expr->n_steps;
	while (*p->at == '.' || *p->at == '[') {
		struct step *step = &expr->steps[expr->n_steps++];

		if (*p->at++ == '.' ? !take_name(p, &step->name) : !take_index(p, step))
			return false;
	}
	test->n_steps = expr->n_steps - test->steps;
	return true;
}

/* --- values --- */

/* "10s", "5ms", "64MiB": the suffixes overlap but for their case, and sizes are those with a capital. */
static bool parse_quantity(const char *text, uint64_t *ret)
{
	bool size = strpbrk(text, "BKMGT");

	if (size)
		return parse_size(text, ret) == 0 || parse_duration(text, ret) == 0;
	return parse_duration(text, ret) == 0 || parse_size(text, ret) == 0;
}

static void classify(struct literal *l)
{
	char text[64], *end;
	bool negative = l->text[0] == '-';
	uint64_t number;

	l->kind = LITERAL_TEXT;
	if (l->length == 0 || l->length >= sizeof text || !(isdigit((unsigned char)l->text[negative])))
		return;
	memcpy(text, l->text, l->length);
	text[l->length] = '\0';
	if (parse_quantity(text + negative, &number)) {
		l->kind = LITERAL_WHOLE;
		l->whole = negative ? -(__int128)number : (__int128)number;
	} else if (strspn(text, "-+.0123456789eE") == l->length) {
		l->fraction = strtod(text, &end);
		if (!*end)
			l->kind = LITERAL_FRACTION;
	}
}

static bool take_value(struct parser *p, const char *what)
{
	struct literal *l = &p->expr->literals[p->expr->n_literals];
	struct name text;

	skip_space(p);
	if (*p->at == '"' || *p->at == '\'') {
		if (!take_quoted(p, &text))
			return false;
		*l = (struct literal){ .kind = LITERAL_TEXT, .text = text.text, .length = text.length };
	} else {
		size_t length = word_length(p->at);

		if (length == 0 || strchr("=<>!", *p->at) || at_word(p, "and") || at_word(p, "or") ||
		    at_word(p, "not")) {
			expected(p, what);
			return false;
		}
		*l = (struct literal){ .text = store(p, p->at, length), .length = (uint32_t)length };
		classify(l);
		p->at += length;
	}
	p->expr->n_literals++;
	return true;
}

static bool take_values(struct parser *p)
{
	if (!take_sign(p, "(")) {
		expected(p, "'(' and values after 'in'");
		return false;
	}
	do {
		if (!take_value(p, "a value"))
			return false;
	} while (take_sign(p, ","));
	if (!take_sign(p, ")")) {
		expected(p, "',' or ')'");
		return false;
	}
	return true;
}

/* --- tests --- */

static const struct notation {
	const char *text;
	enum operator op;
} signs[] = { { "==", OP_EQUAL },      { "=", OP_EQUAL }, { "!=", OP_UNEQUAL }, { "<=", OP_LESS_EQUAL },
	      { ">=", OP_MORE_EQUAL }, { "<", OP_LESS },  { ">", OP_MORE } },
  words[] = { { "contains", OP_CONTAINS },
	      { "startswith", OP_STARTSWITH },
	      { "endswith", OP_ENDSWITH },
	      { "in", OP_IN },
	      { "exists", OP_EXISTS } };

static bool take_operator(struct parser *p, enum operator* ret)
{
	static const char *const names[] = { "contains", "startswith", "endswith", "in", "exists" };
	char word[32];
	const char *near;

	for (size_t i = 0; i < ARRAY_SIZE(signs); i++)
		if (take_sign(p, signs[i].text)) {
			*ret = signs[i].op;
			return true;
		}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (take_word(p, words[i].text)) {
			*ret = words[i].op;
			return true;
		}
	snprintf(word, sizeof word, "%.*s", (int)MIN_OF(name_length(p->at), sizeof word - 1), p->at);
	near = *word ? nearest_name(word, names, ARRAY_SIZE(names)) : NULL;
	if (near)
		fail(p, p->at, "expected an operator, found '%s'; did you mean '%s'?", word, near);
	else
		expected(p, "an operator (= != < <= > >= contains startswith endswith in exists)");
	return false;
}

static uint32_t add_node(struct parser *p, enum node_kind kind, uint32_t left, uint32_t right)
{
	p->nodes[p->n_nodes] = (struct node){ kind, left, right };
	return p->n_nodes++;
}

static uint32_t parse_test(struct parser *p)
{
	struct expr *expr = p->expr;
	struct test test = { .literals = expr->n_literals };
	char what[64];
	const char *sign;

	if (!take_key(p, &test))
		return NO_NODE;
	skip_space(p);
	sign = p->at;
	if (!take_operator(p, &test.op))
		return NO_NODE;
	snprintf(what, sizeof what, "a value after '%.*s'", (int)MIN_OF((size_t)(p->at - sign), (size_t)16), sign);
	if (test.op == OP_IN ? !take_values(p) : test.op != OP_EXISTS && !take_value(p, what))
		return NO_NODE;
	test.n_literals = expr->n_literals - test.literals;
	expr->tests[expr->n_tests] = test;
	return add_node(p, NODE_TEST, expr->n_tests++, NO_NODE);
}

static uint32_t parse_or(struct parser *p);

static uint32_t parse_group(struct parser *p, const char *open)
{
	uint32_t node = parse_or(p);

	if (node == NO_NODE)
		return NO_NODE;
	if (take_sign(p, ")"))
		return node;
	if (*p->at)
		return expected(p, "'and', 'or' or ')'");
	return fail(p, open, "the '(' here is never closed");
}

static uint32_t parse_not(struct parser *p)
{
	uint32_t node;

	skip_space(p);
	if (p->depth > NESTING_MAX) {
		fail(p, p->at, "nested deeper than %u levels", NESTING_MAX);
		p->error = -E2BIG;
		return NO_NODE;
	}
	p->depth++;
	if (take_word(p, "not")) {
		node = parse_not(p);
		if (node != NO_NODE)
			node = add_node(p, NODE_NOT, node, NO_NODE);
	} else if (take_sign(p, "(")) {
		node = parse_group(p, p->at - 1);
	} else {
		node = parse_test(p);
	}
	p->depth--;
	return node;
}

static uint32_t parse_and(struct parser *p)
{
	uint32_t left = parse_not(p);

	while (left != NO_NODE && take_word(p, "and")) {
		uint32_t right = parse_not(p);

		left = right == NO_NODE ? NO_NODE : add_node(p, NODE_AND, left, right);
	}
	return left;
}

static uint32_t parse_or(struct parser *p)
{
	uint32_t left = parse_and(p);

	while (left != NO_NODE && take_word(p, "or")) {
		uint32_t right = parse_and(p);

		left = right == NO_NODE ? NO_NODE : add_node(p, NODE_OR, left, right);
	}
	return left;
}

/* Tells the tests below `node` where to go on when the node holds and when it does not; returns its first test. */
static uint32_t thread(struct parser *p, uint32_t node, uint32_t if_true, uint32_t if_false)
{
	const struct node *n = &p->nodes[node];

	switch (n->kind) {
	case NODE_AND:
		return thread(p, n->left, thread(p, n->right, if_true, if_false), if_false);
	case NODE_OR:
		return thread(p, n->left, if_true, thread(p, n->right, if_true, if_false));
	case NODE_NOT:
		return thread(p, n->left, if_false, if_true);
	default:
		p->expr->tests[n->left].if_true = if_true;
		p->expr->tests[n->left].if_false = if_false;
		return n->left;
	}
}

/* --- the whole --- */

static void expr_destroy(struct expr **expr)
{
	expr_free(*expr);
}

/* Room for whatever `length` bytes of text can hold. */
static struct expr *make_expr(size_t length)
{
	_cleanup_(expr_destroy) struct expr *expr = calloc(1, sizeof *expr);
	struct expr *done;
	size_t n = length / 2 + 2;

	if (!expr)
		return NULL;
	expr->tests = calloc(n, sizeof *expr->tests);
	expr->literals = calloc(n, sizeof *expr->literals);
	expr->steps = calloc(n, sizeof *expr->steps);
	expr->keys = calloc(n, sizeof *expr->keys);
	expr->arena = malloc(length + 1);
	if (!expr->tests || !expr->literals || !expr->steps || !expr->keys || !expr->arena)
		return NULL;
	done = expr;
	expr = NULL;
	return done;
}

int expr_compile(struct expr **ret, const char *text, struct fault *fault)
{
	size_t length = strnlen(text, EXPR_TEXT_MAX + 1);
	struct parser p = { .text = text, .at = text, .fault = fault, .n_nodes = 1 };
	_cleanup_(expr_destroy) struct expr *expr = NULL;
	_cleanup_(free_pointer) struct node *nodes = NULL;
	uint32_t root;

	if (length > EXPR_TEXT_MAX)
		return fault_set(fault, -E2BIG, "the expression is longer than %u bytes", EXPR_TEXT_MAX);
	expr = make_expr(length);
	nodes = calloc(length + 4, sizeof *nodes);
	if (!expr || !nodes)
		return fault_set(fault, -ENOMEM, "out of memory");
	p.expr = expr;
	p.nodes = nodes;
	root = parse_or(&p);
	skip_space(&p);
	if (root != NO_NODE && *p.at)
		root = expected(&p, "'and', 'or' or the end");
	if (root == NO_NODE)
		return p.error;
	expr->entry = thread(&p, root, EXPR_HOLDS, EXPR_FAILS);
	*ret = expr;
	expr = NULL;
	return 0;
}

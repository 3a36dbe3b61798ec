/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recursive descent, one function for each rule of the grammar in syntax.h. Tables grow as they fill; every element takes at least one byte of
 * the text, whose length is bounded. Recursion is bounded by SYNTAX_NESTING_MAX.
 */
#include "rules/syntax.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#define NO_NODE 0u

struct parser {
	struct syntax *syntax;
	const char *text, *at;
	size_t arena_used;
	unsigned depth;
	int error;
	struct fault *fault;
};

static const struct notation {
	const char *text;
	enum rule_operator op;
} signs[] = { { "==", OP_EQUAL },      { "=", OP_EQUAL }, { "!=", OP_UNEQUAL }, { "<=", OP_LESS_EQUAL },
	      { ">=", OP_MORE_EQUAL }, { "<", OP_LESS },  { ">", OP_MORE } },
  words[] = { { "contains", OP_CONTAINS },
	      { "icontains", OP_ICONTAINS },
	      { "bcontains", OP_BCONTAINS },
	      { "startswith", OP_STARTSWITH },
	      { "bstartswith", OP_BSTARTSWITH },
	      { "endswith", OP_ENDSWITH },
	      { "glob", OP_GLOB },
	      { "iglob", OP_IGLOB },
	      { "regex", OP_REGEX },
	      { "in", OP_IN },
	      { "intersects", OP_INTERSECTS },
	      { "pmatch", OP_PMATCH },
	      { "exists", OP_EXISTS } };

static const char *const transforms[] = { "tolower", "toupper", "b64", "basename", "len" };
static const char *const quantifiers[] = { NULL, "anyof", "allof", "oneof" };

const char *rule_operator_text(enum rule_operator op)
{
	for (size_t i = 1; i < ARRAY_SIZE(signs); i++)
		if (signs[i].op == op)
			return signs[i].text;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i].op == op)
			return words[i].text;
	return "?";
}

const char *rule_transform_text(enum rule_transform transform)
{
	return transforms[transform];
}

int rule_operator_of(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(signs); i++)
		if (strcmp(signs[i].text, text) == 0)
			return (int)signs[i].op;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(words[i].text, text) == 0)
			return (int)words[i].op;
	return -1;
}

/* --- faults --- */

static void place_in_text(const char *text, uint32_t at, struct syntax_place *ret)
{
	*ret = (struct syntax_place){ NULL, 1, 1 };
	for (uint32_t i = 0; i < at; i++) {
		ret->column = text[i] == '\n' ? 1 : ret->column + 1;
		ret->line += text[i] == '\n';
	}
}

static int fault_with(const struct syntax *syntax, struct fault *fault, int error, uint32_t at, const char *what)
{
	struct syntax_place place;

	if (syntax->options.place)
		syntax->options.place(syntax->options.context, at, &place);
	else
		place_in_text(syntax->text, at, &place);
	if (place.label)
		return fault_at(fault, error, place.line, place.column, "%s:%u:%u: %s", place.label, place.line,
				place.column, what);
	if (place.line == 1)
		return fault_at(fault, error, place.line, place.column, "column %u: %s", place.column, what);
	return fault_at(fault, error, place.line, place.column, "line %u, column %u: %s", place.line, place.column,
			what);
}

int syntax_fault(const struct syntax *syntax, struct fault *fault, int error, uint32_t at, const char *format, ...)
{
	char what[320];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	return fault_with(syntax, fault, error, at, what);
}

static bool fail(struct parser *p, int error, const char *at, const char *format, ...) _printf_(4, 5);
static bool fail(struct parser *p, int error, const char *at, const char *format, ...)
{
	char what[320];
	va_list args;

	if (p->error)
		return false;
	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	p->error = fault_with(p->syntax, p->fault, error, (uint32_t)(at - p->text), what);
	return false;
}

static size_t bare_length(const char *at)
{
	return strcspn(at, " \t\r\n\b()\",'");
}

/* "expected X, found 'y'", with what stands at the cursor. */
static bool expected(struct parser *p, const char *what)
{
	size_t length = bare_length(p->at);

	if (!*p->at)
		return fail(p, -EINVAL, p->at, "expected %s, found the end", what);
	return fail(p, -EINVAL, p->at, "expected %s, found '%.*s'", what,
		    (int)MIN_OF(MAX_OF(length, (size_t)1), (size_t)40), p->at);
}

static bool expected_field(struct parser *p)
{
	char what[32];

	snprintf(what, sizeof what, "a %s", p->syntax->options.noun);
	return expected(p, what);
}

/* --- tables --- */

static bool make_room(struct parser *p, void *table, uint32_t *room, uint32_t n, size_t size)
{
	uint32_t more = *room ? *room * 2 : 16;
	void *rows;

	if (n < *room)
		return true;
	rows = realloc(*(void **)table, more * size);
	if (!rows)
		return fail(p, -ENOMEM, p->at, "out of memory");
	*(void **)table = rows;
	*room = more;
	return true;
}

static uint32_t add_node(struct parser *p, enum syntax_kind kind, uint32_t left, uint32_t right)
{
	struct syntax *s = p->syntax;

	if (!make_room(p, &s->nodes, &s->nodes_room, s->n_nodes, sizeof *s->nodes))
		return NO_NODE;
	s->nodes[s->n_nodes] = (struct syntax_node){ kind, left, right };
	return s->n_nodes++;
}

static bool add_word(struct parser *p, const struct syntax_word *word)
{
	struct syntax *s = p->syntax;

	if (!make_room(p, &s->words, &s->words_room, s->n_words, sizeof *s->words))
		return false;
	s->words[s->n_words++] = *word;
	return true;
}

static bool add_step(struct parser *p, const struct rule_step *step)
{
	struct syntax *s = p->syntax;

	if (!make_room(p, &s->steps, &s->steps_room, s->n_steps, sizeof *s->steps))
		return false;
	s->steps[s->n_steps++] = *step;
	return true;
}

/* The arena is as long as the text, and every byte of the text is stored at most once. */
static char *store(struct parser *p, const char *bytes, size_t size)
{
	char *place = p->syntax->arena + p->arena_used;

	memcpy(place, bytes, size);
	p->arena_used += size;
	return place;
}

/* --- words --- */

static void skip_space(struct parser *p)
{
	while (*p->at == ' ' || *p->at == '\t' || *p->at == '\r' || *p->at == '\n' || *p->at == '\b')
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

static bool at_keyword(const struct parser *p)
{
	return at_word(p, "and") || at_word(p, "or") || at_word(p, "not");
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

static int hex_digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? (c | 32) - 'a' + 10 : -1;
}

/* One escape, behind its backslash; false: unknown. A backslash before a space is one, as rules in circulation have it. */
static bool unescape_one(const char **at, const char *end, char *ret)
{
	static const char letters[] = "bfnrt\\/\"' ", meant[] = "\b\f\n\r\t\\/\"'\\";
	const char *letter = *at < end && **at ? strchr(letters, **at) : NULL;

	if (letter) {
		*ret = meant[letter - letters];
		(*at)++;
		return true;
	}
	if (end - *at < 3 || **at != 'x' || hex_digit((*at)[1]) < 0 || hex_digit((*at)[2]) < 0)
		return false;
	*ret = (char)(hex_digit((*at)[1]) * 16 + hex_digit((*at)[2]));
	*at += 3;
	return true;
}

int rule_unescape(const char *text, size_t length, char *room, uint32_t *ret_length, struct fault *fault)
{
	const char *at = text, *end = text + length;
	char *place = room;

	while (at < end) {
		char c = *at++;

		if (c == '\\' && !unescape_one(&at, end, &c))
			return fault_set(fault, -EINVAL,
					 "'\\%.1s' means nothing; write \\\\ for a backslash, \\xHH for a byte",
					 at < end && isprint((unsigned char)*at) ? at : "");
		*place++ = c;
	}
	*ret_length = (uint32_t)(place - room);
	return 0;
}

/* The end of the quoted text at the cursor, at its closing quote, or NULL. */
static const char *quoted_end(const char *at)
{
	char quote = *at++;

	while (*at && *at != quote)
		at += *at == '\\' && at[1] ? 2 : 1;
	return *at ? at : NULL;
}

static bool take_quoted(struct parser *p, const char **ret_text, uint32_t *ret_length)
{
	const char *end = quoted_end(p->at);
	char *place = p->syntax->arena + p->arena_used;
	struct fault fault;

	if (!end)
		return fail(p, -EINVAL, p->at, "the text that begins here is never closed");
	if (rule_unescape(p->at + 1, (size_t)(end - p->at - 1), place, ret_length, &fault) < 0)
		return fail(p, -EINVAL, p->at, "in the text that begins here, %s", fault.text);
	*ret_text = place;
	p->arena_used += *ret_length;
	p->at = end + 1;
	return true;
}

/* --- fields --- */

static bool take_name(struct parser *p, struct rule_step *ret)
{
	const char *begin = p->at;
	size_t length;

	*ret = (struct rule_step){ .at = (uint32_t)(p->at - p->text) };
	if (*p->at == '"' || *p->at == '\'') {
		if (!take_quoted(p, &ret->text, &ret->length))
			return false;
		if (ret->length == 0)
			return fail(p, -EINVAL, begin, "a %s has at least one character", p->syntax->options.noun);
		return true;
	}
	length = name_length(p->at);
	if (length == 0 || *p->at == '-')
		return expected_field(p);
	ret->text = store(p, p->at, length);
	ret->length = (uint32_t)length;
	p->at += length;
	return true;
}

/* What is in brackets, behind the '['. */
static bool take_argument(struct parser *p, struct rule_step *ret)
{
	*ret = (struct rule_step){ .at = (uint32_t)(p->at - p->text), .bracket = true };
	if (*p->at == '"' || *p->at == '\'') {
		if (!take_quoted(p, &ret->text, &ret->length))
			return false;
	} else {
		size_t length = strcspn(p->at, " \t\r\n[]\"'");

		ret->text = store(p, p->at, length);
		ret->length = (uint32_t)length;
		p->at += length;
	}
	if (ret->length == 0 || *p->at != ']')
		return expected(p, "a number or a name and ']'");
	p->at++;
	return true;
}

static bool take_field(struct parser *p, struct syntax_operand *ret)
{
	struct rule_step step;

	skip_space(p);
	if (at_keyword(p) || at_word(p, "in"))
		return expected_field(p);
	ret->at = (uint32_t)(p->at - p->text);
	ret->steps = p->syntax->n_steps;
	if (!take_name(p, &step) || !add_step(p, &step))
		return false;
	while (*p->at == '.' || *p->at == '[') {
		if (*p->at++ == '.' ? !take_name(p, &step) : !take_argument(p, &step))
			return false;
		if (!add_step(p, &step))
			return false;
	}
	ret->n_steps = p->syntax->n_steps - ret->steps;
	ret->length = (uint32_t)(p->at - p->text) - ret->at;
	return true;
}

/* A transformer's name with its parenthesis, or -1. */
static int take_transform(struct parser *p)
{
	skip_space(p);
	for (int i = 0; i < (int)ARRAY_SIZE(transforms); i++) {
		const char *before = p->at;

		if (take_word(p, transforms[i]) && take_sign(p, "("))
			return i;
		p->at = before;
	}
	return -1;
}

static bool take_close(struct parser *p)
{
	return take_sign(p, ")") || expected(p, "')' behind the field");
}

static bool take_operand(struct parser *p, struct syntax_operand *ret)
{
	uint8_t outer[SYNTAX_TRANSFORMS_MAX];
	unsigned n = 0;
	int transform;

	*ret = (struct syntax_operand){ 0 };
	while ((transform = take_transform(p)) >= 0) {
		if (n == SYNTAX_TRANSFORMS_MAX)
			return fail(p, -E2BIG, p->at, "more than %u transformers in one another",
				    SYNTAX_TRANSFORMS_MAX);
		outer[n++] = (uint8_t)transform;
	}
	if (!take_field(p, ret))
		return false;
	ret->n_transforms = (uint8_t)n;
	for (unsigned i = 0; i < n; i++) {
		ret->transforms[i] = outer[n - 1 - i];
		if (!take_close(p))
			return false;
	}
	return true;
}

/* val(FIELD) or a transformer on the right; leaves the operand empty where there is neither. */
static bool take_right(struct parser *p, struct syntax_operand *ret)
{
	const char *before = p->at;

	*ret = (struct syntax_operand){ 0 };
	if (take_transform(p) >= 0) {
		p->at = before;
		return take_operand(p, ret);
	}
	if (take_word(p, "val") && take_sign(p, "("))
		return take_operand(p, ret) && take_close(p);
	p->at = before;
	return true;
}

/* --- values --- */

/* `<` and `>` alone are values: evt.dir = < */
static bool at_direction(const struct parser *p)
{
	return (*p->at == '<' || *p->at == '>') && (!p->at[1] || strchr(" \t\r\n),", p->at[1]));
}

static bool take_value(struct parser *p, const char *what)
{
	struct syntax_word word = { 0 };
	size_t length;

	skip_space(p);
	word.at = (uint32_t)(p->at - p->text);
	if (*p->at == '"' || *p->at == '\'') {
		word.quoted = true;
		return take_quoted(p, &word.text, &word.length) && add_word(p, &word);
	}
	length = bare_length(p->at);
	if (length == 0 || (strchr("=<>!", *p->at) && !at_direction(p)) || at_keyword(p))
		return expected(p, what);
	word.text = store(p, p->at, length);
	word.length = (uint32_t)length;
	p->at += length;
	return add_word(p, &word);
}

/* The values of a list, behind its '('. */
static bool take_values(struct parser *p)
{
	if (take_sign(p, ")"))
		return true;
	do {
		if (!take_value(p, "a value"))
			return false;
	} while (take_sign(p, ","));
	return take_sign(p, ")") || expected(p, "',' or ')'");
}

static bool take_list(struct parser *p, const char *behind)
{
	char what[64];

	snprintf(what, sizeof what, "'(' and values after '%s'", behind);
	return take_sign(p, "(") ? take_values(p) : expected(p, what);
}

/* --- tests --- */

static bool take_operator(struct parser *p, enum rule_operator *ret)
{
	const char *names[ARRAY_SIZE(words)], *near;
	char word[32];

	for (size_t i = 0; i < ARRAY_SIZE(signs); i++)
		if (take_sign(p, signs[i].text)) {
			*ret = signs[i].op;
			return true;
		}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		names[i] = words[i].text;
		if (take_word(p, words[i].text)) {
			*ret = words[i].op;
			return true;
		}
	}
	snprintf(word, sizeof word, "%.*s", (int)MIN_OF(name_length(p->at), sizeof word - 1), p->at);
	near = *word ? nearest_name(word, names, ARRAY_SIZE(names)) : NULL;
	if (near)
		return fail(p, -EINVAL, p->at, "expected an operator, found '%s'; did you mean '%s'?", word, near);
	return expected(p,
			"an operator (= != < <= > >= contains icontains bcontains startswith bstartswith endswith glob "
			"iglob regex in intersects pmatch exists)");
}

static enum rule_quantifier take_quantifier(struct parser *p)
{
	for (int i = ANY_OF; i <= ONE_OF; i++) {
		const char *before = p->at;

		if (take_word(p, quantifiers[i])) {
			skip_space(p);
			if (*p->at == '(')
				return (enum rule_quantifier)i;
		}
		p->at = before;
	}
	return OF_ONE;
}

/* What is behind a comparison. */
static bool take_compared(struct parser *p, struct syntax_test *test)
{
	char what[64];

	if (!take_right(p, &test->right))
		return false;
	if (test->right.n_steps)
		return true;
	test->quantifier = take_quantifier(p);
	if (test->quantifier != OF_ONE)
		return take_list(p, quantifiers[test->quantifier]);
	snprintf(what, sizeof what, "a value after '%.*s'",
		 (int)MIN_OF((size_t)(p->at - (p->text + test->operator_at)), (size_t)16), p->text + test->operator_at);
	return take_value(p, what);
}

/* What is behind `in`, `intersects` and `pmatch`. */
static bool take_listed(struct parser *p, struct syntax_test *test)
{
	if (!take_right(p, &test->right))
		return false;
	if (test->right.n_steps)
		return true;
	skip_space(p);
	if (p->syntax->options.macros && isalpha((unsigned char)*p->at) && !at_keyword(p)) {
		test->named = true;
		return take_value(p, "a list");
	}
	return take_list(p, rule_operator_text(test->op));
}

static uint32_t parse_test(struct parser *p, const struct syntax_operand *left)
{
	struct syntax *s = p->syntax;
	struct syntax_test test = { .left = *left, .words = s->n_words, .at = left->at };
	bool whole = true;

	skip_space(p);
	test.operator_at = (uint32_t)(p->at - p->text);
	if (!take_operator(p, &test.op))
		return NO_NODE;
	if (rule_operator_takes_list(test.op))
		whole = take_listed(p, &test);
	else if (test.op != OP_EXISTS)
		whole = take_compared(p, &test);
	test.n_words = s->n_words - test.words;
	if (!whole || !make_room(p, &s->tests, &s->tests_room, s->n_tests, sizeof *s->tests))
		return NO_NODE;
	s->tests[s->n_tests] = test;
	return add_node(p, SYNTAX_TEST, s->n_tests++, NO_NODE);
}

/* Whether what was read as a field is a macro: a plain name with nothing that compares it. */
static bool is_macro(struct parser *p, const struct syntax_operand *operand)
{
	const struct rule_step *step = &p->syntax->steps[operand->steps];

	if (!p->syntax->options.macros || operand->n_steps != 1 || operand->n_transforms ||
	    p->text[operand->at] != step->text[0])
		return false;
	skip_space(p);
	if (!*p->at || *p->at == ')' || at_word(p, "and") || at_word(p, "or"))
		return true;
	return false;
}

static uint32_t parse_macro(struct parser *p, const struct syntax_operand *operand)
{
	const struct rule_step *step = &p->syntax->steps[operand->steps];
	struct syntax_word word = { step->text, step->length, step->at, false };

	return add_word(p, &word) ? add_node(p, SYNTAX_MACRO, p->syntax->n_words - 1, NO_NODE) : NO_NODE;
}

static uint32_t parse_check(struct parser *p)
{
	struct syntax_operand operand;

	if (!take_operand(p, &operand))
		return NO_NODE;
	return is_macro(p, &operand) ? parse_macro(p, &operand) : parse_test(p, &operand);
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
		expected(p, "'and', 'or' or ')'");
	else
		fail(p, -EINVAL, open, "the '(' here is never closed");
	return NO_NODE;
}

static uint32_t parse_not(struct parser *p)
{
	uint32_t node;

	skip_space(p);
	if (p->depth > SYNTAX_NESTING_MAX) {
		fail(p, -E2BIG, p->at, "nested deeper than %u levels", SYNTAX_NESTING_MAX);
		return NO_NODE;
	}
	p->depth++;
	if (take_word(p, "not")) {
		node = parse_not(p);
		if (node != NO_NODE)
			node = add_node(p, SYNTAX_NOT, node, NO_NODE);
	} else if (take_sign(p, "(")) {
		node = parse_group(p, p->at - 1);
	} else {
		node = parse_check(p);
	}
	p->depth--;
	return node;
}

static uint32_t parse_and(struct parser *p)
{
	uint32_t left = parse_not(p);

	while (left != NO_NODE && take_word(p, "and")) {
		uint32_t right = parse_not(p);

		left = right == NO_NODE ? NO_NODE : add_node(p, SYNTAX_AND, left, right);
	}
	return left;
}

static uint32_t parse_or(struct parser *p)
{
	uint32_t left = parse_and(p);

	while (left != NO_NODE && take_word(p, "or")) {
		uint32_t right = parse_and(p);

		left = right == NO_NODE ? NO_NODE : add_node(p, SYNTAX_OR, left, right);
	}
	return left;
}

/* --- the whole --- */

void syntax_free(struct syntax *syntax)
{
	if (!syntax)
		return;
	free(syntax->nodes);
	free(syntax->tests);
	free(syntax->words);
	free(syntax->steps);
	free(syntax->text);
	free(syntax->arena);
	free(syntax->compiled);
	free(syntax);
}

static void destroy(struct syntax **syntax)
{
	syntax_free(*syntax);
}

/* A syntax with room for the text, and a parser at its begin. The text ends at its first NUL. */
static int begin(struct parser *p, struct syntax **ret, const char *text, size_t size,
		 const struct syntax_options *options, struct fault *fault)
{
	size_t length = strnlen(text, size);

	if (length > options->size_max)
		return fault_set(fault, -E2BIG, "longer than %zu bytes", options->size_max);
	*ret = calloc(1, sizeof **ret);
	if (*ret) {
		(*ret)->text = malloc(length + 1);
		(*ret)->arena = malloc(length + 1);
	}
	if (!*ret || !(*ret)->text || !(*ret)->arena)
		return fault_set(fault, -ENOMEM, "out of memory");
	memcpy((*ret)->text, text, length);
	(*ret)->text[length] = '\0';
	(*ret)->options = *options;
	(*ret)->n_nodes = 1;
	*p = (struct parser){ .syntax = *ret, .text = (*ret)->text, .at = (*ret)->text, .fault = fault };
	return 0;
}

int syntax_parse(struct syntax **ret, const char *text, size_t size, const struct syntax_options *options,
		 struct fault *fault)
{
	_cleanup_(destroy) struct syntax *syntax = NULL;
	struct parser p;
	int r = begin(&p, &syntax, text, size, options, fault);

	if (r < 0)
		return r;
	syntax->root = parse_or(&p);
	skip_space(&p);
	if (syntax->root != NO_NODE && *p.at)
		expected(&p, "'and', 'or' or the end");
	if (p.error)
		return p.error;
	*ret = syntax;
	syntax = NULL;
	return 0;
}

int syntax_parse_operand(struct syntax **ret, const char *text, size_t size, const struct syntax_options *options,
			 size_t *ret_used, struct fault *fault)
{
	_cleanup_(destroy) struct syntax *syntax = NULL;
	struct parser p;
	int r = begin(&p, &syntax, text, size, options, fault);

	if (r < 0)
		return r;
	if (!make_room(&p, &syntax->tests, &syntax->tests_room, 0, sizeof *syntax->tests) ||
	    !take_operand(&p, &syntax->tests[0].left))
		return p.error;
	syntax->n_tests = 1;
	*ret_used = (size_t)(p.at - p.text);
	*ret = syntax;
	syntax = NULL;
	return 0;
}

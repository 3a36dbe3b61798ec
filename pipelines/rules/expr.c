/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records as a source of values. A record is walked at most once, and only as far as the tests need: every top-level key that the expression names
 * has a slot, and the walk that looks for one key fills the slots of the others on its way.
 */
#include "rules/expr.h"

#include "encode/record.h"
#include "rules/program.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define EXPR_TEXT_MAX 4096u
/* The shortest test is `a=1 or `: more keys do not fit the text. */
#define EXPR_KEYS_MAX 1024u

struct expr {
	struct program *program;
	struct condition condition;
};

/* The walk over one record's top-level keys. */
struct record {
	struct rule_event event;
	const struct program *program;
	const uint8_t *at, *end;
	uint32_t left; /* pairs not walked yet */
	bool damaged;
	const uint8_t *found[EXPR_KEYS_MAX]; /* the value of each slot's key, or NULL */
};

/* --- finding values --- */

/* Behind the value at `at`; the formats that records are made of are decided here, by their first byte. */
static inline const uint8_t *skip(const uint8_t *at, const uint8_t *end)
{
	size_t size;

	if (at >= end)
		return NULL;
	if (*at < 0x80 || *at >= 0xe0)
		size = 1;
	else if (*at >= 0xa0 && *at < 0xc0)
		size = 1 + (*at & 0x1f);
	else if (*at >= 0xcc && *at <= 0xcf)
		size = 1 + (1u << (*at - 0xcc));
	else if (*at == 0xd9 && end - at >= 2)
		size = 2 + (size_t)at[1];
	else
		return value_skip(at, end);
	return size <= (size_t)(end - at) ? at + size : NULL;
}

/* The text at `at` as a key; returns what is behind it, or NULL when the bytes end. Another kind of key has no name:
 * *ret_name is NULL. */
static inline const uint8_t *read_name(const uint8_t *at, const uint8_t *end, const uint8_t **ret_name,
				       uint32_t *ret_length)
{
	struct value key;

	if (at < end && (*at & 0xe0) == 0xa0) {
		*ret_name = at + 1;
		*ret_length = *at & 0x1f;
		return *ret_length < (size_t)(end - at) ? at + 1 + *ret_length : NULL;
	}
	*ret_name = NULL;
	if (value_read(at, end, &key) < 0)
		return NULL;
	if (key.kind == VALUE_STR) {
		*ret_name = key.body;
		*ret_length = key.length;
	}
	return key.next ? key.next : value_skip(at, end);
}

static inline bool same_name(const struct rule_step *wanted, const uint8_t *name, uint32_t length)
{
	return wanted->length == length && wanted->text[0] == (char)name[0] && memcmp(wanted->text, name, length) == 0;
}

/* The value of the top-level key of slot `slot`, or NULL; `damaged` is set when the record ends too early. */
static const uint8_t *find_slot(struct record *record, uint32_t slot)
{
	const struct program *program = record->program;
	const uint8_t *name, *value;
	uint32_t length = 0;

	while (!record->found[slot] && record->left) {
		value = read_name(record->at, record->end, &name, &length);
		record->at = value ? skip(value, record->end) : NULL;
		if (!record->at) {
			record->damaged = true;
			record->left = 0;
			return NULL;
		}
		record->left--;
		if (!name || !length)
			continue;
		for (uint32_t i = 0; i < program->n_refs; i++)
			if (same_name(program->refs[i].steps, name, length) && !record->found[i])
				record->found[i] = value;
	}
	return record->found[slot];
}

/* One step down: a map's value by name, an array's element by number. */
static const uint8_t *descend(const uint8_t *at, const uint8_t *end, const struct rule_step *step)
{
	const uint8_t *name;
	struct value v;
	uint32_t length = 0;

	if (value_read(at, end, &v) < 0)
		return NULL;
	at = v.body;
	if (!step->bracket && v.kind == VALUE_MAP) {
		for (uint32_t i = 0; i < v.count && at; i++) {
			at = read_name(at, end, &name, &length);
			if (at && name && length && same_name(step, name, length))
				return at;
			at = at ? skip(at, end) : NULL;
		}
	} else if (step->bracket && v.kind == VALUE_ARRAY) {
		uint64_t index = strtoull(step->text, NULL, 10);

		if (index >= v.count)
			return NULL;
		for (uint64_t i = 0; i < index && at; i++)
			at = skip(at, end);
		return at;
	}
	return NULL;
}

/* --- values --- */

static void give_scalar(const struct value *v, struct rule_value *ret)
{
	switch (v->kind) {
	case VALUE_STR:
	case VALUE_BIN:
		ret->kind = RULE_TEXT;
		ret->text = (const char *)v->body;
		ret->length = v->length;
		return;
	case VALUE_BOOL:
		ret->kind = RULE_TRUTH;
		ret->truth = v->truth;
		return;
	case VALUE_UINT:
	case VALUE_INT:
		ret->kind = RULE_NUMBER;
		ret->number = v->kind == VALUE_UINT ? (__int128)v->u : (__int128)v->i;
		return;
	case VALUE_FLOAT:
		ret->kind = RULE_FRACTION;
		ret->fraction = v->f;
		return;
	default:
		ret->kind = RULE_OTHER;
		return;
	}
}

/* The element at `at`; `left` elements are behind it. */
static bool give_element(struct record *record, const uint8_t *at, uint32_t left, struct rule_value *ret)
{
	struct value v;

	if (!at || value_read(at, record->end, &v) < 0)
		return false;
	give_scalar(&v, ret);
	ret->list = true;
	ret->left = left;
	ret->cursor = at;
	return true;
}

static bool give(struct record *record, const uint8_t *at, struct rule_value *ret)
{
	struct value v;

	if (value_read(at, record->end, &v) < 0 || v.kind == VALUE_NIL)
		return false;
	if (v.kind != VALUE_ARRAY) {
		give_scalar(&v, ret);
		return true;
	}
	ret->count = v.count;
	ret->list = true;
	ret->left = 0;
	if (v.count == 0 || !give_element(record, v.body, v.count - 1, ret))
		ret->kind = RULE_OTHER;
	return true;
}

static bool first_of(struct rule_event *event, const struct rule_ref *ref, struct rule_value *ret)
{
	struct record *record = (struct record *)event;
	const uint8_t *at = find_slot(record, ref->slot);

	for (uint32_t i = 1; i < ref->n_steps && at; i++)
		at = descend(at, record->end, &ref->steps[i]);
	return at && give(record, at, ret);
}

static bool next_of(struct rule_event *event, const struct rule_ref *ref, struct rule_value *value)
{
	struct record *record = (struct record *)event;

	if (value->left == 0)
		return false;
	return give_element(record, skip(value->cursor, record->end), value->left - 1, value);
}

/* --- compiling --- */

static int check_index(const struct syntax *s, const struct rule_step *step, struct fault *fault)
{
	uint64_t index = 0;

	for (uint32_t i = 0; i < step->length; i++) {
		index = index * 10 + (uint64_t)(step->text[i] - '0');
		if (!isdigit((unsigned char)step->text[i]) || index > UINT32_MAX)
			return syntax_fault(s, fault, -EINVAL, step->at, "expected a number and ']', found '%.*s'",
					    (int)MIN_OF(step->length, 40u), step->text);
	}
	return 0;
}

/* The steps outlive the syntax: a copy, each text with a NUL behind it. */
static int keep_steps(struct program *program, const struct rule_step *from, uint32_t n, struct rule_ref *ret)
{
	struct rule_step *steps = program_take(program, n * sizeof *steps);

	if (!steps)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		steps[i] = from[i];
		steps[i].text = program_keep(program, from[i].text, from[i].length);
		if (!steps[i].text)
			return -ENOMEM;
	}
	ret->steps = steps;
	ret->n_steps = n;
	return 0;
}

static int resolve(void *context, struct program *program, const struct syntax *syntax,
		   const struct syntax_operand *operand, struct rule_ref *ret, struct fault *fault)
{
	const struct rule_step *steps = &syntax->steps[operand->steps];

	for (uint32_t i = 0; i < operand->n_steps; i++)
		if (steps[i].bracket && check_index(syntax, &steps[i], fault) < 0)
			return -EINVAL;
	ret->name = program_keep(program, syntax->text + operand->at, operand->length);
	if (!ret->name || keep_steps(program, steps, operand->n_steps, ret) < 0)
		return fault_set(fault, -ENOMEM, "out of memory");
	return 0;
}

static int compile(struct expr *expr, const char *text, struct fault *fault)
{
	const struct syntax_options options = { .size_max = EXPR_TEXT_MAX, .noun = "key" };
	const struct program_scope scope = { .resolve = resolve };
	struct syntax *syntax;
	int r = syntax_parse(&syntax, text, strnlen(text, EXPR_TEXT_MAX + 1), &options, fault);

	if (r < 0)
		return r;
	r = program_add(expr->program, syntax, &scope, &expr->condition, fault);
	syntax_free(syntax);
	return r;
}

int expr_compile(struct expr **ret, const char *text, struct fault *fault)
{
	struct expr *expr = calloc(1, sizeof *expr);
	int r;

	if (!expr || program_new(&expr->program) < 0) {
		free(expr);
		return fault_set(fault, -ENOMEM, "out of memory");
	}
	r = compile(expr, text, fault);
	if (r < 0) {
		expr_free(expr);
		return r;
	}
	*ret = expr;
	return 0;
}

void expr_free(struct expr *expr)
{
	if (!expr)
		return;
	program_free(expr->program);
	free(expr);
}

bool expr_match(const struct expr *expr, const void *map, size_t size)
{
	struct value value;
	struct record record;

	record.end = (const uint8_t *)map + size;
	if (value_read(map, record.end, &value) < 0 || value.kind != VALUE_MAP)
		return false;
	record.event = (struct rule_event){ first_of, next_of };
	record.program = expr->program;
	record.at = value.body;
	record.left = value.count;
	record.damaged = false;
	for (uint32_t i = 0; i < expr->program->n_refs; i++)
		record.found[i] = NULL;
	return program_holds(expr->program, &expr->condition, &record.event) && !record.damaged;
}

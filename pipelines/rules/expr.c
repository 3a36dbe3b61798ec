/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expressions, evaluated. An expression is a row of tests, each of which knows the test that follows when it holds and
 * the one that follows when it does not: `and`, `or` and `not` are nothing but those two numbers, and evaluation is a
 * walk without a stack.
 *
 * The record is walked at most once, and only as far as the tests need: every top-level key that the expression names
 * has a slot, and the walk that looks for one key fills the slots of the others on its way.
 *
 * Invariants: a test leads only to later tests, or to the end, so a walk ends; nothing is allocated and nothing of the
 * expression is written after compilation, so any number of threads may share it.
 */
#include "rules/expr_program.h"

#include "encode/record.h"

#include <errno.h>
#include <string.h>

enum order { LESS = -1, SAME = 0, MORE = 1, UNORDERED = 2 };

/* The walk over one record's top-level keys. */
struct scan {
	const uint8_t *at, *end;
	uint32_t left; /* pairs not walked yet */
	bool damaged;
	const uint8_t *found[EXPR_KEYS_MAX]; /* the value of each slot, or NULL */
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

static inline bool same_name(const struct name *wanted, const uint8_t *name, uint32_t length)
{
	return wanted->length == length && wanted->text[0] == (char)name[0] && memcmp(wanted->text, name, length) == 0;
}

/* The value of the key in `slot`, or NULL; `damaged` is set when the record ends too early. */
static const uint8_t *find_slot(const struct expr *expr, struct scan *scan, uint32_t slot)
{
	const uint8_t *name, *value;
	uint32_t length = 0;

	while (!scan->found[slot] && scan->left) {
		value = read_name(scan->at, scan->end, &name, &length);
		scan->at = value ? skip(value, scan->end) : NULL;
		if (!scan->at) {
			scan->damaged = true;
			scan->left = 0;
			return NULL;
		}
		scan->left--;
		if (!name || !length)
			continue;
		for (uint32_t i = 0; i < expr->n_keys; i++)
			if (same_name(&expr->keys[i], name, length) && !scan->found[i])
				scan->found[i] = value;
	}
	return scan->found[slot];
}

/* One step down: a map's value by name, an array's element by number. */
static const uint8_t *descend(const uint8_t *at, const uint8_t *end, const struct step *step)
{
	const uint8_t *name;
	struct value v;
	uint32_t length = 0;

	if (value_read(at, end, &v) < 0)
		return NULL;
	at = v.body;
	if (step->name.text && v.kind == VALUE_MAP) {
		for (uint32_t i = 0; i < v.count && at; i++) {
			at = read_name(at, end, &name, &length);
			if (at && name && length && same_name(&step->name, name, length))
				return at;
			at = at ? skip(at, end) : NULL;
		}
	} else if (!step->name.text && v.kind == VALUE_ARRAY && step->index < v.count) {
		for (uint32_t i = 0; i < step->index && at; i++)
			at = skip(at, end);
		return at;
	}
	return NULL;
}

/* --- comparing --- */

static bool is_number(const struct value *v)
{
	return v->kind == VALUE_UINT || v->kind == VALUE_INT || v->kind == VALUE_FLOAT;
}

#define ORDER(a, b) ((a) < (b) ? LESS : (a) > (b) ? MORE : (a) == (b) ? SAME : UNORDERED)

/* Exact: whole numbers as 128 bits; where one has a fraction, as long double, which holds 64 bits on every machine we
 * run on. */
static enum order order_numbers(const struct value *v, const struct literal *l)
{
	__int128 whole = v->kind == VALUE_UINT ? (__int128)v->u : (__int128)v->i;
	long double fraction;

	if (v->kind != VALUE_FLOAT && l->kind == LITERAL_WHOLE)
		return ORDER(whole, l->whole);
	fraction = l->kind == LITERAL_WHOLE ? (long double)l->whole : (long double)l->fraction;
	return v->kind == VALUE_FLOAT ? ORDER((long double)v->f, fraction) : ORDER((long double)whole, fraction);
}

/* A value as text: its own bytes, or a scalar's notation in `room` (of 40 bytes). */
static size_t text_of(const struct value *v, char *room, const char **ret_text)
{
	*ret_text = room;
	switch (v->kind) {
	case VALUE_STR:
	case VALUE_BIN:
		*ret_text = (const char *)v->body;
		return v->length;
	case VALUE_BOOL:
		*ret_text = v->truth ? "true" : "false";
		return v->truth ? 4 : 5;
	case VALUE_UINT:
		return (size_t)snprintf(room, 40, "%llu", (unsigned long long)v->u);
	case VALUE_INT:
		return (size_t)snprintf(room, 40, "%lld", (long long)v->i);
	case VALUE_FLOAT:
		return (size_t)snprintf(room, 40, "%.17g", v->f);
	default:
		return 0;
	}
}

static enum order order_of(const struct value *v, const struct literal *l)
{
	char room[40];
	const char *text;
	size_t length;
	int r;

	if (is_number(v) && (l->kind == LITERAL_WHOLE || l->kind == LITERAL_FRACTION))
		return order_numbers(v, l);
	length = text_of(v, room, &text);
	r = memcmp(text, l->text, MIN_OF(length, (size_t)l->length));
	return r ? ORDER(r, 0) : ORDER(length, (size_t)l->length);
}

static bool text_holds(enum operator op, const struct value *v, const struct literal *l)
{
	char room[40];
	const char *text;
	size_t length = text_of(v, room, &text);

	if (length < l->length)
		return false;
	if (op == OP_STARTSWITH)
		return memcmp(text, l->text, l->length) == 0;
	if (op == OP_ENDSWITH)
		return memcmp(text + length - l->length, l->text, l->length) == 0;
	return memmem(text, length, l->text, l->length);
}

static bool is_one_of(const struct value *v, const struct literal *l, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (order_of(v, &l[i]) == SAME)
			return true;
	return false;
}

static bool scalar_holds(const struct expr *expr, const struct test *test, const struct value *v)
{
	const struct literal *l = &expr->literals[test->literals];
	enum order order;

	if (test->op == OP_IN)
		return is_one_of(v, l, test->n_literals);
	if (test->op >= OP_CONTAINS)
		return text_holds(test->op, v, l);
	order = order_of(v, l);
	switch (test->op) {
	case OP_EQUAL:
		return order == SAME;
	case OP_UNEQUAL:
		return order != SAME;
	case OP_LESS:
		return order == LESS;
	case OP_LESS_EQUAL:
		return order == LESS || order == SAME;
	case OP_MORE:
		return order == MORE;
	default:
		return order == MORE || order == SAME;
	}
}

/* Nil is as absent. A map as a whole equals nothing; an array holds what one of its elements holds. */
static bool value_holds(const struct expr *expr, const struct test *test, const uint8_t *at, const uint8_t *end)
{
	struct value v, element;

	if (value_read(at, end, &v) < 0 || v.kind == VALUE_NIL)
		return false;
	if (test->op == OP_EXISTS)
		return true;
	if (v.kind < VALUE_ARRAY)
		return scalar_holds(expr, test, &v);
	if (v.kind == VALUE_MAP)
		return false;
	at = v.body;
	for (uint32_t i = 0; i < v.count && at; i++) {
		if (value_read(at, end, &element) < 0)
			return false;
		if (element.kind < VALUE_ARRAY && element.kind != VALUE_NIL && scalar_holds(expr, test, &element))
			return true;
		at = skip(at, end);
	}
	return false;
}

static bool test_holds(const struct expr *expr, const struct test *test, struct scan *scan)
{
	const uint8_t *at = find_slot(expr, scan, test->key);

	for (uint32_t i = 0; i < test->n_steps && at; i++)
		at = descend(at, scan->end, &expr->steps[test->steps + i]);
	return at && value_holds(expr, test, at, scan->end);
}

bool expr_match(const struct expr *expr, const void *map, size_t size)
{
	struct value record;
	struct scan scan;
	uint32_t next = expr->entry;

	scan.end = (const uint8_t *)map + size;
	if (value_read(map, scan.end, &record) < 0 || record.kind != VALUE_MAP)
		return false;
	scan.at = record.body;
	scan.left = record.count;
	scan.damaged = false;
	for (uint32_t i = 0; i < expr->n_keys; i++)
		scan.found[i] = NULL;
	while (next < EXPR_FAILS) {
		const struct test *test = &expr->tests[next];

		next = test_holds(expr, test, &scan) ? test->if_true : test->if_false;
		if (scan.damaged)
			return false;
	}
	return next == EXPR_HOLDS;
}

void expr_free(struct expr *expr)
{
	if (!expr)
		return;
	free(expr->tests);
	free(expr->literals);
	free(expr->steps);
	free(expr->keys);
	free(expr->arena);
	free(expr);
}

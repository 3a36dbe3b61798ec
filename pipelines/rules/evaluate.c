/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conditions, evaluated: tests over the values of one event. A field without a value makes every test on it false, `!=` as well.
 *
 * Of several values, what a test says of all of them depends on the field (enum rule_many). On the right of a test there are constants, of which
 * `in` and the quantifiers take many, or another operand.
 */
#include "rules/glob.h"
#include "rules/literal.h"
#include "rules/regex.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

enum order { LESS = -1, SAME = 0, MORE = 1, UNORDERED = 2 };

#define ORDER(a, b) ((a) < (b) ? LESS : (a) > (b) ? MORE : (a) == (b) ? SAME : UNORDERED)

/* --- values as text --- */

static size_t whole_text(__int128 number, char room[64])
{
	bool negative = number < 0;
	unsigned __int128 left = negative ? -(unsigned __int128)number : (unsigned __int128)number;
	char *at = room + 63;
	size_t length;

	do {
		*--at = (char)('0' + (int)(left % 10));
		left /= 10;
	} while (left);
	if (negative)
		*--at = '-';
	length = (size_t)(room + 63 - at);
	memmove(room, at, length);
	return length;
}

static size_t address_text(const uint8_t *address, char room[64])
{
	bool four = memcmp(address, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0;

	inet_ntop(four ? AF_INET : AF_INET6, four ? address + 12 : address, room, 64);
	return strlen(room);
}

size_t rule_value_text(const struct rule_value *v, char room[64], const char **ret_text)
{
	*ret_text = room;
	switch (v->kind) {
	case RULE_TEXT:
		*ret_text = v->text;
		return v->length;
	case RULE_TRUTH:
		*ret_text = v->truth ? "true" : "false";
		return v->truth ? 4 : 5;
	case RULE_NUMBER:
		return whole_text(v->number, room);
	case RULE_FRACTION:
		return (size_t)snprintf(room, 64, "%.17g", v->fraction);
	case RULE_ADDRESS:
		return address_text(v->address, room);
	default:
		return 0;
	}
}

/* --- one value against one constant --- */

/* Exact: whole numbers as 128 bits; where one has a fraction, as long double, which holds 64 bits on every machine we run on. */
static enum order order_numbers(const struct rule_value *v, const struct literal *l)
{
	long double fraction;

	if (v->kind == RULE_NUMBER && l->kind == LITERAL_WHOLE)
		return ORDER(v->number, l->whole);
	fraction = l->kind == LITERAL_WHOLE ? (long double)l->whole : (long double)l->fraction;
	return v->kind == RULE_FRACTION ? ORDER((long double)v->fraction, fraction)
					: ORDER((long double)v->number, fraction);
}

static enum order order_texts(const char *a, size_t a_length, const char *b, size_t b_length)
{
	int r = memcmp(a, b, MIN_OF(a_length, b_length));

	return r ? ORDER(r, 0) : ORDER(a_length, b_length);
}

/* An address in a network is the same; others have no order. */
static enum order order_network(const struct rule_value *v, const struct literal *l)
{
	uint8_t address[16];
	unsigned whole = l->network.bits / 8, rest = l->network.bits % 8;
	uint8_t mask = (uint8_t)(0xff00 >> rest);
	bool four;

	if (v->kind == RULE_ADDRESS)
		memcpy(address, v->address, sizeof address);
	else if (v->kind != RULE_TEXT || !address_read(v->text, v->length, address, &four))
		return UNORDERED;
	if (memcmp(address, l->network.address, whole) != 0)
		return UNORDERED;
	return rest && ((address[whole] ^ l->network.address[whole]) & mask) ? UNORDERED : SAME;
}

static enum order order_of(const struct rule_value *v, const struct literal *l)
{
	char room[64];
	const char *text;
	size_t length;

	if (l->kind == LITERAL_NETWORK)
		return order_network(v, l);
	if ((v->kind == RULE_NUMBER || v->kind == RULE_FRACTION) && l->kind != LITERAL_TEXT)
		return order_numbers(v, l);
	length = rule_value_text(v, room, &text);
	return order_texts(text, length, l->text, l->length);
}

static bool order_is(enum rule_operator op, enum order order)
{
	switch (op) {
	case OP_EQUAL:
	case OP_IN:
	case OP_INTERSECTS:
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

static bool contains_folded(const char *text, size_t length, const char *part, size_t part_length)
{
	if (part_length > length)
		return false;
	if (part_length == 0)
		return true;
	for (size_t i = 0; i <= length - part_length; i++) {
		size_t n = 0;

		while (n < part_length && tolower((unsigned char)text[i + n]) == tolower((unsigned char)part[n]))
			n++;
		if (n == part_length)
			return true;
	}
	return false;
}

/* A path below `prefix`, or the path itself. */
static bool path_below(const char *path, size_t length, const char *prefix, size_t prefix_length)
{
	while (prefix_length > 0 && prefix[prefix_length - 1] == '/')
		prefix_length--;
	if (length < prefix_length || memcmp(path, prefix, prefix_length) != 0)
		return false;
	return length == prefix_length ? prefix_length > 0 : path[prefix_length] == '/';
}

/* The same where parts of the prefix are patterns: `*` stays within its part. */
static bool path_below_pattern(const char *path, size_t length, const char *pattern, size_t pattern_length)
{
	const char *p = pattern, *p_end = pattern + pattern_length, *t = path, *t_end = path + length;

	for (;;) {
		const char *p_slash = memchr(p, '/', (size_t)(p_end - p)),
			   *t_slash = memchr(t, '/', (size_t)(t_end - t));
		const char *p_stop = p_slash ? p_slash : p_end, *t_stop = t_slash ? t_slash : t_end;

		if (!glob_match(p, (size_t)(p_stop - p), t, (size_t)(t_stop - t), false))
			return false;
		if (!p_slash || p_slash + 1 == p_end)
			return true;
		if (!t_slash)
			return false;
		p = p_slash + 1;
		t = t_slash + 1;
	}
}

static bool text_is(enum rule_operator op, const char *text, size_t length, const struct literal *l)
{
	switch (op) {
	case OP_CONTAINS:
	case OP_BCONTAINS:
		return length >= l->length && memmem(text, length, l->text, l->length);
	case OP_ICONTAINS:
		return contains_folded(text, length, l->text, l->length);
	case OP_STARTSWITH:
	case OP_BSTARTSWITH:
		return length >= l->length && memcmp(text, l->text, l->length) == 0;
	case OP_ENDSWITH:
		return length >= l->length && memcmp(text + length - l->length, l->text, l->length) == 0;
	case OP_GLOB:
	case OP_IGLOB:
		return glob_match(l->text, l->length, text, length, op == OP_IGLOB);
	case OP_REGEX:
		return regex_match(l->regex, text, length);
	default:
		return path_below(text, length, l->text, l->length);
	}
}

static bool literal_is(enum rule_operator op, const struct rule_value *v, const struct literal *l)
{
	char room[64];
	const char *text;
	size_t length;

	if (op <= OP_MORE_EQUAL || op == OP_IN || op == OP_INTERSECTS)
		return order_is(op, order_of(v, l));
	length = rule_value_text(v, room, &text);
	return text_is(op, text, length, l);
}

/* --- one value against many constants --- */

static bool set_has(const struct program *program, const struct rule_test *test, const char *text, size_t length,
		    uint64_t hash)
{
	const struct literal_set *set = &program->sets[test->set];

	for (uint32_t i = (uint32_t)hash & set->mask;; i = (i + 1) & set->mask) {
		uint32_t slot = program->slots[set->slots + i];
		const struct literal *l;

		if (!slot)
			return false;
		l = &program->literals[test->literals + slot - 1];
		if (l->length == length && memcmp(l->text, text, length) == 0)
			return true;
	}
}

static bool text_is_one_of(const struct program *program, const struct rule_test *test, const char *text, size_t length)
{
	const struct literal_set *set = &program->sets[test->set];

	return length >= set->shortest && length <= set->longest &&
	       set_has(program, test, text, length, hash_bytes(text, length));
}

static bool number_is_one_of(const struct literal *l, uint32_t n, __int128 number)
{
	uint32_t low = 0, high = n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (l[middle].whole == number)
			return true;
		if (l[middle].whole < number)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* The text of a path is looked up once for each folder above it, by one hash that grows with it. */
static bool path_is_below_one_of(const struct program *program, const struct rule_test *test, const char *path,
				 size_t length)
{
	const struct literal_set *set = &program->sets[test->set];
	uint64_t hash = 0xcbf29ce484222325ull; /* that of hash_bytes(), byte by byte */

	for (size_t i = 0; i <= length && i <= set->longest; i++) {
		bool stop = i == length || path[i] == '/';

		if (stop && i >= set->shortest && (i > 0 || length > 0) && set_has(program, test, path, i, hash))
			return true;
		if (i < length)
			hash = (hash ^ (unsigned char)path[i]) * 0x100000001b3ull;
	}
	return false;
}

static bool path_matches(const struct program *program, const struct rule_test *test, const struct rule_value *v)
{
	const struct literal *l = &program->literals[test->literals];
	char room[64];
	const char *text;
	size_t length = rule_value_text(v, room, &text);

	if (test->set != NO_SET && path_is_below_one_of(program, test, text, length))
		return true;
	for (uint32_t i = test->n_literals - test->n_patterns; i < test->n_literals; i++)
		if (path_below_pattern(text, length, l[i].text, l[i].length))
			return true;
	return false;
}

static bool value_is_one_of(const struct program *program, const struct rule_test *test, const struct rule_value *v)
{
	const struct literal *l = &program->literals[test->literals];

	if (test->set != NO_SET && v->kind == RULE_TEXT)
		return text_is_one_of(program, test, v->text, v->length);
	if (test->sorted && v->kind == RULE_NUMBER)
		return number_is_one_of(l, test->n_literals, v->number);
	for (uint32_t i = 0; i < test->n_literals; i++)
		if (order_of(v, &l[i]) == SAME)
			return true;
	return false;
}

static bool quantified(const struct program *program, const struct rule_test *test, const struct rule_value *v)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < test->n_literals; i++)
		n += literal_is(test->op, v, &program->literals[test->literals + i]);
	return test->quantifier == ANY_OF   ? n > 0
	       : test->quantifier == ALL_OF ? n == test->n_literals && n > 0
					    : n == 1;
}

bool test_holds_for(const struct program *program, const struct rule_test *test, const struct rule_value *v)
{
	if (test->op == OP_EXISTS)
		return v->kind != RULE_ABSENT;
	if (v->kind == RULE_ABSENT || v->kind == RULE_OTHER)
		return false;
	if (test->op == OP_IN || test->op == OP_INTERSECTS)
		return value_is_one_of(program, test, v);
	if (test->op == OP_PMATCH)
		return path_matches(program, test, v);
	if (test->quantifier != OF_ONE)
		return quantified(program, test, v);
	return literal_is(test->op, v, &program->literals[test->literals]);
}

/* --- one value against another operand --- */

/* The value as a constant; `room` holds its text. */
static void as_literal(const struct rule_value *v, struct literal *ret, char room[64])
{
	*ret = (struct literal){ .kind = LITERAL_TEXT };
	ret->length = (uint32_t)rule_value_text(v, room, &ret->text);
	if (v->kind == RULE_NUMBER) {
		ret->kind = LITERAL_WHOLE;
		ret->whole = v->number;
	} else if (v->kind == RULE_FRACTION) {
		ret->kind = LITERAL_FRACTION;
		ret->fraction = v->fraction;
	} else if (v->kind == RULE_ADDRESS) {
		ret->kind = LITERAL_NETWORK;
		ret->network.bits = 128;
		memcpy(ret->network.address, v->address, 16);
	}
}

static bool __attribute__((noinline)) value_holds_right(const struct program *program, const struct rule_test *test,
							struct rule_event *event, const struct rule_value *v)
{
	enum rule_operator op = test->op;
	struct operand_walk walk;
	struct rule_value right;
	struct literal literal;
	char room[64];

	walk.program = program;
	walk.operand = &test->right;
	walk.event = event;
	if (v->kind == RULE_ABSENT || v->kind == RULE_OTHER)
		return false;
	for (bool more = operand_first(&walk, &right); more; more = operand_next(&walk, &right)) {
		if (right.kind == RULE_ABSENT || right.kind == RULE_OTHER)
			continue;
		as_literal(&right, &literal, room);
		if (literal_is(op, v, &literal))
			return true;
	}
	return false;
}

/* --- operands --- */

static bool upper_or_lower(char *room, struct rule_value *v, bool upper)
{
	uint32_t length = MIN_OF(v->length, RULE_ROOM);

	for (uint32_t i = 0; i < length; i++)
		room[i] = (char)(upper ? toupper((unsigned char)v->text[i]) : tolower((unsigned char)v->text[i]));
	v->text = room;
	v->length = length;
	return true;
}

static int base64_digit(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* RFC 4648, padded; what is none has no value. Reads ahead of what it writes, so both may be the same room. */
static bool base64(char *room, struct rule_value *v)
{
	const char *text = v->text;
	uint32_t length = v->length, used = 0, bits = 0, n = 0;

	if (length % 4)
		return false;
	while (length > 0 && length + 2 > v->length && text[length - 1] == '=')
		length--;
	for (uint32_t i = 0; i < length; i++) {
		int digit = base64_digit(text[i]);

		if (digit < 0)
			return false;
		bits = bits << 6 | (uint32_t)digit;
		n += 6;
		if (n < 8)
			continue;
		n -= 8;
		if (used < RULE_ROOM)
			room[used++] = (char)(bits >> n);
	}
	v->text = room;
	v->length = used;
	return true;
}

static void base_name(struct rule_value *v)
{
	const char *slash = memrchr(v->text, '/', v->length);

	if (!slash)
		return;
	v->length -= (uint32_t)(slash + 1 - v->text);
	v->text = slash + 1;
}

/* A number or the like as text, for what works on text. */
static void make_text(char *room, struct rule_value *v)
{
	char small[64];
	const char *text;
	size_t length;

	if (v->kind == RULE_TEXT)
		return;
	length = rule_value_text(v, small, &text);
	memcpy(room, text, length);
	v->kind = RULE_TEXT;
	v->text = room;
	v->length = (uint32_t)length;
}

static void length_of(struct rule_value *v)
{
	uint32_t length = v->list ? v->count : v->length;

	*v = (struct rule_value){ .kind = RULE_NUMBER, .number = length };
}

/* False: the value has nothing of the kind. */
static bool transform(enum rule_transform what, char *room, struct rule_value *v)
{
	if (what == TRANSFORM_LENGTH && v->list) {
		length_of(v);
		return true;
	}
	if (v->kind == RULE_OTHER)
		return false;
	make_text(room, v);
	switch (what) {
	case TRANSFORM_LOWER:
	case TRANSFORM_UPPER:
		return upper_or_lower(room, v, what == TRANSFORM_UPPER);
	case TRANSFORM_BASE64:
		return base64(room, v);
	case TRANSFORM_BASENAME:
		base_name(v);
		return true;
	default:
		length_of(v);
		return true;
	}
}

static bool transformed(struct operand_walk *walk, struct rule_value *v)
{
	const struct operand *operand = walk->operand;

	for (unsigned i = 0; i < operand->n_transforms; i++) {
		/* The length of a list is one value, however many it has. */
		walk->ended |= operand->transforms[i] == TRANSFORM_LENGTH && v->list;
		if (!transform(operand->transforms[i], walk->room, v))
			return false;
	}
	return true;
}

/* The value of the field itself; the walk remembers which field answered. */
static bool field_first(struct operand_walk *walk, struct rule_value *ret)
{
	*ret = (struct rule_value){ 0 };
	if (walk->event->get(walk->event, walk->ref, ret))
		return true;
	return walk->ref->base != RULE_NO_REF && rule_derive(walk, ret);
}

static bool field_next(struct operand_walk *walk, struct rule_value *value)
{
	if (walk->ended)
		return false;
	if (value->list && walk->event->next(walk->event, walk->ref, value))
		return true;
	return rule_derive_next(walk, value);
}

/* Values that their transformers refuse are none. The value as the source gave it stays in `raw`: the source goes on from it. */
static bool walk_on(struct operand_walk *walk, struct rule_value *value)
{
	while (field_next(walk, &walk->raw)) {
		*value = walk->raw;
		if (transformed(walk, value))
			return true;
	}
	return false;
}

bool operand_first(struct operand_walk *walk, struct rule_value *ret)
{
	walk->ref = &walk->program->refs[walk->operand->ref];
	walk->ended = false;
	if (!field_first(walk, &walk->raw))
		return false;
	*ret = walk->raw;
	return transformed(walk, ret) || walk_on(walk, ret);
}

bool operand_next(struct operand_walk *walk, struct rule_value *value)
{
	return walk_on(walk, value);
}

/* --- tests --- */

static bool value_holds(const struct program *program, const struct rule_test *test, struct rule_event *event,
			const struct rule_value *v)
{
	return test->right.ref == RULE_NO_REF ? test_holds_for(program, test, v)
					      : value_holds_right(program, test, event, v);
}

/* Whether one value that does not hold settles it. */
static bool asks_for_all(const struct rule_test *test)
{
	return (test->many == RULE_EITHER && test->op == OP_UNEQUAL) || (test->many == RULE_LIST && test->op == OP_IN);
}

static bool __attribute__((noinline))
walk_holds(const struct program *program, const struct rule_test *test, struct rule_event *event)
{
	struct operand_walk walk;
	const bool all = asks_for_all(test);
	struct rule_value value;
	bool more;

	walk.program = program;
	walk.operand = &test->left;
	walk.event = event;
	more = operand_first(&walk, &value);
	if (!more)
		return false;
	for (; more; more = operand_next(&walk, &value)) {
		bool holds = value_holds(program, test, event, &value);

		if (holds != all || test->many == RULE_ONE)
			return holds;
	}
	return all;
}

/* Most tests are of one value as it is, against constants. */
static inline bool test_holds(const struct program *program, const struct rule_test *test, struct rule_event *event)
{
	const struct rule_ref *ref = &program->refs[test->left.ref];
	struct rule_value value;

	if (test->left.n_transforms || test->right.ref != RULE_NO_REF || ref->base != RULE_NO_REF)
		return walk_holds(program, test, event);
	value.kind = RULE_ABSENT;
	value.list = false;
	if (!event->get(event, ref, &value))
		return false;
	if (value.list && test->many != RULE_ONE)
		return walk_holds(program, test, event);
	return test_holds_for(program, test, &value);
}

bool program_holds(const struct program *program, const struct condition *condition, struct rule_event *event)
{
	uint32_t next = condition->entry;

	while (next < PROGRAM_FAILS) {
		const struct rule_test *test = &program->tests[next];

		next = test_holds(program, test, event) ? test->if_true : test->if_false;
	}
	return next == PROGRAM_HOLDS;
}

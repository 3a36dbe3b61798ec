/* SPDX-License-Identifier: Apache-2.0 */
/*
 * v0 is a small prefix grammar: a path, types and constants, with references back to earlier places of the name. A
 * recursive parser writes as it reads. Sources: RFC 2603 and "The v0 symbol format" in the rustc book; what is shown is
 * what rustc-demangle's short form shows: no hashes, no types of constants.
 *
 * Invariants: `at` never passes `size`; a reference leads only backwards; depth and the number of steps have a bound, so
 * that references cannot make the work exponential. After `failed` or a full output nothing more is read.
 */
#include "stacks/demangle_rust.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MOST     128u
#define STEPS_MOST     8192u
#define PUNYCODE_MOST  128u
#define HASH_LENGTH    16u
#define LIFETIMES_MOST 64u

struct rust {
	const char *name; /* behind "_R": references count from here */
	size_t at, size;
	struct demangled *out;
	unsigned depth, steps;
	unsigned silent; /* what is read now is not shown */
	uint64_t lifetimes;
	bool failed;
};

struct identifier {
	const char *text;
	size_t length;
	uint64_t number; /* disambiguator */
	bool punycode;
};

static void path(struct rust *r, bool value);
static void type(struct rust *r);
static void constant(struct rust *r);

/* ---- text ---- */

static void add(struct rust *r, const char *text)
{
	if (!r->silent)
		demangled_add(r->out, text, strlen(text));
}

static void add_number(struct rust *r, uint64_t number)
{
	char text[24];

	snprintf(text, sizeof text, "%llu", (unsigned long long)number);
	add(r, text);
}

static unsigned utf8_of(uint32_t c, char *text)
{
	if (c < 0x80) {
		text[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		text[0] = (char)(0xc0 | c >> 6);
		text[1] = (char)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		text[0] = (char)(0xe0 | c >> 12);
		text[1] = (char)(0x80 | (c >> 6 & 63));
		text[2] = (char)(0x80 | (c & 63));
		return 3;
	}
	text[0] = (char)(0xf0 | c >> 18);
	text[1] = (char)(0x80 | (c >> 12 & 63));
	text[2] = (char)(0x80 | (c >> 6 & 63));
	text[3] = (char)(0x80 | (c & 63));
	return 4;
}

static bool is_character(uint32_t c)
{
	return c <= 0x10ffff && !(c >= 0xd800 && c < 0xe000);
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int hex_digit(char c)
{
	return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* ---- legacy ---- */

/* "$LT$" and the like, at `text`; returns how many bytes it takes, 0 when it is none. */
static size_t legacy_escape(const char *text, size_t length, struct demangled *out)
{
	static const struct {
		const char *escape, *text;
	} escapes[] = {
		{ "$SP$", "@" }, { "$BP$", "*" }, { "$RF$", "&" }, { "$LT$", "<" },
		{ "$GT$", ">" }, { "$LP$", "(" }, { "$RP$", ")" }, { "$C$", "," },
	};
	uint32_t c = 0;
	size_t i = 2;
	char utf8[4];

	for (size_t k = 0; k < sizeof escapes / sizeof escapes[0]; k++) {
		size_t n = strlen(escapes[k].escape);

		if (n <= length && !memcmp(text, escapes[k].escape, n)) {
			demangled_add(out, escapes[k].text, 1);
			return n;
		}
	}
	if (length < 4 || text[1] != 'u')
		return 0;
	for (; i < length && i < 8 && hex_digit(text[i]) >= 0; i++)
		c = c << 4 | (uint32_t)hex_digit(text[i]);
	if (i == 2 || i >= length || text[i] != '$' || !is_character(c))
		return 0;
	demangled_add(out, utf8, utf8_of(c, utf8));
	return i + 1;
}

static void legacy_element(const char *text, size_t length, struct demangled *out)
{
	size_t i = length > 1 && text[0] == '_' && text[1] == '$' ? 1 : 0;

	while (i < length) {
		size_t taken = text[i] == '$' ? legacy_escape(text + i, length - i, out) : 0;

		if (taken) {
			i += taken;
		} else if (text[i] == '.' && i + 1 < length && text[i + 1] == '.') {
			demangled_add(out, "::", 2);
			i += 2;
		} else {
			demangled_add(out, text + i++, 1);
		}
	}
}

static bool is_hash(const char *text, size_t length)
{
	if (length != HASH_LENGTH + 1 || text[0] != 'h')
		return false;
	for (size_t i = 1; i < length; i++)
		if (hex_digit(text[i]) < 0)
			return false;
	return true;
}

bool demangle_rust_legacy(const char *name, struct demangled *out, const char **ret_end)
{
	const char *at = name + 3;
	bool hashed = false;

	if (strncmp(name, "_ZN", 3))
		return false;
	for (unsigned elements = 0; *at != 'E'; elements++) {
		size_t length = 0, left;

		if (!is_digit(*at) || hashed)
			return false;
		while (is_digit(*at) && length < 100000)
			length = length * 10 + (size_t)(*at++ - '0');
		left = strlen(at);
		if (!length || length > left)
			return false;
		if (is_hash(at, length) && at[length] == 'E') {
			hashed = elements > 0;
		} else {
			if (elements)
				demangled_add(out, "::", 2);
			legacy_element(at, length, out);
		}
		at += length;
	}
	*ret_end = at + 1;
	return hashed;
}

/* ---- v0: the letters ---- */

static void fail(struct rust *r)
{
	r->failed = true;
}

static bool stopped(const struct rust *r)
{
	return r->failed || r->out->full;
}

static char peek(const struct rust *r)
{
	return r->at < r->size && !r->failed ? r->name[r->at] : 0;
}

static char next(struct rust *r)
{
	char c = peek(r);

	if (c)
		r->at++;
	else
		fail(r);
	return c;
}

static bool eat(struct rust *r, char c)
{
	if (peek(r) != c)
		return false;
	r->at++;
	return true;
}

static bool enter(struct rust *r)
{
	if (stopped(r))
		return false;
	if (r->depth >= DEPTH_MOST || ++r->steps > STEPS_MOST) {
		fail(r);
		return false;
	}
	r->depth++;
	return true;
}

static void leave(struct rust *r)
{
	r->depth--;
}

/* "_" is 0, "0_" is 1, "Z_" is 62, "10_" is 63. */
static uint64_t base62(struct rust *r)
{
	uint64_t value = 0;

	if (eat(r, '_'))
		return 0;
	while (!eat(r, '_')) {
		char c = next(r);
		unsigned digit = is_digit(c)            ? (unsigned)(c - '0')
				 : c >= 'a' && c <= 'z' ? (unsigned)(c - 'a') + 10
				 : c >= 'A' && c <= 'Z' ? (unsigned)(c - 'A') + 36
							: 62;

		if (digit == 62 || value > (UINT64_MAX - 63) / 62) {
			fail(r);
			return 0;
		}
		value = value * 62 + digit;
	}
	return value + 1;
}

static uint64_t tagged62(struct rust *r, char tag)
{
	if (!eat(r, tag))
		return 0;
	return base62(r) + 1;
}

static struct identifier plain_identifier(struct rust *r)
{
	struct identifier id = { .text = "" };
	size_t length = 0;

	id.punycode = eat(r, 'u');
	if (!is_digit(peek(r))) {
		fail(r);
		return id;
	}
	if (!eat(r, '0'))
		while (is_digit(peek(r)) && length < 100000)
			length = length * 10 + (size_t)(next(r) - '0');
	eat(r, '_');
	if (r->failed || length > r->size - r->at) {
		fail(r);
		return id;
	}
	id.text = r->name + r->at;
	id.length = length;
	r->at += length;
	return id;
}

static struct identifier identifier(struct rust *r)
{
	uint64_t number = tagged62(r, 's');
	struct identifier id = plain_identifier(r);

	id.number = number;
	return id;
}

/* One number of a punycode text (RFC 3492, section 6.2), with the given bias. */
static bool punycode_delta(const struct identifier *id, size_t *at, uint32_t bias, uint32_t *ret)
{
	uint64_t delta = 0, weight = 1;

	for (uint32_t k = 36;; k += 36) {
		uint32_t t = k <= bias ? 1 : k >= bias + 26 ? 26 : k - bias, digit;
		char c;

		if (*at >= id->length)
			return false;
		c = id->text[(*at)++];
		digit = c >= 'a' && c <= 'z' ? (uint32_t)(c - 'a') : is_digit(c) ? (uint32_t)(c - '0') + 26 : 36;
		if (digit == 36)
			return false;
		delta += digit * weight;
		if (delta > UINT32_MAX / 2)
			return false;
		if (digit < t) {
			*ret = (uint32_t)delta;
			return true;
		}
		weight *= 36 - t;
		if (weight > UINT32_MAX)
			return false;
	}
}

static uint32_t punycode_bias(uint32_t delta, uint32_t count, bool first)
{
	uint32_t k = 0;

	delta = first ? delta / 700 : delta / 2;
	delta += delta / count;
	for (; delta > 455; k += 36)
		delta /= 35;
	return k + 36 * delta / (delta + 38);
}

/* Decodes into at most PUNYCODE_MOST characters; returns how many, 0 when it is no punycode or longer. */
static uint32_t punycode(const struct identifier *id, uint32_t *letters)
{
	uint32_t count = 0, n = 128, i = 0, bias = 72;
	size_t basic = id->length, at;

	while (basic && id->text[basic - 1] != '_')
		basic--;
	at = basic;
	if (basic > PUNYCODE_MOST)
		return 0;
	for (; count + 1 < basic; count++)
		letters[count] = (unsigned char)id->text[count];
	while (at < id->length) {
		uint32_t delta;

		if (count == PUNYCODE_MOST || !punycode_delta(id, &at, bias, &delta) || delta > UINT32_MAX / 2 - i)
			return 0;
		bias = punycode_bias(delta, count + 1, at > 0 && i == 0 && n == 128);
		i += delta;
		n += i / (count + 1);
		i %= count + 1;
		if (!is_character(n))
			return 0;
		memmove(&letters[i + 1], &letters[i], (count - i) * sizeof *letters);
		letters[i++] = n;
		count++;
	}
	return count;
}

static void add_identifier(struct rust *r, const struct identifier *id)
{
	uint32_t letters[PUNYCODE_MOST], count = id->punycode ? punycode(id, letters) : 0;
	char utf8[4];

	if (r->silent)
		return;
	if (id->punycode && !count)
		add(r, "punycode{");
	if (!count)
		demangled_add(r->out, id->text, id->length);
	if (id->punycode && !count)
		add(r, "}");
	for (uint32_t i = 0; i < count; i++)
		demangled_add(r->out, utf8, utf8_of(letters[i], utf8));
}

/* Where a reference leads; it must lead back. Returns the place to come back to, or 0. */
static size_t follow(struct rust *r)
{
	size_t from = r->at - 1, back;
	uint64_t to = base62(r);

	if (r->failed || to >= from) {
		fail(r);
		return 0;
	}
	back = r->at;
	r->at = (size_t)to;
	return back;
}

/* ---- v0: paths ---- */

static void lifetime(struct rust *r, uint64_t index)
{
	char name[2] = "_";

	add(r, "'");
	if (index) {
		if (index > r->lifetimes) {
			fail(r);
			return;
		}
		index = r->lifetimes - index;
		if (index < 26) {
			name[0] = (char)('a' + index);
		} else {
			add_number(r, index);
			return;
		}
	}
	add(r, name);
}

static void generic_arguments(struct rust *r)
{
	for (unsigned i = 0; !stopped(r) && !eat(r, 'E'); i++) {
		if (i)
			add(r, ", ");
		if (eat(r, 'L'))
			lifetime(r, base62(r));
		else if (eat(r, 'K'))
			constant(r);
		else
			type(r);
	}
}

/* The place of an impl: read, never shown. */
static void impl_path(struct rust *r)
{
	tagged62(r, 's');
	r->silent++;
	path(r, false);
	r->silent--;
}

static void special_name(struct rust *r, char space, const struct identifier *id)
{
	char letter[2] = { space, 0 };

	add(r, "::{");
	add(r, space == 'C' ? "closure" : space == 'S' ? "shim" : letter);
	if (id->length) {
		add(r, ":");
		add_identifier(r, id);
	}
	add(r, "#");
	add_number(r, id->number);
	add(r, "}");
}

static void nested_path(struct rust *r, bool value)
{
	char space = next(r);
	struct identifier id;

	path(r, value);
	id = identifier(r);
	if (stopped(r))
		return;
	if (space >= 'A' && space <= 'Z') {
		special_name(r, space, &id);
	} else if (space >= 'a' && space <= 'z') {
		if (!id.length)
			return;
		add(r, "::");
		add_identifier(r, &id);
	} else {
		fail(r);
	}
}

static void referenced_path(struct rust *r, bool value)
{
	size_t back = follow(r);

	if (!r->failed && !r->silent)
		path(r, value);
	r->at = back;
}

static void qualified_path(struct rust *r, char tag)
{
	if (tag != 'Y')
		impl_path(r);
	add(r, "<");
	type(r);
	if (tag != 'M') {
		add(r, " as ");
		path(r, false);
	}
	add(r, ">");
}

static void path(struct rust *r, bool value)
{
	struct identifier id;
	char tag;

	if (!enter(r))
		return;
	switch ((tag = next(r))) {
	case 'C':
		id = identifier(r);
		add_identifier(r, &id);
		break;
	case 'N':
		nested_path(r, value);
		break;
	case 'M':
	case 'X':
	case 'Y':
		qualified_path(r, tag);
		break;
	case 'I':
		path(r, value);
		add(r, value ? "::<" : "<");
		generic_arguments(r);
		add(r, ">");
		break;
	case 'B':
		referenced_path(r, value);
		break;
	default:
		fail(r);
	}
	leave(r);
}

/* ---- v0: types ---- */

static const char *basic_type(char tag)
{
	static const char *const names[26] = {
		['a' - 'a'] = "i8",    ['b' - 'a'] = "bool", ['c' - 'a'] = "char", ['d' - 'a'] = "f64",
		['e' - 'a'] = "str",   ['f' - 'a'] = "f32",  ['h' - 'a'] = "u8",   ['i' - 'a'] = "isize",
		['j' - 'a'] = "usize", ['l' - 'a'] = "i32",  ['m' - 'a'] = "u32",  ['n' - 'a'] = "i128",
		['o' - 'a'] = "u128",  ['p' - 'a'] = "_",    ['s' - 'a'] = "i16",  ['t' - 'a'] = "u16",
		['u' - 'a'] = "()",    ['v' - 'a'] = "...",  ['x' - 'a'] = "i64",  ['y' - 'a'] = "u64",
		['z' - 'a'] = "!",
	};

	return tag >= 'a' && tag <= 'z' ? names[tag - 'a'] : NULL;
}

/* "for<'a, 'b> ": the lifetimes of a function type or of `dyn`. Returns how many they are. */
static uint64_t binder(struct rust *r)
{
	uint64_t count = tagged62(r, 'G');

	if (count > LIFETIMES_MOST || r->lifetimes + count > LIFETIMES_MOST) {
		fail(r);
		return 0;
	}
	for (uint64_t i = 0; i < count; i++) {
		add(r, i ? ", " : "for<");
		r->lifetimes++;
		lifetime(r, 1);
	}
	if (count)
		add(r, "> ");
	return count;
}

static void abi(struct rust *r)
{
	struct identifier id;

	add(r, "extern \"");
	if (eat(r, 'C')) {
		add(r, "C");
	} else {
		id = plain_identifier(r);
		for (size_t i = 0; i < id.length && !r->silent; i++)
			demangled_add(r->out, id.text[i] == '_' ? "-" : &id.text[i], 1);
	}
	add(r, "\" ");
}

static void function_type(struct rust *r)
{
	uint64_t bound = binder(r);

	if (eat(r, 'U'))
		add(r, "unsafe ");
	if (eat(r, 'K'))
		abi(r);
	add(r, "fn(");
	for (unsigned i = 0; !stopped(r) && !eat(r, 'E'); i++) {
		if (i)
			add(r, ", ");
		type(r);
	}
	add(r, ")");
	if (!eat(r, 'u')) {
		add(r, " -> ");
		type(r);
	}
	r->lifetimes -= bound;
}

/* A path whose generic arguments stay open, for what `dyn` adds to them. Returns whether "<" was written. */
static bool open_path(struct rust *r)
{
	bool open = false;

	if (!enter(r))
		return false;
	if (eat(r, 'B')) {
		size_t back = follow(r);

		if (!r->failed && !r->silent)
			open = open_path(r);
		r->at = back;
	} else if (eat(r, 'I')) {
		path(r, false);
		add(r, "<");
		generic_arguments(r);
		open = true;
	} else {
		path(r, false);
	}
	leave(r);
	return open;
}

static void dyn_trait(struct rust *r)
{
	bool open = open_path(r);

	while (!stopped(r) && eat(r, 'p')) {
		struct identifier id;

		add(r, open ? ", " : "<");
		open = true;
		id = plain_identifier(r);
		add_identifier(r, &id);
		add(r, " = ");
		type(r);
	}
	if (open)
		add(r, ">");
}

static void dyn_type(struct rust *r)
{
	uint64_t bound, index;

	add(r, "dyn ");
	bound = binder(r);
	for (unsigned i = 0; !stopped(r) && !eat(r, 'E'); i++) {
		if (i)
			add(r, " + ");
		dyn_trait(r);
	}
	r->lifetimes -= bound;
	if (!eat(r, 'L')) {
		fail(r);
		return;
	}
	index = base62(r);
	if (index) {
		add(r, " + ");
		lifetime(r, index);
	}
}

static void tuple_type(struct rust *r)
{
	unsigned i = 0;

	add(r, "(");
	for (; !stopped(r) && !eat(r, 'E'); i++) {
		if (i)
			add(r, ", ");
		type(r);
	}
	add(r, i == 1 ? ",)" : ")");
}

static void reference_type(struct rust *r, bool mutable)
{
	add(r, "&");
	if (eat(r, 'L')) {
		uint64_t index = base62(r);

		if (index) {
			lifetime(r, index);
			add(r, " ");
		}
	}
	if (mutable)
		add(r, "mut ");
	type(r);
}

static void array_type(struct rust *r, bool sized)
{
	add(r, "[");
	type(r);
	if (sized) {
		add(r, "; ");
		constant(r);
	}
	add(r, "]");
}

static void referenced_type(struct rust *r)
{
	size_t back = follow(r);

	if (!r->failed && !r->silent)
		type(r);
	r->at = back;
}

static void type(struct rust *r)
{
	const char *basic;
	char tag;

	if (!enter(r))
		return;
	tag = next(r);
	basic = basic_type(tag);
	if (basic) {
		add(r, basic);
	} else if (tag == 'A' || tag == 'S') {
		array_type(r, tag == 'A');
	} else if (tag == 'T') {
		tuple_type(r);
	} else if (tag == 'R' || tag == 'Q') {
		reference_type(r, tag == 'Q');
	} else if (tag == 'P' || tag == 'O') {
		add(r, tag == 'P' ? "*const " : "*mut ");
		type(r);
	} else if (tag == 'F') {
		function_type(r);
	} else if (tag == 'D') {
		dyn_type(r);
	} else if (tag == 'B') {
		referenced_type(r);
	} else if (tag && !r->failed) {
		r->at--;
		path(r, false);
	}
	leave(r);
}

/* ---- v0: constants ---- */

/* The hexadecimal digits of a constant up to "_": shown in decimal when they fit 64 bits. */
static size_t hex_digits(struct rust *r, uint64_t *ret)
{
	size_t from = r->at, count;

	*ret = 0;
	while (hex_digit(peek(r)) >= 0)
		*ret = *ret << 4 | (uint64_t)hex_digit(next(r));
	count = r->at - from;
	if (!eat(r, '_'))
		fail(r);
	return count;
}

static void add_integer(struct rust *r)
{
	size_t from = r->at, digits;
	uint64_t value;

	digits = hex_digits(r, &value);
	if (digits <= 16) {
		add_number(r, value);
	} else if (!r->failed) {
		add(r, "0x");
		if (!r->silent)
			demangled_add(r->out, r->name + from, digits);
	}
}

static void add_character(struct rust *r)
{
	char utf8[5] = "";
	uint64_t value;

	hex_digits(r, &value);
	if (value > 0x10ffff || !is_character((uint32_t)value)) {
		fail(r);
		return;
	}
	utf8_of((uint32_t)value, utf8);
	add(r, "'");
	add(r, utf8);
	add(r, "'");
}

static void constant(struct rust *r)
{
	uint64_t value;
	char tag;

	if (!enter(r))
		return;
	tag = next(r);
	if (tag == 'p') {
		add(r, "_");
	} else if (tag == 'B') {
		size_t back = follow(r);

		if (!r->failed && !r->silent)
			constant(r);
		r->at = back;
	} else if (tag == 'b') {
		hex_digits(r, &value);
		add(r, value ? "true" : "false");
	} else if (tag == 'c') {
		add_character(r);
	} else if (tag && strchr("aislxnhjtmyo", tag)) {
		if (eat(r, 'n'))
			add(r, "-");
		add_integer(r);
	} else {
		fail(r);
	}
	leave(r);
}

bool demangle_rust_v0(const char *name, struct demangled *out, const char **ret_end)
{
	size_t size = strcspn(name, ".@$");
	struct rust r = { .name = name + 2, .size = size - 2, .out = out };

	if (strncmp(name, "_R", 2) || size < 3)
		return false;
	path(&r, true);
	/* The crate that instantiated it is read to see that the name is whole. */
	if (!stopped(&r) && r.at < r.size) {
		r.silent++;
		path(&r, false);
	}
	*ret_end = name + size;
	return !r.failed && (out->full || r.at == r.size);
}

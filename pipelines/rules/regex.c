/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Positions: V. M. Glushkov, "The abstract theory of automata", 1961. While the expression is read, each part of it knows which positions it may
 * begin and end with and whether it may be empty; joining two parts makes the first positions of the second follow the last ones of the
 * first. A repeated part is read again for each copy.
 *
 * Invariants: positions are numbered in the order of reading and are below REGEX_STATES_MAX; the number of parts read, and the depth of
 * parentheses, are bounded.
 */
#include "rules/regex.h"

#include "rules/class.h"
#include "rules/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define WORDS      (REGEX_STATES_MAX / 64)
#define RANGES_MAX 1024u
#define PARTS_MAX  8192u
#define DEPTH_MAX  64u
#define REPEAT_MAX 255u

struct set {
	uint64_t words[WORDS];
};

/* What one position takes: ASCII by bits, other characters by ranges. */
struct taker {
	uint64_t ascii[2];
	uint32_t ranges, n_ranges;
	bool others; /* of the characters above ASCII that no range has */
};

struct range {
	uint32_t low, high;
};

/* What is read, with room for the largest. */
struct draft {
	unsigned n;
	struct set follow[REGEX_STATES_MAX];
	struct taker takers[REGEX_STATES_MAX];
	struct range ranges[RANGES_MAX];
	unsigned n_ranges;
};

/* What is kept: sets of just as many words as there are positions for, all in one piece. */
struct regex {
	unsigned n, words;
	bool empty; /* matches the empty text */
	const uint64_t *first, *last, *follow, *by_ascii;
	const struct taker *takers;
	const struct range *ranges;
	uint64_t room[];
};

/* A part of the expression. */
struct part {
	bool empty;         /* may match nothing */
	bool caret, dollar; /* holds one: what may come before it, behind it */
	bool solid;         /* has positions */
	struct set first, last;
};

struct reader {
	struct draft *draft;
	const char *begin, *at, *end;
	unsigned depth, parts;
	int error;
	struct fault *fault;
};

/* --- sets --- */

static void set_add(struct set *set, unsigned n)
{
	set->words[n / 64] |= 1ull << (n % 64);
}

static void set_join(struct set *set, const struct set *other)
{
	for (unsigned i = 0; i < WORDS; i++)
		set->words[i] |= other->words[i];
}

/* --- faults --- */

static bool refuse(struct reader *r, int error, const char *at, const char *format, ...) _printf_(4, 5);
static bool refuse(struct reader *r, int error, const char *at, const char *format, ...)
{
	char what[200];
	va_list args;

	if (r->error)
		return false;
	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	r->error = fault_at(r->fault, error, 1, (unsigned)(at - r->begin) + 1, "%s", what);
	return false;
}

/* --- characters --- */

static void take_range(struct reader *r, struct taker *taker, uint32_t low, uint32_t high)
{
	for (uint32_t c = low; c <= high && c < 128; c++)
		taker->ascii[c / 64] |= 1ull << (c % 64);
	if (high < 128)
		return;
	if (r->draft->n_ranges == RANGES_MAX) {
		refuse(r, -E2BIG, r->at, "more than %u ranges of characters", RANGES_MAX);
		return;
	}
	r->draft->ranges[r->draft->n_ranges++] = (struct range){ MAX_OF(low, 128u), high };
	taker->n_ranges++;
}

static bool read_hex(struct reader *r, uint32_t *ret)
{
	const char *begin = r->at;
	bool braces = r->at < r->end && *r->at == '{';
	unsigned digits = 0;
	uint32_t c = 0;

	r->at += braces;
	while (r->at < r->end && isxdigit((unsigned char)*r->at) && digits < (braces ? 6u : 2u)) {
		c = c * 16 + (uint32_t)(isdigit((unsigned char)*r->at) ? *r->at - '0' : (*r->at | 32) - 'a' + 10);
		r->at++;
		digits++;
	}
	if (digits == 0 || (!braces && digits != 2) || c > 0x10ffff || (braces && (r->at == r->end || *r->at++ != '}')))
		return refuse(r, -EINVAL, begin, "expected two hexadecimal digits, or {digits} up to 10FFFF");
	*ret = c;
	return true;
}

/* What is behind a backslash. */
static bool read_escape(struct reader *r, uint32_t *ret)
{
	static const char letters[] = "ntrfva", meant[] = "\n\t\r\f\v\a";
	const char *letter;

	if (r->at == r->end)
		return refuse(r, -EINVAL, r->at - 1, "a backslash at the end");
	letter = strchr(letters, *r->at);
	if (letter && *r->at) {
		*ret = (uint32_t)meant[letter - letters];
		r->at++;
		return true;
	}
	if (*r->at == 'x') {
		r->at++;
		return read_hex(r, ret);
	}
	if (!ispunct((unsigned char)*r->at))
		return refuse(
			r, -EINVAL, r->at - 1,
			"'\\%c' is not of POSIX syntax; write a class such as [[:digit:]], or \\\\ for a backslash",
			isprint((unsigned char)*r->at) ? *r->at : '?');
	*ret = (unsigned char)*r->at++;
	return true;
}

static bool read_character(struct reader *r, uint32_t *ret)
{
	unsigned size;

	if (*r->at == '\\') {
		r->at++;
		return read_escape(r, ret);
	}
	*ret = utf8_read(r->at, r->end, &size);
	r->at += size;
	return true;
}

static void take_class(struct reader *r, struct taker *taker, int class)
{
	for (uint32_t c = 0; c < 128; c++)
		if (class_has(class, c))
			take_range(r, taker, c, c);
}

/* One element of [...]: a class, a character, a range. */
static bool read_member(struct reader *r, struct taker *taker)
{
	const char *begin = r->at;
	uint32_t low, high;
	size_t size;
	int class = class_at(r->at, r->end, &size);

	if (class >= 0) {
		take_class(r, taker, class);
		r->at += size;
		return true;
	}
	if (!read_character(r, &low))
		return false;
	high = low;
	if (r->end - r->at >= 2 && r->at[0] == '-' && r->at[1] != ']') {
		r->at++;
		if (!read_character(r, &high))
			return false;
	}
	if (high < low)
		return refuse(r, -EINVAL, begin, "a range that ends before it begins");
	take_range(r, taker, low, high);
	return !r->error;
}

/* [...], behind the '['. */
static bool read_brackets(struct reader *r, struct taker *taker)
{
	const char *begin = r->at - 1, *first;
	bool negated = r->at < r->end && *r->at == '^';

	r->at += negated;
	first = r->at;
	while (r->at < r->end && (*r->at != ']' || r->at == first))
		if (!read_member(r, taker))
			return false;
	if (r->at == r->end)
		return refuse(r, -EINVAL, begin, "the '[' here is never closed");
	r->at++;
	if (negated) {
		taker->ascii[0] = ~taker->ascii[0];
		taker->ascii[1] = ~taker->ascii[1];
		taker->others = true;
	}
	return true;
}

/* --- parts --- */

static bool add_position(struct reader *r, const struct taker *taker, struct part *ret)
{
	struct draft *draft = r->draft;

	if (draft->n == REGEX_STATES_MAX)
		return refuse(r, -E2BIG, r->at, "more than %u characters, repetitions counted", REGEX_STATES_MAX);
	draft->takers[draft->n] = *taker;
	ret->solid = true;
	set_add(&ret->first, draft->n);
	set_add(&ret->last, draft->n);
	draft->n++;
	return true;
}

/* `before` with `behind` behind it. */
static bool append(struct reader *r, struct part *before, const struct part *behind)
{
	if ((before->solid && behind->caret) || (before->dollar && behind->solid))
		return refuse(r, -EINVAL, r->at, "'^' and '$' stand at the ends only: the whole text must match");
	for (unsigned i = 0; i < r->draft->n; i++)
		if (before->last.words[i / 64] >> (i % 64) & 1)
			set_join(&r->draft->follow[i], &behind->first);
	if (before->empty)
		set_join(&before->first, &behind->first);
	if (behind->empty)
		set_join(&before->last, &behind->last);
	else
		before->last = behind->last;
	before->empty &= behind->empty;
	before->caret |= behind->caret;
	before->dollar |= behind->dollar;
	before->solid |= behind->solid;
	return true;
}

static bool read_alternatives(struct reader *r, struct part *ret);

static bool read_group(struct reader *r, struct part *ret)
{
	const char *begin = r->at - 1;

	if (++r->depth > DEPTH_MAX)
		return refuse(r, -E2BIG, begin, "nested deeper than %u", DEPTH_MAX);
	if (!read_alternatives(r, ret))
		return false;
	r->depth--;
	if (r->at == r->end)
		return refuse(r, -EINVAL, begin, "the '(' here is never closed");
	r->at++;
	return true;
}

static bool read_atom(struct reader *r, struct part *ret)
{
	struct taker taker = { .ranges = r->draft->n_ranges };
	uint32_t c;

	memset(ret, 0, sizeof *ret);
	if (++r->parts > PARTS_MAX)
		return refuse(r, -E2BIG, r->at, "too many repetitions");
	switch (*r->at) {
	case '(':
		r->at++;
		return read_group(r, ret);
	case '^':
	case '$':
		ret->empty = true;
		ret->caret = *r->at == '^';
		ret->dollar = *r->at == '$';
		r->at++;
		return true;
	case '*':
	case '+':
	case '?':
		return refuse(r, -EINVAL, r->at, "nothing here for '%c' to repeat", *r->at);
	case '.':
		r->at++;
		taker = (struct taker){ { ~(1ull << '\n'), ~0ull }, .others = true };
		return add_position(r, &taker, ret);
	case '[':
		r->at++;
		return read_brackets(r, &taker) && add_position(r, &taker, ret);
	default:
		if (!read_character(r, &c))
			return false;
		take_range(r, &taker, c, c);
		return !r->error && add_position(r, &taker, ret);
	}
}

/* {m}, {m,}, {m,n} at the cursor; false: it is none, and plain text. `ret_most` 0: no bound. */
static bool read_counts(struct reader *r, unsigned *ret_least, unsigned *ret_most)
{
	const char *at = r->at + 1;
	unsigned n[2] = { 0, 0 }, i = 0;
	bool comma = false, digits[2] = { false, false };

	for (; at < r->end && *at != '}'; at++) {
		if (isdigit((unsigned char)*at) && n[i] <= REPEAT_MAX) {
			n[i] = n[i] * 10 + (unsigned)(*at - '0');
			digits[i] = true;
		} else if (*at == ',' && !comma) {
			comma = true;
			i = 1;
		} else {
			return false;
		}
	}
	if (at == r->end || !digits[0])
		return false;
	*ret_least = n[0];
	*ret_most = !comma ? n[0] : digits[1] ? n[1] : 0;
	if (n[0] > REPEAT_MAX || n[1] > REPEAT_MAX || (digits[1] && n[1] < n[0]))
		return refuse(r, -EINVAL, r->at, "a repetition is {m}, {m,} or {m,n}, at most %u, and n not below m",
			      REPEAT_MAX);
	if (!comma && n[0] == 0)
		*ret_most = UINT32_MAX; /* {0}: nothing at all */
	if (digits[1] && n[1] == 0)
		*ret_most = UINT32_MAX;
	r->at = at + 1;
	return true;
}

static bool loop(struct reader *r, struct part *part)
{
	struct part again = *part;

	part->empty = false;
	if (!append(r, part, &again))
		return false;
	*part = again;
	return true;
}

/* Reads the part from `begin` once more, behind `part`. */
static bool append_copy(struct reader *r, const char *begin, struct part *part, bool optional, bool looping)
{
	const char *resume = r->at;
	unsigned depth = r->depth;
	struct part copy;

	r->at = begin;
	if (!read_atom(r, &copy) || (looping && !loop(r, &copy)))
		return false;
	copy.empty |= optional;
	r->at = resume;
	r->depth = depth;
	return append(r, part, &copy);
}

static bool repeat(struct reader *r, const char *begin, struct part *part, unsigned least, unsigned most)
{
	const unsigned copies = most == 0 ? MAX_OF(least, 1u) : most;

	if (most == UINT32_MAX) {
		*part = (struct part){ .empty = true };
		return true;
	}
	if (copies == 1 && most == 0 && !loop(r, part))
		return false;
	part->empty |= least == 0;
	for (unsigned i = 1; i < copies; i++)
		if (!append_copy(r, begin, part, i >= least, most == 0 && i + 1 == copies))
			return false;
	return true;
}

/* A part with what repeats it. Repetitions of a repetition are of the star kind only: the text of the part is read again. */
static bool read_repeated(struct reader *r, struct part *ret)
{
	const char *begin = r->at;
	bool counted = false;

	if (!read_atom(r, ret))
		return false;
	while (r->at < r->end && !r->error) {
		unsigned least = 0, most = 0;
		const char *at = r->at;

		if (*at == '*' || *at == '+' || *at == '?') {
			r->at++;
			if (*at != '?' && !loop(r, ret))
				return false;
			ret->empty |= *at != '+';
			counted = true;
			continue;
		}
		if (*at != '{' || !read_counts(r, &least, &most))
			break;
		if (counted)
			return refuse(r, -EINVAL, at, "a repetition of a repetition; put parentheses around the first");
		counted = true;
		if (!repeat(r, begin, ret, least, most))
			return false;
	}
	return !r->error;
}

static bool read_sequence(struct reader *r, struct part *ret)
{
	memset(ret, 0, sizeof *ret);
	ret->empty = true;
	while (r->at < r->end && *r->at != '|' && *r->at != ')') {
		struct part part;

		if (!read_repeated(r, &part) || !append(r, ret, &part))
			return false;
	}
	return true;
}

static bool read_alternatives(struct reader *r, struct part *ret)
{
	if (!read_sequence(r, ret))
		return false;
	while (r->at < r->end && *r->at == '|') {
		struct part other;

		r->at++;
		if (!read_sequence(r, &other))
			return false;
		set_join(&ret->first, &other.first);
		set_join(&ret->last, &other.last);
		ret->empty |= other.empty;
		ret->caret |= other.caret;
		ret->dollar |= other.dollar;
		ret->solid |= other.solid;
	}
	return true;
}

/* --- the whole --- */

static uint64_t *keep_set(uint64_t *at, const struct set *set, unsigned words)
{
	memcpy(at, set->words, words * sizeof *at);
	return at + words;
}

/* Which positions take an ASCII character. */
static uint64_t *keep_ascii(uint64_t *at, const struct draft *draft, unsigned words)
{
	for (unsigned c = 0; c < 128; c++) {
		struct set set = { 0 };

		for (unsigned i = 0; i < draft->n; i++)
			if (draft->takers[i].ascii[c / 64] >> (c % 64) & 1)
				set_add(&set, i);
		at = keep_set(at, &set, words);
	}
	return at;
}

static struct regex *keep(const struct draft *draft, const struct part *whole)
{
	const unsigned words = (draft->n + 63) / 64;
	const size_t sets = (size_t)(2 + draft->n + 128) * words * sizeof(uint64_t);
	const size_t takers = draft->n * sizeof(struct taker);
	struct regex *regex = malloc(sizeof *regex + sets + takers + draft->n_ranges * sizeof(struct range));
	uint64_t *at;

	if (!regex)
		return NULL;
	*regex = (struct regex){ .n = draft->n, .words = words, .empty = whole->empty };
	at = regex->room;
	regex->first = at;
	regex->last = at = keep_set(at, &whole->first, words);
	regex->follow = at = keep_set(at, &whole->last, words);
	for (unsigned i = 0; i < draft->n; i++)
		at = keep_set(at, &draft->follow[i], words);
	regex->by_ascii = at;
	at = keep_ascii(at, draft, words);
	regex->takers = memcpy(at, draft->takers, takers);
	regex->ranges = memcpy((char *)at + takers, draft->ranges, draft->n_ranges * sizeof(struct range));
	return regex;
}

static int read_whole(struct reader *r, struct regex **ret)
{
	struct part whole;

	if (!read_alternatives(r, &whole))
		return r->error;
	if (r->at < r->end) {
		refuse(r, -EINVAL, r->at, "a ')' that was never opened");
		return r->error;
	}
	*ret = keep(r->draft, &whole);
	return *ret ? 0 : fault_at(r->fault, -ENOMEM, 1, 1, "out of memory");
}

int regex_compile(struct regex **ret, const char *text, size_t length, struct fault *fault)
{
	_cleanup_(free_pointer) struct draft *draft = NULL;
	struct reader r = { .begin = text, .at = text, .end = text + length, .fault = fault };

	if (length > REGEX_TEXT_MAX)
		return fault_at(fault, -E2BIG, 1, 1, "longer than %u bytes", REGEX_TEXT_MAX);
	r.draft = draft = calloc(1, sizeof *draft);
	if (!draft)
		return fault_at(fault, -ENOMEM, 1, 1, "out of memory");
	return read_whole(&r, ret);
}

void regex_free(struct regex *regex)
{
	free(regex);
}

static bool takes(const struct regex *regex, unsigned position, uint32_t c)
{
	const struct taker *taker = &regex->takers[position];

	for (uint32_t i = 0; i < taker->n_ranges; i++) {
		const struct range *range = &regex->ranges[taker->ranges + i];

		if (c >= range->low && c <= range->high)
			return !taker->others;
	}
	return taker->others;
}

/* Of the positions in `set`, those that take a character. */
static void keep_takers(const struct regex *regex, struct set *set, uint32_t c)
{
	const uint64_t *ascii = regex->by_ascii + (size_t)(c % 128) * regex->words;

	for (unsigned w = 0; w < regex->words; w++) {
		if (c < 128) {
			set->words[w] &= ascii[w];
			continue;
		}
		for (uint64_t left = set->words[w]; left; left &= left - 1) {
			unsigned i = w * 64 + (unsigned)__builtin_ctzll(left);

			if (!takes(regex, i, c))
				set->words[w] &= ~(1ull << (i % 64));
		}
	}
}

/* The positions that may come behind those in `set`. */
static void step(const struct regex *regex, struct set *set)
{
	struct set next = { 0 };

	for (unsigned w = 0; w < regex->words; w++)
		for (uint64_t left = set->words[w]; left; left &= left - 1) {
			const uint64_t *follow =
				regex->follow + (size_t)(w * 64 + (unsigned)__builtin_ctzll(left)) * regex->words;

			for (unsigned i = 0; i < regex->words; i++)
				next.words[i] |= follow[i];
		}
	*set = next;
}

/* Whether the set has one of `others`. */
static bool has_one(const struct regex *regex, const struct set *set, const uint64_t *others)
{
	uint64_t found = 0;

	for (unsigned w = 0; w < regex->words; w++)
		found |= set->words[w] & others[w];
	return found != 0;
}

bool regex_match(const struct regex *regex, const char *text, size_t length)
{
	const char *at = text, *end = text + length;
	struct set set = { 0 };

	if (length == 0)
		return regex->empty;
	memcpy(set.words, regex->first, regex->words * sizeof set.words[0]);
	for (;;) {
		unsigned size;
		uint32_t c = utf8_read(at, end, &size);

		keep_takers(regex, &set, c);
		at += size;
		if (at == end)
			return has_one(regex, &set, regex->last);
		if (!has_one(regex, &set, set.words))
			return false;
		step(regex, &set);
	}
}

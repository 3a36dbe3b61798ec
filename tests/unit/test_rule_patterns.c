/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns and regular expressions against libc's fnmatch(3) and regexec(3), on texts made at random, and bounds that libc's do not have. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fnmatch.h>
#include <regex.h>
#include <string.h>

#include "rules/glob.h"
#include "rules/regex.h"

static uint32_t state = 1;

static uint32_t draw(uint32_t below)
{
	state = state * 1664525u + 1013904223u;
	return (state >> 8) % below;
}

static void make_text(char *room, const char *letters, unsigned longest)
{
	unsigned length = draw(longest + 1);

	for (unsigned i = 0; i < length; i++)
		room[i] = letters[draw((uint32_t)strlen(letters))];
	room[length] = '\0';
}

static void test_glob_is_fnmatch(void **context)
{
	static const char *const parts[] = { "*",   "?",   "a", "b",    "/", "[ab]", "[!a]", "[a-c]", "[[:digit:]x]",
					     "\\*", "\\a", ".", "[]a]", "**" };
	unsigned matched = 0;

	for (unsigned n = 0; n < 200000; n++) {
		char pattern[64] = "", text[16];
		unsigned length = draw(6);

		for (unsigned i = 0; i < length; i++)
			strcat(pattern, parts[draw(ARRAY_SIZE(parts))]);
		make_text(text, "abc/1x*.]", 8);
		for (int fold = 0; fold < 2; fold++) {
			bool theirs = fnmatch(pattern, text, fold ? FNM_CASEFOLD : 0) == 0;

			if (glob_match(pattern, strlen(pattern), text, strlen(text), fold) != theirs)
				fail_msg("'%s' on '%s': fnmatch says %d", pattern, text, theirs);
			matched += theirs;
		}
	}
	assert_true(matched > 10000);
}

static void test_glob_says(void **context)
{
	static const struct {
		const char *pattern, *text;
		bool fold, matches;
	} rows[] = {
		{ "/home/*/.ssh/*", "/home/me/.ssh/id", false, true },
		{ "/home/*/.ssh/*", "/home/a/b/.ssh/x/y", false, true },
		{ "*../*../*", "../../etc", false, true },
		{ "A*Z", "abcz", true, true },
		{ "[a-z]", "Q", true, true },
		{ "[a", "[a", false, true },
		{ "?", "\xc3\xa9", false, true },
		{ "?", "\xff", false, true },
		{ "??", "\xff", false, false },
		{ "\\", "\\", false, true },
		{ "", "", false, true },
		{ "*", "", false, true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (glob_match(rows[i].pattern, strlen(rows[i].pattern), rows[i].text, strlen(rows[i].text),
			       rows[i].fold) != rows[i].matches)
			fail_msg("'%s' on '%s'", rows[i].pattern, rows[i].text);
}

static void test_glob_is_bounded(void **context)
{
	char pattern[2001], text[20001];

	for (unsigned i = 0; i < 2000; i++)
		pattern[i] = i % 2 ? 'a' : '*';
	strcpy(pattern + 1998, "*b");
	memset(text, 'a', 20000);
	assert_false(glob_match(pattern, 2000, text, 20000, false));
}

static bool matches(const char *pattern, const char *text)
{
	struct regex *regex = NULL;
	struct fault fault;
	bool result;

	if (regex_compile(&regex, pattern, strlen(pattern), &fault) < 0)
		fail_msg("'%s': %u: %s", pattern, fault.column, fault.text);
	result = regex_match(regex, text, strlen(text));
	regex_free(regex);
	return result;
}

/* A part of an expression, of at most `depth` levels. */
static void make_regex(char *room, unsigned depth)
{
	static const char *const atoms[] = { "a", "b", "c", ".", "[ab]", "[^a]", "[a-b]", "\\." };
	static const char *const repeats[] = { "", "", "", "*", "+", "?", "{2}", "{1,2}", "{0,1}", "{2,}" };
	unsigned n = 1 + draw(3);

	for (unsigned i = 0; i < n; i++) {
		if (depth > 0 && draw(3) == 0) {
			strcat(room, "(");
			make_regex(room, depth - 1);
			if (draw(2)) {
				strcat(room, "|");
				make_regex(room, depth - 1);
			}
			strcat(room, ")");
		} else {
			strcat(room, atoms[draw(ARRAY_SIZE(atoms))]);
		}
		strcat(room, repeats[draw(ARRAY_SIZE(repeats))]);
	}
}

static void test_regex_is_regexec(void **context)
{
	unsigned matched = 0;

	for (unsigned n = 0; n < 6000; n++) {
		char pattern[1024] = "", anchored[1100];
		struct regex *ours = NULL;
		regex_t theirs;

		make_regex(pattern, 2);
		snprintf(anchored, sizeof anchored, "^(%s)$", pattern);
		assert_int_equal(regcomp(&theirs, anchored, REG_EXTENDED | REG_NOSUB), 0);
		assert_int_equal(regex_compile(&ours, pattern, strlen(pattern), NULL), 0);
		for (unsigned i = 0; i < 30; i++) {
			char text[16];
			bool wanted;

			make_text(text, "abc.", 7);
			wanted = regexec(&theirs, text, 0, NULL, 0) == 0;
			if (regex_match(ours, text, strlen(text)) != wanted)
				fail_msg("'%s' on '%s': regexec says %d", pattern, text, wanted);
			matched += wanted;
		}
		regfree(&theirs);
		regex_free(ours);
	}
	assert_true(matched > 5000);
}

static void test_regex_says(void **context)
{
	static const struct {
		const char *pattern, *text;
		bool matches;
	} rows[] = {
		{ "[a-z]*/proc/[0-9]+/cmdline", "/proc/1/cmdline", true }, /* the documentation's own */
		{ "[a-z]*/proc/[0-9]+/cmdline", "/proc/x/cmdline", false },
		{ "abc", "xabc", false }, /* the whole text */
		{ "abc", "abcx", false },
		{ "^abc$", "abc", true },
		{ "(^a|b$)", "a", true },
		{ "/tmp/bad.", "/tmp/bad\xff", true }, /* a byte that is no text is U+FFFD */
		{ "/tmp/bad\xef\xbf\xbd", "/tmp/bad\xff", true },
		{ ".", "\xc3\xa9", true },
		{ "..", "\xc3\xa9", false },
		{ "[\xc3\xa0-\xc3\xbf]+", "\xc3\xa9\xc3\xa8", true },
		{ "[^a]", "\xe2\x82\xac", true },
		{ "[^\xe2\x82\xac]", "\xe2\x82\xac", false },
		{ ".", "\n", false },
		{ "[^a]", "\n", true },
		{ "\\x41\\x{42}", "AB", true },
		{ "a{0}b", "b", true },
		{ "(ab){2,3}", "abab", true },
		{ "(ab){2,3}", "abababab", false },
		{ "a{,2}", "a{,2}", true }, /* no repetition: text */
		{ "a{x", "a{x", true },
		{ "[]a]+", "]a", true },
		{ "[a-]+", "a-", true },
		{ "[[:alpha:]_]+", "ab_C", true },
		{ "", "", true },
		{ "a|", "", true },
		{ "(((((a)))))", "a", true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (matches(rows[i].pattern, rows[i].text) != rows[i].matches)
			fail_msg("'%s' on '%s'", rows[i].pattern, rows[i].text);
}

static void test_regex_mistakes(void **context)
{
	static const struct {
		const char *pattern;
		unsigned column;
		const char *says;
	} rows[] = {
		{ "a(b", 2, "never closed" },   { "a)b", 2, "never opened" },       { "*a", 1, "nothing here" },
		{ "a[b", 2, "never closed" },   { "[b-a]", 2, "before it begins" }, { "a\\d", 2, "[[:digit:]]" },
		{ "a\\", 2, "at the end" },     { "a{2,1}", 2, "not below" },       { "a{999}", 2, "at most 255" },
		{ "(?i)a", 2, "nothing here" }, { "a^b", 3, "at the ends" },        { "\\x4", 3, "hexadecimal" },
		{ "(a$)b", 6, "at the ends" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct regex *regex = NULL;
		struct fault fault = { 0 };

		assert_int_equal(regex_compile(&regex, rows[i].pattern, strlen(rows[i].pattern), &fault), -EINVAL);
		if (fault.column != rows[i].column || !strstr(fault.text, rows[i].says))
			fail_msg("'%s': %u: %s", rows[i].pattern, fault.column, fault.text);
	}
}

/* What makes a backtracking matcher take years: nested repetitions over a text that fails at its end. */
static void test_regex_is_bounded(void **context)
{
	struct regex *regex = NULL;
	char text[65536], nested[600] = "";
	uint64_t begin;

	assert_int_equal(regex_compile(&regex, "(a*)*(a|aa)+(a?){40}b", 21, NULL), 0);
	memset(text, 'a', sizeof text);
	begin = now_boottime_ns();
	assert_false(regex_match(regex, text, sizeof text));
	assert_true(now_boottime_ns() - begin < 5 * NS_PER_SEC);
	regex_free(regex);
	assert_int_equal(regex_compile(&regex, "(a{255}){255}", 13, NULL), -E2BIG);
	assert_int_equal(regex_compile(&regex, "((((((){255}){255}){255}){255}){255})", 37, NULL), -E2BIG);
	for (unsigned i = 0; i < 100; i++)
		strcat(nested, "(");
	assert_int_equal(regex_compile(&regex, nested, strlen(nested), NULL), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_glob_is_fnmatch),  cmocka_unit_test(test_glob_says),
		cmocka_unit_test(test_glob_is_bounded),  cmocka_unit_test(test_regex_is_regexec),
		cmocka_unit_test(test_regex_says),       cmocka_unit_test(test_regex_mistakes),
		cmocka_unit_test(test_regex_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

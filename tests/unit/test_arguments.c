/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines: every way to write an argument, each mistake with its exact sentence, and the help as it looks. */
#include "arguments.h"
#include "command.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct line {
	const char *file, *format, *journal;
	struct argument_texts sets;
	bool quiet, all;
	uint64_t n, duration, size;
};

static int read_line(struct line *l, struct fault *fault, int argc, char **argv, FILE *help)
{
	const struct argument arguments[] = {
		{ 'c', "config", "FILE", "the configuration to read", .text = &l->file },
		{ 0, "set", "KEY=VALUE", "change one option over the file; may be repeated", .texts = &l->sets },
		{ 0, "for", "DURATION", "end after this time", .duration = &l->duration, .min = 1000000 },
		{ 0, "room", "SIZE", "the size of a thing whose help is long enough to need a second line",
		  .size = &l->size, .max = 1 << 20 },
		{ 'n', NULL, "N", "end after N events", .number = &l->n, .min = 1, .max = 9 },
		{ 0, "format", "FORMAT", "how it is written", .text = &l->format, .choices = "text|json|msgpack" },
		{ 'q', "quiet", .help = "say nothing", .flag = &l->quiet },
		{ 'a', "a-flag-with-a-long-name", .help = "all", .flag = &l->all },
		{ 0, NULL, "JOURNAL", "the folder to read", .text = &l->journal },
		{ 0 },
	};
	const struct usage usage = {
		.command = "test",
		.about = "One paragraph.\nAnother one, which goes on for so long that it has to be broken "
			 "into two lines.",
		.arguments = arguments
	};

	if (help)
		arguments_help(&usage, help);
	return arguments_read(&usage, argc, argv, fault);
}

#define WORDS(...)                                                                                                     \
	(int)ARRAY_SIZE(((const char *[]){ "test", __VA_ARGS__ })), (char **)(const char *[])                          \
	{                                                                                                              \
		"test", __VA_ARGS__                                                                                    \
	}

static void test_forms(void **state)
{
	struct line l = { .n = 7, .format = "text" };
	struct fault fault;

	assert_int_equal(read_line(&l, &fault,
				   WORDS("-c", "a.yaml", "--set", "x=1", "--set=y=2", "--for=1m30s", "-n3", "-qa", "--",
					 "-journal"),
				   NULL),
			 0);
	assert_string_equal(l.file, "a.yaml");
	assert_int_equal(l.sets.n, 2);
	assert_string_equal(l.sets.items[0], "x=1");
	assert_string_equal(l.sets.items[1], "y=2");
	assert_int_equal(l.duration, 90 * NS_PER_SEC);
	assert_int_equal(l.n, 3);
	assert_true(l.quiet && l.all);
	assert_string_equal(l.journal, "-journal");
	assert_string_equal(l.format, "text");

	l = (struct line){ .n = 7 };
	assert_int_equal(
		read_line(&l, &fault, WORDS("journal", "--room", "64KiB", "--format", "json", "-n=", "--help"), NULL),
		-EINVAL);
	assert_int_equal(l.size, 65536);
	assert_string_equal(l.format, "json");
	l = (struct line){ .n = 7 };
	assert_int_equal(read_line(&l, &fault, WORDS("-qh", "--bogus"), NULL), 1);
	assert_int_equal(read_line(&l, &fault, WORDS("-"), NULL), 0);
	assert_string_equal(l.journal, "-");
	assert_int_equal(read_line(&l, &fault, 0, NULL, NULL), 0);
	assert_int_equal(l.n, 7);
}

static void expect_fault(int argc, char **argv, const char *sentence)
{
	struct line l = { 0 };
	struct fault fault = { 0 };

	assert_int_equal(read_line(&l, &fault, argc, argv, NULL), -EINVAL);
	assert_string_equal(fault.text, sentence);
}

static void test_faults(void **state)
{
	expect_fault(WORDS("--confg", "a"), "unknown option '--confg'; did you mean '--config'?");
	expect_fault(WORDS("--hepl"), "unknown option '--hepl'; did you mean '--help'?");
	expect_fault(WORDS("--zzzzzzzz=1"), "unknown option '--zzzzzzzz'");
	expect_fault(WORDS("-x"), "unknown option '-x'");
	expect_fault(WORDS("-c"), "--config needs its FILE: text");
	expect_fault(WORDS("--for"),
		     "--for needs its DURATION: a duration, at least 1ms (in ns, us, ms, s, m, h or d)");
	expect_fault(WORDS("--for", "5"),
		     "--for is '5', without a unit; expected a duration, at least 1ms (in ns, us, ms, s, m, h or d)");
	expect_fault(WORDS("--for", "1ns"),
		     "--for is '1ns', out of range; expected a duration, at least 1ms (in ns, us, ms, s, m, h or d)");
	expect_fault(WORDS("-n", "ten"), "-n is 'ten', not a number; expected a whole number from 1 to 9");
	expect_fault(WORDS("-n10"), "-n is '10', out of range; expected a whole number from 1 to 9");
	expect_fault(WORDS("-n", "1", "-n", "2"), "-n is given twice");
	expect_fault(WORDS("--room", "2MiB"),
		     "--room is '2MiB', out of range; expected a size from 0B to 1MiB (in B, KiB, MiB or GiB)");
	expect_fault(WORDS("--format=jsn"), "--format is 'jsn', none of these; expected text, json or msgpack");
	expect_fault(WORDS("--quiet=yes"), "--quiet takes no value");
	expect_fault(WORDS("a", "b"), "unexpected 'b'");
}

static void test_many(void **state)
{
	char name[] = "--set", value[] = "a=b";
	char *argv[2 * ARGUMENT_TEXTS_MAX + 3] = { (char[]){ "test" } };
	struct line l = { 0 };
	struct fault fault = { 0 };

	for (size_t i = 1; i < ARRAY_SIZE(argv); i += 2) {
		argv[i] = name;
		argv[i + 1] = value;
	}
	assert_int_equal(read_line(&l, &fault, ARRAY_SIZE(argv), argv, NULL), -EINVAL);
	assert_string_equal(fault.text, "--set is given more than 256 times");
}

static void test_required(void **state)
{
	const char *file = NULL;
	const struct argument arguments[] = {
		{ 'o', "output", "FILE", "where to", .text = &file, .required = true },
		{ 0 },
	};
	const struct usage usage = { .command = "test", .about = "", .arguments = arguments };
	struct fault fault = { 0 };

	assert_int_equal(arguments_read(&usage, 0, NULL, &fault), -EINVAL);
	assert_string_equal(fault.text, "--output is missing");
}

static void test_help(void **state)
{
	static const char expected[] =
		"Usage: sonde test [-c FILE] [--set KEY=VALUE]... [--for DURATION] [--room SIZE]\n"
		"             [-n N] [--format FORMAT] [-q] [-a] [JOURNAL]\n"
		"\n"
		"One paragraph.\n"
		"\n"
		"Another one, which goes on for so long that it has to be broken into two lines.\n"
		"\n"
		"  -c, --config FILE       the configuration to read\n"
		"      --set KEY=VALUE     change one option over the file; may be repeated\n"
		"      --for DURATION      end after this time (at least 1ms)\n"
		"      --room SIZE         the size of a thing whose help is long enough to need\n"
		"                          a second line (0B to 1MiB)\n"
		"  -n N                    end after N events (1 to 9)\n"
		"      --format FORMAT     how it is written (text, json or msgpack)\n"
		"  -q, --quiet             say nothing\n"
		"  -a, --a-flag-with-a-long-name\n"
		"                          all\n"
		"  JOURNAL                 the folder to read\n"
		"  -h, --help              show this\n";
	_cleanup_(free_pointer) char *text = NULL;
	struct line l = { 0 };
	struct fault fault;
	size_t size;
	FILE *help = open_memstream(&text, &size);

	assert_non_null(help);
	assert_int_equal(read_line(&l, &fault, 0, NULL, help), 0);
	fclose(help);
	assert_string_equal(text, expected);
	for (const char *line = text; *line; line = strchr(line, '\n') + 1)
		assert_true(strcspn(line, "\n") <= 80);
}

static void test_commands(void **state)
{
	assert_int_equal(command_dispatch(WORDS("chekc")), EXIT_USAGE);
	assert_int_equal(command_dispatch(WORDS("help", "chekc")), EXIT_USAGE);
	assert_int_equal(command_dispatch(WORDS("check", "--ofline")), EXIT_USAGE);
	assert_int_equal(command_dispatch(1, (char *[]){ (char[]){ "sonde" }, NULL }), EXIT_USAGE);
	assert_int_equal(command_dispatch(WORDS("--help")), EXIT_OK);
	assert_int_equal(command_dispatch(WORDS("--version")), EXIT_OK);
	for (size_t i = 0; commands[i]; i++)
		assert_int_equal(command_dispatch(WORDS("help", commands[i]->name)), EXIT_OK);
	assert_int_equal(command_dispatch(WORDS("check", "-c", "/nowhere/sonde.yaml")), EXIT_CONFIG);
	assert_int_equal(command_dispatch(WORDS("check", "--set", "modules.cpu.rate=0")), EXIT_CONFIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),    cmocka_unit_test(test_faults), cmocka_unit_test(test_many),
		cmocka_unit_test(test_required), cmocka_unit_test(test_help),   cmocka_unit_test(test_commands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sonde rules: rule files looked at without running anything. `check` says what is wrong, `explain` what a rule comes to, `test` which rules fire on events
 * written by hand, `fields` what a rule may ask for.
 */
#include "arguments.h"
#include "command.h"
#include "command_setup.h"
#include "paragraph.h"
#include "rule_files.h"
#include "rule_lines.h"
#include "rules/field.h"
#include "rules/rules.h"

#include <errno.h>
#include <string.h>

#define LINE_ROOM 65536u

struct loaded {
	struct rules *rules;
	unsigned errors, warnings;
	bool quiet;
};

static void on_report(void *context, enum rules_level level, const char *sentence)
{
	struct loaded *loaded = context;

	loaded->errors += level == RULES_ERROR;
	loaded->warnings += level == RULES_WARNING;
	if (level == RULES_ERROR || !loaded->quiet)
		fprintf(stderr, "%s%s\n", level == RULES_ERROR ? "" : "warning: ", sentence);
}

static int load(struct loaded *loaded, const char *const *paths, size_t n, bool lenient)
{
	struct fault fault = { 0 };
	int r = rule_files_load(&loaded->rules, paths, n, lenient, on_report, loaded, &fault);

	if (r == 0 || r == -EINVAL)
		return r == 0 ? EXIT_OK : EXIT_CONFIG;
	fprintf(stderr, "sonde rules: %s\n", fault.text);
	return EXIT_FAULT;
}

static int take(const struct usage *usage, int argc, char **argv, const struct argument_texts *files)
{
	int code = arguments_take(usage, argc, argv);

	if (code >= 0 || files->n > 0)
		return code;
	fprintf(stderr, "sonde %s: a rule file is missing\nSee 'sonde %s --help'.\n", usage->command, usage->command);
	return EXIT_USAGE;
}

/* --- check --- */

static void print_summary(const struct loaded *loaded, bool verbose)
{
	const struct rules *rules = loaded->rules;
	uint32_t enabled = 0, skipped = 0;
	struct event_types types;

	for (uint32_t i = 0; i < rules_count(rules); i++) {
		const struct rule_info *info = rules_at(rules, i);

		enabled += info->enabled && !info->skipped;
		skipped += info->skipped != NULL;
		if (verbose)
			printf("%-60s %-13s %5u types %5u tests %7u ns%s%s\n", info->name,
			       rule_priority_name(info->priority), event_types_count(&info->types), info->tests,
			       info->cost, info->enabled ? "" : "  not enabled", info->skipped ? "  left out" : "");
	}
	rules_event_types(rules, &types);
	printf("%u rules, %u enabled, %u left out, %u event types, %u warnings\n", rules_count(rules), enabled, skipped,
	       event_types_count(&types), loaded->warnings);
}

static void on_unserved(void *context, const char *sentence)
{
	on_report(context, RULES_WARNING, sentence);
}

/* Which rules the modules of a configuration make no events for. */
static int check_served(struct loaded *loaded, const char *config)
{
	const struct argument_texts none = { 0 };
	struct setup setup = { 0 };
	int code = command_setup(&setup, config, &none);

	if (code >= 0)
		return code;
	rule_files_unserved(loaded->rules, &setup, on_unserved, loaded);
	setup_free(&setup);
	return EXIT_OK;
}

static int run_check(int argc, char **argv)
{
	struct argument_texts files = { 0 };
	const char *config = NULL;
	bool lenient = false, verbose = false, quiet = false;
	const struct argument arguments[] = {
		{ 0, "lenient", .help = "leave a rule with an unknown field out, with a warning", .flag = &lenient },
		{ 'v', "verbose", .help = "a line for each rule: priority, event types, tests, what it costs at most",
		  .flag = &verbose },
		{ 'q', "quiet", .help = "no warnings", .flag = &quiet },
		{ 'c', "config", "FILE", "say also which rules need a module that this configuration leaves off",
		  .text = &config },
		{ 0, NULL, "FILE", "a rule file; later ones are read over earlier ones", .texts = &files },
		{ 0 },
	};
	const struct usage usage = {
		.command = "rules check",
		.about = "Reads rule files and says what is wrong with them, each mistake with its line and "
			 "column. Exit code 78: there are mistakes.",
		.arguments = arguments
	};
	struct loaded loaded = { 0 };
	int code = take(&usage, argc, argv, &files);

	if (code >= 0)
		return code;
	loaded.quiet = quiet;
	code = load(&loaded, files.items, files.n, lenient);
	if (code == EXIT_OK && config)
		code = check_served(&loaded, config);
	if (code == EXIT_OK)
		print_summary(&loaded, verbose);
	else if (loaded.errors > 0)
		fprintf(stderr, "%u mistakes\n", loaded.errors);
	rules_free(loaded.rules);
	return code;
}

/* --- explain --- */

static int explain(const struct rules *rules, const char *name)
{
	int64_t found = name ? rules_find(rules, name) : -1;

	if (name && found < 0) {
		fprintf(stderr, "sonde rules explain: no rule '%s'; 'sonde rules check -v' lists all\n", name);
		return EXIT_FAULT;
	}
	for (uint32_t i = 0; i < rules_count(rules); i++)
		if (!name || i == found)
			rules_explain(rules, i, stdout);
	return EXIT_OK;
}

static int run_explain(int argc, char **argv)
{
	struct argument_texts words = { 0 };
	const struct argument arguments[] = {
		{ 0, NULL, "FILE... [RULE]", "rule files, and the name of a rule; without it, all are explained",
		  .texts = &words },
		{ 0 },
	};
	const struct usage usage = {
		.command = "rules explain",
		.about = "Shows what rules come to: the condition with macros and lists written out, the event "
			 "types that it can hold for, the fields that it asks for and what they must look like.",
		.arguments = arguments
	};
	struct loaded loaded = { .quiet = true };
	const char *name = NULL;
	int code = take(&usage, argc, argv, &words);

	if (code >= 0)
		return code;
	if (words.n > 1 && access(words.items[words.n - 1], F_OK) < 0)
		name = words.items[--words.n];
	code = load(&loaded, words.items, words.n, true);
	if (code == EXIT_OK)
		code = explain(loaded.rules, name);
	rules_free(loaded.rules);
	return code;
}

/* --- test --- */

struct testing {
	const struct rules *rules;
	const char *path;
	uint32_t *matched; /* room for all rules */
	unsigned line, fired, wrong;
};

static void print_match(const struct testing *t, uint32_t rule, struct rule_event *event)
{
	static char room[LINE_ROOM];
	const struct rule_info *info = rules_at(t->rules, rule);

	bool cut;

	rules_format(t->rules, rule, event, room, sizeof room, &cut);
	printf("%s:%u: %s: %s: %s%s\n", t->path, t->line, rule_priority_name(info->priority), info->name, room,
	       cut ? "..." : "");
}

/* What the line says has to fire, against what did. */
static void compare(struct testing *t, const struct rule_line *line, uint32_t n)
{
	uint32_t as_expected = 0;

	for (uint32_t i = 0; i < n; i++) {
		const char *name = rules_at(t->rules, t->matched[i])->name;

		if (rule_line_expects_rule(line, name))
			as_expected++;
		else
			fprintf(stderr, "%s:%u: '%s' fires, which was not expected\n", t->path, t->line, name);
	}
	if (as_expected < rule_line_expected(line))
		fprintf(stderr, "%s:%u: %zu expected to fire, %u of them did\n", t->path, t->line,
			rule_line_expected(line), as_expected);
	t->wrong += as_expected != n || as_expected != rule_line_expected(line);
}

static int test_line(struct testing *t, const char *text, size_t size)
{
	struct rule_line *line;
	struct fault fault;
	char label[512];
	uint32_t n;
	int r;

	snprintf(label, sizeof label, "%.400s:%u", t->path, t->line);
	r = rule_line_read(&line, text, size, label, &fault);
	if (r < 0) {
		fprintf(stderr, "%s\n", fault.text);
		return r;
	}
	n = rules_match(t->rules, rule_line_event(line), t->matched, rules_count(t->rules));
	t->fired += n;
	for (uint32_t i = 0; i < n; i++)
		print_match(t, t->matched[i], rule_line_event(line));
	if (rule_line_expects(line))
		compare(t, line, n);
	rule_line_free(line);
	return 0;
}

static int test_lines(struct testing *t, FILE *in)
{
	char *text = NULL;
	size_t room = 0;
	ssize_t size;
	int r = 0;

	while (r == 0 && (size = getline(&text, &room, in)) > 0) {
		t->line++;
		if (text[strspn(text, " \t\r\n")])
			r = test_line(t, text, (size_t)size);
	}
	free(text);
	return r;
}

static int test_file(const struct rules *rules, const char *path)
{
	_cleanup_(free_pointer) uint32_t *matched = calloc(rules_count(rules) + 1ul, sizeof *matched);
	struct testing t = { .rules = rules, .path = path, .matched = matched };
	_cleanup_(close_file) FILE *in = strcmp(path, "-") == 0 ? fdopen(dup(STDIN_FILENO), "r") : fopen(path, "re");

	if (!in || !matched) {
		fprintf(stderr, "sonde rules test: %s: %s\n", path, in ? "out of memory" : strerror(errno));
		return EXIT_FAULT;
	}
	if (test_lines(&t, in) < 0)
		return EXIT_CONFIG;
	printf("%u events, %u times a rule fired, %u not as expected\n", t.line, t.fired, t.wrong);
	return t.wrong ? EXIT_FAULT : EXIT_OK;
}

static int run_test(int argc, char **argv)
{
	struct argument_texts words = { 0 };
	bool lenient = false;
	const struct argument arguments[] = {
		{ 0, "lenient", .help = "leave a rule with an unknown field out, with a warning", .flag = &lenient },
		{ 0, NULL, "FILE... EVENTS",
		  "rule files, and the events: one JSON object of fields a line; - is the standard input",
		  .texts = &words },
		{ 0 },
	};
	const struct usage usage = {
		.command = "rules test",
		.about = "Says which rules fire on events written by hand. An event may have \"expect\", a list of "
			 "the rules that have to fire on it; exit code 1: others did.",
		.arguments = arguments
	};
	struct loaded loaded = { .quiet = true };
	int code = take(&usage, argc, argv, &words);

	if (code >= 0)
		return code;
	if (words.n < 2) {
		fputs("sonde rules test: the events are missing: FILE... EVENTS\n", stderr);
		return EXIT_USAGE;
	}
	code = load(&loaded, words.items, words.n - 1, lenient);
	if (code == EXIT_OK)
		code = test_file(loaded.rules, words.items[words.n - 1]);
	rules_free(loaded.rules);
	return code;
}

/* --- fields --- */

static void print_field(const struct rule_field *field, bool markdown)
{
	static const char *const notations[] = { "", "[n]", "[name]", "[n or name]" };
	const char *notation = notations[field->flags & (RULE_TAKES_INDEX | RULE_TAKES_NAME)];

	if (markdown)
		printf("| `%s%s` | %s | %s | %s |\n", field->name, notation, rule_type_name(field->type),
		       field->key ? field->key : "nothing yet", field->doc);
	else
		printf("%s%s\n    %s; %s (from %s)\n", field->name, notation, rule_type_name(field->type), field->doc,
		       field->key ? field->key : "nothing");
}

static int run_fields(int argc, char **argv)
{
	const char *prefix = "", *format = "text";
	const struct argument arguments[] = {
		{ 0, "format", "FORMAT", "text or markdown", .text = &format, .choices = "text|markdown" },
		{ 0, NULL, "PREFIX", "only those whose name begins so", .text = &prefix },
		{ 0 },
	};
	const struct usage usage = { .command = "rules fields",
				     .about = "Lists the fields that conditions and outputs may ask for.",
				     .arguments = arguments };
	int code = arguments_take(&usage, argc, argv);
	bool markdown = strcmp(format, "markdown") == 0;

	if (code >= 0)
		return code;
	if (markdown)
		fputs("| field | type | from | is |\n|---|---|---|---|\n", stdout);
	for (size_t i = 0; i < n_rule_fields; i++)
		if (strncmp(rule_fields[i].name, prefix, strlen(prefix)) == 0)
			print_field(&rule_fields[i], markdown);
	return EXIT_OK;
}

/* --- the verbs --- */

static const struct verb {
	const char *name, *summary;
	int (*run)(int argc, char **argv);
} verbs[] = { { "check", "say what is wrong with rule files, by line and column", run_check },
	      { "explain", "show what a rule comes to and what it asks for", run_explain },
	      { "test", "say which rules fire on events written by hand", run_test },
	      { "fields", "list the fields that rules may ask for", run_fields } };

static int show_verbs(FILE *out, int code)
{
	fputs("Usage: sonde rules VERB [ARGUMENT]...\n\n", out);
	write_paragraph(out, "", 0, 80, "Looks at rule files in the language of Falco, without running anything.");
	fputs("\nVerbs:\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		fprintf(out, "  %-9s", verbs[i].name);
		write_paragraph(out, "           ", 11, 80, verbs[i].summary);
	}
	fputs("\n'sonde rules VERB --help' says more of one.\n", out);
	return code;
}

static int run_rules(int argc, char **argv)
{
	const char *names[ARRAY_SIZE(verbs)], *near;

	if (argc < 2)
		return show_verbs(stderr, EXIT_USAGE);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return show_verbs(stdout, EXIT_OK);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		names[i] = verbs[i].name;
		if (strcmp(argv[1], verbs[i].name) == 0)
			return verbs[i].run(argc - 1, argv + 1);
	}
	near = nearest_name(argv[1], names, ARRAY_SIZE(names));
	fprintf(stderr, "sonde rules: unknown verb '%.64s'%s%s%s\nSee 'sonde rules --help'.\n", argv[1],
		near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
	return EXIT_USAGE;
}

const struct command command_rules = {
	.name = "rules",
	.summary = "check, explain and try rule files in the language of Falco",
	.run = run_rules,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines from rows. A word that begins with - names a row, whatever else is taken by the rows without a name, in
 * their order; -- ends the names. Values are read by the same code as the configuration's, so 10s and 64MiB mean the same.
 */
#include "arguments.h"

#include "command.h"
#include "options.h"
#include "paragraph.h"

#include <errno.h>
#include <string.h>

#define ROWS_MAX    64u
#define HELP_COLUMN 26u
#define HELP_WIDTH  80u

/* Where the reading stands. */
struct reading {
	const struct usage *usage;
	char **next, **end; /* words not read yet */
	size_t places;      /* rows without a name that have theirs */
	bool seen[ROWS_MAX];
	bool help;
	struct fault *fault;
};

static bool is_place(const struct argument *a)
{
	return !a->short_name && !a->long_name;
}

static bool is_last(const struct argument *a)
{
	return is_place(a) && !a->value_name;
}

/* "--config", "-n", "JOURNAL": as an error calls it. */
static void name_argument(const struct argument *a, char *text, size_t room)
{
	if (a->long_name)
		snprintf(text, room, "--%s", a->long_name);
	else if (a->short_name)
		snprintf(text, room, "-%c", a->short_name);
	else
		snprintf(text, room, "%s", a->value_name);
}

static struct sonde_option row_of(const struct argument *a)
{
	struct sonde_option row = { .type = SONDE_OPTION_TEXT, .min = a->min, .max = a->max, .choices = a->choices };

	if (a->number)
		row.type = SONDE_OPTION_UINT;
	else if (a->duration)
		row.type = SONDE_OPTION_DURATION;
	else if (a->size)
		row.type = SONDE_OPTION_SIZE;
	else if (a->choices)
		row.type = SONDE_OPTION_CHOICE;
	return row;
}

static int refuse_value(struct reading *r, const struct argument *a, const char *text, const char *wrong)
{
	const struct sonde_option row = row_of(a);
	char name[64], expected[320];

	name_argument(a, name, sizeof name);
	option_expected(&row, expected, sizeof expected);
	return fault_set(r->fault, -EINVAL, "%s is '%.64s', %s; expected %s", name, text, wrong, expected);
}

static int take_value(struct reading *r, const struct argument *a, const char *text)
{
	const struct sonde_option row = row_of(a);
	uint64_t number = 0;
	const char *wrong = option_read(&row, text, &number);

	if (wrong)
		return refuse_value(r, a, text, wrong);
	if (a->texts) {
		if (a->texts->n == ARGUMENT_TEXTS_MAX)
			return fault_set(r->fault, -EINVAL, "--%s is given more than %u times", a->long_name,
					 ARGUMENT_TEXTS_MAX);
		a->texts->items[a->texts->n++] = text;
	}
	if (a->text)
		*a->text = text;
	if (a->number)
		*a->number = number;
	if (a->duration)
		*a->duration = number;
	if (a->size)
		*a->size = number;
	return 0;
}

static int mark_seen(struct reading *r, const struct argument *a)
{
	bool *seen = &r->seen[a - r->usage->arguments];
	char name[64];

	name_argument(a, name, sizeof name);
	if (*seen && !a->texts && !a->flag)
		return fault_set(r->fault, -EINVAL, "%s is given twice", name);
	*seen = true;
	return 0;
}

/* `attached` is the value in the same word, or NULL: then the next word is it. */
static int take_named(struct reading *r, const struct argument *a, const char *attached)
{
	char name[64], expected[320];
	int error = mark_seen(r, a);

	if (error < 0)
		return error;
	name_argument(a, name, sizeof name);
	if (a->flag) {
		*a->flag = true;
		return attached ? fault_set(r->fault, -EINVAL, "%s takes no value", name) : 0;
	}
	if (!attached && r->next == r->end) {
		const struct sonde_option row = row_of(a);

		option_expected(&row, expected, sizeof expected);
		return fault_set(r->fault, -EINVAL, "%s needs its %s: %s", name, a->value_name, expected);
	}
	return take_value(r, a, attached ? attached : *r->next++);
}

static int refuse_long(struct reading *r, const char *name)
{
	const char *names[ROWS_MAX + 1] = { "help" };
	size_t n = 1;

	for (const struct argument *a = r->usage->arguments; !is_last(a); a++) {
		if (a->long_name)
			names[n++] = a->long_name;
	}

	const char *near = nearest_name(name, names, n);

	if (near)
		return fault_set(r->fault, -EINVAL, "unknown option '--%.64s'; did you mean '--%s'?", name, near);
	return fault_set(r->fault, -EINVAL, "unknown option '--%.64s'", name);
}

static int take_long(struct reading *r, const char *word)
{
	size_t length = strcspn(word, "=");
	const char *attached = word[length] ? word + length + 1 : NULL;
	char name[64];

	if (!strcmp(word, "help")) {
		r->help = true;
		return 0;
	}
	for (const struct argument *a = r->usage->arguments; !is_last(a); a++) {
		if (a->long_name && strlen(a->long_name) == length && !memcmp(a->long_name, word, length))
			return take_named(r, a, attached);
	}
	snprintf(name, sizeof name, "%.*s", (int)MIN_OF(length, sizeof name - 1), word);
	return refuse_long(r, name);
}

/* -abc: flags may share a word; the first that takes a value takes the rest of it. */
static int take_short(struct reading *r, const char *word)
{
	for (; *word; word++) {
		const struct argument *a = r->usage->arguments;
		int error;

		if (*word == 'h') {
			r->help = true;
			continue;
		}
		while (!is_last(a) && a->short_name != *word)
			a++;
		if (is_last(a))
			return fault_set(r->fault, -EINVAL, "unknown option '-%c'", *word);
		if (!a->flag)
			return take_named(r, a, word[1] ? word + 1 : NULL);
		error = take_named(r, a, NULL);
		if (error < 0)
			return error;
	}
	return 0;
}

static int take_place(struct reading *r, const char *word)
{
	size_t place = 0;

	for (const struct argument *a = r->usage->arguments; !is_last(a); a++) {
		if (!is_place(a) || place++ < r->places)
			continue;
		r->seen[a - r->usage->arguments] = true;
		if (!a->texts)
			r->places++;
		return take_value(r, a, word);
	}
	return fault_set(r->fault, -EINVAL, "unexpected '%.64s'", word);
}

static int read_words(struct reading *r)
{
	bool names = true;
	int error = 0;

	while (r->next < r->end && error == 0 && !r->help) {
		const char *word = *r->next++;

		if (names && !strcmp(word, "--"))
			names = false;
		else if (names && word[0] == '-' && word[1] == '-')
			error = take_long(r, word + 2);
		else if (names && word[0] == '-' && word[1])
			error = take_short(r, word + 1);
		else
			error = take_place(r, word);
	}
	return error;
}

int arguments_read(const struct usage *usage, int argc, char **argv, struct fault *fault)
{
	struct reading r = { .usage = usage, .next = argv + MIN_OF(argc, 1), .end = argv + argc, .fault = fault };
	size_t n = 0;

	while (!is_last(&usage->arguments[n]))
		n++;
	if (n >= ROWS_MAX)
		abort(); /* the program's own tables */

	int error = read_words(&r);

	if (error < 0 || r.help)
		return error < 0 ? error : 1;
	for (size_t i = 0; i < n; i++) {
		char name[64];

		name_argument(&usage->arguments[i], name, sizeof name);
		if (usage->arguments[i].required && !r.seen[i])
			return fault_set(fault, -EINVAL, "%s is missing", name);
	}
	return 0;
}

/* --- help --- */

static void write_synopsis(const struct usage *usage, FILE *out)
{
	_cleanup_(free_pointer) char *text = NULL;
	size_t size;
	_cleanup_(close_file) FILE *words = open_memstream(&text, &size);

	if (!words)
		return;
	fprintf(words, "Usage: sonde %s", usage->command);
	for (const struct argument *a = usage->arguments; !is_last(a); a++) {
		char name[64];
		bool place = is_place(a);

		name_argument(a, name, sizeof name);
		/* A no-break mark keeps "-c FILE" on one line; it becomes a space below. */
		fprintf(words, " %s%s%s%s%s%s", a->required ? "" : "[",
			a->short_name && !place ? (char[]){ '-', a->short_name, 0 } : name,
			a->flag || place ? "" : "\x01", a->flag || place ? "" : a->value_name, a->required ? "" : "]",
			a->texts ? "..." : "");
	}
	fflush(words);

	_cleanup_(free_pointer) char *page = NULL;
	size_t page_size;
	FILE *lines = open_memstream(&page, &page_size);

	if (!lines)
		return;
	write_paragraph(lines, "             ", 0, HELP_WIDTH, text);
	fclose(lines);
	for (char *c = page; *c; c++)
		fputc(*c == '\x01' ? ' ' : *c, out);
}

static void write_row(const struct argument *a, FILE *out)
{
	char left[96], lead[HELP_COLUMN + 1];
	const struct sonde_option row = row_of(a);
	_cleanup_(free_pointer) char *text = NULL;
	char range[256];

	memset(lead, ' ', HELP_COLUMN);
	lead[HELP_COLUMN] = '\0';
	if (is_place(a))
		snprintf(left, sizeof left, "  %s", a->value_name);
	else
		snprintf(left, sizeof left, "  %c%c%s%s%s%s%s", a->short_name ? '-' : ' ',
			 a->short_name ? a->short_name : ' ',
			 a->short_name && a->long_name ? ", "
			 : a->long_name                ? "  "
						       : "",
			 a->long_name ? "--" : "", a->long_name ? a->long_name : "", a->value_name ? " " : "",
			 a->value_name ? a->value_name : "");
	option_range(&row, range, sizeof range);
	if (asprintf(&text, "%s%s%s%s", a->help, *range ? " (" : "", range, *range ? ")" : "") < 0)
		return;
	fputs(left, out);
	if (strlen(left) + 2 > HELP_COLUMN)
		fprintf(out, "\n%s", lead);
	else
		fprintf(out, "%*s", (int)(HELP_COLUMN - strlen(left)), "");
	write_paragraph(out, lead, HELP_COLUMN, HELP_WIDTH, text);
}

static void write_about(const char *about, FILE *out)
{
	while (*about) {
		size_t length = strcspn(about, "\n");
		_cleanup_(free_pointer) char *line = strndup(about, length);

		if (!line)
			return;
		fputc('\n', out);
		write_paragraph(out, "", 0, HELP_WIDTH, line);
		about += length + (about[length] == '\n');
	}
}

void arguments_help(const struct usage *usage, FILE *out)
{
	static const struct argument help = { 'h', "help", .help = "show this" };

	write_synopsis(usage, out);
	write_about(usage->about, out);
	fputc('\n', out);
	for (const struct argument *a = usage->arguments; !is_last(a); a++)
		write_row(a, out);
	write_row(&help, out);
	if (usage->more) {
		fputc('\n', out);
		usage->more(out);
	}
}

int arguments_take(const struct usage *usage, int argc, char **argv)
{
	struct fault fault;
	int r = arguments_read(usage, argc, argv, &fault);

	if (r == 0)
		return -1;
	if (r > 0) {
		arguments_help(usage, stdout);
		return fflush(stdout) == 0 ? EXIT_OK : EXIT_FAULT;
	}
	fprintf(stderr, "sonde %s: %s\nSee 'sonde %s --help'.\n", usage->command, fault.text, usage->command);
	return EXIT_USAGE;
}

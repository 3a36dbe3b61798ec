/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sonde cat: what a journal holds at the moment it is asked, and then the end, also while an agent goes on writing to
 * it.
 */
#include "arguments.h"
#include "command.h"
#include "stream.h"

#include <errno.h>
#include <signal.h>

static int fail(const struct fault *fault, int code)
{
	fprintf(stderr, "sonde cat: %s\n", fault->text);
	return code;
}

static void free_selection(struct selection **selection)
{
	selection_free(*selection);
}

static void close_reader(struct journal_reader **reader)
{
	journal_reader_close(*reader);
}

struct cat_options {
	const char *journal, *format;
	struct selection_options selection;
};

/* Where the journal ends now: a writer that goes on is not chased. */
static int find_end(const char *journal, uint64_t *ret_end, struct fault *fault)
{
	_cleanup_(close_reader) struct journal_reader *reader = NULL;
	int r = journal_reader_open(&reader, journal, JOURNAL_END, fault);

	if (r == 0)
		*ret_end = journal_reader_position(reader);
	return r;
}

static int cat(const struct cat_options *options)
{
	_cleanup_(free_selection) struct selection *selection = NULL;
	_cleanup_(close_reader) struct journal_reader *reader = NULL;
	struct selection_options conditions = options->selection;
	enum output_format format = isatty(STDOUT_FILENO) ? OUTPUT_TEXT : OUTPUT_JSON;
	struct stream_bounds bounds = { .read = UINT64_MAX, .written = UINT64_MAX };
	struct output output;
	struct fault fault;
	int r;

	if (options->format && output_format_read(&format, options->format, &fault) < 0)
		return fail(&fault, EXIT_USAGE);
	if (format == OUTPUT_FOLDED && !conditions.types)
		conditions.types = "profile.cpu";
	if (selection_make(&selection, &conditions, &fault) < 0)
		return fail(&fault, EXIT_USAGE);
	r = find_end(options->journal, &bounds.end, &fault);
	if (r == 0)
		r = journal_reader_open(&reader, options->journal, 0, &fault);
	if (r == -ENOENT)
		fault_set(&fault, r, "%s: there is no journal; 'sonde run' keeps one", options->journal);
	if (r < 0)
		return fail(&fault, EXIT_FAULT);
	signal(SIGPIPE, SIG_IGN);
	output_begin(&output, stdout, format);
	r = stream_copy(reader, selection, &output, bounds);
	if (r == 0)
		r = output_flush(&output);
	return stream_finish("cat", r, reader, &output);
}

static int run(int argc, char **argv)
{
	struct cat_options options = { .journal = JOURNAL_DEFAULT };
	const struct argument rows[] = {
		{ 0, NULL, "JOURNAL", "the folder to read; by default " JOURNAL_DEFAULT, .text = &options.journal },
		{ 0, "type", "GLOB", STREAM_HELP_TYPE, .text = &options.selection.types },
		{ 0, "where", "EXPR", STREAM_HELP_WHERE, .text = &options.selection.where },
		{ 0, "since", "T",
		  "only records from then on: 10s or 5m (ago), 2026-11-23T08:00:00Z, or seconds since the epoch",
		  .text = &options.selection.since },
		{ 0, "until", "T", "only records up to then", .text = &options.selection.until },
		{ 0, "format", "NAME",
		  "text, json (one object a line), msgpack (the maps back to back) or folded (input of flame graphs: "
		  "profile.cpu, unless "
		  "--type says otherwise); by default text on a terminal, else json",
		  .text = &options.format },
		{ 0 },
	};
	const struct usage usage = {
		.command = "cat",
		.about = "Writes what a journal holds at this moment, oldest first.",
		.arguments = rows,
	};
	int r = arguments_take(&usage, argc, argv);

	return r >= 0 ? r : cat(&options);
}

const struct command command_cat = { "cat", "write what a journal holds", run };

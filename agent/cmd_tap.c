/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sonde tap: the live stream, record by record as they are journaled, until it is interrupted, its reader goes away, or
 * enough was shown.
 *
 * SIGINT and SIGTERM stay blocked and are asked for between two waits of TICK_MS, so a record is never cut short and no
 * handler needs a variable of its own; the same tick notices that nobody reads the output any more while nothing is
 * written.
 */
#include "arguments.h"
#include "command.h"
#include "interrupt.h"
#include "stream.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define TICK_MS 100
/* Records read between two looks at the signals and the far end. */
#define BATCH 1024

static int fail(const struct fault *fault, int code)
{
	fprintf(stderr, "sonde tap: %s\n", fault->text);
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

static int follow(struct journal_reader *reader, const struct selection *selection, struct output *output,
		  uint64_t limit)
{
	struct stream_bounds bounds = { .end = UINT64_MAX, .read = BATCH };
	uint64_t before;
	sigset_t asked;
	int r = 0;

	interrupt_block(&asked);
	while (r == 0 && output->written < limit && !interrupt_came(&asked) && !output_deserted(output)) {
		before = journal_reader_position(reader);
		bounds.written = limit - output->written;
		r = stream_copy(reader, selection, output, bounds);
		if (r == 0)
			r = output_flush(output);
		if (r == 0 && journal_reader_position(reader) == before)
			journal_reader_wait(reader, TICK_MS);
	}
	return r;
}

struct tap_options {
	const char *journal, *format, *from;
	uint64_t limit;
	struct selection_options selection;
};

static int tap(const struct tap_options *options)
{
	_cleanup_(free_selection) struct selection *selection = NULL;
	_cleanup_(close_reader) struct journal_reader *reader = NULL;
	uint64_t begin = strcmp(options->from, "start") == 0 ? 0 : JOURNAL_END;
	enum output_format format = OUTPUT_TEXT;
	struct output output;
	struct fault fault;
	int r;

	if (output_format_read(&format, options->format, &fault) < 0 ||
	    selection_make(&selection, &options->selection, &fault) < 0)
		return fail(&fault, EXIT_USAGE);
	r = journal_reader_open(&reader, options->journal, begin, &fault);
	if (r == -ENOENT)
		fault_set(&fault, r, "%s: there is no journal; 'sonde run' keeps one", options->journal);
	if (r < 0)
		return fail(&fault, EXIT_FAULT);
	output_begin(&output, stdout, format); /* which fails only where it sums */
	r = follow(reader, selection, &output, options->limit);
	return stream_finish("tap", r, reader, &output);
}

static int run(int argc, char **argv)
{
	struct tap_options options = { JOURNAL_DEFAULT, .format = "text", .from = "end", .limit = UINT64_MAX };
	const struct argument rows[] = {
		{ 0, "journal", "DIR", "the folder to follow; by default " JOURNAL_DEFAULT, .text = &options.journal },
		{ 0, "from", "PLACE", "where to begin: by default at the end, with what comes from now on",
		  .text = &options.from, .choices = "end|start" },
		{ 0, "type", "GLOB", STREAM_HELP_TYPE, .text = &options.selection.types },
		{ 0, "where", "EXPR", STREAM_HELP_WHERE, .text = &options.selection.where },
		{ 0, "format", "NAME", "by default text; json is one object a line, msgpack the maps back to back",
		  .text = &options.format, .choices = "text|json|msgpack" },
		{ 'n', NULL, "N", "end after N records", .number = &options.limit, .min = 1 },
		{ 0 },
	};
	const struct usage usage = {
		.command = "tap",
		.about = "Shows the records of a journal as they are written, until it is interrupted.",
		.arguments = rows,
	};
	int r = arguments_take(&usage, argc, argv);

	return r >= 0 ? r : tap(&options);
}

const struct command command_tap = { "tap", "show the live stream", run };

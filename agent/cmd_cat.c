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

/* Writes what was summed, and says what there is to say: the exit code. */
static int finish(struct output *output, int error, const struct journal_reader *reader)
{
	struct fault fault, note;
	int r = output_end(output, error == 0, &fault, &note), code;

	if (error == -EMEDIUMTYPE) {
		fault_set(&fault, error,
			  "occurrences and times do not add up; choose one type with --type, such as profile.cpu");
		return fail(&fault, EXIT_USAGE);
	}
	code = stream_finish("cat", error, reader, output);
	if (r < 0 && r != -EPIPE)
		return fail(&fault, EXIT_FAULT);
	if (note.text[0])
		fprintf(stderr, "sonde cat: %s\n", note.text);
	return code;
}

static int cat(const struct cat_options *options)
{
	_cleanup_(free_selection) struct selection *selection = NULL;
	_cleanup_(close_reader) struct journal_reader *reader = NULL;
	struct selection_options conditions = options->selection;
	enum output_format format = isatty(STDOUT_FILENO) ? OUTPUT_TEXT : OUTPUT_JSON;
	struct stream_bounds bounds = { .read = UINT64_MAX, .written = UINT64_MAX };
	struct progress progress;
	struct output output;
	struct fault fault;
	int r;

	if (options->format && output_format_read(&format, options->format, &fault) < 0)
		return fail(&fault, EXIT_USAGE);
	if ((format == OUTPUT_FOLDED || format == OUTPUT_PPROF) && !conditions.types)
		conditions.types = "profile.cpu";
	if (format == OUTPUT_PCAPNG && !conditions.types)
		conditions.types = "packet.capture";
	if ((format == OUTPUT_PPROF || format == OUTPUT_PCAPNG) && isatty(STDOUT_FILENO)) {
		fault_set(&fault, -EINVAL, "--format %s writes a binary file; redirect it, as in > FILE.%s",
			  options->format, format == OUTPUT_PPROF ? "pb.gz" : "pcapng");
		return fail(&fault, EXIT_USAGE);
	}
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
	if (output_begin(&output, stdout, format) < 0) {
		fault_set(&fault, -ENOMEM, "out of memory");
		return fail(&fault, EXIT_FAULT);
	}
	progress_begin(&progress, "cat", "summing stacks");
	if (format == OUTPUT_FOLDED || format == OUTPUT_PPROF)
		bounds.progress = &progress;
	r = stream_copy(reader, selection, &output, bounds);
	progress_end(&progress);
	return finish(&output, r, reader);
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
		  "text, json (one object a line), msgpack (the maps back to back), folded (stacks summed, the input "
		  "of "
		  "flamegraph.pl) or pprof (a profile for go tool pprof, Speedscope and Pyroscope); these two are of "
		  "profile.cpu, unless --type says otherwise; pcapng (the packets of packet.capture, for Wireshark); "
		  "by default "
		  "text on a terminal, else json",
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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sonde map: who talks to whom, how slow, and what fails, out of a journal as it is at the moment it is asked. A file takes
 * its name only once it is whole.
 */
#include "arguments.h"
#include "command.h"
#include "map/write.h"
#include "output.h"
#include "progress.h"
#include "stream.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

#define PEERS_DEFAULT 24u

struct map_options {
	const char *journal, *format, *out;
	struct selection_options selection;
	uint64_t peers;
	bool plain;
};

struct map_command {
	const struct map_options *options;
	struct selection *selection;
	struct map_sums *sums;
	struct map_view view;
	uint64_t bad, lost;
	struct fault fault;
};

static void close_reader(struct journal_reader **reader)
{
	journal_reader_close(*reader);
}

static int open_journal(const char *journal, uint64_t position, struct journal_reader **ret, struct fault *fault)
{
	int r = journal_reader_open(ret, journal, position, fault);

	if (r == -ENOENT)
		fault_set(fault, r, "%s: there is no journal; 'sonde run' keeps one", journal);
	return r;
}

static int find_end(struct map_command *c, uint64_t *ret)
{
	_cleanup_(close_reader) struct journal_reader *reader = NULL;
	int r = open_journal(c->options->journal, JOURNAL_END, &reader, &c->fault);

	if (r == 0)
		*ret = journal_reader_position(reader);
	return r;
}

static int add_record(struct map_command *c, const struct journal_record *record)
{
	struct map_row row;
	int r;

	if (!selection_match(c->selection, record->map, record->size))
		return 0;
	r = map_row_read(record->map, record->size, &row);
	if (r == 0)
		r = map_sums_add(c->sums, &row);
	c->bad += r == -EBADMSG;
	return r == -ENOMEM ? fault_set(&c->fault, r, "out of memory") : 0;
}

static int read_rows(struct map_command *c)
{
	_cleanup_(close_reader) struct journal_reader *reader = NULL;
	struct journal_record record;
	struct progress progress;
	uint64_t end = 0, records = 0, bad = 0;
	int r = find_end(c, &end);

	if (r == 0)
		r = open_journal(c->options->journal, 0, &reader, &c->fault);
	if (r < 0)
		return r;
	progress_begin(&progress, "map", "reading");
	while (r == 0 && journal_reader_next(reader, &record) == 1 && record.position < end) {
		progress_show(&progress, record.position, end, ++records);
		r = add_record(c, &record);
	}
	progress_end(&progress);
	journal_reader_counts(reader, &bad, &c->lost);
	c->bad += bad;
	return r;
}

/* ---- output ---- */

static unsigned terminal_columns(FILE *out)
{
	struct winsize size;

	return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

static int write_map(void *context, FILE *out)
{
	const struct map_command *c = context;
	bool terminal = isatty(fileno(out));

	if (strcmp(c->options->format, "json") == 0)
		return map_write_json(out, &c->view);
	if (strcmp(c->options->format, "dot") == 0)
		return map_write_dot(out, &c->view);
	if (strcmp(c->options->format, "html") == 0)
		return map_write_page(out, &c->view, c->options->plain);
	return map_write_text(out, &c->view, terminal && !getenv("NO_COLOR"), terminal ? terminal_columns(out) : 0);
}

static void say_losses(const struct map_command *c)
{
	if (c->bad)
		fprintf(stderr, "sonde map: %" PRIu64 " bad record%s skipped\n", c->bad, c->bad == 1 ? "" : "s");
	if (c->lost)
		fprintf(stderr, "sonde map: %" PRIu64 " bytes of records were overwritten before they could be read\n",
			c->lost);
	for (const char *note = c->view.notes; *note; note += strlen(note) + 1)
		fprintf(stderr, "sonde map: %s\n", note);
}

static int make_map(struct map_command *c)
{
	const char *out = c->options->out ? c->options->out : "standard output";
	int r = read_rows(c);

	if (r < 0)
		return r;
	if (map_sums_finish(c->sums, &c->view) < 0)
		return fault_set(&c->fault, -ENOMEM, "out of memory");
	if (!c->view.rows)
		return fault_set(&c->fault, -ENODATA,
				 "%s: no row about connections or queries fulfils the conditions; the module tcp makes "
				 "such rows, and --type, --where, --since and --until choose among them",
				 c->options->journal);
	r = output_replace(c->options->out, write_map, (void *)c);
	if (r < 0 && r != -EPIPE)
		return fault_set(&c->fault, r, "%s: cannot write: %s", out, strerror(-r));
	say_losses(c);
	return 0;
}

static int map(const struct map_options *options)
{
	const struct map_limits limits = { .processes = 4096,
					   .addresses = 16384,
					   .edges = 16384,
					   .services = 4096,
					   .listeners = 16384,
					   .executions = 65536,
					   .connections = 65536,
					   .histograms = 8192,
					   .peers = (uint32_t)options->peers };
	struct map_command c = { .options = options };
	int r = selection_make(&c.selection, &options->selection, &c.fault), code = EXIT_USAGE;

	if (r == 0) {
		code = EXIT_FAULT;
		signal(SIGPIPE, SIG_IGN);
		r = map_sums_make(&c.sums, &limits);
		r = r < 0 ? fault_set(&c.fault, r, "out of memory") : make_map(&c);
	}
	if (r < 0)
		fprintf(stderr, "sonde map: %s\n", c.fault.text);
	map_sums_free(c.sums);
	selection_free(c.selection);
	return r < 0 ? code : EXIT_OK;
}

static int run(int argc, char **argv)
{
	struct map_options o = { .journal = JOURNAL_DEFAULT, .peers = PEERS_DEFAULT };
	const struct argument rows[] = {
		{ 0, NULL, "JOURNAL", "the folder to read; by default " JOURNAL_DEFAULT, .text = &o.journal },
		{ 0, "format", "NAME",
		  "text, dot (for Graphviz), html (a page; give -o too) or json; by default text on a terminal, html "
		  "where -o names a .html file, else json",
		  .text = &o.format, .choices = "text|dot|html|json" },
		{ 'o', "output", "FILE", "the file to write; - is standard output, the default", .text = &o.out },
		{ 0, "type", "GLOB", "of tcp.connect, tcp.accept, tcp.close, tcp.turnaround and dns.query only these",
		  .text = &o.selection.types },
		{ 0, "where", "EXPR", "only rows that fulfil the expression, such as 'comm = nginx'",
		  .text = &o.selection.where },
		{ 0, "since", "T",
		  "only rows from then on: 10s or 5m (ago), 2026-11-23T08:00:00Z, or seconds since the epoch",
		  .text = &o.selection.since },
		{ 0, "until", "T", "only rows up to then", .text = &o.selection.until },
		{ 0, "peers", "N", "addresses outside this host that are told apart, the busiest; by default 24",
		  .number = &o.peers, .min = 1, .max = 10000 },
		{ 0, "plain", NULL,
		  "do not compress the data in the page: for browsers of before 2023, or to look at it",
		  .flag = &o.plain },
		{ 0 },
	};
	const struct usage usage = {
		.command = "map",
		.about = "Shows who talks to whom out of a journal's connections and queries: how many, how slow, how "
			 "much, "
			 "and what failed; as a table, a graph for Graphviz, JSON, or one HTML page that needs no "
			 "network.",
		.arguments = rows,
	};
	int r = arguments_take(&usage, argc, argv);
	size_t length;

	if (r >= 0)
		return r;
	length = o.out ? strlen(o.out) : 0;
	if (!o.format && length > 5 && strcmp(o.out + length - 5, ".html") == 0)
		o.format = "html";
	if (!o.format)
		o.format = isatty(STDOUT_FILENO) && !o.out ? "text" : "json";
	if (strcmp(o.format, "html") == 0 && !o.out && isatty(STDOUT_FILENO)) {
		fprintf(stderr, "sonde map: --format html writes a page; name its file, as in -o map.html\n");
		return EXIT_USAGE;
	}
	return map(&o);
}

const struct command command_map = { "map", "show who talks to whom, how slow, and what fails", run };

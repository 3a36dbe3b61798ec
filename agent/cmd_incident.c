/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sonde incident: what a process, and all that descends from it, did and what was done to it, over all modules, out of a journal as it is
 * at the moment it is asked. The journal is read twice: who belongs together is known only when all of it was seen.
 */
#include "arguments.h"
#include "command.h"
#include "encode/record.h"
#include "incident/write.h"
#include "output.h"
#include "progress.h"
#include "stream.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

struct incident_options {
	const char *journal, *process, *format;
	struct selection_options selection;
	uint64_t up;
};

/* Rows wait here so that they are told in their order, which is not quite that of the journal: its two rings are read in turns. */
#define WAITING_BYTES (32u << 20)
#define WAITING_ROWS  (WAITING_BYTES / 128)

struct waiting {
	uint64_t ts;
	uint32_t offset, size;
};

struct incident {
	const struct incident_options *options;
	struct selection *selection, *sums;
	struct tree *tree;
	struct execution *root, *top;
	struct incident_style style;
	bool json, told; /* a row of theirs came by */
	uint8_t *bytes;
	struct waiting *waiting;
	uint32_t n_waiting, used;
	uint64_t bad, damaged, lost, summed, written, end;
	struct fault fault;
};

static void close_reader(struct journal_reader **reader)
{
	journal_reader_close(*reader);
}

static int open_journal(struct incident *c, uint64_t position, struct journal_reader **ret)
{
	int r = journal_reader_open(ret, c->options->journal, position, &c->fault);

	if (r == -ENOENT)
		fault_set(&c->fault, r, "%s: there is no journal; 'sonde run' keeps one", c->options->journal);
	return r;
}

/* Calls `take` for each record up to where the journal ended when the command began. */
static int read_rows(struct incident *c, const char *what,
		     int (*take)(struct incident *c, const struct journal_record *record))
{
	_cleanup_(close_reader) struct journal_reader *reader = NULL;
	struct journal_record record;
	struct progress progress;
	uint64_t records = 0;
	int r = open_journal(c, 0, &reader);

	if (r < 0)
		return r;
	progress_begin(&progress, "incident", what);
	while (r == 0 && journal_reader_next(reader, &record) == 1 && record.position < c->end) {
		progress_show(&progress, record.position, c->end, ++records);
		r = take(c, &record);
	}
	progress_end(&progress);
	journal_reader_counts(reader, &c->bad, &c->lost);
	return r;
}

static int find_end(struct incident *c)
{
	_cleanup_(close_reader) struct journal_reader *reader = NULL;
	int r = open_journal(c, JOURNAL_END, &reader);

	if (r == 0)
		c->end = journal_reader_position(reader);
	return r;
}

/* ---- which rows ---- */

/* Rows that sum a while up would bury what happened. */
static int make_selections(struct incident *c)
{
	struct selection_options options = c->options->selection, sums = { .types = "profile.*,sched.*,syscall.stats" };
	int r = selection_make(&c->selection, &options, &c->fault);

	return r < 0 ? r : selection_make(&c->sums, &sums, &c->fault);
}

static bool is_asked_for(const struct incident *c, const struct journal_record *record)
{
	return selection_match(c->selection, record->map, record->size);
}

static bool is_sum(const struct incident *c, const struct journal_record *record)
{
	return !c->options->selection.types && selection_match(c->sums, record->map, record->size);
}

/* ---- who ---- */

/* The tree says how many alerts each had: so these are counted for all, before it is known who belongs to it. */
static int take_execution(struct incident *c, const struct journal_record *record)
{
	bool counts = is_asked_for(c, record) && !is_sum(c, record);
	int r = tree_add(c->tree, record->map, record->size, counts);

	c->damaged += r == -EBADMSG;
	return r == -ENOMEM ? fault_set(&c->fault, r, "out of memory") : 0;
}

/* 16 hex digits are an execution, fewer decimal ones a pid. */
static int find_root(struct incident *c)
{
	const char *text = c->options->process;
	uint64_t number;
	char *end;

	errno = 0;
	number = strtoull(text, &end, strlen(text) == 16 ? 16 : 10);
	if (errno || *end || end == text || *text == '-' || *text == '+' || !number ||
	    (strlen(text) != 16 && number > INT32_MAX))
		return fault_set(&c->fault, -EINVAL,
				 "'%.40s' is neither the proc of an event (16 hex digits) nor a pid", text);
	c->root = strlen(text) == 16 ? tree_of_proc(c->tree, number) : tree_of_pid(c->tree, (uint32_t)number);
	if (!c->root)
		return fault_set(&c->fault, -ENODATA, "%s: no event of process %s; 'sonde cat' shows what there is",
				 c->options->journal, text);
	return 0;
}

/* ---- what ---- */

static bool is_loss(const struct journal_record *record)
{
	const char *type;
	size_t length;

	return record_type(record->map, record->size, &type, &length) == 0 && length == 10 &&
	       !memcmp(type, "agent.loss", 10);
}

/* What was lost may have been of these processes: it is part of the truth. */
static bool is_part(struct incident *c, const struct journal_record *record)
{
	bool sum;

	if (!is_asked_for(c, record))
		return false;
	if (is_loss(record))
		return c->told;
	if (!tree_has(c->tree, record->map, record->size))
		return false;
	sum = is_sum(c, record);
	c->summed += sum;
	return !sum;
}

static int write_row(struct incident *c, const uint8_t *map, uint32_t size)
{
	int r;

	if (c->json) {
		fputs(c->written++ ? "," : "", stdout);
		return record_write_json(stdout, map, size);
	}
	r = record_write_line(stdout, map, size, c->style.colour, c->style.columns);
	putchar('\n');
	return r;
}

static int by_time(const void *a, const void *b)
{
	const struct waiting *x = a, *y = b;

	/* Of one moment, in the journal's order. */
	return x->ts != y->ts ? (x->ts < y->ts ? -1 : 1) : x->offset < y->offset ? -1 : 1;
}

static int write_waiting(struct incident *c)
{
	int r = 0;

	qsort(c->waiting, c->n_waiting, sizeof *c->waiting, by_time);
	for (uint32_t i = 0; i < c->n_waiting && (r == 0 || r == -EBADMSG); i++) {
		r = write_row(c, c->bytes + c->waiting[i].offset, c->waiting[i].size);
		c->damaged += r == -EBADMSG;
	}
	c->n_waiting = c->used = 0;
	return r == -EBADMSG ? 0 : r;
}

static int take_row(struct incident *c, const struct journal_record *record)
{
	struct value ts;
	int r = 0;

	_Static_assert(JOURNAL_RECORD_MAX <= WAITING_BYTES, "any record has room");
	if (!is_part(c, record))
		return 0;
	c->told = true;
	if (c->n_waiting == WAITING_ROWS || c->used + record->size > WAITING_BYTES)
		r = write_waiting(c);
	if (record_get(record->map, record->size, "ts", &ts) < 0 || ts.kind != VALUE_UINT)
		ts.u = 0;
	memcpy(c->bytes + c->used, record->map, record->size);
	c->waiting[c->n_waiting++] = (struct waiting){ ts.u, c->used, (uint32_t)record->size };
	c->used += (uint32_t)record->size;
	return r;
}

static int write_rows(struct incident *c)
{
	int r;

	c->bytes = malloc(WAITING_BYTES);
	c->waiting = malloc(WAITING_ROWS * sizeof *c->waiting);
	if (!c->bytes || !c->waiting)
		return fault_set(&c->fault, -ENOMEM, "out of memory");
	r = read_rows(c, "writing", take_row);
	return r == 0 ? write_waiting(c) : r;
}

static int write_incident(struct incident *c)
{
	int r;

	if (c->json) {
		putchar('{');
		r = incident_write_json(stdout, c->tree, c->top, c->root);
		fputs("\"events\":[", stdout);
	} else {
		r = incident_write_head(stdout, c->tree, c->root, c->style);
		if (r == 0)
			r = incident_write_tree(stdout, c->top, c->root, c->style);
		putchar('\n');
	}
	if (r == 0)
		r = write_rows(c);
	if (c->json)
		fputs("]}\n", stdout);
	return r < 0 ? r : fflush(stdout) == EOF ? -errno : 0;
}

static void say_rest(const struct incident *c)
{
	if (c->summed && !c->json)
		fprintf(stderr,
			"sonde incident: %" PRIu64
			" rows of profiles and sums are left out; --type '*' has them, and sonde flame draws them\n",
			c->summed);
	if (tree_left_out(c->tree))
		fprintf(stderr,
			"sonde incident: %" PRIu64
			" rows are of executions beyond the %u that it holds, which are not told "
			"of; sonde cat --where 'proc = ...' has their rows\n",
			tree_left_out(c->tree), TREE_MAX);
	if (c->bad + c->damaged)
		fprintf(stderr, "sonde incident: %" PRIu64 " bad record%s skipped\n", c->bad + c->damaged,
			c->bad + c->damaged == 1 ? "" : "s");
	if (c->lost)
		fprintf(stderr,
			"sonde incident: %" PRIu64 " bytes of records were overwritten before they could be read\n",
			c->lost);
}

static int tell(struct incident *c)
{
	struct winsize size;
	int r = tree_make(&c->tree);

	if (r < 0)
		return fault_set(&c->fault, r, "out of memory");
	if (isatty(STDOUT_FILENO)) {
		c->style.colour = !getenv("NO_COLOR");
		c->style.columns = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
	}
	r = find_end(c);
	if (r == 0)
		r = read_rows(c, "reading", take_execution);
	if (r == 0)
		r = find_root(c);
	if (r == 0 && tree_choose(c->tree, c->root, (unsigned)c->options->up, &c->top) < 0)
		r = fault_set(&c->fault, -ENOMEM, "out of memory");
	if (r == 0) {
		r = write_incident(c);
		if (r < 0 && r != -EPIPE && !c->fault.text[0])
			fault_set(&c->fault, r, "cannot write: %s", strerror(-r));
		r = r == -EPIPE ? 0 : r;
	}
	say_rest(c);
	return r;
}

static int incident(const struct incident_options *options)
{
	struct incident c = { .options = options };
	int r, code = EXIT_USAGE;

	c.json = options->format ? strcmp(options->format, "json") == 0 : !isatty(STDOUT_FILENO);
	r = make_selections(&c);
	if (r == 0) {
		code = EXIT_FAULT;
		signal(SIGPIPE, SIG_IGN);
		r = tell(&c);
		code = r == -EINVAL ? EXIT_USAGE : EXIT_FAULT;
	}
	if (r < 0)
		fprintf(stderr, "sonde incident: %s\n", c.fault.text);
	free(c.bytes);
	free(c.waiting);
	tree_free(c.tree);
	selection_free(c.selection);
	selection_free(c.sums);
	return r < 0 ? code : EXIT_OK;
}

static int run(int argc, char **argv)
{
	struct incident_options o = { .journal = JOURNAL_DEFAULT };
	const struct argument rows[] = {
		{ 0, NULL, "PROC",
		  "the process: the proc of any event or alert (16 hex digits), or a pid, of which the latest is meant",
		  .text = &o.process, .required = true },
		{ 0, "journal", "FOLDER", "the journal to read; by default " JOURNAL_DEFAULT, .text = &o.journal },
		{ 0, "up", "N", "begin that many ancestors above the process; by default 0", .number = &o.up,
		  .max = 64 },
		{ 0, "type", "GLOB", STREAM_HELP_TYPE "; by default all but profiles and sums",
		  .text = &o.selection.types },
		{ 0, "where", "EXPR", STREAM_HELP_WHERE, .text = &o.selection.where },
		{ 0, "since", "T",
		  "only records from then on: 10s or 5m (ago), 2026-11-23T08:00:00Z, or seconds since the epoch",
		  .text = &o.selection.since },
		{ 0, "until", "T", "only records up to then", .text = &o.selection.until },
		{ 0, "format", "NAME", "text or json (one object); by default text on a terminal, else json",
		  .text = &o.format, .choices = "text|json" },
		{ 0 },
	};
	const struct usage usage = {
		.command = "incident",
		.about =
			"Tells what a process and all that descends from it did, and what was done to it: where it "
			"came "
			"from, the tree of its programs with their ends, and every event of all modules in one line of "
			"time, losses included.",
		.arguments = rows,
	};
	int r = arguments_take(&usage, argc, argv);

	return r >= 0 ? r : incident(&o);
}

const struct command command_incident = { "incident", "tell what a process tree did, over all modules", run };

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sonde flame: the profiles of a journal as one page. A journal is read twice, first for the spans of time; what an agent
 * writes meanwhile is left to the next page. The file takes its name only once it is whole.
 */
#include "arguments.h"
#include "command.h"
#include "flame/page.h"
#include "output.h"
#include "progress.h"
#include "stream.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define TABLES_BYTES (384ull << 20)
#define NODES_MAX    250000u
#define AMOUNTS_MAX  600000u
#define BUCKETS_MAX  480u

struct flame_options {
	const char *journal, *other, *out;
	struct selection_options selection, against; /* against: its times only */
	bool off_cpu, plain;
};

struct flame_side {
	const char *journal;
	struct selection *selection;
	uint64_t end, rows, bad, lost;
};

struct flame {
	const struct flame_options *options;
	struct flame_side sides[PAGE_SIDES];
	unsigned n_sides;
	struct page_data *data;
	struct progress progress;
	struct fault fault;
};

static int fail(const struct fault *fault, int code)
{
	fprintf(stderr, "sonde flame: %s\n", fault->text);
	return code;
}

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

/* One reading of a side: rows are looked at, or added. */
static int read_side(struct flame *f, unsigned n, bool add)
{
	_cleanup_(close_reader) struct journal_reader *reader = NULL;
	struct flame_side *side = &f->sides[n];
	struct journal_record record;
	struct flame_row row;
	uint64_t records = 0;
	int r = open_journal(side->journal, 0, &reader, &f->fault);

	if (r < 0)
		return r;
	side->bad = 0;
	while (journal_reader_next(reader, &record) == 1 && record.position < side->end) {
		progress_show(&f->progress, record.position, side->end, ++records);
		if (!selection_match(side->selection, record.map, record.size))
			continue;
		r = flame_row_read(record.map, record.size, &row);
		if (r == 0 && add)
			r = page_data_add(f->data, n, &row);
		else if (r == 0)
			page_data_look(f->data, n, &row);
		if (r == -ENOMEM)
			return fault_set(&f->fault, r, "out of memory");
		side->bad += r == -EBADMSG;
		side->rows += r == 0 && !add;
	}
	uint64_t bad = 0;

	journal_reader_counts(reader, &bad, &side->lost);
	side->bad += bad;
	return 0;
}

static int read_sides(struct flame *f)
{
	static const char *const what[] = { "reading", "summing" };
	int r = 0;

	for (int add = 0; add < 2; add++)
		for (unsigned n = 0; r == 0 && n < f->n_sides; n++) {
			progress_begin(&f->progress, "flame", what[add]);
			r = read_side(f, n, add);
			progress_end(&f->progress);
		}
	return r;
}

/* ---- sides ---- */

static int find_end(struct flame_side *side, struct fault *fault)
{
	_cleanup_(close_reader) struct journal_reader *reader = NULL;
	int r = open_journal(side->journal, JOURNAL_END, &reader, fault);

	if (r == 0)
		side->end = journal_reader_position(reader);
	return r;
}

static int label_side(struct flame *f, unsigned n, const struct selection_options *selection)
{
	char label[512];
	int size = snprintf(label, sizeof label, "%s", f->sides[n].journal);

	if (selection->since && size > 0 && (size_t)size < sizeof label)
		size += snprintf(label + size, sizeof label - (size_t)size, " since %s", selection->since);
	if (selection->until && size > 0 && (size_t)size < sizeof label)
		snprintf(label + size, sizeof label - (size_t)size, " until %s", selection->until);
	return page_data_label(f->data, n, label);
}

static int make_side(struct flame *f, const char *journal, const struct selection_options *selection)
{
	struct flame_side *side = &f->sides[f->n_sides];
	int r = selection_make(&side->selection, selection, &f->fault);

	if (r < 0)
		return r;
	side->journal = journal;
	r = label_side(f, f->n_sides++, selection);
	return r < 0 ? fault_set(&f->fault, r, "out of memory") : 0;
}

/* The other journal or the other times, under the same other conditions. */
static int make_sides(struct flame *f)
{
	const struct flame_options *o = f->options;
	struct selection_options against = o->selection;
	bool times = o->against.since || o->against.until;
	int r = make_side(f, o->journal, &o->selection);

	if (r < 0 || (!o->other && !times))
		return r;
	if (times) {
		against.since = o->against.since;
		against.until = o->against.until;
	}
	return make_side(f, o->other ? o->other : o->journal, &against);
}

static int check_sides(struct flame *f)
{
	for (unsigned n = 0; n < f->n_sides; n++) {
		const char *journal = f->sides[n].journal;

		if (!f->sides[n].rows)
			return fault_set(
				&f->fault, -ENODATA,
				"%s: no row with a stack fulfils the conditions; the modules cpu and offcpu make "
				"such rows, and --type, --where, --since and --until choose among them",
				journal);
	}
	if (f->options->off_cpu && !page_data_has(f->data, 0, FLAME_OFFCPU) && !page_data_has(f->data, 1, FLAME_OFFCPU))
		return fault_set(&f->fault, -ENODATA, "--off-cpu: there are no rows of profile.offcpu among them");
	return 0;
}

/* ---- the file ---- */

static int write_page(void *context, FILE *out)
{
	struct flame *f = context;
	struct page_options options = { .first = FLAME_CPU, .plain = f->options->plain };

	if (f->options->off_cpu)
		options.first = FLAME_OFFCPU;
	else
		while (options.first < FLAME_EVENTS && !page_data_has(f->data, 0, options.first))
			options.first++;
	return page_write(out, f->data, &options);
}

static void say_losses(const struct flame *f)
{
	const char *note = page_data_notes(f->data);

	for (unsigned n = 0; n < f->n_sides; n++) {
		if (f->sides[n].bad)
			fprintf(stderr, "sonde flame: %" PRIu64 " bad record%s skipped\n", f->sides[n].bad,
				f->sides[n].bad == 1 ? "" : "s");
		if (f->sides[n].lost)
			fprintf(stderr,
				"sonde flame: %" PRIu64
				" bytes of records were overwritten before they could be read\n",
				f->sides[n].lost);
	}
	for (; *note; note += strlen(note) + 1)
		fprintf(stderr, "sonde flame: %s\n", note);
}

static int make_page(struct flame *f)
{
	int r = 0;

	for (unsigned n = 0; r == 0 && n < f->n_sides; n++)
		r = find_end(&f->sides[n], &f->fault);
	if (r == 0)
		r = read_sides(f);
	if (r == 0)
		r = check_sides(f);
	if (r < 0)
		return r;
	r = page_data_reduce(f->data);
	if (r == 0)
		r = output_replace(f->options->out, write_page, f);
	if (r < 0)
		return fault_set(&f->fault, r, "%s: cannot write: %s", f->options->out, strerror(-r));
	say_losses(f);
	return 0;
}

static int flame(const struct flame_options *options)
{
	static const struct page_limits limits = { TABLES_BYTES, NODES_MAX, AMOUNTS_MAX, BUCKETS_MAX };
	struct flame f = { .options = options };
	int r = page_data_make(&f.data, &limits), code = EXIT_USAGE;

	if (r < 0)
		fault_set(&f.fault, r, "out of memory");
	else
		r = make_sides(&f);
	if (r == 0) {
		code = EXIT_FAULT;
		r = make_page(&f);
	}
	if (r < 0)
		fail(&f.fault, code);
	else
		code = EXIT_OK;
	for (unsigned n = 0; n < PAGE_SIDES; n++)
		selection_free(f.sides[n].selection);
	page_data_free(f.data);
	return code;
}

static int run(int argc, char **argv)
{
	struct flame_options o = { .journal = JOURNAL_DEFAULT, .selection.types = "profile.cpu,profile.offcpu" };
	const struct argument rows[] = {
		{ 0, NULL, "JOURNAL", "the folder to read; by default " JOURNAL_DEFAULT, .text = &o.journal },
		{ 'o', "output", "FILE.html", "the page to write; - is standard output", .text = &o.out,
		  .required = true },
		{ 0, "off-cpu", NULL, "open the page with what threads waited for, instead of what they ran",
		  .flag = &o.off_cpu },
		{ 0, "type", "GLOB",
		  "rows of these types; by default profile.cpu,profile.offcpu. Of others that carry a stack, "
		  "occurrences are counted",
		  .text = &o.selection.types },
		{ 0, "where", "EXPR", "only rows that fulfil the expression, such as 'comm = nginx'",
		  .text = &o.selection.where },
		{ 0, "since", "T",
		  "only rows from then on: 10s or 5m (ago), 2026-11-23T08:00:00Z, or seconds since the epoch",
		  .text = &o.selection.since },
		{ 0, "until", "T", "only rows up to then", .text = &o.selection.until },
		{ 0, "diff", "JOURNAL2", "compare with this journal: JOURNAL is before, JOURNAL2 after",
		  .text = &o.other },
		{ 0, "diff-since", "T", "compare with the rows from then on (of JOURNAL, or of JOURNAL2 with --diff)",
		  .text = &o.against.since },
		{ 0, "diff-until", "T", "compare with the rows up to then", .text = &o.against.until },
		{ 0, "plain", NULL,
		  "do not compress the data in the page: for browsers of before 2023, or to look at it",
		  .flag = &o.plain },
		{ 0 },
	};
	const struct usage usage = {
		.command = "flame",
		.about = "Makes one HTML page of a journal's profiles: a flame graph to search, to zoom, and to narrow "
			 "down by time, "
			 "process, thread and container, on and off the CPU. The page needs no network and no server.\n"
			 "With --diff, or --diff-since and --diff-until, it shows what changed between two profiles.",
		.arguments = rows,
	};
	int r = arguments_take(&usage, argc, argv);

	return r >= 0 ? r : flame(&o);
}

const struct command command_flame = { "flame", "make a page of flame graphs from a journal", run };

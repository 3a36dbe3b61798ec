/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sonde top: the journal of the last while as a live view, or as one page of text.
 *
 * It reads the journal as any other reader does, so it takes nothing from the agent. At the start the journal is read from
 * its begin, and what is older than the span is passed over: the first page is full at once. Then new records are read four
 * times a second, and the page is drawn once a second and after each key. While it stands still nothing is read.
 */
#include "arguments.h"
#include "command.h"
#include "encode/record.h"
#include "interrupt.h"
#include "stream.h"
#include "top_panes.h"
#include "top_view.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define LOOK_MS   250
#define DRAW_NS   NS_PER_SEC
#define TEXT_ROWS 10u
/* Records read between two looks at keys and signals. */
#define BATCH 20000

struct top_options {
	const char *journal, *filter;
	uint64_t span, duration, rows;
	bool once;
	struct selection_options selection;
};

struct top {
	const struct top_options *options;
	struct selection *selection;
	struct journal_reader *reader;
	struct top_model *model;
	struct top_view *view;
	sigset_t asked;
};

static void top_close(struct top *t)
{
	top_view_close(t->view);
	top_model_close(t->model);
	journal_reader_close(t->reader);
	selection_free(t->selection);
}

static int fail(const struct fault *fault, int code)
{
	fprintf(stderr, "sonde top: %s\n", fault->text);
	return code;
}

/* What tells of losses is shown whatever the expression says: without it the rest could not be trusted. */
static bool wanted(const struct top *t, const struct journal_record *record)
{
	const char *type;
	size_t length;

	if (selection_match(t->selection, record->map, record->size))
		return true;
	return record_type(record->map, record->size, &type, &length) == 0 && length > 6 &&
	       memcmp(type, "agent.", 6) == 0;
}

/* Whether there may be more. */
static bool read_some(struct top *t)
{
	struct journal_record record;

	top_model_advance(t->model, now_realtime_ns());
	for (unsigned n = 0; n < BATCH; n++) {
		if (journal_reader_next(t->reader, &record) == 0)
			return false;
		if (wanted(t, &record))
			top_model_record(t->model, record.map, record.size);
	}
	return true;
}

/* A new expression is for all that is shown: the model begins anew and the journal is read again. */
static void change_where(struct top *t)
{
	struct selection_options options = t->options->selection;
	struct selection *selection = NULL;
	struct journal_reader *reader = NULL;
	struct fault fault;

	options.where = *top_view_where(t->view) ? top_view_where(t->view) : NULL;
	if (selection_make(&selection, &options, &fault) < 0 ||
	    journal_reader_open(&reader, t->options->journal, 0, &fault) < 0) {
		top_view_say(t->view, fault.text);
		selection_free(selection);
		return;
	}
	journal_reader_close(t->reader);
	selection_free(t->selection);
	t->reader = reader;
	t->selection = selection;
	top_model_clear(t->model);
}

static int watch(struct top *t, uint64_t until)
{
	uint64_t drawn = 0;

	for (;;) {
		struct pollfd keys = { .fd = STDIN_FILENO, .events = POLLIN };
		bool more = !top_view_paused(t->view) && read_some(t);
		uint64_t now = now_boottime_ns();
		int n;

		if (now >= until || interrupt_came(&t->asked))
			return EXIT_OK;
		if (now >= drawn + DRAW_NS) {
			top_view_draw(t->view);
			drawn = now;
		}
		n = poll(&keys, 1, more ? 0 : LOOK_MS);
		if (n == 0)
			continue;
		/* The terminal went away. */
		if (n > 0 && !(keys.revents & POLLIN))
			return EXIT_OK;
		switch (top_view_keys(t->view)) {
		case TOP_WISH_QUIT:
			return EXIT_OK;
		case TOP_WISH_WHERE:
			change_where(t);
			break;
		case TOP_WISH_NONE:
			break;
		}
		drawn = 0;
	}
}

static int print_once(struct top *t, uint64_t until)
{
	int r;

	while (read_some(t))
		;
	while (now_boottime_ns() < until && !interrupt_came(&t->asked)) {
		journal_reader_wait(t->reader, LOOK_MS / 2);
		read_some(t);
	}
	r = top_write_snapshot(t->model, stdout, t->options->filter, (unsigned)t->options->rows, 0);
	if (r < 0 && r != -EPIPE) {
		fprintf(stderr, "sonde top: cannot write: %s\n", strerror(-r));
		return EXIT_FAULT;
	}
	return EXIT_OK;
}

static int top(const struct top_options *options)
{
	_cleanup_(top_close) struct top t = { .options = options };
	bool text = options->once || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO);
	uint64_t until = options->duration || text ? now_boottime_ns() + options->duration : UINT64_MAX;
	struct fault fault;
	int r;

	if (selection_make(&t.selection, &options->selection, &fault) < 0)
		return fail(&fault, EXIT_USAGE);
	r = journal_reader_open(&t.reader, options->journal, 0, &fault);
	if (r == -ENOENT)
		fault_set(&fault, r, "%s: there is no journal; 'sonde run' keeps one", options->journal);
	if (r < 0)
		return fail(&fault, EXIT_FAULT);
	r = top_model_open(&t.model, options->span);
	if (r < 0)
		fault_set(&fault, r, "out of memory");
	interrupt_block(&t.asked);
	if (r == 0 && text)
		return print_once(&t, until);
	if (r == 0)
		r = top_view_open(&t.view, t.model, options->selection.where, &fault);
	return r < 0 ? fail(&fault, EXIT_FAULT) : watch(&t, until);
}

static int run(int argc, char **argv)
{
	struct top_options options = { JOURNAL_DEFAULT, .span = 60 * NS_PER_SEC, .rows = TEXT_ROWS };
	const struct argument rows[] = {
		{ 0, "journal", "DIR", "the folder to follow; by default " JOURNAL_DEFAULT, .text = &options.journal },
		{ 0, "span", "DURATION", "how much of the past is shown; by default 60s", .duration = &options.span,
		  .min = 6 * NS_PER_SEC, .max = 24 * 3600 * NS_PER_SEC },
		{ 0, "where", "EXPR", STREAM_HELP_WHERE, .text = &options.selection.where },
		{ 0, "filter", "TEXT", "in text: only rows that have this in them", .text = &options.filter },
		{ 0, "once", NULL, "print one page of text, as is done where there is no terminal",
		  .flag = &options.once },
		{ 0, "for", "DURATION", "end after this time; a page of text is printed then",
		  .duration = &options.duration },
		{ 'n', NULL, "N", "in text: at most N rows of a kind; by default 10", .number = &options.rows, .min = 1,
		  .max = TOP_ROWS_MAX },
		{ 0 },
	};
	const struct usage usage = {
		.command = "top",
		.about = "Shows live where CPU time goes and what is waited for, by function, process, thread and "
			 "container; "
			 "slow TCP peers, programs begun, alerts and losses.\n"
			 "In the view, h shows the keys.",
		.arguments = rows,
	};
	int r = arguments_take(&usage, argc, argv);

	return r >= 0 ? r : top(&options);
}

const struct command command_top = { "top", "show live where time goes", run };

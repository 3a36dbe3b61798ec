/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Panes: which columns there are and what fills them, see top_panes.h. CPU and waiting are shown as shares of the time
 * that the rows cover: 100 % is one core, or one thread that waits all the time.
 */
#include "top_panes.h"

#include <math.h>
#include <string.h>

static struct top_cell number(double n)
{
	return (struct top_cell){ .number = n };
}

static struct top_cell text(const char *at, size_t size)
{
	return (struct top_cell){ .number = NAN, .text = { at, size } };
}

static struct top_cell string(const char *at)
{
	return text(at, strlen(at));
}

static double share(const struct top_entry *e, unsigned value, uint64_t of)
{
	return of ? 100.0 * (double)e->sums[value] / (double)of : NAN;
}

static double quotient(uint64_t sum, uint64_t count)
{
	return count ? (double)sum / (double)count : NAN;
}

static double some(uint64_t n)
{
	return n ? (double)n : NAN;
}

/* A container's id as its tools write it. */
static struct top_cell container(const char *id)
{
	size_t n = strlen(id);

	return text(id, strspn(id, "0123456789abcdef") == n ? MIN_OF(n, (size_t)12) : n);
}

static void fill_function(const struct top_model *m, const struct top_entry *e, struct top_pane_row *row)
{
	uint64_t covered = top_model_covered(m, false);

	row->cells[0] = number(share(e, TOP_SELF, covered));
	row->cells[1] = number(share(e, TOP_TOTAL, covered));
	row->cells[2] = string(top_entry_key(e, 1));
	row->cells[3] = string(top_entry_key(e, 0));
}

static void fill_process(const struct top_model *m, const struct top_entry *e, struct top_pane_row *row)
{
	row->cells[0] = number(share(e, TOP_CPU, top_model_covered(m, false)));
	row->cells[1] = number(share(e, TOP_WAIT, top_model_covered(m, true)));
	row->cells[2] = number(e->pid);
	row->cells[3] = container(e->text ? e->text : "");
	row->cells[4] = string(e->name);
}

static void fill_thread(const struct top_model *m, const struct top_entry *e, struct top_pane_row *row)
{
	fill_process(m, e, row);
	row->cells[5] = row->cells[4];
	row->cells[4] = row->cells[3];
	row->cells[3] = number(e->tid);
}

static void fill_container(const struct top_model *m, const struct top_entry *e, struct top_pane_row *row)
{
	row->cells[0] = number(share(e, TOP_CPU, top_model_covered(m, false)));
	row->cells[1] = number(share(e, TOP_WAIT, top_model_covered(m, true)));
	row->cells[2] = string(*top_entry_key(e, 0) ? top_entry_key(e, 0) : "(none)");
}

static void fill_wait(const struct top_model *m, const struct top_entry *e, struct top_pane_row *row)
{
	row->cells[0] = number(share(e, TOP_WAIT, top_model_covered(m, true)));
	row->cells[1] = number((double)e->sums[TOP_WAIT_COUNT]);
	row->cells[2] = number(quotient(e->sums[TOP_WAIT], e->sums[TOP_WAIT_COUNT]));
	row->cells[3] = number(e->pid);
	row->cells[4] = string(e->name);
	row->cells[5] = string(top_entry_key(e, 1));
	row->cells[6] = string(top_entry_key(e, 2));
	row->cells[7] = string(top_entry_key(e, 3));
	row->cells[8] = string(top_entry_key(e, 4));
}

static void fill_peer(const struct top_model *m, const struct top_entry *e, struct top_pane_row *row)
{
	row->cells[0] = number(quotient(e->sums[TOP_LATENCY], e->sums[TOP_LATENCY_COUNT]));
	row->cells[1] = number(some(e->sums[TOP_LATENCY_MAX]));
	row->cells[2] = number(quotient(e->sums[TOP_SRTT], e->sums[TOP_SRTT_COUNT]));
	row->cells[3] = number(some(e->sums[TOP_RETRANSMITS]));
	row->cells[4] = number(some(e->sums[TOP_ERRORS]));
	row->cells[5] = number(some(e->sums[TOP_OPENED]));
	row->cells[6] = number((double)e->sums[TOP_BYTES]);
	row->cells[7] = string(e->name);
	row->cells[8] = string(e->text ? e->text : "");
}

static void fill_program(const struct top_model *m, const struct top_entry *e, struct top_pane_row *row)
{
	uint64_t watched = top_model_watched(m);

	row->cells[0] = number((double)e->sums[TOP_COUNT]);
	row->cells[1] = number(watched ? (double)e->sums[TOP_COUNT] * 1e9 / (double)watched : NAN);
	row->cells[2] = string(top_entry_key(e, 0));
}

static void fill_loss(const struct top_model *m, const struct top_entry *e, struct top_pane_row *row)
{
	row->cells[0] = number((double)e->sums[TOP_COUNT]);
	row->cells[1] = string(top_entry_key(e, 0));
	row->cells[2] = string(top_entry_key(e, 1));
}

static void fill_ledger(const struct top_model *m, const struct top_entry *e, struct top_pane_row *row)
{
	static const unsigned values[] = { TOP_PRODUCED,     TOP_FILTERED, TOP_DROPPED, TOP_JOURNALED,
					   TOP_ACKNOWLEDGED, TOP_PENDING,  TOP_EXPIRED };

	for (unsigned i = 0; i < ARRAY_SIZE(values); i++)
		row->cells[i] = number((double)e->sums[values[i]]);
	row->cells[ARRAY_SIZE(values)] = string(top_entry_key(e, 0));
}

const struct top_pane top_panes[TOP_PANES] = {
	[TOP_PANE_FUNCTIONS] = { "functions",
				 "CPU by function: 100 % is one core",
				 "no samples of the CPU: is the module cpu on?",
				 TOP_FUNCTIONS,
				 0,
				 fill_function,
				 { { "SELF %", TOP_KIND_PERCENT, 7 },
				   { "TOTAL %", TOP_KIND_PERCENT, 7 },
				   { "LIBRARY", TOP_KIND_TEXT, 18 },
				   { "FUNCTION", TOP_KIND_TEXT, 0 } } },
	[TOP_PANE_PROCESSES] = { "processes",
				 "CPU and waits by process: 100 % is one core, or one thread that waits",
				 "no samples: are the modules cpu and offcpu on?",
				 TOP_PROCESSES,
				 0,
				 fill_process,
				 { { "CPU %", TOP_KIND_PERCENT, 7 },
				   { "WAIT %", TOP_KIND_PERCENT, 7 },
				   { "PID", TOP_KIND_ID, 8 },
				   { "CONTAINER", TOP_KIND_TEXT, 12, 70 },
				   { "PROCESS", TOP_KIND_TEXT, 0 } } },
	[TOP_PANE_THREADS] = { "threads",
			       "CPU and waits by thread",
			       "no samples: are the modules cpu and offcpu on?",
			       TOP_THREADS,
			       0,
			       fill_thread,
			       { { "CPU %", TOP_KIND_PERCENT, 7 },
				 { "WAIT %", TOP_KIND_PERCENT, 7 },
				 { "PID", TOP_KIND_ID, 8 },
				 { "TID", TOP_KIND_ID, 8 },
				 { "CONTAINER", TOP_KIND_TEXT, 12, 70 },
				 { "THREAD", TOP_KIND_TEXT, 0 } } },
	[TOP_PANE_CONTAINERS] = { "containers",
				  "CPU and waits by container, or by cgroup where there is none",
				  "no samples: are the modules cpu and offcpu on?",
				  TOP_CONTAINERS,
				  0,
				  fill_container,
				  { { "CPU %", TOP_KIND_PERCENT, 7 },
				    { "WAIT %", TOP_KIND_PERCENT, 7 },
				    { "CONTAINER OR CGROUP", TOP_KIND_TEXT, 0 } } },
	[TOP_PANE_WAITS] = { "waits",
			     "who waits, in which system call and kernel function: 100 % is one thread",
			     "no waits: is the module offcpu on?",
			     TOP_WAITS,
			     0,
			     fill_wait,
			     { { "WAIT %", TOP_KIND_PERCENT, 7 },
			       { "WAITS", TOP_KIND_COUNT, 7, 100 },
			       { "MEAN", TOP_KIND_DURATION, 8 },
			       { "PID", TOP_KIND_ID, 8, 100 },
			       { "PROCESS", TOP_KIND_TEXT, 15 },
			       { "SYSCALL", TOP_KIND_TEXT, 14 },
			       { "IN", TOP_KIND_TEXT, 22 },
			       { "STATE", TOP_KIND_TEXT, 8, 125 },
			       { "FOR", TOP_KIND_TEXT, 0, 125 } } },
	[TOP_PANE_PEERS] = { "peers",
			     "TCP peers, the slowest to connect first",
			     "no connections: is the module tcp on?",
			     TOP_PEERS,
			     1,
			     fill_peer,
			     { { "CONNECT", TOP_KIND_DURATION, 8 },
			       { "WORST", TOP_KIND_DURATION, 8 },
			       { "RTT", TOP_KIND_DURATION, 8 },
			       { "RESENT", TOP_KIND_COUNT, 6 },
			       { "ERRORS", TOP_KIND_COUNT, 6 },
			       { "CONNS", TOP_KIND_COUNT, 6, 90 },
			       { "BYTES", TOP_KIND_SIZE, 8, 100 },
			       { "PROCESS", TOP_KIND_TEXT, 15, 90 },
			       { "PEER", TOP_KIND_TEXT, 0 } } },
	[TOP_PANE_PROGRAMS] = { "programs",
				"programs begun",
				"no programs begun",
				TOP_PROGRAMS,
				0,
				fill_program,
				{ { "EXECS", TOP_KIND_COUNT, 7 },
				  { "PER SEC", TOP_KIND_RATE, 7 },
				  { "PROGRAM", TOP_KIND_TEXT, 0 } } },
	[TOP_PANE_EXECS] = { "latest execs",
			     "the newest first",
			     "no programs begun",
			     -1 - TOP_EXECS,
			     0,
			     NULL,
			     { { "TIME", TOP_KIND_TIME, 8 },
			       { "PID", TOP_KIND_ID, 8 },
			       { "UID", TOP_KIND_ID, 6 },
			       { "COMMAND", TOP_KIND_WORDS, 0 } } },
	[TOP_PANE_ALERTS] = { "alerts",
			      "the newest first",
			      "no alerts",
			      -1 - TOP_ALERTS,
			      0,
			      NULL,
			      { { "TIME", TOP_KIND_TIME, 8 },
				{ "PRIORITY", TOP_KIND_TEXT, 9 },
				{ "PID", TOP_KIND_ID, 8, 90 },
				{ "PROCESS", TOP_KIND_TEXT, 15 },
				{ "RULE", TOP_KIND_TEXT, 24, 110 },
				{ "OUTPUT", TOP_KIND_TEXT, 0 } } },
	[TOP_PANE_LOSSES] = { "losses",
			      "events that were lost, and why",
			      "nothing was lost",
			      TOP_LOSSES,
			      0,
			      fill_loss,
			      { { "LOST", TOP_KIND_COUNT, 9 },
				{ "TYPE", TOP_KIND_TEXT, 20 },
				{ "REASON", TOP_KIND_TEXT, 0 } } },
	[TOP_PANE_LEDGER] = { "ledger",
			      "what became of every event, since the agent began",
			      "no ledger yet: it comes every 10 s",
			      TOP_LEDGER,
			      0,
			      fill_ledger,
			      { { "PRODUCED", TOP_KIND_COUNT, 10 },
				{ "FILTERED", TOP_KIND_COUNT, 9, 100 },
				{ "DROPPED", TOP_KIND_COUNT, 9 },
				{ "JOURNALED", TOP_KIND_COUNT, 10 },
				{ "ACKED", TOP_KIND_COUNT, 10, 100 },
				{ "PENDING", TOP_KIND_COUNT, 9, 100 },
				{ "EXPIRED", TOP_KIND_COUNT, 9, 100 },
				{ "TYPE", TOP_KIND_TEXT, 0 } } },
};

unsigned top_pane_columns(const struct top_pane *pane)
{
	unsigned n = 0;

	while (pane->columns[n].kind != TOP_KIND_END)
		n++;
	return n;
}

/* ---- rows ---- */

static const char *line_text(const struct top_line *line, unsigned n)
{
	const char *at = line->text, *end = at + line->text_size;

	for (; n && at < end; n--)
		at += strlen(at) + 1;
	return at < end ? at : "";
}

static void fill_line(const struct top_pane *pane, const struct top_line *line, struct top_pane_row *row)
{
	row->cells[0] = number((double)line->time);
	if (pane->table == -1 - TOP_EXECS) {
		row->cells[1] = number(some(line->pid));
		row->cells[2] = number(line->has_uid ? (double)line->uid : NAN);
		row->cells[3] = text(line->text, line->text_size);
		return;
	}
	row->cells[1] = string(line_text(line, 1));
	row->cells[2] = number(some(line->pid));
	row->cells[3] = string(line->name);
	row->cells[4] = string(line_text(line, 0));
	row->cells[5] = string(line_text(line, 2));
}

static bool contains(struct top_piece hay, const char *needle)
{
	size_t n = strlen(needle);

	for (size_t i = 0; i + n <= hay.size; i++)
		if (strncasecmp(hay.at + i, needle, n) == 0)
			return true;
	return false;
}

/* A number that names something is found as people write it. */
static bool row_fits(const struct top_pane *pane, const struct top_pane_row *row, const char *filter)
{
	char id[24];

	if (!filter || !*filter)
		return true;
	for (unsigned c = 0; pane->columns[c].kind != TOP_KIND_END; c++) {
		struct top_piece shown = row->cells[c].text;

		if (pane->columns[c].kind == TOP_KIND_ID && !isnan(row->cells[c].number)) {
			snprintf(id, sizeof id, "%.0f", row->cells[c].number);
			shown = (struct top_piece){ id, strlen(id) };
		}
		if (contains(shown, filter))
			return true;
	}
	return false;
}

static int compare_text(struct top_piece a, struct top_piece b)
{
	int r = memcmp(a.at ? a.at : "", b.at ? b.at : "", MIN_OF(a.size, b.size));

	return r ? r : (a.size > b.size) - (a.size < b.size);
}

struct sorting {
	unsigned column;
	bool reverse, texts, upwards;
};

/* Entries that are equal keep one order from look to look, or they would dance. */
static int compare_rows(const void *left, const void *right, void *context)
{
	const struct sorting *s = context;
	const struct top_pane_row *a = left, *b = right;
	double x = a->cells[s->column].number, y = b->cells[s->column].number;
	int r;

	if (s->texts)
		r = compare_text(a->cells[s->column].text, b->cells[s->column].text);
	else if (isnan(x) || isnan(y))
		return isnan(x) && isnan(y) ? (a->hash > b->hash) - (a->hash < b->hash) : isnan(x) ? 1 : -1;
	else
		r = s->upwards ? (x > y) - (x < y) : (x < y) - (x > y);
	if (s->reverse)
		r = -r;
	return r ? r : (a->hash > b->hash) - (a->hash < b->hash);
}

static void sort_rows(const struct top_pane *pane, struct top_order order, struct top_pane_row *rows, size_t n)
{
	enum top_kind kind = pane->columns[order.column].kind;
	struct sorting s = { .column = order.column,
			     .reverse = order.reverse,
			     .texts = kind == TOP_KIND_TEXT || kind == TOP_KIND_WORDS,
			     .upwards = kind == TOP_KIND_ID };

	qsort_r(rows, n, sizeof *rows, compare_rows, &s);
}

static size_t log_rows(const struct top_log *log, const struct top_pane *pane, const char *filter,
		       struct top_pane_row *rows)
{
	size_t n = 0;

	for (uint64_t i = log->taken; i > 0 && log->taken - i < TOP_LINES; i--) {
		rows[n] = (struct top_pane_row){ .hash = i };
		fill_line(pane, &log->lines[(i - 1) % TOP_LINES], &rows[n]);
		n += row_fits(pane, &rows[n], filter);
	}
	return n;
}

size_t top_pane_rows(const struct top_model *m, const struct top_pane *pane, struct top_order order, const char *filter,
		     struct top_pane_row *rows)
{
	const struct top_table *t;
	size_t n = 0;

	if (pane->table < 0)
		return log_rows(&m->logs[-1 - pane->table], pane, filter, rows);
	t = &m->tables[pane->table];
	for (uint32_t i = 0; i < t->count && n < TOP_ROWS_MAX; i++) {
		rows[n] = (struct top_pane_row){ .entry = &t->entries[i], .hash = t->entries[i].hash };
		pane->fill(m, &t->entries[i], &rows[n]);
		n += row_fits(pane, &rows[n], filter);
	}
	sort_rows(pane, order, rows, n);
	return n;
}

/* ---- stacks ---- */

static bool frame_is(const char *frame, size_t size, const struct top_stacks *wanted)
{
	struct top_piece name, library;

	top_frame_split((struct top_piece){ frame, size }, &name, &library);
	return name.size == strlen(wanted->function) && memcmp(name.at, wanted->function, name.size) == 0 &&
	       library.size == strlen(wanted->library) && memcmp(library.at, wanted->library, library.size) == 0;
}

static bool holds(const struct top_entry *e, const struct top_stacks *wanted)
{
	const char *at = e->text, *end = e->text ? e->text + e->text_size : NULL;

	if (!wanted->function)
		return true;
	for (; at && at < end; at += strlen(at) + 1)
		if (frame_is(at, strlen(at), wanted))
			return true;
	return false;
}

size_t top_stacks_find(const struct top_model *m, const struct top_stacks *wanted, const struct top_entry **ret,
		       size_t max, uint64_t *ret_sum)
{
	const struct top_table *t = &m->tables[TOP_STACKS];
	unsigned value = wanted->offcpu ? TOP_WAIT : TOP_CPU;
	size_t n = 0;

	*ret_sum = 0;
	for (uint32_t i = 0; i < t->count; i++) {
		const struct top_entry *e = &t->entries[i];
		size_t at;

		if (!e->sums[value] || (wanted->proc && strcmp(top_entry_key(e, 0), wanted->proc) != 0) ||
		    !holds(e, wanted))
			continue;
		*ret_sum += e->sums[value];
		for (at = n; at > 0 && ret[at - 1]->sums[value] < e->sums[value]; at--)
			if (at < max)
				ret[at] = ret[at - 1];
		if (at < max)
			ret[at] = e;
		n = MIN_OF(n + 1, max);
	}
	return n;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model's tables as people read them: a pane is a list of columns over one table (or over the newest events), and a
 * row is one entry's numbers and texts. Sorting, filtering and writing a row are the same for all panes, on a terminal and
 * in plain text.
 */
#ifndef SONDE_TOP_PANES_H
#define SONDE_TOP_PANES_H

#include "encode/cells.h"
#include "top_model.h"

#define TOP_COLUMNS  9u
#define TOP_ROWS_MAX 4096u

enum top_kind {
	TOP_KIND_END, /* behind the last column */
	TOP_KIND_PERCENT,
	TOP_KIND_COUNT,
	TOP_KIND_RATE,
	TOP_KIND_DURATION,
	TOP_KIND_SIZE,
	TOP_KIND_ID,    /* a number that names something: never summed, sorted upwards */
	TOP_KIND_TEXT,  /* sorted upwards */
	TOP_KIND_WORDS, /* texts with a NUL behind each, as a shell would need them */
	TOP_KIND_TIME,
};

struct top_column {
	const char *title;
	enum top_kind kind;
	unsigned width; /* 0: what is left of the line */
	unsigned from;  /* it is left out where the line has fewer columns than this */
};

struct top_cell {
	double number; /* NAN: there is none */
	struct top_piece text;
};

struct top_pane_row {
	const struct top_entry *entry; /* NULL: a line of a log */
	uint64_t hash;                 /* names the row while it is there */
	struct top_cell cells[TOP_COLUMNS];
};

enum top_pane_id {
	TOP_PANE_FUNCTIONS,
	TOP_PANE_PROCESSES,
	TOP_PANE_THREADS,
	TOP_PANE_CONTAINERS,
	TOP_PANE_WAITS,
	TOP_PANE_PEERS,
	TOP_PANE_PROGRAMS,
	TOP_PANE_EXECS,
	TOP_PANE_ALERTS,
	TOP_PANE_LOSSES,
	TOP_PANE_LEDGER,
	TOP_PANES,
};

struct top_pane {
	const char *name, *about; /* "functions", and what it shows in a few words */
	const char *empty;        /* said when there are no rows */
	int table;                /* enum top_table_id, or -1 - enum top_log_id */
	unsigned sort;            /* column that it is sorted by at first */
	void (*fill)(const struct top_model *m, const struct top_entry *e, struct top_pane_row *row);
	struct top_column columns[TOP_COLUMNS + 1];
};

extern const struct top_pane top_panes[TOP_PANES];

struct top_order {
	unsigned column;
	bool reverse;
};

unsigned top_pane_columns(const struct top_pane *pane);
/* The rows whose shown texts have `filter` in them (upper and lower case alike; NULL or "": all), sorted, the newest first
 * in a log. At most TOP_ROWS_MAX; returns how many. */
size_t top_pane_rows(const struct top_model *m, const struct top_pane *pane, struct top_order order, const char *filter,
		     struct top_pane_row *rows);

/* One line of at most the cells' columns. */
void top_pane_write_head(const struct top_pane *pane, struct top_order order, struct cells *line);
void top_pane_write_row(const struct top_pane *pane, const struct top_pane_row *row, struct cells *line);

/* The line above the panes: what the host does altogether. */
void top_write_summary(const struct top_model *m, struct cells *line);

/* The hottest stacks of one execution (`proc`, NULL: of all), on or off the CPU, of those that hold `function` of
 * `library` (NULL: any); the heaviest first. Returns how many, at most `max`; `ret_sum` is the weight of all. */
struct top_stacks {
	const char *proc, *function, *library;
	bool offcpu;
};
size_t top_stacks_find(const struct top_model *m, const struct top_stacks *wanted, const struct top_entry **ret,
		       size_t max, uint64_t *ret_sum);

/* Everything as plain text, `rows` of each pane. 0 or a negative errno of `out`. */
int top_write_snapshot(const struct top_model *m, FILE *out, const char *filter, unsigned rows, unsigned columns);

#endif

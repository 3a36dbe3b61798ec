/* SPDX-License-Identifier: Apache-2.0 */
/* Panes as lines of text, see top_panes.h: one line is a `struct cells`, so hostile names are harmless and widths hold. */
#include "top_panes.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

static void write_time(struct cells *cell, double ns)
{
	time_t seconds = (time_t)(ns / 1e9);
	char room[16];
	struct tm tm;

	if (localtime_r(&seconds, &tm) && strftime(room, sizeof room, "%T", &tm))
		cells_ascii(cell, room);
}

/* Five digits at most: 12345, 123k, 12M. */
static void write_count(struct cells *cell, double n)
{
	static const char units[] = "kMGTPE";
	unsigned unit = 0;

	if (n < 1e6) {
		cells_format(cell, "%.0f", n);
		return;
	}
	for (n /= 1000; n >= 99999.5 && units[unit + 1]; n /= 1000)
		unit++;
	cells_format(cell, "%.0f%c", n, units[unit]);
}

static void write_words(struct cells *cell, struct top_piece words)
{
	const char *at = words.at, *end = at + words.size;

	for (; at < end; at += strlen(at) + 1) {
		if (at > words.at)
			cells_ascii(cell, " ");
		cells_word(cell, (const uint8_t *)at, strlen(at));
	}
}

static void write_number(struct cells *cell, enum top_kind kind, double n)
{
	switch (kind) {
	case TOP_KIND_PERCENT:
		cells_format(cell, n < 999.95 ? "%.1f" : "%.0f", n);
		break;
	case TOP_KIND_RATE:
		cells_format(cell, n < 99.95 ? "%.1f" : "%.0f", n);
		break;
	case TOP_KIND_DURATION:
		cells_duration(cell, (uint64_t)n);
		break;
	case TOP_KIND_SIZE:
		cells_size(cell, (uint64_t)n);
		break;
	case TOP_KIND_ID:
		cells_format(cell, "%.0f", n);
		break;
	case TOP_KIND_TIME:
		write_time(cell, n);
		break;
	default:
		write_count(cell, n);
	}
}

static void write_cell(struct cells *cell, enum top_kind kind, const struct top_cell *value)
{
	if (kind == TOP_KIND_WORDS)
		write_words(cell, value->text);
	else if (kind == TOP_KIND_TEXT)
		cells_text(cell, (const uint8_t *)value->text.at, value->text.size, false);
	else if (!isnan(value->number))
		write_number(cell, kind, value->number);
}

static bool leftward(enum top_kind kind)
{
	return kind == TOP_KIND_TEXT || kind == TOP_KIND_WORDS || kind == TOP_KIND_TIME;
}

static void put_spaces(struct cells *line, unsigned n)
{
	while (n-- > 0)
		cells_put(line, " ", 1, 1);
}

/* A cell of `width` columns in the line, numbers to the right. */
static void put_cell(struct cells *line, const struct cells *cell, const struct top_column *column)
{
	unsigned pad = column->width > cell->column ? column->width - cell->column : 0;

	if (!leftward(column->kind))
		put_spaces(line, pad);
	cells_put(line, cell->text.bytes, cell->text.size, cell->column);
	if (leftward(column->kind))
		put_spaces(line, pad);
}

/* Narrow lines have fewer columns. */
static bool fits(const struct top_column *column, const struct cells *line)
{
	return !line->columns || line->columns >= column->from;
}

static unsigned rest_of(const struct cells *line)
{
	return line->columns ? line->columns - MIN_OF(line->column, line->columns - 1) : 0;
}

void top_pane_write_row(const struct top_pane *pane, const struct top_pane_row *row, struct cells *line)
{
	for (unsigned c = 0; pane->columns[c].kind != TOP_KIND_END; c++) {
		const struct top_column *column = &pane->columns[c];
		struct cells cell;

		if (!fits(column, line))
			continue;
		if (c)
			put_spaces(line, 2);
		cells_begin(&cell, false, column->width ? column->width : rest_of(line));
		write_cell(&cell, column->kind, &row->cells[c]);
		put_cell(line, &cell, column);
		text_end(&cell.text);
	}
}

/* The column that the rows are sorted by has a sign. */
void top_pane_write_head(const struct top_pane *pane, struct top_order order, struct cells *line)
{
	for (unsigned c = 0; pane->columns[c].kind != TOP_KIND_END; c++) {
		const struct top_column *column = &pane->columns[c];
		bool sorted = pane->table >= 0 && c == order.column;
		struct cells cell;

		if (!fits(column, line))
			continue;
		if (c)
			put_spaces(line, 2);
		cells_begin(&cell, false, 0);
		if (sorted && !leftward(column->kind))
			cells_put(&cell, order.reverse ? "\u25b4" : "\u25be", 3, 1);
		cells_ascii(&cell, column->title);
		if (sorted && leftward(column->kind))
			cells_put(&cell, order.reverse ? "\u25be" : "\u25b4", 3, 1);
		put_cell(line, &cell, column);
		text_end(&cell.text);
	}
}

static double per_second(const struct top_model *m, unsigned value)
{
	uint64_t watched = top_model_watched(m);

	return watched ? (double)top_model_sum(m, value) * 1e9 / (double)watched : 0;
}

void top_write_summary(const struct top_model *m, struct cells *line)
{
	uint64_t cpu = top_model_covered(m, false), wait = top_model_covered(m, true);
	bool narrow = line->columns && line->columns < 120;
	const char *gap = narrow ? "  " : "   ";

	if (cpu)
		cells_format(line, narrow ? "CPU %.0f %%%s" : "CPU %.0f %% of a core%s",
			     100.0 * (double)top_model_sum(m, TOP_ALL_CPU) / (double)cpu, gap);
	if (cpu && !narrow)
		cells_format(line, "samples %llu%s", (unsigned long long)top_model_sum(m, TOP_ALL_SAMPLES), gap);
	if (wait)
		cells_format(line, narrow ? "waits %.1f%s" : "waits %.1f threads%s",
			     (double)top_model_sum(m, TOP_ALL_WAIT) / (double)wait, gap);
	cells_format(line, narrow ? "execs %.0f/s%s" : "execs %.1f/s%s", per_second(m, TOP_ALL_EXECS), gap);
	cells_format(line, narrow ? "TCP %.0f/s%s" : "TCP opened %.1f/s%s", per_second(m, TOP_ALL_CONNECTS), gap);
	if (!narrow)
		cells_format(line, "TCP closed %.1f/s%s", per_second(m, TOP_ALL_CLOSES), gap);
	cells_format(line, "alerts %llu%slost %llu", (unsigned long long)top_model_sum(m, TOP_ALL_ALERTS), gap,
		     (unsigned long long)top_model_sum(m, TOP_ALL_LOST));
	if (top_model_evicted(m))
		cells_format(line, "%s(%llu small entries left out)", gap, (unsigned long long)top_model_evicted(m));
}

/* ---- plain text ---- */

static int end_line(struct cells *line, FILE *out)
{
	/* Spaces at the end of a line are nobody's. */
	while (line->text.size && line->text.bytes[line->text.size - 1] == ' ')
		line->text.size--;
	text_char(&line->text, '\n');
	return cells_write(line, out);
}

static int write_pane(const struct top_model *m, const struct top_pane *pane, FILE *out, const char *filter,
		      unsigned limit, unsigned columns, struct top_pane_row *rows)
{
	const struct top_order order = { .column = pane->sort };
	size_t n = top_pane_rows(m, pane, order, filter, rows);
	struct cells line;
	int r;

	fprintf(out, "\n== %s (%s)\n", pane->name, pane->about);
	if (!n) {
		fprintf(out, "%s\n", filter && *filter ? "nothing fits the filter" : pane->empty);
		return 0;
	}
	cells_begin(&line, false, columns);
	top_pane_write_head(pane, order, &line);
	r = end_line(&line, out);
	for (size_t i = 0; r == 0 && i < MIN_OF(n, (size_t)limit); i++) {
		cells_begin(&line, false, columns);
		top_pane_write_row(pane, &rows[i], &line);
		r = end_line(&line, out);
	}
	if (r == 0 && n > limit)
		fprintf(out, "... and %zu more\n", n - limit);
	return r;
}

int top_write_snapshot(const struct top_model *m, FILE *out, const char *filter, unsigned rows, unsigned columns)
{
	_cleanup_(free_pointer) struct top_pane_row *room = calloc(TOP_ROWS_MAX, sizeof *room);
	struct cells line;
	int r;

	if (!room)
		return -ENOMEM;
	cells_begin(&line, false, columns);
	cells_text(&line, (const uint8_t *)m->host, strlen(m->host), false);
	cells_format(&line, "%sthe last %.0f s", m->host[0] ? ", " : "",
		     (double)MIN_OF(m->span_ns, top_model_watched(m)) / 1e9);
	r = end_line(&line, out);
	cells_begin(&line, false, columns);
	top_write_summary(m, &line);
	if (r == 0)
		r = end_line(&line, out);
	for (unsigned p = 0; r == 0 && p < TOP_PANES; p++)
		r = write_pane(m, &top_panes[p], out, filter, rows, columns, room);
	return r < 0 ? r : fflush(out) == EOF ? -errno : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drawing for `sonde top`, see top_view.h. Every look begins with an empty screen and puts whole lines there; ncurses sends
 * the terminal only what differs. A line is a `struct cells`, so no byte of a hostile name reaches the terminal unescaped.
 *
 * Screen, from above: title, summary, tabs, the tab's panes, keys (or a prompt, or a message).
 */
#include "top_screen.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <ncurses.h>
#include <string.h>
#include <time.h>

#define HEAD_LINES 3
#define WIDE       140 /* columns from which the overview has panes side by side */
#define TABS_WIDE  108 /* columns from which the tabs have whole names */
#define STACKS_MAX 64u
#define RED        1

const struct top_tab top_tabs[TOP_TABS] = {
	{ "overview", -1, -1 },
	{ "functions", TOP_PANE_FUNCTIONS, -1 },
	{ "processes", TOP_PANE_PROCESSES, -1 },
	{ "threads", TOP_PANE_THREADS, -1 },
	{ "containers", TOP_PANE_CONTAINERS, -1 },
	{ "waits", TOP_PANE_WAITS, -1 },
	{ "peers", TOP_PANE_PEERS, -1 },
	{ "execs", TOP_PANE_PROGRAMS, TOP_PANE_EXECS },
	{ "alerts", TOP_PANE_ALERTS, -1 },
	{ "losses", TOP_PANE_LOSSES, TOP_PANE_LEDGER },
};

static const char *const help[] = {
	"0 to 9, Tab, left, right   another tab",
	"up, down, j, k, page       another row",
	"Enter                      the hottest stacks of the function, process, thread or wait",
	"o                          in stacks: on the CPU, or waiting",
	"Esc, q                     back from there; q elsewhere: end",
	"s, S                       sort by the next column, the one before",
	"r                          the other way round",
	"/                          only rows with this text in them; Esc: all rows again",
	"w                          only records that fulfil an expression, such as comm = nginx",
	"p, space                   stand still, and go on",
	"h, ?                       this page",
	"",
	"CPU: 100 % is one core. WAIT: 100 % is one thread that waits all the time.",
	"TOTAL is the time in a function and in what it calls; SELF is without what it calls.",
	"CONNECT is the mean time until a connection is made, RTT the mean round trip at its end.",
	"Of a client of ours the peer is written as its address > :our port.",
};

/* A rectangle of the screen. */
struct area {
	int y, x, lines, columns;
};

static void put_line(int y, int x, int attributes, struct cells *line)
{
	if (y >= 0 && y < LINES && x < COLS) {
		attrset(attributes);
		mvaddnstr(y, x, line->text.bytes, (int)line->text.size);
		attrset(0);
	}
	text_end(&line->text);
}

static void put_ascii(int y, int x, int columns, int attributes, const char *text)
{
	struct cells line;

	cells_begin(&line, false, (unsigned)MAX_OF(columns, 1));
	cells_ascii(&line, text);
	put_line(y, x, attributes, &line);
}

/* The attributes of text already there, over a whole line. */
static void paint(int y, int x, int columns, attr_t attributes, short pair)
{
	if (y >= 0 && y < LINES)
		mvchgat(y, x, columns, attributes, pair, NULL);
}

void top_screen_look(struct top_view *v, unsigned pane)
{
	struct top_place *place = &v->places[pane];

	v->n_rows = top_pane_rows(v->model, &top_panes[pane], place->order, v->filter, v->rows);
	for (size_t i = 0; i < v->n_rows && place->selected; i++)
		if (v->rows[i].hash == place->selected)
			place->at = i;
	if (place->at >= v->n_rows)
		place->at = v->n_rows ? v->n_rows - 1 : 0;
}

static void scroll_to(struct top_place *place, size_t n, size_t page)
{
	if (place->at < place->first)
		place->first = place->at;
	if (place->at >= place->first + page)
		place->first = place->at - page + 1;
	if (place->first + page > n)
		place->first = n > page ? n - page : 0;
}

static void draw_row(const struct top_pane *pane, const struct top_pane_row *row, int y, const struct area *a,
		     bool selected)
{
	struct cells line;

	cells_begin(&line, false, (unsigned)a->columns);
	top_pane_write_row(pane, row, &line);
	put_line(y, a->x, 0, &line);
	if (selected)
		paint(y, a->x, a->columns, A_REVERSE, 0);
}

/* A pane with its head. In one that can be walked, one row is selected. */
static void draw_pane(struct top_view *v, unsigned id, struct area a, bool walked)
{
	const struct top_pane *pane = &top_panes[id];
	struct top_place *place = &v->places[id], still = { .order = place->order };
	size_t page = (size_t)MAX_OF(a.lines - 1, 0);
	struct cells line;

	if (a.lines < 2 || a.columns < 8)
		return;
	top_screen_look(v, id);
	if (!walked)
		place = &still;
	else
		v->page = page;
	scroll_to(place, v->n_rows, page);
	cells_begin(&line, false, (unsigned)a.columns);
	top_pane_write_head(pane, place->order, &line);
	put_line(a.y, a.x, A_BOLD, &line);
	paint(a.y, a.x, a.columns, A_BOLD | A_UNDERLINE, 0);
	for (size_t i = place->first; i < MIN_OF(v->n_rows, place->first + page); i++)
		draw_row(pane, &v->rows[i], a.y + 1 + (int)(i - place->first), &a, walked && i == place->at);
	if (!v->n_rows)
		put_ascii(a.y + 1, a.x, a.columns, A_DIM, v->filter[0] ? "nothing fits the filter" : pane->empty);
}

/* ---- tabs ---- */

static void draw_overview(struct top_view *v, struct area a)
{
	bool alarmed = v->model->logs[TOP_ALERTS].taken > 0;
	int alerts = alarmed ? MIN_OF(5, a.lines / 4) : 0, execs = a.lines >= 30 ? 6 : 0;
	int lines = a.lines - alerts - execs;
	int y = a.y + lines;

	if (a.columns >= WIDE) {
		int half = (a.columns - 3) / 2, upper = (lines + 1) / 2, right = a.x + half + 3;

		draw_pane(v, TOP_PANE_FUNCTIONS, (struct area){ a.y, a.x, upper - 1, half }, false);
		draw_pane(v, TOP_PANE_PROCESSES, (struct area){ a.y, right, upper - 1, half }, false);
		draw_pane(v, TOP_PANE_WAITS, (struct area){ a.y + upper, a.x, lines - upper - (execs > 0), half },
			  false);
		draw_pane(v, TOP_PANE_PEERS, (struct area){ a.y + upper, right, lines - upper - (execs > 0), half },
			  false);
	} else {
		static const struct {
			unsigned pane;
			int share; /* of the lines, in percent */
		} parts[] = { { TOP_PANE_FUNCTIONS, 35 },
			      { TOP_PANE_PROCESSES, 25 },
			      { TOP_PANE_WAITS, 20 },
			      { TOP_PANE_PEERS, 20 } };
		int at = a.y;

		for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
			int n = i + 1 < ARRAY_SIZE(parts) ? MAX_OF(lines * parts[i].share / 100, 3) : a.y + lines - at;

			n = MIN_OF(n, a.y + lines - at);
			draw_pane(v, parts[i].pane, (struct area){ at, a.x, n - (n > 4), a.columns }, false);
			at += n;
		}
	}
	if (execs)
		draw_pane(v, TOP_PANE_EXECS, (struct area){ y, a.x, execs - (alerts > 0), a.columns }, false);
	if (alerts)
		draw_pane(v, TOP_PANE_ALERTS, (struct area){ y + execs, a.x, alerts, a.columns }, false);
}

/* One line of the stacks, if it is in sight: `n` counts all of them. */
static void stack_line(struct top_view *v, const struct area *a, size_t n, int attributes, struct cells *line)
{
	size_t first = v->chosen.first;

	if (n >= first && n < first + (size_t)a->lines)
		put_line(a->y + (int)(n - first), a->x, attributes, line);
	else
		text_end(&line->text);
}

static size_t draw_stack(struct top_view *v, const struct area *a, const struct top_entry *e, uint64_t sum, size_t n)
{
	unsigned value = v->chosen.offcpu ? TOP_WAIT : TOP_CPU;
	struct cells line;

	cells_begin(&line, false, (unsigned)a->columns);
	cells_format(&line, "%5.1f %%  ", sum ? 100.0 * (double)e->sums[value] / (double)sum : 0);
	cells_duration(&line, e->sums[value]);
	cells_ascii(&line, "  in ");
	cells_text(&line, (const uint8_t *)e->name, strlen(e->name), false);
	cells_format(&line, "[%u]", e->pid);
	stack_line(v, a, n++, A_BOLD, &line);
	for (const char *at = e->text; at && at < e->text + e->text_size; at += strlen(at) + 1) {
		struct top_piece name, library;

		top_frame_split((struct top_piece){ at, strlen(at) }, &name, &library);
		cells_begin(&line, false, (unsigned)a->columns);
		cells_ascii(&line, "         ");
		cells_text(&line, (const uint8_t *)at, strlen(at), false);
		stack_line(v, a, n++,
			   v->chosen.is_function && strncmp(name.at, v->chosen.function, name.size) == 0 &&
					   strlen(v->chosen.function) == name.size
				   ? A_UNDERLINE
				   : 0,
			   &line);
	}
	return n + 1;
}

static void draw_stacks(struct top_view *v, struct area a)
{
	const struct top_entry *found[STACKS_MAX];
	struct top_chosen *c = &v->chosen;
	struct top_stacks wanted = { .proc = c->is_function ? NULL : c->proc,
				     .function = c->is_function ? c->function : NULL,
				     .library = c->library,
				     .offcpu = c->offcpu };
	uint64_t sum;
	size_t n = top_stacks_find(v->model, &wanted, found, STACKS_MAX, &sum), lines = 0;
	struct cells line;

	cells_begin(&line, false, (unsigned)a.columns);
	cells_format(&line, "%s ", c->offcpu ? "Waiting:" : "On the CPU:");
	cells_text(&line, (const uint8_t *)c->title, strlen(c->title), false);
	cells_format(&line, ", %zu stack%s, leaf first   (o: %s)", n, n == 1 ? "" : "s",
		     c->offcpu ? "on the CPU" : "waiting");
	put_line(a.y, a.x, A_BOLD, &line);
	paint(a.y, a.x, a.columns, A_BOLD | A_UNDERLINE, 0);
	a.y++;
	a.lines--;
	v->page = (size_t)MAX_OF(a.lines, 1);
	for (size_t i = 0; i < n; i++)
		lines = draw_stack(v, &a, found[i], sum, lines);
	c->lines = lines;
	if (!n)
		put_ascii(a.y, a.x, a.columns, A_DIM, "no stack in the last while; o: the other kind");
}

static void draw_help(struct area a)
{
	for (int i = 0; i < (int)ARRAY_SIZE(help) && i < a.lines; i++)
		put_ascii(a.y + i, a.x + 1, a.columns - 1, 0, help[i]);
}

static void draw_tab(struct top_view *v, struct area a)
{
	const struct top_tab *tab = &top_tabs[v->tab];
	struct area below = a;

	if (v->help)
		return draw_help(a);
	if (v->chosen.open)
		return draw_stacks(v, a);
	if (tab->pane < 0)
		return draw_overview(v, a);
	if (tab->below >= 0) {
		a.lines /= 2;
		below.y += a.lines + 1;
		below.lines -= a.lines + 1;
		draw_pane(v, (unsigned)tab->below, below, false);
	}
	draw_pane(v, (unsigned)tab->pane, a, true);
}

/* ---- head and foot ---- */

static void draw_title(struct top_view *v)
{
	time_t now = (time_t)(v->model->now / NS_PER_SEC);
	struct cells line;
	char clock[16] = "";
	struct tm tm;

	if (localtime_r(&now, &tm))
		strftime(clock, sizeof clock, "%T", &tm);
	cells_begin(&line, false, (unsigned)COLS);
	cells_format(&line, " sonde top  %s  ", clock);
	cells_text(&line, (const uint8_t *)v->model->host, strlen(v->model->host), false);
	cells_format(&line, "  the last %.0f s", (double)MIN_OF(v->model->span_ns, top_model_watched(v->model)) / 1e9);
	if (v->paused)
		cells_ascii(&line, "  [paused]");
	if (v->filter[0]) {
		cells_ascii(&line, "  rows with: ");
		cells_text(&line, (const uint8_t *)v->filter, strlen(v->filter), false);
	}
	if (v->where[0] && v->prompt != TOP_PROMPT_WHERE) {
		cells_ascii(&line, "  where: ");
		cells_text(&line, (const uint8_t *)v->where, strlen(v->where), false);
	}
	put_line(0, 0, 0, &line);
	paint(0, 0, COLS, A_REVERSE, 0);
}

static void draw_summary(struct top_view *v)
{
	bool alarming = top_model_sum(v->model, TOP_ALL_ALERTS) || top_model_sum(v->model, TOP_ALL_LOST);
	struct cells line;

	cells_begin(&line, false, (unsigned)MAX_OF(COLS - 1, 1));
	top_write_summary(v->model, &line);
	put_line(1, 1, 0, &line);
	if (alarming)
		paint(1, 1, COLS - 1, A_BOLD, RED);
}

static void draw_tabs(const struct top_view *v)
{
	int x = 1;

	for (unsigned i = 0; i < TOP_TABS && x < COLS; i++) {
		char name[24];

		snprintf(name, sizeof name, "%u %.*s", i, COLS < TABS_WIDE ? 4 : 12, top_tabs[i].name);
		put_ascii(2, x, COLS - x, i == v->tab ? A_REVERSE | A_BOLD : 0, name);
		x += (int)strlen(name) + 2;
	}
}

static void draw_foot(const struct top_view *v)
{
	static const char keys[] = "Tab 0-9 tab  \xe2\x86\x91\xe2\x86\x93 row  Enter stacks  s sort  r reverse  / "
				   "filter  w where  p pause  h help  q quit";
	struct cells line;

	cells_begin(&line, false, (unsigned)MAX_OF(COLS - 1, 1));
	if (v->prompt != TOP_PROMPT_NONE) {
		cells_ascii(&line, v->prompt == TOP_PROMPT_FILTER ? "rows with: " : "records where: ");
		cells_text(&line, (const uint8_t *)v->typed, strlen(v->typed), false);
	} else if (v->message[0]) {
		cells_text(&line, (const uint8_t *)v->message, strlen(v->message), false);
	} else {
		cells_text(&line, (const uint8_t *)keys, sizeof keys - 1, false);
	}
	int column = (int)line.column;

	put_line(LINES - 1, 1, v->message[0] ? A_BOLD : v->prompt ? 0 : A_DIM, &line);
	curs_set(v->prompt != TOP_PROMPT_NONE);
	if (v->prompt != TOP_PROMPT_NONE)
		move(LINES - 1, MIN_OF(1 + column, COLS - 1));
}

void top_view_draw(struct top_view *v)
{
	erase();
	draw_title(v);
	draw_summary(v);
	draw_tabs(v);
	draw_tab(v, (struct area){ .y = HEAD_LINES + 1, .x = 1, .lines = LINES - HEAD_LINES - 2, .columns = COLS - 2 });
	draw_foot(v);
	refresh();
}

/* ---- begin and end ---- */

/* Most servers set no locale, and all terminals of today take UTF-8. */
static void choose_locale(void)
{
	setlocale(LC_ALL, "");
	if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		setlocale(LC_CTYPE, "C.UTF-8");
	setlocale(LC_NUMERIC, "C");
}

static int take_terminal(struct top_view *v, struct fault *fault)
{
	const char *type = getenv("TERM"), *no_colour = getenv("NO_COLOR");

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return fault_set(fault, -ENOTTY, "this is no terminal; --once prints text");
	choose_locale();
	v->screen = newterm(NULL, stdout, stdin);
	if (!v->screen)
		return fault_set(fault, -ENOENT, "the terminal '%.64s' is not known; --once prints text",
				 type ? type : "");
	set_term(v->screen);
	set_escdelay(25);
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	curs_set(0);
	/* https://no-color.org */
	if (has_colors() && !(no_colour && *no_colour) && start_color() == OK) {
		use_default_colors();
		init_pair(RED, COLOR_RED, -1);
	}
	return 0;
}

int top_view_open(struct top_view **ret, struct top_model *model, const char *where, struct fault *fault)
{
	struct top_view *v = calloc(1, sizeof *v);
	int r;

	if (v)
		v->rows = calloc(TOP_ROWS_MAX, sizeof *v->rows);
	if (!v || !v->rows) {
		top_view_close(v);
		return fault_set(fault, -ENOMEM, "out of memory");
	}
	v->model = model;
	snprintf(v->where, sizeof v->where, "%s", where ? where : "");
	for (unsigned i = 0; i < TOP_PANES; i++)
		v->places[i].order.column = top_panes[i].sort;
	r = take_terminal(v, fault);
	if (r < 0) {
		top_view_close(v);
		return r;
	}
	*ret = v;
	return 0;
}

void top_view_close(struct top_view *v)
{
	if (!v)
		return;
	if (v->screen) {
		endwin();
		delscreen(v->screen);
	}
	free(v->rows);
	free(v);
}

const char *top_view_where(const struct top_view *v)
{
	return v->where;
}

bool top_view_paused(const struct top_view *v)
{
	return v->paused;
}

void top_view_say(struct top_view *v, const char *text)
{
	snprintf(v->message, sizeof v->message, "%s", text);
}

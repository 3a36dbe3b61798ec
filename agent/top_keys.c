/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of `sonde top`, see top_view.h. While a prompt is open every key is its own. */
#include "top_screen.h"

#include <limits.h>
#include <ncurses.h>
#include <string.h>
#include <wchar.h>

#define KEY_ESCAPE 27
#define CONTROL(c) ((c) - 'a' + 1)

static void select_at(struct top_view *v, unsigned pane, size_t at)
{
	struct top_place *place = &v->places[pane];

	place->at = at;
	place->selected = at < v->n_rows ? v->rows[at].hash : 0;
}

static void move_by(struct top_view *v, long by)
{
	int pane = top_tabs[v->tab].pane;
	size_t at;

	if (v->chosen.open) {
		if (by < 0)
			v->chosen.first -= MIN_OF((size_t)-by, v->chosen.first);
		else
			v->chosen.first =
				MIN_OF(v->chosen.first + (size_t)by, v->chosen.lines ? v->chosen.lines - 1 : 0);
		return;
	}
	if (pane < 0)
		return;
	top_screen_look(v, (unsigned)pane);
	if (!v->n_rows)
		return;
	at = v->places[pane].at;
	if (by < 0)
		at -= MIN_OF((size_t)-by, at);
	else
		at = MIN_OF(at + (size_t)by, v->n_rows - 1);
	select_at(v, (unsigned)pane, at);
}

static void change_tab(struct top_view *v, unsigned tab)
{
	v->tab = tab % TOP_TABS;
	v->chosen.open = false;
}

/* Of the overview the functions are sorted. */
static struct top_place *sorted_place(struct top_view *v, const struct top_pane **ret_pane)
{
	int pane = top_tabs[v->tab].pane >= 0 ? top_tabs[v->tab].pane : TOP_PANE_FUNCTIONS;

	*ret_pane = &top_panes[pane];
	return &v->places[pane];
}

static void change_sort(struct top_view *v, int by)
{
	const struct top_pane *pane;
	struct top_place *place = sorted_place(v, &pane);
	unsigned n = top_pane_columns(pane);

	if (pane->table >= 0)
		place->order.column = (place->order.column + n + (unsigned)by) % n;
	place->order.reverse = false;
}

static void choose(struct top_view *v)
{
	int pane = top_tabs[v->tab].pane;
	const struct top_entry *e;
	struct top_chosen *c = &v->chosen;

	if (pane < 0 || c->open)
		return;
	top_screen_look(v, (unsigned)pane);
	e = v->places[pane].at < v->n_rows ? v->rows[v->places[pane].at].entry : NULL;
	if (!e || (pane != TOP_PANE_FUNCTIONS && pane != TOP_PANE_PROCESSES && pane != TOP_PANE_THREADS &&
		   pane != TOP_PANE_WAITS)) {
		top_view_say(v, "Stacks are of a function, a process, a thread or a wait.");
		return;
	}
	*c = (struct top_chosen){ .open = true,
				  .offcpu = pane == TOP_PANE_WAITS,
				  .is_function = pane == TOP_PANE_FUNCTIONS };
	if (c->is_function) {
		snprintf(c->function, sizeof c->function, "%s", top_entry_key(e, 0));
		snprintf(c->library, sizeof c->library, "%s", top_entry_key(e, 1));
		snprintf(c->title, sizeof c->title, "%s", c->function);
	} else {
		snprintf(c->proc, sizeof c->proc, "%s", top_entry_key(e, 0));
		snprintf(c->title, sizeof c->title, "%s[%u]", e->name, e->pid);
	}
}

static void open_prompt(struct top_view *v, enum top_prompt prompt)
{
	v->prompt = prompt;
	snprintf(v->typed, sizeof v->typed, "%s", prompt == TOP_PROMPT_FILTER ? v->filter : v->where);
}

/* The last character, whole. */
static void rub_out(char *text)
{
	size_t n = strlen(text);

	while (n && ((unsigned char)text[n - 1] & 0xc0) == 0x80)
		n--;
	text[n ? n - 1 : 0] = '\0';
}

static void type(struct top_view *v, wint_t c)
{
	char bytes[MB_LEN_MAX];
	size_t n = strlen(v->typed), room = v->prompt == TOP_PROMPT_FILTER ? sizeof v->filter : sizeof v->typed;
	mbstate_t state = { 0 };
	size_t size = wcrtomb(bytes, (wchar_t)c, &state);

	if (c < ' ' || c == 127 || size == (size_t)-1 || n + size >= room)
		return;
	memcpy(v->typed + n, bytes, size);
	v->typed[n + size] = '\0';
}

static enum top_wish prompt_key(struct top_view *v, bool function, wint_t c)
{
	enum top_prompt prompt = v->prompt;

	if ((function && c == KEY_BACKSPACE) || (!function && (c == 127 || c == CONTROL('h')))) {
		rub_out(v->typed);
	} else if (!function && c == CONTROL('u')) {
		v->typed[0] = '\0';
	} else if ((function && c == KEY_ENTER) || (!function && (c == '\r' || c == '\n'))) {
		v->prompt = TOP_PROMPT_NONE;
		if (prompt == TOP_PROMPT_WHERE) {
			memcpy(v->where, v->typed, sizeof v->where);
			return TOP_WISH_WHERE;
		}
	} else if (!function && c == KEY_ESCAPE) {
		v->prompt = TOP_PROMPT_NONE;
		if (prompt == TOP_PROMPT_FILTER)
			v->filter[0] = '\0';
		return TOP_WISH_NONE;
	} else if (!function) {
		type(v, c);
	}
	/* A filter works while it is typed. */
	if (prompt == TOP_PROMPT_FILTER)
		snprintf(v->filter, sizeof v->filter, "%s", v->typed);
	return TOP_WISH_NONE;
}

static void go_back(struct top_view *v)
{
	if (v->help)
		v->help = false;
	else if (v->chosen.open)
		v->chosen.open = false;
	else
		v->filter[0] = '\0';
}

static void function_key(struct top_view *v, wint_t c)
{
	switch (c) {
	case KEY_UP:
		return move_by(v, -1);
	case KEY_DOWN:
		return move_by(v, 1);
	case KEY_PPAGE:
		return move_by(v, -(long)MAX_OF(v->page, (size_t)1));
	case KEY_NPAGE:
		return move_by(v, (long)MAX_OF(v->page, (size_t)1));
	case KEY_HOME:
		return move_by(v, -(long)TOP_ROWS_MAX);
	case KEY_END:
		return move_by(v, (long)TOP_ROWS_MAX);
	case KEY_LEFT:
	case KEY_BTAB:
		return change_tab(v, v->tab + TOP_TABS - 1);
	case KEY_RIGHT:
		return change_tab(v, v->tab + 1);
	case KEY_ENTER:
		return choose(v);
	case KEY_BACKSPACE:
		return go_back(v);
	default:
		return;
	}
}

static void letter_key(struct top_view *v, wint_t c)
{
	const struct top_pane *pane;

	switch (c) {
	case '0' ... '9':
		return change_tab(v, c - '0');
	case '\t':
		return change_tab(v, v->tab + 1);
	case 'k':
		return move_by(v, -1);
	case 'j':
		return move_by(v, 1);
	case 's':
	case '>':
		return change_sort(v, 1);
	case 'S':
	case '<':
		return change_sort(v, -1);
	case 'r':
		sorted_place(v, &pane)->order.reverse ^= true;
		return;
	case '/':
		return open_prompt(v, TOP_PROMPT_FILTER);
	case 'w':
		return open_prompt(v, TOP_PROMPT_WHERE);
	case 'p':
	case ' ':
		v->paused = !v->paused;
		return;
	case 'o':
		v->chosen.offcpu = !v->chosen.offcpu;
		v->chosen.first = 0;
		return;
	case 'h':
	case '?':
		v->help = true;
		return;
	case '\r':
	case '\n':
		return choose(v);
	case KEY_ESCAPE:
	case 127:
	case CONTROL('h'):
		return go_back(v);
	case CONTROL('l'):
		clearok(curscr, TRUE);
		return;
	default:
		return;
	}
}

static enum top_wish work_on(struct top_view *v, bool function, wint_t c)
{
	if (function && c == KEY_RESIZE)
		return TOP_WISH_NONE;
	v->message[0] = '\0';
	if (v->prompt != TOP_PROMPT_NONE)
		return prompt_key(v, function, c);
	if (v->help) {
		v->help = false;
		return TOP_WISH_NONE;
	}
	if (function) {
		function_key(v, c);
		return TOP_WISH_NONE;
	}
	if (c == 'q' && v->chosen.open) {
		v->chosen.open = false;
		return TOP_WISH_NONE;
	}
	if (c == 'q' || c == CONTROL('c'))
		return TOP_WISH_QUIT;
	letter_key(v, c);
	return TOP_WISH_NONE;
}

enum top_wish top_view_keys(struct top_view *v)
{
	enum top_wish wish = TOP_WISH_NONE;
	wint_t c;

	while (wish == TOP_WISH_NONE) {
		int kind = get_wch(&c);

		if (kind == ERR)
			break;
		wish = work_on(v, kind == KEY_CODE_YES, c);
	}
	return wish;
}

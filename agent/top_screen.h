/* SPDX-License-Identifier: Apache-2.0 */
/* What the view's two files share: top_view.c draws the state, top_keys.c changes it. */
#ifndef SONDE_TOP_SCREEN_H
#define SONDE_TOP_SCREEN_H

#include "top_panes.h"
#include "top_view.h"

#define TOP_TABS       10u
#define TOP_FILTER_MAX 256u

/* A tab shows one pane that can be walked, and may show a second one below it. The first tab shows several at once. */
struct top_tab {
	const char *name;
	int pane, below; /* enum top_pane_id, or -1 */
};
extern const struct top_tab top_tabs[TOP_TABS];

/* Where one is in a pane. The selected row is known by its hash: it is followed when the order changes. */
struct top_place {
	struct top_order order;
	uint64_t selected;
	size_t at, first;
};

/* The stacks of one process, or with one function. */
struct top_chosen {
	bool open, offcpu, is_function;
	char proc[32], function[TOP_KEY_MAX + 1], library[TOP_KEY_MAX + 1], title[TOP_KEY_MAX + 1];
	size_t first, lines; /* the topmost line shown, and how many there are */
};

enum top_prompt { TOP_PROMPT_NONE, TOP_PROMPT_FILTER, TOP_PROMPT_WHERE };

struct top_view {
	struct top_model *model;
	void *screen; /* SCREEN */
	unsigned tab;
	struct top_place places[TOP_PANES];
	struct top_chosen chosen;
	bool paused, help;
	enum top_prompt prompt;
	char filter[TOP_FILTER_MAX], where[TOP_WHERE_MAX], typed[TOP_WHERE_MAX], message[512];
	struct top_pane_row *rows;
	size_t n_rows; /* of the tab's pane, as of the last look */
	size_t page;   /* lines of the pane that can be walked */
};

/* The rows of the tab's pane as they are now, and the place among them. */
void top_screen_look(struct top_view *v, unsigned pane);

#endif

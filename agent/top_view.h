/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `sonde top` on a terminal: tabs of panes over a model, keys, two prompts. It draws and listens; what is read from the
 * journal, and when, is the command's business.
 */
#ifndef SONDE_TOP_VIEW_H
#define SONDE_TOP_VIEW_H

#include "top_model.h"

#define TOP_WHERE_MAX 1024u

struct top_view; /* opaque */

enum top_wish {
	TOP_WISH_NONE,
	TOP_WISH_QUIT,
	TOP_WISH_WHERE, /* top_view_where() is a new expression: answer with top_view_say() if it is none */
};

/* Takes the terminal over. -ENOTTY, -ENOENT (its type is unknown), -ENOMEM, with a sentence in `fault`. */
int top_view_open(struct top_view **ret, struct top_model *model, const char *where, struct fault *fault);
/* Gives the terminal back as it was. */
void top_view_close(struct top_view *v);

/* Works on the keys that wait. */
enum top_wish top_view_keys(struct top_view *v);
void top_view_draw(struct top_view *v);

const char *top_view_where(const struct top_view *v);
bool top_view_paused(const struct top_view *v);
/* A sentence for the last line, until the next key. */
void top_view_say(struct top_view *v, const char *text);

#endif

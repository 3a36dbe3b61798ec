/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows are all of one length, so the order in which they were opened is that in which they end: a ring of windows, and a hash table of chains
 * into it.
 */
#include "alerts/fold.h"

#include <errno.h>
#include <string.h>

#define HEADS 2048u /* a power of two */
#define NONE  UINT32_MAX

struct window {
	uint64_t proc, began, count, seq;
	uint32_t rule, next; /* next: of its chain */
	struct sonde_event event;
	bool cut;
	uint32_t output_size;
	char output[FOLD_OUTPUT_MAX];
};

struct fold {
	uint64_t window_ns;
	void (*tell)(void *context, const struct fold_alert *folded);
	void *context;
	uint64_t first, last; /* windows [first, last) are open, each at its number modulo FOLD_WINDOWS */
	uint32_t heads[HEADS];
	struct window windows[FOLD_WINDOWS];
};

static uint32_t *head_of(struct fold *fold, uint32_t rule, uint64_t proc)
{
	uint64_t hash = (proc ^ (uint64_t)rule * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;

	return &fold->heads[hash >> 40 & (HEADS - 1)];
}

static struct window *find(struct fold *fold, uint32_t rule, uint64_t proc)
{
	uint32_t i = *head_of(fold, rule, proc);

	while (i != NONE && (fold->windows[i].rule != rule || fold->windows[i].proc != proc))
		i = fold->windows[i].next;
	return i == NONE ? NULL : &fold->windows[i];
}

static void end_first(struct fold *fold)
{
	uint32_t i = (uint32_t)(fold->first++ % FOLD_WINDOWS);
	struct window *w = &fold->windows[i];
	uint32_t *at = head_of(fold, w->rule, w->proc);
	const struct fold_alert folded = { .rule = w->rule,
					   .count = w->count,
					   .event = &w->event,
					   .seq = w->seq,
					   .output = w->output,
					   .output_size = w->output_size,
					   .cut = w->cut };

	while (*at != i)
		at = &fold->windows[*at].next;
	*at = w->next;
	if (w->count)
		fold->tell(fold->context, &folded);
}

int fold_open(struct fold **ret, uint64_t window_ns, void (*tell)(void *context, const struct fold_alert *folded),
	      void *context)
{
	struct fold *fold = calloc(1, sizeof *fold);

	if (!fold)
		return -ENOMEM;
	fold->window_ns = window_ns;
	fold->tell = tell;
	fold->context = context;
	memset(fold->heads, 0xff, sizeof fold->heads);
	*ret = fold;
	return 0;
}

void fold_close(struct fold *fold)
{
	free(fold);
}

static void open_window(struct fold *fold, uint32_t rule, uint64_t proc, uint64_t now)
{
	uint32_t i = (uint32_t)(fold->last % FOLD_WINDOWS), *head = head_of(fold, rule, proc);
	struct window *w = &fold->windows[i];

	fold->last++;
	w->rule = rule;
	w->proc = proc;
	w->began = now;
	w->count = 0;
	w->next = *head;
	*head = i;
}

/* The end of a text that is cut is that of a whole character. */
static uint32_t cut_at(const char *text, size_t size)
{
	size_t n = MIN_OF(size, FOLD_OUTPUT_MAX);

	while (n < size && n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
		n--;
	return (uint32_t)n;
}

static void keep(struct window *w, const struct fold_alert *alert)
{
	w->count++;
	w->event = *alert->event;
	w->seq = alert->seq;
	w->output_size = cut_at(alert->output, alert->output_size);
	w->cut = alert->cut || w->output_size < alert->output_size;
	memcpy(w->output, alert->output, w->output_size);
}

bool fold_take(struct fold *fold, const struct fold_alert *alert, uint64_t now)
{
	const uint64_t proc = alert->event->proc;
	struct window *w;

	fold_tick(fold, now);
	if (!fold->window_ns || !proc)
		return true; /* nothing is folded; or nobody's event, which says nothing of being equal */
	w = find(fold, alert->rule, proc);
	if (w) {
		keep(w, alert);
		return false;
	}
	if (fold->last - fold->first == FOLD_WINDOWS)
		end_first(fold);
	open_window(fold, alert->rule, proc, now);
	return true;
}

void fold_tick(struct fold *fold, uint64_t now)
{
	while (fold->first < fold->last && now - fold->windows[fold->first % FOLD_WINDOWS].began >= fold->window_ns)
		end_first(fold);
}

void fold_flush(struct fold *fold)
{
	while (fold->first < fold->last)
		end_first(fold);
}

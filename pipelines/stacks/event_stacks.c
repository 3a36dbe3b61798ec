/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table of stacks by number, in order of their coming. An entry is made with its record, gets its frames when they are unwound, and is
 * kept for a while after its event went, as several events may name it (a connection that fails two minutes after it began).
 *
 * Invariants: each event held is on the list of exactly one entry; an entry that is being unwound is never freed, but marked; all bytes
 * are counted in `table.bytes`.
 */
#include "stacks/event_stacks.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "stacks/table.h"

#define BUCKETS  1024u
#define KEPT_NS  (180 * NS_PER_SEC)
#define HELD_NS  (4 * NS_PER_SEC)
#define TEXT_MAX (32u << 10)

struct held {
	struct held *next;
	uint64_t until;
	struct sonde_event event; /* and what follows it */
};

struct entry {
	struct node node; /* key: its number */
	struct event_stacks *stacks;
	uint64_t came;
	struct held *first, **last;
	struct entry *next_held; /* among entries with events */
	bool unwound, listed, abandoned, truncated;
	uint16_t n_kernel, n_user;
	uint64_t *kernel;
	struct stack_frame *user;
};

struct event_stacks {
	struct event_stacks_options options;
	struct table table;
	struct entry *with_events;
	unsigned pending; /* with the unwinder */
	char text[TEXT_MAX];
};

int event_stacks_open(struct event_stacks **ret, const struct event_stacks_options *options)
{
	struct event_stacks *s = calloc(1, sizeof *s);

	if (!s || table_open(&s->table, BUCKETS) < 0) {
		free(s);
		return -ENOMEM;
	}
	s->options = *options;
	*ret = s;
	return 0;
}

static struct entry *find(struct event_stacks *s, uint64_t number)
{
	return (struct entry *)table_find(&s->table, number);
}

/* ---- writing ---- */

static bool is_ready(struct event_stacks *s, const struct entry *e)
{
	struct stack_view view = {
		.kernel = e->kernel, .user = e->user, .n_kernel = e->n_kernel, .n_user = e->n_user, .from_hook = true
	};

	return e->unwound && stack_state(s->options.symbols, &view) != SYMBOLS_ASKED;
}

static void write_held(struct event_stacks *s, struct entry *e)
{
	struct stack_view view = {
		.kernel = e->kernel, .user = e->user, .n_kernel = e->n_kernel, .n_user = e->n_user, .from_hook = true
	};
	struct stack_text text;
	struct held *held;

	if (e->unwound) {
		stack_write(s->options.symbols, &view, s->text, sizeof s->text, &text);
		text.truncated |= e->truncated;
	}
	while ((held = e->first)) {
		e->first = held->next;
		s->options.write(s->options.context, &held->event, e->unwound ? &text : NULL);
		table_account(&s->table, &e->node, e->node.bytes - (uint32_t)sizeof *held - held->event.size);
		free(held);
	}
	e->last = &e->first;
}

/* ---- entries ---- */

static void entry_free(struct event_stacks *s, struct entry *e)
{
	write_held(s, e);
	for (struct entry **at = &s->with_events; e->listed && *at; at = &(*at)->next_held)
		if (*at == e) {
			*at = e->next_held;
			break;
		}
	table_remove(&s->table, &e->node);
	if (!e->unwound) {
		e->abandoned = true; /* the unwinder still has it */
		return;
	}
	free(e->kernel);
	free(e->user);
	free(e);
}

static void make_room(struct event_stacks *s)
{
	while (s->table.bytes > s->options.bytes && s->table.oldest)
		entry_free(s, (struct entry *)s->table.oldest);
}

static void take_frames(struct entry *e, const struct stack_frames *frames)
{
	e->user = frames->count ? malloc(frames->count * sizeof *e->user) : NULL;
	if (e->user) {
		memcpy(e->user, frames->frames, frames->count * sizeof *e->user);
		e->n_user = (uint16_t)frames->count;
	}
	e->truncated |= frames->truncated;
	e->unwound = true;
}

static void on_unwound(void *context, const struct stack_frames *frames)
{
	struct entry *e = context;
	struct event_stacks *s = e->stacks;

	s->pending--;
	if (e->abandoned) {
		free(e->kernel);
		free(e);
		return;
	}
	take_frames(e, frames);
	table_account(&s->table, &e->node, e->node.bytes + e->n_user * (uint32_t)sizeof *e->user);
	is_ready(s, e); /* asks for names while the process lives */
}

static struct entry *entry_add(struct event_stacks *s, const struct sonde_stack_sample *sample)
{
	size_t kernel = sample->stack.n_kernel * sizeof(uint64_t);
	struct entry *e = calloc(1, sizeof *e);

	if (!e)
		return NULL;
	e->kernel = malloc(MAX_OF(kernel, (size_t)1));
	if (!e->kernel) {
		free(e);
		return NULL;
	}
	memcpy(e->kernel, &sample->stack + 1, kernel);
	e->n_kernel = sample->stack.n_kernel;
	e->truncated = sample->stack.flags & SONDE_STACK_KERNEL_CUT;
	e->stacks = s;
	e->came = now_boottime_ns();
	e->last = &e->first;
	e->node.key = sample->number;
	e->node.bytes = (uint32_t)(sizeof *e + kernel + 64);
	table_add(&s->table, &e->node);
	return e;
}

int event_stacks_sample(struct event_stacks *s, const struct sonde_event *event)
{
	const struct sonde_stack_sample *sample = (const struct sonde_stack_sample *)event;
	size_t bytes = event->size - offsetof(struct sonde_stack_sample, stack);
	struct entry *e;
	int r;

	if (event->size < sizeof *sample || sample->stack.n_kernel > SONDE_STACK_KERNEL_MAX ||
	    SONDE_STACK_BYTES(sample->stack.n_kernel, sample->stack.n_slice) > bytes)
		return -EBADMSG;
	e = entry_add(s, sample);
	if (!e)
		return -ENOMEM;
	s->pending++;
	r = symbols_unwind(s->options.symbols, (int)event->pid, event->time, &sample->stack, bytes, on_unwound, e);
	if (r < 0) {
		s->pending--;
		e->unwound = true;
		entry_free(s, e);
	}
	make_room(s);
	return r;
}

void event_stacks_hold(struct event_stacks *s, uint64_t number, const struct sonde_event *event)
{
	struct entry *e = find(s, number);
	struct held *held = e ? malloc(sizeof *held + event->size) : NULL;

	if (!held) {
		s->options.write(s->options.context, event, NULL);
		return;
	}
	memcpy(&held->event, event, event->size);
	held->until = now_boottime_ns() + HELD_NS;
	held->next = NULL;
	*e->last = held;
	e->last = &held->next;
	table_account(&s->table, &e->node, e->node.bytes + (uint32_t)sizeof *held + event->size);
	if (!e->listed) {
		e->listed = true;
		e->next_held = s->with_events;
		s->with_events = e;
	}
	make_room(s);
}

void event_stacks_tick(struct event_stacks *s, uint64_t now)
{
	for (struct entry **at = &s->with_events, *e; (e = *at);) {
		if (e->first && now < e->first->until && !is_ready(s, e)) {
			at = &e->next_held;
			continue;
		}
		*at = e->next_held;
		e->listed = false;
		write_held(s, e);
	}
	while (s->table.oldest && now > ((struct entry *)s->table.oldest)->came + KEPT_NS)
		entry_free(s, (struct entry *)s->table.oldest);
}

void event_stacks_flush(struct event_stacks *s, int timeout_ms)
{
	uint64_t until = now_boottime_ns() + (uint64_t)MAX_OF(timeout_ms, 0) * NS_PER_MS;

	event_stacks_tick(s, now_boottime_ns());
	while (s->with_events && now_boottime_ns() < until) {
		struct pollfd fd = { .fd = symbols_fd(s->options.symbols), .events = POLLIN };

		symbols_answer(s->options.symbols);
		event_stacks_tick(s, now_boottime_ns());
		if (s->with_events)
			poll(&fd, 1, 50);
	}
	event_stacks_tick(s, UINT64_MAX - KEPT_NS);
}

void event_stacks_close(struct event_stacks *s)
{
	if (!s)
		return;
	if (s->pending)
		symbols_finish(s->options.symbols);
	while (s->table.oldest)
		entry_free(s, (struct entry *)s->table.oldest);
	free(s->table.buckets);
	free(s);
}

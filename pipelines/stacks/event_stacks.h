/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks of events (module option `stack`). The kernel sends the stack ahead of the event that names it; it is unwound like a profile's
 * sample, and the event is held until its frames have names, for a bounded time.
 */
#ifndef SONDE_EVENT_STACKS_H
#define SONDE_EVENT_STACKS_H

#include "sonde/stack.h"
#include "stacks/stack_text.h"

struct event_stacks; /* opaque */

struct event_stacks_options {
	struct symbols *symbols;
	size_t bytes; /* bound of stacks kept and events held */
	void *context;
	/* Takes each held event back, once; `stack` NULL: it did not come. */
	void (*write)(void *context, const struct sonde_event *event, const struct stack_text *stack);
};

int event_stacks_open(struct event_stacks **ret, const struct event_stacks_options *options);
void event_stacks_close(struct event_stacks *stacks); /* events still held are gone: flush first */

/* A record of type stack.sample, of `event->size` bytes. -EBADMSG, -ENOMEM. */
int event_stacks_sample(struct event_stacks *stacks, const struct sonde_event *event);
/* Holds a copy of the event, or writes it at once when its stack is not known or there is no room. */
void event_stacks_hold(struct event_stacks *stacks, uint64_t number, const struct sonde_event *event);
/* At least every 100 ms: writes what is ready, or was held long enough. */
void event_stacks_tick(struct event_stacks *stacks, uint64_t now);
/* Writes everything, waiting for names at most `timeout_ms`. */
void event_stacks_flush(struct event_stacks *stacks, int timeout_ms);

#endif

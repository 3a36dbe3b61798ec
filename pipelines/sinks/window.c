/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring of window.h. Nothing here knows of Kafka; the marks alone decide what a cursor may pass.
 */
#include "sinks/window.h"

#include <errno.h>

int window_open(struct window *w, uint32_t records, uint64_t bytes)
{
	uint32_t capacity = 16;

	while (capacity < records && capacity < 1u << 24)
		capacity *= 2;
	*w = (struct window){ .capacity = capacity, .mask = capacity - 1, .bytes_max = bytes };
	w->slots = calloc(capacity, sizeof *w->slots);
	return w->slots ? 0 : -ENOMEM;
}

void window_close(struct window *w)
{
	free(w->slots);
	w->slots = NULL;
}

void window_mark(struct window *w, uint64_t index, enum slot_state state)
{
	struct window_slot *slot = window_at(w, index);

	if (index < w->head || index >= w->tail)
		return;
	w->outstanding -= slot->state == SLOT_SENT;
	w->outstanding += state == SLOT_SENT;
	slot->again |= slot->state == SLOT_SENT;
	slot->state = (uint8_t)state;
}

void window_rewind(struct window *w)
{
	for (uint64_t i = w->head; i < w->next; i++)
		if (window_at(w, i)->state == SLOT_SENT)
			window_mark(w, i, SLOT_WAITS);
	w->next = w->head;
}

struct window_slot *window_settled(struct window *w)
{
	struct window_slot *slot = window_at(w, w->head);

	if (w->head == w->tail || (slot->state != SLOT_DONE && slot->state != SLOT_REFUSED))
		return NULL;
	return slot;
}

void window_drop(struct window *w)
{
	w->bytes -= window_at(w, w->head)->record.size;
	w->head++;
	if (w->next < w->head)
		w->next = w->head;
}

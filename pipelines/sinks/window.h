/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records between the journal and the far side, in the journal's order: a ring of slots with three marks.
 *
 *      head               next              tail
 *       │ sent, some done │ taken, not sent  │
 *   ────┴─────────────────┴──────────────────┴────▶ position
 *
 * Indices only grow; a slot is its index modulo the capacity. Invariants: head <= next <= tail <= head + capacity; all
 * before `head` is settled for good (acknowledged or refused) and nothing after it is forgotten before it is;
 * `bytes` is the sum of the sizes in [head, tail). One thread.
 */
#ifndef SONDE_WINDOW_H
#define SONDE_WINDOW_H

#include "base/base.h"
#include "journal/journal.h"

enum slot_state { SLOT_WAITS, SLOT_SENT, SLOT_DONE, SLOT_REFUSED };

struct window_slot {
	struct journal_record record;
	uint8_t state;      /* enum slot_state */
	bool again;         /* was sent before */
	const char *reason; /* a static text: why the far side refused it, or NULL */
};

struct window {
	struct window_slot *slots;
	uint64_t head, next, tail;
	uint64_t outstanding; /* slots in state SLOT_SENT */
	uint64_t bytes, bytes_max;
	uint32_t capacity, mask;
};

/* Room for at least `records` records (a power of two is made of it) and `bytes` bytes; one record always fits.
 * -ENOMEM. */
int window_open(struct window *w, uint32_t records, uint64_t bytes);
void window_close(struct window *w);

static inline struct window_slot *window_at(struct window *w, uint64_t index)
{
	return &w->slots[index & w->mask];
}

/* The index whose lower 32 bits are `low`, among those in the ring. */
static inline uint64_t window_index(const struct window *w, uint32_t low)
{
	return w->head + (uint32_t)(low - (uint32_t)w->head);
}

static inline bool window_full(const struct window *w)
{
	return w->tail - w->head == w->capacity || (w->bytes >= w->bytes_max);
}

static inline void window_put(struct window *w, const struct journal_record *record)
{
	*window_at(w, w->tail++) = (struct window_slot){ .record = *record };
	w->bytes += record->size;
}

/* Marks a slot, keeping count of those that are out. Indices outside [head, tail) are ignored. */
void window_mark(struct window *w, uint64_t index, enum slot_state state);

/* Everything that is out and unanswered waits again, and sending starts over at the head. */
void window_rewind(struct window *w);

/* The oldest slot, if it is settled; window_drop() then forgets it. */
struct window_slot *window_settled(struct window *w);
void window_drop(struct window *w);

#endif

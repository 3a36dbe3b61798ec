/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded table of sums over the last while: each entry keeps its values in TOP_SLICES slices of time, a ring, so that
 * what is older than the span goes slice by slice and nothing has to be remembered row by row.
 *
 * Invariants: `sums` is always the slices put together; memory is bounded by the capacity and by TOP_KEY_MAX and
 * TOP_TEXT_MAX; a full table lets its least entry among a few go (counted), never the newest.
 */
#ifndef SONDE_TOP_TABLE_H
#define SONDE_TOP_TABLE_H

#include "base/base.h"

#define TOP_SLICES   6u
#define TOP_VALUES   9u
#define TOP_KEY_MAX  512u  /* bytes of a key; a longer one is cut */
#define TOP_TEXT_MAX 4096u /* bytes of what an entry has beside its key */
#define TOP_NAME_MAX 64u

struct top_entry {
	uint64_t hash, mark;
	uint32_t next;       /* in its chain; number + 1 */
	uint32_t pid, tid;   /* 0: none */
	uint32_t names_self; /* `name` is of the main thread */
	char name[TOP_NAME_MAX];
	char *key, *text; /* texts, each with a NUL behind it */
	uint32_t key_size, text_size;
	uint64_t sums[TOP_VALUES];
	uint64_t slices[TOP_SLICES][TOP_VALUES];
};

struct top_table {
	struct top_entry *entries;
	uint32_t *heads;
	uint32_t capacity, count, hand;
	uint32_t maxima; /* bit mask of the values that are maxima and no sums */
	bool lasting;    /* values are set, and age does not matter */
	uint64_t evicted;
};

/* 0 or -ENOMEM. */
int top_table_open(struct top_table *t, uint32_t capacity, uint32_t maxima, bool lasting);
void top_table_close(struct top_table *t);
void top_table_clear(struct top_table *t);

/* The entry of this key, made when there is none; NULL when memory ran out. It is valid until the next call of this or of
 * top_table_turn(). */
struct top_entry *top_table_take(struct top_table *t, const void *key, size_t size);
struct top_entry *top_table_find(const struct top_table *t, const void *key, size_t size);

void top_entry_add(const struct top_table *t, struct top_entry *e, unsigned slice, unsigned value, uint64_t amount);
/* Replaces its name or its text; bytes behind the bound are left out. */
void top_entry_name(struct top_entry *e, const void *name, size_t size);
void top_entry_text(struct top_entry *e, const void *text, size_t size);
/* Text `n` of those in `key`; "" when there are fewer. */
const char *top_entry_key(const struct top_entry *e, unsigned n);

/* Slice `slice` begins anew: what it held is over. Entries that hold nothing any more go. */
void top_table_turn(struct top_table *t, unsigned slice);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chained hash table whose entries also stand in the order of their last use, so that a bounded cache can give up the
 * oldest. The node is the first member of an entry; the table owns no memory but its buckets. Keys are hashes already;
 * equal keys may repeat.
 */
#ifndef SONDE_TABLE_H
#define SONDE_TABLE_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

struct node {
	struct node *chain, *newer, *older;
	uint64_t key;
	uint32_t bytes; /* what the entry occupies, for the bound */
};

struct table {
	struct node **buckets;
	struct node *newest, *oldest;
	uint32_t mask, count;
	uint64_t bytes;
};

/* `buckets` is a power of two. */
static inline int table_open(struct table *t, uint32_t buckets)
{
	*t = (struct table){ .mask = buckets - 1, .buckets = calloc(buckets, sizeof *t->buckets) };
	return t->buckets ? 0 : -ENOMEM;
}

static inline void table_unlink(struct table *t, struct node *n)
{
	*(n->newer ? &n->newer->older : &t->newest) = n->older;
	*(n->older ? &n->older->newer : &t->oldest) = n->newer;
}

static inline void table_link_newest(struct table *t, struct node *n)
{
	n->newer = NULL;
	n->older = t->newest;
	*(n->older ? &n->older->newer : &t->oldest) = n;
	t->newest = n;
}

static inline void table_touch(struct table *t, struct node *n)
{
	if (t->newest == n)
		return;
	table_unlink(t, n);
	table_link_newest(t, n);
}

static inline void table_add(struct table *t, struct node *n)
{
	struct node **bucket = &t->buckets[n->key & t->mask];

	n->chain = *bucket;
	*bucket = n;
	table_link_newest(t, n);
	t->count++;
	t->bytes += n->bytes;
}

static inline void table_remove(struct table *t, struct node *n)
{
	struct node **at = &t->buckets[n->key & t->mask];

	while (*at != n)
		at = &(*at)->chain;
	*at = n->chain;
	table_unlink(t, n);
	t->count--;
	t->bytes -= n->bytes;
}

/* The first entry with `key`, and the next one after `n`; NULL. */
static inline struct node *table_next(const struct node *n, uint64_t key)
{
	while (n && n->key != key)
		n = n->chain;
	return (struct node *)n;
}

static inline struct node *table_find(const struct table *t, uint64_t key)
{
	return table_next(t->buckets[key & t->mask], key);
}

static inline void table_account(struct table *t, struct node *n, uint32_t bytes)
{
	t->bytes += bytes - (uint64_t)n->bytes;
	n->bytes = bytes;
}

#endif

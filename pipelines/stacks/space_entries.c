/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries are found by pid in the chains of table.h, whose newest stands first: that is the order of begin and end as
 * well. The table's own order is that of last use among the living, and of end among the ended.
 *
 * Invariants: at most one living entry of a pid, and ENDED_MAX ended ones; each holds one reference to its list;
 * n_mappings counts each list once.
 */
#include "stacks/space_entries.h"

#include <errno.h>
#include <string.h>

/* Ended spaces of one pid: a program that execs itself without a pause must not make its pid slow to look up. */
#define ENDED_MAX 8u

/* ---- entries ---- */

static uint64_t key_of(const struct spaces *s, int pid)
{
	return ((uint64_t)(uint32_t)pid + s->salt) * 0x9e3779b97f4a7c15ull >> 24;
}

static struct space_entry *search(struct node *node, uint64_t key, int pid)
{
	while ((node = table_next(node, key))) {
		if (((struct space_entry *)node)->space.pid == pid)
			return (struct space_entry *)node;
		node = node->chain;
	}
	return NULL;
}

struct space_entry *space_entry_first(const struct spaces *s, const struct table *table, int pid)
{
	uint64_t key = key_of(s, pid);

	return search(table_find(table, key), key, pid);
}

struct space_entry *space_entry_next(const struct space_entry *e)
{
	return search(e->node.chain, e->node.key, e->space.pid);
}

struct space_entry *space_entry_add(struct spaces *s, int pid, uint64_t begin, struct space_maps *maps)
{
	struct space_entry *e = maps ? calloc(1, sizeof *e) : NULL;

	if (!e) {
		space_maps_unref(maps, &s->files, &s->maps_bytes);
		s->evicted++;
		return NULL;
	}
	e->space = (struct space){ .number = ++s->numbers, .pid = pid, .begin = begin };
	e->maps = maps;
	e->seen = maps->state;
	e->losses = s->losses;
	e->node.key = key_of(s, pid);
	e->node.bytes = space_allocated(sizeof *e);
	table_add(&s->living, &e->node);
	return e;
}

void space_entry_disown(struct space_entry *e)
{
	if (e->maps->owner == e->space.pid)
		e->maps->owner = 0;
}

void space_entry_free(struct spaces *s, struct table *table, struct space_entry *e)
{
	space_entry_disown(e);
	if (e->maps->refs == 1)
		s->n_mappings -= e->maps->count;
	space_maps_unref(e->maps, &s->files, &s->maps_bytes);
	table_remove(table, &e->node);
	free(e);
}

static void forget_oldest_ended(struct spaces *s, int pid)
{
	struct space_entry *oldest = NULL;
	unsigned count = 0;

	for (struct space_entry *e = space_entry_first(s, &s->ended, pid); e; e = space_entry_next(e)) {
		oldest = e;
		count++;
	}
	if (count <= ENDED_MAX)
		return;
	space_entry_free(s, &s->ended, oldest);
	s->evicted++;
}

void space_entry_take_back(struct spaces *s, struct space_entry *e)
{
	s->n_mappings -= e->maps->count;
	space_maps_clear(e->maps, &s->files);
}

void space_entry_end(struct spaces *s, struct space_entry *e, uint64_t time)
{
	/* Read after the end, as it is told now: of the next program, perhaps, or the next process of that pid. */
	if (e->maps->read && e->maps->read >= time) {
		space_entry_take_back(s, e);
		e->answered = true;
	}
	space_entry_disown(e);
	e->space.end = MAX_OF(time, e->space.begin + 1);
	e->kept = e->space.end;
	e->losses = s->losses;
	table_remove(&s->living, &e->node);
	table_add(&s->ended, &e->node);
	forget_oldest_ended(s, e->space.pid);
}

void space_entry_revive(struct spaces *s, struct space_entry *e)
{
	e->space.end = 0;
	table_remove(&s->ended, &e->node);
	table_add(&s->living, &e->node);
}

/* ---- looking up ---- */

struct space_maps *spaces_new_maps(struct spaces *s, bool known, int owner)
{
	struct space_maps *maps = space_maps_new(&s->maps_bytes);

	if (maps) {
		maps->known = known;
		maps->owner = owner;
	}
	return maps;
}

/* What lived while events were lost: nothing is known of that time, which no one can read any more, and what it is
 * since then has to be read. NULL: no memory. */
static struct space_entry *doubt(struct spaces *s, struct space_entry *e)
{
	int pid = e->space.pid;
	uint64_t begin = MAX_OF(e->space.begin, s->lost_since);

	if (e->space.begin < s->lost_since)
		space_entry_end(s, e, begin);
	else
		space_entry_free(s, &s->living, e);
	e = space_entry_add(s, pid, begin, spaces_new_maps(s, true, 0));
	if (e)
		space_entry_end(s, e, s->lost_until);
	return space_entry_add(s, pid, s->lost_until, spaces_new_maps(s, false, pid));
}

struct space_entry *space_entry_living(struct spaces *s, int pid)
{
	struct space_entry *e = space_entry_first(s, &s->living, pid);

	if (!e || e->losses == s->losses)
		return e;
	e->losses = s->losses;
	return e->space.begin < s->lost_until ? doubt(s, e) : e;
}

struct space_entry *space_entry_at(struct spaces *s, int pid, uint64_t time)
{
	struct space_entry *e = space_entry_living(s, pid);

	if (e && e->space.begin <= time)
		return e;
	for (e = space_entry_first(s, &s->ended, pid); e; e = space_entry_next(e))
		if (e->space.begin <= time)
			break;
	/* After its end it is the answer only while no event that gave its pid to another can be missing. */
	return e && (time < e->space.end || e->losses == s->losses) ? e : NULL;
}

struct space_entry *space_entry_add_stranger(struct spaces *s, int pid)
{
	const struct space_entry *before = space_entry_first(s, &s->ended, pid);

	/* What it was during a loss, if it was at all, is not known. */
	uint64_t begin = MAX_OF(before ? before->space.end : 0, s->lost_until);

	return space_entry_add(s, pid, begin, spaces_new_maps(s, false, pid));
}

/* ---- the bound ---- */

uint64_t spaces_bytes(const struct spaces *s)
{
	return sizeof *s + s->living.bytes + s->ended.bytes + s->maps_bytes + space_files_bytes(&s->files) +
	       ((uint64_t)s->living.mask + 1 + s->ended.mask + 1) * sizeof(struct node *);
}

void spaces_keep_bound(struct spaces *s)
{
	while (spaces_bytes(s) > s->options.bytes) {
		if (space_files_evict(&s->files))
			continue;
		if (s->ended.oldest)
			space_entry_free(s, &s->ended, (struct space_entry *)s->ended.oldest);
		else if (s->living.oldest)
			space_entry_free(s, &s->living, (struct space_entry *)s->living.oldest);
		else
			return;
		s->evicted++;
	}
}

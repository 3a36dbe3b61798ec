/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spaces stand in two tables by pid: `living` holds at most one of each pid, `ended` those that exec or exit ended, in the order of their
 * end, so that what the grace releases is always at one side. The answer for (pid, time) is the living one if it had begun, else the
 * youngest ended one that had.
 *
 * A space has a list of mappings (space_maps.h), which fork shares: a process that is forked and execs costs two small entries and no
 * copy. A list belongs to one space alone before it changes. Within one space there is no history: a mapping takes the place of older ones
 * for all times of that space; that munmap is not told leaves mappings that nobody samples.
 *
 * What is unknown: a process older than the agent has a list that is not `known`, to which events add. When /proc is read, its mappings go
 * below those of the events: whatever is mapped executable after an event comes as an event itself, so the events are never the older
 * ones. Forked processes share that list, and become known with their parent, whose /proc can still be read when they are gone.
 *
 * The end: a sample later than a process's end means that the end was told too early (perf_events.c says when); such a space is still the
 * answer, and stays for a grace from then on. An executable mapping brings it back to life.
 *
 * Bound: tables, spaces, lists and files count. When it is passed go, in this order: files that nobody refers to; ended spaces, oldest
 * first; living ones, the longest unused first, which their owner reads from /proc again if they are asked for.
 */
#include "stacks/spaces.h"

#include <errno.h>
#include <string.h>

#include "stacks/space_files.h"
#include "stacks/space_maps.h"
#include "stacks/table.h"

/* Ended spaces of one pid: a program that execs itself without a pause must not make its pid slow to look up. */
#define ENDED_MAX 8u

struct entry {
	struct node node; /* key: from the pid */
	struct space space;
	struct space_maps *maps;
	uint32_t seen;  /* state of `maps` that space.number names */
	bool answered;  /* nothing more will be known of its mappings */
	uint64_t given; /* when /proc was read; 0: not */
	uint64_t kept;  /* ended: last time that anything showed it in use */
};

struct spaces {
	struct spaces_options options;
	struct table living, ended;
	struct space_files files;
	uint64_t maps_bytes, n_mappings, numbers, evicted;
	uint32_t salt;
};

/* ---- entries ---- */

static uint64_t key_of(const struct spaces *s, int pid)
{
	return ((uint64_t)(uint32_t)pid + s->salt) * 0x9e3779b97f4a7c15ull >> 24;
}

static struct entry *next_of(struct node *node, uint64_t key, int pid)
{
	while ((node = table_next(node, key))) {
		if (((struct entry *)node)->space.pid == pid)
			return (struct entry *)node;
		node = node->chain;
	}
	return NULL;
}

static struct entry *first_of(const struct spaces *s, const struct table *table, int pid)
{
	uint64_t key = key_of(s, pid);

	return next_of(table_find(table, key), key, pid);
}

static struct entry *living_of(const struct spaces *s, int pid)
{
	return first_of(s, &s->living, pid);
}

static struct entry *entry_at(const struct spaces *s, int pid, uint64_t time)
{
	struct entry *e = living_of(s, pid);

	if (e && e->space.begin <= time)
		return e;
	for (e = first_of(s, &s->ended, pid); e; e = next_of(e->node.chain, e->node.key, pid))
		if (e->space.begin <= time)
			return e;
	return NULL;
}

/* Takes over one reference to `maps`; NULL: no memory. */
static struct entry *entry_add(struct spaces *s, int pid, uint64_t begin, struct space_maps *maps)
{
	struct entry *e = maps ? calloc(1, sizeof *e) : NULL;

	if (!e) {
		space_maps_unref(maps, &s->files, &s->maps_bytes);
		s->evicted++;
		return NULL;
	}
	e->space = (struct space){ .number = ++s->numbers, .pid = pid, .begin = begin };
	e->maps = maps;
	e->seen = maps->state;
	e->node.key = key_of(s, pid);
	e->node.bytes = space_allocated(sizeof *e);
	table_add(&s->living, &e->node);
	return e;
}

/* Nobody reads this list in /proc/PID of a process that left it. */
static void disown(struct entry *e)
{
	if (e->maps->owner == e->space.pid)
		e->maps->owner = 0;
}

static void entry_free(struct spaces *s, struct table *table, struct entry *e)
{
	disown(e);
	if (e->maps->refs == 1)
		s->n_mappings -= e->maps->count;
	space_maps_unref(e->maps, &s->files, &s->maps_bytes);
	table_remove(table, &e->node);
	free(e);
}

static void forget_oldest_ended(struct spaces *s, int pid)
{
	struct entry *oldest = NULL;
	unsigned count = 0;

	for (struct entry *e = first_of(s, &s->ended, pid); e; e = next_of(e->node.chain, e->node.key, pid)) {
		oldest = e;
		count++;
	}
	if (count <= ENDED_MAX)
		return;
	entry_free(s, &s->ended, oldest);
	s->evicted++;
}

static void entry_end(struct spaces *s, struct entry *e, uint64_t time)
{
	disown(e);
	e->space.end = MAX_OF(time, e->space.begin + 1);
	e->kept = e->space.end;
	table_remove(&s->living, &e->node);
	table_add(&s->ended, &e->node);
	forget_oldest_ended(s, e->space.pid);
}

static void entry_revive(struct spaces *s, struct entry *e)
{
	e->space.end = 0;
	table_remove(&s->ended, &e->node);
	table_add(&s->living, &e->node);
}

/* ---- the bound ---- */

static uint64_t bytes_of(const struct spaces *s)
{
	return sizeof *s + s->living.bytes + s->ended.bytes + s->maps_bytes + space_files_bytes(&s->files) +
	       ((uint64_t)s->living.mask + 1 + s->ended.mask + 1) * sizeof(struct node *);
}

static void keep_bound(struct spaces *s)
{
	while (bytes_of(s) > s->options.bytes) {
		if (space_files_evict(&s->files))
			continue;
		if (s->ended.oldest)
			entry_free(s, &s->ended, (struct entry *)s->ended.oldest);
		else if (s->living.oldest)
			entry_free(s, &s->living, (struct entry *)s->living.oldest);
		else
			return;
		s->evicted++;
	}
}

/* ---- mappings ---- */

static struct space_maps *maps_new(struct spaces *s, bool known, int owner)
{
	struct space_maps *maps = space_maps_new(&s->maps_bytes);

	if (maps) {
		maps->known = known;
		maps->owner = owner;
	}
	return maps;
}

/* Makes the list of `e` its own, to change it. */
static int maps_own(struct spaces *s, struct entry *e)
{
	struct space_maps *copy;

	disown(e);
	if (e->maps->refs > 1) {
		copy = space_maps_copy(e->maps, &s->files, &s->maps_bytes);
		if (!copy)
			return -ENOMEM;
		e->maps->refs--;
		e->maps = copy;
		s->n_mappings += copy->count;
	}
	e->maps->owner = e->space.end ? 0 : e->space.pid;
	return 0;
}

static void put(struct spaces *s, struct entry *e, const struct space_mapping *mapping)
{
	uint32_t before;
	int r;

	if (space_maps_has(e->maps, mapping))
		return;
	r = maps_own(s, e);
	before = e->maps->count;
	if (r == 0)
		r = space_maps_put(e->maps, mapping, &s->files, &s->maps_bytes);
	s->n_mappings += e->maps->count - (uint64_t)before;
	s->evicted += r < 0;
}

/* False: no memory for its file. */
static bool mapping_of(struct spaces *s, const struct space_file *seen, uint64_t start, uint64_t end, uint64_t offset,
		       struct space_mapping *ret)
{
	*ret = (struct space_mapping){ .start = start, .end = end, .offset = offset };
	if (!seen->build_id_length && !seen->ino) {
		ret->name = space_maps_name(seen->path);
		return true;
	}
	ret->file = space_files_take(&s->files, seen);
	s->evicted += !ret->file;
	return ret->file != 0;
}

/* ---- what comes ---- */

void spaces_map(struct spaces *s, const struct space_map_event *event)
{
	struct space_file seen = { .dev = event->dev,
				   .ino = event->ino,
				   .build_id_length = MIN_OF(event->build_id_length, ELF_BUILD_ID_MAX),
				   .path = event->path };
	struct entry *e = entry_at(s, event->pid, event->time);
	struct space_mapping mapping;

	if (event->end <= event->start)
		return;
	memcpy(seen.build_id, event->build_id, seen.build_id_length);
	if (e && e->space.end && e->space.end <= event->time && !living_of(s, event->pid))
		entry_revive(s, e);
	if (!e && !living_of(s, event->pid))
		e = entry_add(s, event->pid, 0, maps_new(s, false, event->pid));
	if (!e)
		return;
	table_touch(e->space.end ? &s->ended : &s->living, &e->node);
	if (mapping_of(s, &seen, event->start, event->end, event->offset, &mapping))
		put(s, e, &mapping);
	keep_bound(s);
}

void spaces_exec(struct spaces *s, int pid, uint64_t time)
{
	struct entry *e = living_of(s, pid);

	if (!e && !first_of(s, &s->ended, pid)) {
		/* What it was before is gone, and nobody needs to look for it. */
		e = entry_add(s, pid, 0, maps_new(s, true, 0));
	}
	if (e)
		entry_end(s, e, time);
	entry_add(s, pid, time, maps_new(s, true, 0));
	keep_bound(s);
}

/* The parent's list at `time`. A parent nobody has heard of is taken in, so that what is once read of it is its children's too. */
static struct space_maps *inherit(struct spaces *s, int parent, int pid, uint64_t time)
{
	struct entry *e = entry_at(s, parent, time);

	if (!e && !living_of(s, parent))
		e = entry_add(s, parent, 0, maps_new(s, false, parent));
	if (!e)
		return maps_new(s, false, pid);
	table_touch(e->space.end ? &s->ended : &s->living, &e->node);
	e->maps->refs++;
	return e->maps;
}

void spaces_fork(struct spaces *s, int parent, int pid, uint64_t time)
{
	struct entry *e = living_of(s, pid);

	if (e && e->space.begin == 0 && e->given >= time && e->given) {
		/* Read from /proc before its fork was told: the same process. */
		e->space.begin = time;
		return;
	}
	if (e && e->space.begin >= time)
		return;
	if (e)
		entry_end(s, e, time);
	entry_add(s, pid, time, inherit(s, parent, pid, time));
	keep_bound(s);
}

void spaces_exit(struct spaces *s, int pid, uint64_t time)
{
	struct entry *e = living_of(s, pid);

	if (e && e->space.begin <= time)
		entry_end(s, e, time);
}

/* ---- what /proc said ---- */

static struct space_maps *maps_from(struct spaces *s, const struct maps *from)
{
	struct space_maps *maps = maps_new(s, true, 0);

	for (uint32_t i = 0; maps && i < from->count; i++) {
		const struct mapping *m = &from->mappings[i];
		struct space_file seen = { .dev = m->dev, .ino = m->ino, .path = from->text + m->path };
		struct space_mapping mapping;

		if (m->end > m->start && mapping_of(s, &seen, m->start, m->end, m->offset, &mapping) &&
		    space_maps_put(maps, &mapping, &s->files, &s->maps_bytes) < 0)
			s->evicted++;
	}
	return maps;
}

/* All that share the list become known with it. */
static void maps_complete(struct spaces *s, struct space_maps *maps, const struct maps *from)
{
	struct space_maps *below = maps_from(s, from);

	if (!below) {
		s->evicted++;
		return;
	}
	s->n_mappings -= maps->count;
	s->evicted += space_maps_put_below(maps, below, &s->files, &s->maps_bytes) < 0;
	s->n_mappings += maps->count;
	space_maps_unref(below, &s->files, &s->maps_bytes);
	maps->known = true;
	maps->owner = 0;
}

void spaces_give(struct spaces *s, int pid, uint64_t time, const struct maps *maps)
{
	struct entry *living = living_of(s, pid), *e = entry_at(s, pid, time);

	if (!e && !living)
		e = entry_add(s, pid, 0, maps_new(s, false, pid));
	/* Ended is fine, exec'd is not: see spaces.h. */
	if (e && maps->count && !e->maps->known && (!living || living == e))
		maps_complete(s, e->maps, maps);
	if (e) {
		e->given = time;
		e->answered = true;
	}
	for (e = first_of(s, &s->ended, pid); e; e = next_of(e->node.chain, e->node.key, pid))
		e->answered = true;
	keep_bound(s);
}

/* ---- what is asked ---- */

const struct space *spaces_find(struct spaces *s, int pid, uint64_t time)
{
	struct entry *e = entry_at(s, pid, time);

	if (!e)
		return NULL;
	table_touch(e->space.end ? &s->ended : &s->living, &e->node);
	e->kept = MAX_OF(e->kept, time);
	if (e->seen != e->maps->state) {
		e->seen = e->maps->state;
		e->space.number = ++s->numbers;
	}
	e->space.known = e->maps->known || e->answered;
	e->space.source = e->maps->owner ? e->maps->owner : pid;
	e->space.n_mappings = e->maps->count;
	e->space.mappings = e->maps->mappings;
	return &e->space;
}

const struct space_file *spaces_file(struct spaces *s, uint64_t number)
{
	return space_files_find(&s->files, number);
}

void spaces_sweep(struct spaces *s, uint64_t now)
{
	struct node *node;

	while ((node = s->ended.oldest) && ((struct entry *)node)->kept + s->options.grace_ns < now)
		entry_free(s, &s->ended, (struct entry *)node);
}

void spaces_health(const struct spaces *s, struct spaces_health *ret)
{
	*ret = (struct spaces_health){ .spaces = (uint64_t)s->living.count + s->ended.count,
				       .files = space_files_count(&s->files),
				       .mappings = s->n_mappings,
				       .bytes = bytes_of(s),
				       .evicted = s->evicted };
}

/* ---- begin and end ---- */

/* One for each KiB: about as many as spaces of usual size fit the bound. */
static uint32_t buckets_for(uint64_t bytes)
{
	uint32_t buckets = 16;

	while (buckets < 1u << 20 && (uint64_t)buckets * 2048 <= bytes)
		buckets *= 2;
	return buckets;
}

int spaces_open(struct spaces **ret, const struct spaces_options *options)
{
	struct spaces *s = calloc(1, sizeof *s);
	uint32_t buckets = buckets_for(options->bytes);
	int r;

	if (!s)
		return -ENOMEM;
	s->options = *options;
	r = space_files_open(&s->files, buckets);
	if (r == 0)
		r = table_open(&s->living, buckets);
	if (r == 0)
		r = table_open(&s->ended, buckets);
	if (r < 0) {
		spaces_close(s);
		return r;
	}
	s->salt = (uint32_t)s->files.key.halves[0];
	*ret = s;
	return 0;
}

void spaces_close(struct spaces *s)
{
	if (!s)
		return;
	while (s->living.oldest)
		entry_free(s, &s->living, (struct entry *)s->living.oldest);
	while (s->ended.oldest)
		entry_free(s, &s->ended, (struct entry *)s->ended.oldest);
	space_files_close(&s->files);
	free(s->living.buckets);
	free(s->ended.buckets);
	free(s);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spaces stand in two tables by pid: `living` holds at most one of each pid, `ended` those that exec or exit ended, in
 * the order of their end, so that what the grace releases is always at one side. The answer for (pid, time) is the
 * living one if it had begun, else the youngest ended one that had.
 *
 * A space has a list of mappings (space_maps.h), which fork shares: a process that is forked and execs costs two small
 * entries and no copy. A list belongs to one space alone before it changes. Within one space there is no history: a
 * mapping takes the place of older ones for all times of that space; that munmap is not told leaves mappings that
 * nobody samples.
 *
 * What is unknown: a process older than the agent has a list that is not `known`, to which events add. When /proc is
 * read, its mappings go below those of the events: whatever is mapped executable after an event comes as an event
 * itself, so the events are never the older ones. Forked processes share that list, and become known with their parent,
 * whose /proc can still be read when they are gone.
 *
 * The end: a sample later than a process's end means that the end was told too early (perf_events.c says when); such a
 * space is still the answer, and stays for a grace from then on. An executable mapping brings it back to life.
 *
 * Loss: when events are missing, a living space may be stale. It is not looked for at once: each carries the number of
 * losses it was held against, and the first to look at it afterwards ends it where the loss began. A space without
 * mappings fills the time of the loss, and an unknown one begins at its end.
 *
 * Bound: tables, spaces, lists and files count. When it is passed go, in this order: files that nobody refers to; ended
 * spaces, oldest first; living ones, the longest unused first, which their owner reads from /proc again if they are
 * asked for.
 */
#include "stacks/spaces.h"

#include <errno.h>
#include <string.h>

#include "stacks/space_entries.h"

/* ---- mappings ---- */

/* Makes the list of `e` its own, to change it. */
static int maps_own(struct spaces *s, struct space_entry *e)
{
	struct space_maps *copy;

	space_entry_disown(e);
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

static void put(struct spaces *s, struct space_entry *e, const struct space_mapping *mapping)
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
	struct space_entry *e = space_entry_at(s, event->pid, event->time);
	struct space_mapping mapping;

	if (event->end <= event->start)
		return;
	memcpy(seen.build_id, event->build_id, seen.build_id_length);
	if (e && e->space.end && e->space.end <= event->time && !space_entry_living(s, event->pid))
		space_entry_revive(s, e);
	if (!e && !space_entry_living(s, event->pid))
		e = space_entry_add_stranger(s, event->pid);
	if (!e)
		return;
	table_touch(e->space.end ? &s->ended : &s->living, &e->node);
	if (mapping_of(s, &seen, event->start, event->end, event->offset, &mapping))
		put(s, e, &mapping);
	spaces_keep_bound(s);
}

void spaces_exec(struct spaces *s, int pid, uint64_t time)
{
	struct space_entry *e = space_entry_living(s, pid);

	if (!e && !space_entry_first(s, &s->ended, pid)) {
		/* What it was before is gone, and nobody needs to look for it. */
		e = space_entry_add(s, pid, 0, spaces_new_maps(s, true, 0));
	}
	if (e)
		space_entry_end(s, e, time);
	space_entry_add(s, pid, time, spaces_new_maps(s, true, 0));
	spaces_keep_bound(s);
}

/* The parent's list at `time`. A parent nobody has heard of is taken in, so that what is once read of it is its
 * children's too. */
static struct space_maps *inherit(struct spaces *s, int parent, int pid, uint64_t time)
{
	struct space_entry *e = space_entry_at(s, parent, time);

	if (!e && !space_entry_living(s, parent))
		e = space_entry_add_stranger(s, parent);
	if (!e)
		return spaces_new_maps(s, false, pid);
	table_touch(e->space.end ? &s->ended : &s->living, &e->node);
	e->maps->refs++;
	return e->maps;
}

void spaces_fork(struct spaces *s, int parent, int pid, uint64_t time)
{
	struct space_entry *e = space_entry_living(s, pid);

	if (e && e->space.begin >= time)
		return;
	if (e)
		space_entry_end(s, e, time);
	space_entry_add(s, pid, time, inherit(s, parent, pid, time));
	spaces_keep_bound(s);
}

void spaces_exit(struct spaces *s, int pid, uint64_t time)
{
	struct space_entry *e = space_entry_living(s, pid);

	if (e && e->space.begin <= time)
		space_entry_end(s, e, time);
}

static void take_back_all(struct spaces *s, const struct table *table, uint64_t since)
{
	for (struct node *node = table->newest; node; node = node->older)
		if (((struct space_entry *)node)->maps->read >= since)
			space_entry_take_back(s, (struct space_entry *)node);
}

void spaces_lost(struct spaces *s, uint64_t since, uint64_t until)
{
	/* Who was not looked at since an earlier loss is held against this one alone: it was not needed in between. */
	s->lost_since = since;
	s->lost_until = MAX_OF(s->lost_until, until);
	s->losses++;
	/* What was read meanwhile may have followed an exec that nobody will tell of. */
	since = MAX_OF(since, 1u);
	if (s->last_read < since)
		return;
	take_back_all(s, &s->living, since);
	take_back_all(s, &s->ended, since);
	s->last_read = since - 1;
}

/* ---- what /proc said ---- */

static struct space_maps *maps_from(struct spaces *s, const struct maps *from)
{
	struct space_maps *maps = spaces_new_maps(s, true, 0);

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
static void maps_complete(struct spaces *s, struct space_maps *maps, const struct maps *from, uint64_t time)
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
	maps->read = time;
	s->last_read = MAX_OF(s->last_read, time);
}

void spaces_give(struct spaces *s, int pid, uint64_t time, const struct maps *maps)
{
	struct space_entry *living = space_entry_living(s, pid), *e = space_entry_at(s, pid, time);

	/* Who could be read after its end has ended too early, or is the next of that pid. */
	if (e && e->space.end && e->space.end <= time && maps->count)
		e = NULL;
	if (!e && !living)
		e = space_entry_add_stranger(s, pid);
	/* Ended since is fine, exec'd is not: see spaces.h. */
	if (e && maps->count && !e->maps->known && (!living || living == e))
		maps_complete(s, e->maps, maps, time);
	if (e)
		e->answered = true;
	for (e = space_entry_first(s, &s->ended, pid); e; e = space_entry_next(e))
		e->answered = true;
	spaces_keep_bound(s);
}

/* ---- what is asked ---- */

const struct space *spaces_find(struct spaces *s, int pid, uint64_t time)
{
	struct space_entry *e = space_entry_at(s, pid, time);

	/* Having lost events, it may have grown by an entry. */
	if (spaces_bytes(s) > s->options.bytes) {
		spaces_keep_bound(s);
		e = space_entry_at(s, pid, time);
	}
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

	while ((node = s->ended.oldest) && ((struct space_entry *)node)->kept + s->options.grace_ns < now)
		space_entry_free(s, &s->ended, (struct space_entry *)node);
}

void spaces_health(const struct spaces *s, struct spaces_health *ret)
{
	*ret = (struct spaces_health){ .spaces = (uint64_t)s->living.count + s->ended.count,
				       .files = space_files_count(&s->files),
				       .mappings = s->n_mappings,
				       .bytes = spaces_bytes(s),
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
		space_entry_free(s, &s->living, (struct space_entry *)s->living.oldest);
	while (s->ended.oldest)
		space_entry_free(s, &s->ended, (struct space_entry *)s->ended.oldest);
	space_files_close(&s->files);
	free(s->living.buckets);
	free(s->ended.buckets);
	free(s);
}

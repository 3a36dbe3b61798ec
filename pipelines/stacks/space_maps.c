/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list is a sorted array of mappings that do not overlap. Replacing is one splice: what lies between the first and
 * the last mapping touched goes, and in come at most three pieces: what is left of the first, the new one, what is left
 * of the last.
 *
 * Invariants: each mapping with a file holds one reference to it; a list with more than one owner is never changed,
 * except that what was not known becomes known to all.
 */
#include "stacks/space_maps.h"

#include <errno.h>
#include <string.h>

static uint64_t bytes_of(const struct space_maps *maps)
{
	return space_allocated(sizeof *maps) + space_allocated(maps->capacity * sizeof *maps->mappings);
}

struct space_maps *space_maps_new(uint64_t *bytes)
{
	struct space_maps *maps = calloc(1, sizeof *maps);

	if (!maps)
		return NULL;
	maps->refs = 1;
	*bytes += bytes_of(maps);
	return maps;
}

static void drop_all(struct space_maps *maps, struct space_files *files)
{
	for (uint32_t i = 0; i < maps->count; i++)
		space_files_unref(files, maps->mappings[i].file);
	maps->count = 0;
}

void space_maps_unref(struct space_maps *maps, struct space_files *files, uint64_t *bytes)
{
	if (!maps || --maps->refs)
		return;
	drop_all(maps, files);
	*bytes -= bytes_of(maps);
	free(maps->mappings);
	free(maps);
}

void space_maps_clear(struct space_maps *maps, struct space_files *files)
{
	drop_all(maps, files);
	maps->known = false;
	maps->owner = 0;
	maps->read = 0;
	maps->state++;
}

/* A program has few mappings, and most have as few as when they began: steps are small at first. */
static int reserve(struct space_maps *maps, uint32_t count, uint64_t *bytes)
{
	uint32_t capacity = maps->capacity;
	struct space_mapping *mappings;

	if (count <= capacity)
		return 0;
	while (capacity < count)
		capacity += capacity < 16 ? 4 : capacity / 2;
	mappings = realloc(maps->mappings, capacity * sizeof *mappings);
	if (!mappings)
		return -ENOMEM;
	*bytes -= bytes_of(maps);
	maps->mappings = mappings;
	maps->capacity = capacity;
	*bytes += bytes_of(maps);
	return 0;
}

struct space_maps *space_maps_copy(const struct space_maps *maps, struct space_files *files, uint64_t *bytes)
{
	struct space_maps *copy = space_maps_new(bytes);

	if (!copy)
		return NULL;
	/* Room for the one more that a copy is made for. */
	if (reserve(copy, maps->count + 1, bytes) < 0) {
		space_maps_unref(copy, files, bytes);
		return NULL;
	}
	if (maps->count)
		memcpy(copy->mappings, maps->mappings, maps->count * sizeof *copy->mappings);
	copy->count = maps->count;
	copy->known = maps->known;
	copy->owner = maps->owner;
	copy->read = maps->read;
	copy->state = maps->state;
	for (uint32_t i = 0; i < copy->count; i++)
		space_files_ref(files, copy->mappings[i].file);
	return copy;
}

/* Anonymous memory has no offsets: all of it is alike. What the kernel named is measured from its begin. */
static bool is_flat(const struct space_mapping *m)
{
	return !m->file && m->name[0] != '[';
}

static bool same_source(const struct space_mapping *a, const struct space_mapping *b)
{
	return a->file == b->file && (a->file || a->name == b->name);
}

static bool continues(const struct space_mapping *left, const struct space_mapping *right)
{
	return left->end == right->start && same_source(left, right) &&
	       (is_flat(left) || (left->file && left->offset + (left->end - left->start) == right->offset));
}

/* The first mapping that ends after `address`; `count` when there is none. */
static uint32_t first_after(const struct space_maps *maps, uint64_t address)
{
	uint32_t low = 0, high = maps->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (maps->mappings[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool space_maps_has(const struct space_maps *maps, const struct space_mapping *mapping)
{
	uint32_t i = first_after(maps, mapping->start);
	const struct space_mapping *m;

	if (i == maps->count)
		return false;
	m = &maps->mappings[i];
	return m->start <= mapping->start && m->end >= mapping->end && same_source(m, mapping) &&
	       (is_flat(m) || m->offset + (mapping->start - m->start) == mapping->offset);
}

/* What is left of `m` after `end`. */
static struct space_mapping tail_of(const struct space_mapping *m, uint64_t end)
{
	struct space_mapping tail = *m;

	if (!is_flat(m))
		tail.offset += end - m->start;
	tail.start = end;
	return tail;
}

/* The pieces that take the place of mappings [first, last): at most three, neighbours joined. */
static unsigned make_pieces(const struct space_maps *maps, uint32_t first, uint32_t last,
			    const struct space_mapping *mapping, struct space_mapping pieces[3])
{
	const struct space_mapping *m = maps->mappings;
	unsigned n = 0;

	if (first < last && m[first].start < mapping->start) {
		pieces[n] = m[first];
		pieces[n++].end = mapping->start;
	}
	if (n && continues(&pieces[n - 1], mapping))
		pieces[n - 1].end = mapping->end;
	else
		pieces[n++] = *mapping;
	if (first < last && m[last - 1].end > mapping->end) {
		struct space_mapping tail = tail_of(&m[last - 1], mapping->end);

		if (continues(&pieces[n - 1], &tail))
			pieces[n - 1].end = tail.end;
		else
			pieces[n++] = tail;
	}
	return n;
}

static int splice(struct space_maps *maps, uint32_t first, uint32_t last, const struct space_mapping *pieces,
		  unsigned n_pieces, struct space_files *files, uint64_t *bytes)
{
	uint32_t count = maps->count - (last - first) + n_pieces;
	int r = count > SPACE_MAPPINGS_MAX && count > maps->count ? -ENOSPC : reserve(maps, count, bytes);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < n_pieces; i++)
		space_files_ref(files, pieces[i].file);
	for (uint32_t i = first; i < last; i++)
		space_files_unref(files, maps->mappings[i].file);
	memmove(maps->mappings + first + n_pieces, maps->mappings + last,
		(maps->count - last) * sizeof *maps->mappings);
	memcpy(maps->mappings + first, pieces, n_pieces * sizeof *pieces);
	maps->count = count;
	maps->state++;
	return 0;
}

int space_maps_put(struct space_maps *maps, const struct space_mapping *mapping, struct space_files *files,
		   uint64_t *bytes)
{
	uint32_t first = first_after(maps, mapping->start), last = first;
	struct space_mapping pieces[3], one = *mapping;

	if (is_flat(&one))
		one.offset = 0;
	while (last < maps->count && maps->mappings[last].start < one.end)
		last++;
	/* Neighbours that only touch are taken along when they continue it. */
	if (first && continues(&maps->mappings[first - 1], &one))
		first--;
	if (last < maps->count && continues(&one, &maps->mappings[last]))
		last++;
	return splice(maps, first, last, pieces, make_pieces(maps, first, last, &one, pieces), files, bytes);
}

int space_maps_put_below(struct space_maps *maps, struct space_maps *below, struct space_files *files, uint64_t *bytes)
{
	struct space_mapping *mappings = maps->mappings;
	uint32_t count = maps->count, capacity = maps->capacity;
	int r = 0;

	for (uint32_t i = 0; i < count; i++) {
		int failed = space_maps_put(below, &mappings[i], files, bytes);

		r = failed < 0 ? failed : r;
		space_files_unref(files, mappings[i].file);
	}
	/* The two exchange their arrays; `below` keeps the empty one. */
	maps->mappings = below->mappings;
	maps->count = below->count;
	maps->capacity = below->capacity;
	maps->state++;
	below->mappings = mappings;
	below->count = 0;
	below->capacity = capacity;
	return r;
}

const char *space_maps_name(const char *path)
{
	static const char *const names[] = { "[vdso]", "[vsyscall]", "[uprobes]", "[heap]", "[stack]", "//anon" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(path, names[i]))
			return names[i];
	/* Names that a program chose (PR_SET_VMA_ANON_NAME), and no name at all. */
	return "//anon";
}

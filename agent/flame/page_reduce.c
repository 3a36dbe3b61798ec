/* SPDX-License-Identifier: Apache-2.0 */
/* Less, where it is too much for a page: small frames, then steps of time, then threads are not told apart. */
#include "flame/page_state.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static void add_note(struct page_data *d, const char *text)
{
	size_t size = strlen(text) + 1;

	if (d->notes_size + size >= NOTES_MAX)
		return;
	memcpy(d->notes + d->notes_size, text, size);
	d->notes_size += size;
}

const char *page_data_notes(const struct page_data *d)
{
	return d->notes;
}

static int compare_amounts(const void *a, const void *b)
{
	uint64_t x = ((const struct amount *)a)->key, y = ((const struct amount *)b)->key;

	return x < y ? -1 : x > y;
}

void page_data_merge(struct page_data *d)
{
	size_t n = 0;

	qsort(d->amounts, d->n_amounts, sizeof *d->amounts, compare_amounts);
	for (size_t i = 0; i < d->n_amounts; i++) {
		if (n && d->amounts[n - 1].key == d->amounts[i].key)
			d->amounts[n - 1].value += d->amounts[i].value;
		else
			d->amounts[n++] = d->amounts[i];
	}
	d->n_amounts = n;
}

static uint64_t set_bucket(uint64_t key, uint64_t bucket)
{
	uint64_t mask = ((1ull << BUCKET_BITS) - 1) << BUCKET_SHIFT;

	return (key & ~mask) | bucket << BUCKET_SHIFT;
}

bool page_data_coarsen(struct page_data *d)
{
	bool any = false;

	for (size_t i = 0; i < PAGE_SIDES; i++) {
		struct side *s = &d->sides[i];

		any = any || s->buckets > 1;
		s->buckets = (s->buckets + 1) / 2;
		s->bucket_ns *= 2;
	}
	for (size_t i = 0; any && i < d->n_amounts; i++)
		d->amounts[i].key = set_bucket(d->amounts[i].key, bucket_in(d->amounts[i].key) / 2);
	if (any)
		page_data_merge(d);
	return any;
}

/* The share that each node has, callees included, of its measure and side; the largest of them counts. */
static double *weigh_nodes(const struct page_data *d)
{
	size_t n = d->tree.n_nodes;
	double *weights = calloc(n, sizeof *weights);

	if (!weights)
		return NULL;
	for (size_t i = 0; i < d->n_amounts; i++) {
		unsigned group = group_in(d->amounts[i].key);
		uint64_t total = d->sides[group >> 2].totals[group & 3];

		weights[node_in(d->amounts[i].key)] += (double)d->amounts[i].value / (double)MAX_OF(total, 1u);
	}
	for (size_t i = n; i-- > 1;)
		weights[d->tree.nodes[i].parent] += weights[i];
	return weights;
}

static int compare_weights(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x > y ? -1 : x < y;
}

/* The weight that at most `most` nodes exceed. */
static int find_threshold(const double *weights, size_t n, size_t most, double *ret)
{
	double *sorted = malloc(n * sizeof *sorted);

	if (!sorted)
		return -ENOMEM;
	memcpy(sorted, weights, n * sizeof *sorted);
	qsort(sorted, n, sizeof *sorted, compare_weights);
	*ret = sorted[most];
	free(sorted);
	return 0;
}

/* Keeps at most about `most` nodes, the heaviest; a caller weighs at least what its callees do, so it is kept with them. */
static int prune_nodes(struct page_data *d, size_t most, size_t *ret_pruned)
{
	size_t n = d->tree.n_nodes, pruned = 0;
	double *weights = weigh_nodes(d), threshold;
	uint32_t *kept = malloc(n * sizeof *kept);
	int r = weights && kept ? find_threshold(weights, n, most, &threshold) : -ENOMEM;

	if (r == 0) {
		kept[0] = 0;
		for (size_t i = 1; i < n; i++) {
			uint32_t parent = kept[d->tree.nodes[i].parent];

			/* Below one that went, all go: rounding must not bring one back. */
			bool keep = weights[i] > threshold && parent == d->tree.nodes[i].parent;

			kept[i] = keep ? (uint32_t)i : parent;
			pruned += !keep && weights[i] > 0;
		}
		for (size_t i = 0; i < d->n_amounts; i++)
			d->amounts[i].key =
				(d->amounts[i].key & ~((1ull << NODE_BITS) - 1)) | kept[node_in(d->amounts[i].key)];
		page_data_merge(d);
		*ret_pruned = pruned;
	}
	free(weights);
	free(kept);
	return r;
}

/* The threads of a process become one, the first that was seen of it. */
static void join_threads(struct page_data *d)
{
	struct flame_map first;
	uint32_t *whole = malloc(d->n_threads * sizeof *whole);

	if (!whole)
		return;
	flame_map_begin(&first, &(struct flame_budget){ .limit = SIZE_MAX });
	for (size_t i = 0; i < d->n_threads; i++) {
		const struct thread *t = &d->threads[i];
		uint64_t name[2] = { t->pid, t->proc };
		uint64_t key = flame_hash(&d->tree.secret, name, sizeof name);

		if (i == 0 || (!flame_map_find(&first, key, &whole[i]) && flame_map_put(&first, key, (uint32_t)i) == 0))
			whole[i] = (uint32_t)i;
	}
	for (size_t i = 0; i < d->n_amounts; i++) {
		uint64_t mask = ((1ull << THREAD_BITS) - 1) << THREAD_SHIFT, key = d->amounts[i].key;

		d->amounts[i].key = (key & ~mask) | (uint64_t)whole[thread_in(key)] << THREAD_SHIFT;
	}
	flame_map_free(&first);
	free(whole);
	page_data_merge(d);
}

static int reduce_nodes(struct page_data *d, size_t most)
{
	size_t pruned = 0;
	char note[160];
	int r;

	if (d->tree.n_nodes <= most)
		return 0;
	r = prune_nodes(d, most, &pruned);
	if (r == 0 && pruned) {
		snprintf(note, sizeof note,
			 "%zu of %zu frames, the smallest, are not shown: their amounts are with their callers.",
			 pruned, d->tree.n_nodes);
		add_note(d, note);
	}
	return r;
}

static int reduce_amounts(struct page_data *d, size_t most)
{
	uint32_t enough = 60;
	char note[160];
	uint64_t step = d->sides[0].bucket_ns;
	bool joined = false;
	int r = 0;

	while (r == 0 && d->n_amounts > most) {
		uint32_t buckets = MAX_OF(d->sides[0].buckets, d->sides[1].buckets);

		if (buckets > enough) {
			page_data_coarsen(d);
		} else if (!joined) {
			join_threads(d);
			joined = true;
			add_note(d, "The threads of a process are shown as one.");
		} else if (!page_data_coarsen(d)) {
			r = prune_nodes(d, most, &(size_t){ 0 });
			break;
		}
		enough = joined ? 1 : enough;
	}
	if (d->sides[0].bucket_ns != step) {
		snprintf(note, sizeof note, "Time is told apart in steps of %.3g s.",
			 (double)d->sides[0].bucket_ns / 1e9);
		add_note(d, note);
	}
	return r;
}

int page_data_reduce(struct page_data *d)
{
	char note[160];
	int r;

	flame_map_free(&d->by_key);
	page_data_merge(d);
	if (d->rows_without_room) {
		snprintf(note, sizeof note,
			 "%" PRIu64 " rows had stacks that did not fit in memory: they are one frame that says so.",
			 d->rows_without_room);
		add_note(d, note);
	}
	r = reduce_nodes(d, d->limits.nodes);
	if (r == 0)
		r = reduce_amounts(d, d->limits.amounts);
	return r;
}

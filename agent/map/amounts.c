/* SPDX-License-Identifier: Apache-2.0 */
/* What edges and services hold: causes of failure, and times with as many histograms as there is room for. */
#include "map/sums_state.h"

#include <errno.h>
#include <string.h>

void map_cause_name(struct map_text text, char room[MAP_CAUSE_MAX])
{
	bool good = text.length && text.length < MAP_CAUSE_MAX;

	for (size_t i = 0; good && i < text.length; i++) {
		char c = text.text[i];

		good = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
	}
	snprintf(room, MAP_CAUSE_MAX, "%.*s", good ? (int)text.length : 5, good ? text.text : "other");
}

void map_add_cause(struct map_edge *e, enum map_phase phase, const char *name, uint64_t count)
{
	struct map_cause *c = e->causes;

	while (c < e->causes + e->n_causes && (c->phase != phase || strcmp(c->name, name) != 0))
		c++;
	if (c == e->causes + MAP_CAUSES_MAX)
		c--;
	if (c == e->causes + MAP_CAUSES_MAX - 1)
		name = "other";
	if (c == e->causes + e->n_causes) {
		e->n_causes++;
		*c = (struct map_cause){ .phase = phase };
	}
	snprintf(c->name, sizeof c->name, "%s", name);
	map_sum(&c->count, count);
}

/* ---- times ---- */

static int need_histogram(struct map_sums *s, struct map_times *t)
{
	if (t->histogram)
		return 0;
	if (s->n_histograms >= s->limits.histograms) {
		s->full_histograms += t->count == 0;
		return -ENOBUFS;
	}
	t->histogram = calloc(1, sizeof *t->histogram);
	if (!t->histogram)
		return -ENOMEM;
	s->n_histograms++;
	return 0;
}

/* As histogram_add(), for many at once. A bucket stops at its largest number. */
static void add_many(struct histogram *h, uint64_t ns, uint64_t count)
{
	uint16_t bucket = (uint16_t)histogram_bucket(ns);
	uint32_t n = (uint32_t)MIN_OF(count, (uint64_t)(UINT32_MAX - h->buckets[bucket]));

	if (!n)
		return;
	h->first = h->count ? MIN_OF(h->first, bucket) : bucket;
	h->last = h->count ? MAX_OF(h->last, bucket) : bucket;
	h->buckets[bucket] += n;
	h->count += n;
	h->max = MAX_OF(h->max, ns);
}

int map_add_time(struct map_sums *s, struct map_times *t, uint64_t ns)
{
	int r = need_histogram(s, t);

	if (r == -ENOMEM)
		return r;
	map_sum(&t->count, 1);
	map_sum(&t->sum, ns);
	t->max = MAX_OF(t->max, ns);
	if (r == 0)
		add_many(t->histogram, ns, 1);
	return 0;
}

int map_merge_times(struct map_sums *s, struct map_times *to, const struct map_times *from)
{
	int r = from->histogram ? need_histogram(s, to) : 0;

	if (r == -ENOMEM)
		return r;
	map_sum(&to->count, from->count);
	map_sum(&to->sum, from->sum);
	to->max = MAX_OF(to->max, from->max);
	if (r < 0 || !from->histogram)
		return 0;
	for (unsigned i = from->histogram->first; from->histogram->count && i <= from->histogram->last; i++)
		add_many(to->histogram, histogram_least(i), from->histogram->buckets[i]);
	to->histogram->max = MAX_OF(to->histogram->max, from->histogram->max);
	return 0;
}

int map_add_answers(struct map_sums *s, struct map_times *t, struct map_row *row)
{
	int r = row->n_hist ? need_histogram(s, t) : 0;
	uint64_t ns, count;

	if (r == -ENOMEM)
		return r;
	map_sum(&t->count, row->count);
	map_sum(&t->sum, row->sum_ns);
	t->max = MAX_OF(t->max, row->max_ns);
	while (r == 0 && map_row_bucket(row, &ns, &count))
		add_many(t->histogram, ns, count);
	if (r == 0 && t->histogram)
		t->histogram->max = MAX_OF(t->histogram->max, row->max_ns);
	return 0;
}

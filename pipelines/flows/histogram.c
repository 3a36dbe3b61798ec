/* SPDX-License-Identifier: Apache-2.0 */
#include "flows/histogram.h"

#include <string.h>

#include "encode/pack.h"

#define CUTS_LOG 5u
_Static_assert(1u << CUTS_LOG == HISTOGRAM_CUTS, "a doubling has 2^CUTS_LOG buckets");

unsigned histogram_bucket(uint64_t ns)
{
	unsigned log;

	if (ns < HISTOGRAM_CUTS)
		return (unsigned)ns;
	log = 63u - (unsigned)__builtin_clzll(ns);
	if (log > HISTOGRAM_LAST_LOG)
		return HISTOGRAM_BUCKETS - 1;
	return HISTOGRAM_CUTS * (log - CUTS_LOG + 1) + (unsigned)(ns >> (log - CUTS_LOG)) % HISTOGRAM_CUTS;
}

uint64_t histogram_least(unsigned bucket)
{
	unsigned doubling = bucket / HISTOGRAM_CUTS;

	if (doubling == 0)
		return bucket;
	return (uint64_t)(HISTOGRAM_CUTS + bucket % HISTOGRAM_CUTS) << (doubling - 1);
}

void histogram_add(struct histogram *h, uint64_t ns)
{
	uint16_t bucket = (uint16_t)histogram_bucket(ns);

	h->first = h->count ? MIN_OF(h->first, bucket) : bucket;
	h->last = h->count ? MAX_OF(h->last, bucket) : bucket;
	h->buckets[bucket]++;
	h->count++;
	h->sum += ns;
	h->max = MAX_OF(h->max, ns);
}

void histogram_clear(struct histogram *h)
{
	if (h->count)
		memset(&h->buckets[h->first], 0, (h->last - h->first + 1u) * sizeof h->buckets[0]);
	h->count = h->sum = h->max = 0;
	h->first = h->last = 0;
}

uint64_t histogram_percentile(const struct histogram *h, unsigned permille)
{
	uint64_t rank = (h->count * permille + 999) / 1000, seen = 0, middle;
	unsigned bucket = h->first;

	if (!h->count)
		return 0;
	for (; bucket < h->last && seen + h->buckets[bucket] < rank; bucket++)
		seen += h->buckets[bucket];
	if (bucket == HISTOGRAM_BUCKETS - 1)
		return h->max;
	middle = (histogram_least(bucket) + histogram_least(bucket + 1) - 1) / 2;
	return MIN_OF(middle, h->max);
}

void histogram_pack(const struct histogram *h, struct pack *p)
{
	uint8_t *place = pack_open_map(p);
	uint16_t count = 0;

	for (unsigned i = h->first; h->count && i <= h->last; i++) {
		char text[24];

		if (!h->buckets[i])
			continue;
		snprintf(text, sizeof text, "%llu", (unsigned long long)histogram_least(i));
		pack_text(p, text);
		pack_uint(p, h->buckets[i]);
		count++;
	}
	pack_close(p, place, count);
}

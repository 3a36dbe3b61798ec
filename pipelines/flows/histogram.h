/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durations counted in buckets: exact below 32 ns, and from there each doubling is cut in 32, so that a percentile is right to a
 * 32nd of it. Buckets are the same everywhere: histograms are merged by adding up. The idea is that of HdrHistogram.
 */
#ifndef SONDE_HISTOGRAM_H
#define SONDE_HISTOGRAM_H

#include "base/base.h"

#define HISTOGRAM_CUTS     32u
#define HISTOGRAM_LAST_LOG 42u /* all from 2^43 ns, 2.4 hours, on is the last bucket */
#define HISTOGRAM_BUCKETS  (HISTOGRAM_CUTS * (HISTOGRAM_LAST_LOG - 5 + 2) + 1)

struct histogram {
	uint64_t count, sum, max;
	uint16_t first, last; /* buckets in use lie within */
	uint32_t buckets[HISTOGRAM_BUCKETS];
};

unsigned histogram_bucket(uint64_t ns);
/* The least time that is counted in a bucket. */
uint64_t histogram_least(unsigned bucket);

/* Begins with all zeros; clear costs as much as was in use. */
void histogram_add(struct histogram *h, uint64_t ns);
void histogram_clear(struct histogram *h);

/* `permille` of all are not longer: the middle of the bucket, at most the longest that was seen. 0 when empty. */
uint64_t histogram_percentile(const struct histogram *h, unsigned permille);

struct pack;
/* As in events: a map of a bucket's least time, as text, to its count. */
void histogram_pack(const struct histogram *h, struct pack *p);

#endif

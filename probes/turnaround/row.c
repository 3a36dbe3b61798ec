/* SPDX-License-Identifier: Apache-2.0 */
#include "probes/turnaround/row.h"

#include <stddef.h>
#include <string.h>

#include "encode/pack.h"

_Static_assert(offsetof(struct turnaround_row, hist) == sizeof(struct tcp_turnaround), "a row and what is behind it");
_Static_assert(TURNAROUND_BUCKETS == HISTOGRAM_BUCKETS && TURNAROUND_LAST_LOG == HISTOGRAM_LAST_LOG,
	       "the same buckets");

static void fill_times(struct histogram *h, const struct turnaround_sums *sums)
{
	histogram_clear(h);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if (!sums->buckets[i])
			continue;
		h->first = h->count ? h->first : (uint16_t)i;
		h->last = (uint16_t)i;
		h->buckets[i] = sums->buckets[i];
		h->count += sums->buckets[i];
	}
	h->sum = sums->sum_ns;
	h->max = MAX_OF(sums->max_ns, h->count ? histogram_least(h->last) : 0);
}

static void fill_event(struct sonde_event *event, const struct turnaround_key *key, const struct turnaround_sums *sums,
		       uint64_t time)
{
	*event = (struct sonde_event){ .flags = sums->flags | (sums->pid ? 0 : SONDE_FLAG_NO_TASK),
				       .time = time,
				       .proc = key->proc,
				       .parent = sums->parent,
				       .cgroup = key->cgroup,
				       .pid = sums->pid,
				       .tid = sums->pid };
	memcpy(event->comm, sums->comm, sizeof event->comm);
}

static void fill_ends(struct tcp_turnaround *row, const struct turnaround_key *key)
{
	if (key->side == TCP_SIDE_SERVER) {
		row->laddr = key->ip;
		row->lport = key->port;
	} else {
		row->raddr = key->ip;
		row->rport = key->port;
	}
	row->side = key->side;
}

static uint64_t bucket_middle(unsigned bucket)
{
	return (histogram_least(bucket) + histogram_least(MIN_OF(bucket + 1, HISTOGRAM_BUCKETS - 1))) / 2;
}

void turnaround_spread(struct turnaround_sums *sums, uint64_t slow)
{
	unsigned end = slow ? histogram_bucket(slow) : HISTOGRAM_BUCKETS;
	uint64_t known = 0, before = 0, given = 0;

	for (unsigned b = 0; b < end; b++)
		known += sums->buckets[b];
	if (!known) { /* what was measured is of the bucket where slow begins */
		sums->buckets[end - 1] += (uint32_t)sums->passed;
		sums->sum_ns += sums->passed * bucket_middle(end - 1);
		return;
	}
	for (unsigned b = 0; b < end; b++) {
		before += sums->buckets[b];
		uint64_t share = sums->passed * before / known - given;

		sums->buckets[b] += (uint32_t)share;
		sums->sum_ns += share * bucket_middle(b);
		given += share;
	}
}

void turnaround_fill_times(struct tcp_turnaround *row, const struct histogram *h)
{
	row->count = h->count;
	row->sum_ns = h->sum;
	row->max_ns = h->max;
	row->p50_ns = histogram_percentile(h, 500);
	row->p90_ns = histogram_percentile(h, 900);
	row->p99_ns = histogram_percentile(h, 990);
	row->p999_ns = histogram_percentile(h, 999);
}

bool turnaround_row(struct turnaround_row *to, const struct turnaround_key *key, const struct turnaround_sums *sums,
		    uint64_t time, uint64_t window_ns)
{
	struct tcp_turnaround *row = &to->row;
	struct pack hist = pack_over(to->hist, sizeof to->hist);

	fill_times(&to->times, sums);
	if (sums->filtered || (!to->times.count && !sums->errors))
		return false;
	memset(row, 0, sizeof *row);
	fill_event(&row->event, key, sums, time);
	fill_ends(row, key);
	turnaround_fill_times(row, &to->times);
	row->errors = sums->errors;
	row->socket_wait_ns = sums->socket_wait_ns;
	row->window_ns = window_ns;
	histogram_pack(&to->times, &hist);
	row->hist = (struct sonde_text){ .offset = sizeof *row, .length = (uint16_t)(hist.at - to->hist) };
	row->event.size = (uint32_t)(sizeof *row + row->hist.length);
	return true;
}

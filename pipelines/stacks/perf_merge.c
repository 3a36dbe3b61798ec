/* SPDX-License-Identifier: Apache-2.0 */
/* A binary heap of rings by the time of their next record: within one ring records are in order already. */
#include "stacks/perf_merge.h"

static void sift_up(struct perf_merge *m, unsigned i, struct perf_merge_next moving)
{
	for (; i && m->heap[(i - 1) / 2].time > moving.time; i = (i - 1) / 2)
		m->heap[i] = m->heap[(i - 1) / 2];
	m->heap[i] = moving;
}

static void sift_down(struct perf_merge *m)
{
	struct perf_merge_next moving = m->heap[0];
	unsigned i = 0, child;

	while ((child = 2 * i + 1) < m->count) {
		if (child + 1 < m->count && m->heap[child + 1].time < m->heap[child].time)
			child++;
		if (m->heap[child].time >= moving.time)
			break;
		m->heap[i] = m->heap[child];
		i = child;
	}
	m->heap[i] = moving;
}

void perf_merge_add(struct perf_merge *m, struct perf_ring *ring)
{
	struct perf_merge_next next = { .ring = ring };

	if (!perf_ring_look(ring))
		return;
	if (perf_ring_peek(ring, &next.time) == 0)
		sift_up(m, m->count++, next);
	else
		perf_ring_release(ring); /* passed over */
}

struct perf_ring *perf_merge_first(const struct perf_merge *m, uint64_t until)
{
	return m->count && m->heap[0].time <= until ? m->heap[0].ring : NULL;
}

void perf_merge_advance(struct perf_merge *m)
{
	struct perf_merge_next *first = &m->heap[0];

	if (perf_ring_peek(first->ring, &first->time) < 0) {
		perf_ring_release(first->ring);
		*first = m->heap[--m->count];
	}
	if (m->count)
		sift_down(m);
}

void perf_merge_end(struct perf_merge *m)
{
	while (m->count)
		perf_ring_release(m->heap[--m->count].ring);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Head and tail count bytes and never wrap; their low bits are the place in the ring. The head is read with acquire, so
 * that the records before it are seen whole; the tail is written with release, so that they have been read before the
 * kernel writes over them. Source: perf_event_open(2), kernel/events/ring_buffer.c.
 *
 * Invariant: tail <= head <= tail + size. What does not keep it, or is no record, is passed over up to the head and
 * counted.
 */
#include "stacks/perf_ring.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>

#include "stacks/perf_record.h"

void perf_ring_init(struct perf_ring *ring, void *area, size_t page_size, uint64_t data_size)
{
	*ring = (struct perf_ring){ .page = area, .data = (const uint8_t *)area + page_size, .size = data_size };
}

int perf_ring_look(struct perf_ring *ring)
{
	ring->head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE);
	return ring->head != ring->tail;
}

static void copy_out(const struct perf_ring *ring, uint64_t at, void *to, size_t size)
{
	uint64_t place = at & (ring->size - 1);
	size_t first = size <= ring->size - place ? size : ring->size - place;

	memcpy(to, ring->data + place, first);
	memcpy((uint8_t *)to + first, ring->data, size - first);
}

/* The size of the record at the tail; 0 when there is none. */
static size_t next_size(struct perf_ring *ring)
{
	struct perf_event_header header;
	uint64_t filled = ring->head - ring->tail;

	if (!filled)
		return 0;
	if (filled <= ring->size && filled >= sizeof header) {
		copy_out(ring, ring->tail, &header, sizeof header);
		if (header.size >= sizeof header + PERF_RECORD_TRAILER && header.size <= filled)
			return header.size;
	}
	ring->broken++;
	ring->tail = ring->head;
	return 0;
}

int perf_ring_peek(struct perf_ring *ring, uint64_t *ret_time)
{
	size_t size = next_size(ring);

	if (!size)
		return -ENODATA;
	copy_out(ring, ring->tail + size - PERF_RECORD_TRAILER + 2 * sizeof(uint32_t), ret_time, sizeof *ret_time);
	return 0;
}

const void *perf_ring_take(struct perf_ring *ring, void *scratch, size_t *ret_size)
{
	size_t size = next_size(ring);
	uint64_t place = ring->tail & (ring->size - 1);

	if (!size)
		return NULL;
	*ret_size = size;
	if (size <= ring->size - place) {
		ring->tail += size;
		return ring->data + place;
	}
	copy_out(ring, ring->tail, scratch, size);
	ring->tail += size;
	return scratch;
}

void perf_ring_release(struct perf_ring *ring)
{
	__atomic_store_n(&ring->page->data_tail, ring->tail, __ATOMIC_RELEASE);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader's side of one perf ring: the kernel moves the head, the reader the tail. A record may wrap around the
 * ring's end; it is then copied out.
 */
#ifndef SONDE_PERF_RING_H
#define SONDE_PERF_RING_H

#include <stddef.h>
#include <stdint.h>

#define PERF_RING_RECORD_MAX 65536u /* a record's size has 16 bits */

struct perf_event_mmap_page;

struct perf_ring {
	struct perf_event_mmap_page *page;
	const uint8_t *data;
	uint64_t size;   /* of the data; a power of two */
	uint64_t head;   /* as last looked at */
	uint64_t tail;   /* where the next record begins */
	uint64_t broken; /* times that what lay there was no record, and all of it was passed over */
};

/* `area` is the mapping: one page, then the data. */
void perf_ring_init(struct perf_ring *ring, void *area, size_t page_size, uint64_t data_size);
/* Takes notice of what was written. Returns whether there is anything. */
int perf_ring_look(struct perf_ring *ring);
/* The time of the next record in `ret_time`. 0, or -ENODATA. */
int perf_ring_peek(struct perf_ring *ring, uint64_t *ret_time);
/* The next record, in place or in `scratch` of PERF_RING_RECORD_MAX bytes; NULL at the end. Valid until
 * perf_ring_release(). */
const void *perf_ring_take(struct perf_ring *ring, void *scratch, size_t *ret_size);
/* Gives the room of what was taken back to the kernel. */
void perf_ring_release(struct perf_ring *ring);

#endif

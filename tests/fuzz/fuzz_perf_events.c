/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as the kernel's records: each alone, and as the contents of a ring with any head and tail, whose events
 * then feed address spaces with a small bound, which must hold.
 */
#include <stdlib.h>
#include <string.h>

#include <linux/perf_event.h>

#include "stacks/perf_events.h"
#include "stacks/perf_ring.h"

#define PAGE  4096u
#define SIZE  4096u
#define BOUND 40000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_map(void *spaces, const struct space_map_event *event)
{
	if (event->end <= event->start || event->build_id_length > ELF_BUILD_ID_MAX || strlen(event->path) > 65535)
		abort();
	spaces_map(spaces, event);
}

static void on_exec(void *spaces, int pid, uint64_t time)
{
	spaces_exec(spaces, pid, time);
}

static void on_fork(void *spaces, int parent, int pid, uint64_t time)
{
	spaces_fork(spaces, parent, pid, time);
}

static void on_exit_of(void *spaces, int pid, uint64_t time)
{
	spaces_exit(spaces, pid, time);
}

static void check(struct spaces *spaces, int pid, uint64_t time)
{
	const struct space *space = spaces_find(spaces, pid, time);
	struct spaces_health health;

	spaces_health(spaces, &health);
	if (health.bytes > BOUND)
		abort();
	for (uint32_t i = 0; space && i < space->n_mappings; i++) {
		const struct space_mapping *m = &space->mappings[i];

		if (m->start >= m->end || (i && m[-1].end > m->start) || (m->file && !spaces_file(spaces, m->file)) ||
		    (!m->file && !m->name))
			abort();
	}
}

static void walk(struct perf_ring *ring, uint8_t *scratch, const struct perf_events_handler *handler)
{
	uint64_t time;
	size_t size;
	const void *record;

	perf_ring_look(ring);
	while (perf_ring_peek(ring, &time) == 0) {
		record = perf_ring_take(ring, scratch, &size);
		if (!record || size > PERF_RING_RECORD_MAX)
			abort();
		if (perf_events_parse(record, size, handler) == 0 && size >= 12) {
			int pid;

			memcpy(&pid, (const uint8_t *)record + 8, sizeof pid);
			check(handler->context, pid, time);
		}
	}
	perf_ring_release(ring);
	if (ring->page->data_tail != ring->head)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t area[PAGE + SIZE] __attribute__((aligned(64))), scratch[PERF_RING_RECORD_MAX];
	struct spaces_options options = { .bytes = BOUND, .grace_ns = 1000 };
	struct perf_event_mmap_page *page = (struct perf_event_mmap_page *)area;
	struct perf_events_handler handler = { NULL, on_map, on_exec, on_fork, on_exit_of, NULL };
	struct spaces *spaces;
	struct perf_ring ring;
	uint16_t tail, filled;

	if (size < 4 || spaces_open(&spaces, &options) < 0)
		return 0;
	handler.context = spaces;
	memcpy(&tail, data, 2);
	memcpy(&filled, data + 2, 2);
	data += 4;
	size -= 4;
	perf_events_parse(data, size, &handler);

	/* The bytes begin at the tail; mostly the head is where they end. */
	memset(area, 0, sizeof area);
	perf_ring_init(&ring, area, PAGE, SIZE);
	ring.tail = tail;
	for (size_t i = 0; i < size && i < SIZE; i++)
		area[PAGE + ((tail + i) & (SIZE - 1))] = data[i];
	page->data_tail = tail;
	page->data_head = tail + (filled & 0x8000 ? filled : size);
	walk(&ring, scratch, &handler);
	spaces_lost(spaces, tail, filled);
	check(spaces, 20, tail);
	spaces_sweep(spaces, UINT64_MAX / 2);
	spaces_close(spaces);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel tells the end of each thread, and a process ends with its last, which need not be its first one. So
 * threads that were seen to begin are counted, for processes that have any: an open-addressed table of pid -> count.
 *
 * What cannot be known: threads older than the agent, and those beyond SLOTS_MAX / 2 processes with threads, are not
 * counted; such a process is taken to end with its first thread. Being wrong costs little: a space that is asked for
 * after its end is still found (spaces.c).
 */
#include "stacks/perf_threads.h"

#include <errno.h>
#include <stdlib.h>

#define SLOTS_LEAST 256u
#define SLOTS_MAX   65536u

int perf_threads_open(struct perf_threads *threads)
{
	*threads =
		(struct perf_threads){ .mask = SLOTS_LEAST - 1, .slots = calloc(SLOTS_LEAST, sizeof *threads->slots) };
	return threads->slots ? 0 : -ENOMEM;
}

void perf_threads_close(struct perf_threads *threads)
{
	free(threads->slots);
	threads->slots = NULL;
}

static uint32_t home_of(const struct perf_threads *threads, int pid)
{
	return ((uint32_t)pid * 0x9e3779b1u >> 8) & threads->mask;
}

/* The slot of `pid`, or the free one where it would be. */
static struct perf_thread_slot *slot_of(const struct perf_threads *threads, int pid)
{
	uint32_t i = home_of(threads, pid);

	while (threads->slots[i].pid && threads->slots[i].pid != pid)
		i = (i + 1) & threads->mask;
	return &threads->slots[i];
}

/* Keeps the table at most half full. False: it may not grow. */
static bool make_room(struct perf_threads *threads)
{
	struct perf_threads wider = { .mask = threads->mask * 2 + 1 };

	if (threads->count * 2 <= threads->mask)
		return true;
	if (wider.mask >= SLOTS_MAX || !(wider.slots = calloc((size_t)wider.mask + 1, sizeof *wider.slots)))
		return false;
	for (uint32_t i = 0; i <= threads->mask; i++)
		if (threads->slots[i].pid)
			*slot_of(&wider, threads->slots[i].pid) = threads->slots[i];
	wider.count = threads->count;
	free(threads->slots);
	*threads = wider;
	return true;
}

/* Those that were pushed on by `slot` move back, so that no search ends early. */
static void remove_slot(struct perf_threads *threads, struct perf_thread_slot *slot)
{
	uint32_t hole = (uint32_t)(slot - threads->slots), i = hole;

	for (;;) {
		i = (i + 1) & threads->mask;
		if (!threads->slots[i].pid)
			break;
		if (((i - home_of(threads, threads->slots[i].pid)) & threads->mask) >= ((i - hole) & threads->mask)) {
			threads->slots[hole] = threads->slots[i];
			hole = i;
		}
	}
	threads->slots[hole] = (struct perf_thread_slot){ 0 };
	threads->count--;
}

void perf_threads_begin(struct perf_threads *threads, int pid)
{
	struct perf_thread_slot *slot;

	if (pid <= 0 || !make_room(threads))
		return;
	slot = slot_of(threads, pid);
	if (!slot->pid) {
		slot->pid = pid;
		threads->count++;
	}
	slot->others++;
}

void perf_threads_reset(struct perf_threads *threads, int pid)
{
	struct perf_thread_slot *slot = slot_of(threads, pid);

	if (pid > 0 && slot->pid)
		remove_slot(threads, slot);
}

bool perf_threads_end(struct perf_threads *threads, int pid, int tid)
{
	struct perf_thread_slot *slot = slot_of(threads, pid);
	bool last;

	if (pid <= 0 || !slot->pid)
		return pid == tid;
	if (pid == tid) {
		slot->leader_gone = 1;
		return false;
	}
	if (--slot->others)
		return false;
	last = slot->leader_gone;
	remove_slot(threads, slot);
	return last;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's own account of processes and mappings, as perf has it: one dummy event on each CPU with mmap2, build_id, comm, task, on
 * the boot clock. Lost records are counted. Source: linux/perf_event.h, perf_event_open(2).
 */
#ifndef SONDE_PERF_EVENTS_H
#define SONDE_PERF_EVENTS_H

#include "base/base.h"
#include "stacks/spaces.h"

struct perf_events; /* opaque */

struct perf_events_handler {
	void *context;
	void (*map)(void *context, const struct space_map_event *event); /* executable mappings only */
	void (*exec)(void *context, int pid, uint64_t time);
	void (*fork)(void *context, int parent, int pid, uint64_t time); /* processes, not threads */
	void (*exit)(void *context, int pid, uint64_t time); /* with its last thread, as far as can be told */
	void (*lost)(void *context, uint64_t since,
		     uint64_t until); /* events between these times are missing; may be NULL */
};

/* `pages` of each CPU's ring, a power of two. While privileged; -EPERM, -EACCES, -ENOENT (no perf events here). CPUs that come later are
 * taken in by perf_events_follow(). */
int perf_events_open(struct perf_events **ret, unsigned pages, struct fault *fault);
void perf_events_close(struct perf_events *events);

/* Hands over what is there, over all CPUs in the order of time as far as it is there. Never blocks. Cheap when nothing happened. */
void perf_events_drain(struct perf_events *events, const struct perf_events_handler *handler);
void perf_events_follow(struct perf_events *events);
/* Records that did not fit their ring, so far. */
uint64_t perf_events_lost(const struct perf_events *events);
/* Bytes of all rings, for the memory account. */
uint64_t perf_events_bytes(const struct perf_events *events);
/* Readable once any ring is a quarter full. */
int perf_events_fd(const struct perf_events *events);

/* One record of a ring, for tests and the fuzzer: parsed with every length checked. 0, or -EBADMSG. */
int perf_events_parse(const void *record, size_t size, const struct perf_events_handler *handler);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's records about tasks and mappings, as perf_events.c asks for them: each ends with thread, time and CPU.
 * Source: linux/perf_event.h.
 */
#ifndef SONDE_PERF_RECORD_H
#define SONDE_PERF_RECORD_H

#include "stacks/spaces.h"

/* Bytes at a record's end: pid, tid, time, cpu. */
#define PERF_RECORD_TRAILER 24u

enum perf_record_kind {
	PERF_OTHER, /* of no concern here */
	PERF_MAP,   /* executable */
	PERF_EXEC,
	PERF_FORK, /* pid == parent: a thread */
	PERF_EXIT, /* of one thread */
	PERF_LOST,
};

struct perf_record {
	enum perf_record_kind kind;
	int pid, tid, parent;
	uint64_t time, lost;
	struct space_map_event map; /* its path lies within the record's bytes */
};

/* 0, or -EBADMSG when a length or a text does not fit the record. */
int perf_record_parse(const void *record, size_t size, struct perf_record *ret);

#endif

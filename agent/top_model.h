/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `sonde top` knows: the records of the last while, summed by function, process, thread, container, wait, peer,
 * program and stack. It reads records and answers questions; how they are drawn is top_view.c's business.
 *
 * Time is the records' own: a record counts in the slice of its `ts`, and one older than the span not at all. Memory is
 * bounded (some 20 MiB when every table is full); what had to go for that is counted.
 */
#ifndef SONDE_TOP_MODEL_H
#define SONDE_TOP_MODEL_H

#include "top_table.h"

enum top_table_id {
	TOP_FUNCTIONS,  /* function, library */
	TOP_PROCESSES,  /* execution; text: container */
	TOP_THREADS,    /* execution, tid; text: container */
	TOP_CONTAINERS, /* container, or cgroup */
	TOP_WAITS,      /* execution, syscall, wait, state, what it waits for */
	TOP_PEERS,      /* "out" or "in", address, port */
	TOP_PROGRAMS,   /* path */
	TOP_LOSSES,     /* type, reason */
	TOP_LEDGER,     /* type; the last ledger's counts */
	TOP_STACKS,     /* execution, "cpu" or "offcpu", number; text: frames, leaf first */
	TOP_TOTALS,     /* one entry */
	TOP_TABLES,
};

/* Values of functions; of processes, threads, containers, waits and stacks; and so on. Times in ns. */
enum { TOP_SELF, TOP_TOTAL };
enum { TOP_CPU, TOP_WAIT, TOP_WAIT_COUNT };
enum {
	TOP_OPENED,
	TOP_LATENCY,
	TOP_LATENCY_COUNT,
	TOP_SRTT,
	TOP_SRTT_COUNT,
	TOP_RETRANSMITS,
	TOP_ERRORS,
	TOP_BYTES,
	TOP_LATENCY_MAX
};
enum { TOP_COUNT };
enum { TOP_PRODUCED, TOP_FILTERED, TOP_DROPPED, TOP_JOURNALED, TOP_ACKNOWLEDGED, TOP_PENDING, TOP_EXPIRED };
enum {
	TOP_ALL_CPU,
	TOP_ALL_WAIT,
	TOP_ALL_SAMPLES,
	TOP_ALL_EXECS,
	TOP_ALL_CONNECTS,
	TOP_ALL_CLOSES,
	TOP_ALL_ALERTS,
	TOP_ALL_LOST
};

#define TOP_LEDGER_TYPES 256u /* of one ledger; more are left out */

/* The newest single events. */
#define TOP_LINES 64u
enum top_log_id { TOP_EXECS, TOP_ALERTS, TOP_LOGS };

struct top_line {
	uint64_t time;
	uint32_t pid, uid;
	bool has_uid;
	char name[TOP_NAME_MAX];
	char *text; /* exec: arguments; alert: rule, priority, output; each with a NUL behind it */
	uint32_t text_size;
};

struct top_log {
	struct top_line lines[TOP_LINES];
	uint64_t taken; /* so far; the newest is lines[(taken - 1) % TOP_LINES] */
};

/* The time that profile rows of one slice speak of. */
struct top_cover {
	uint64_t begin, end;
};

struct top_model {
	uint64_t span_ns, slice_ns;
	uint64_t now;    /* ns since the epoch */
	uint64_t number; /* of the slice that `now` is in */
	uint64_t since;  /* the oldest record there was */
	struct top_table tables[TOP_TABLES];
	struct top_log logs[TOP_LOGS];
	struct top_cover cover[2][TOP_SLICES]; /* by CPU, off CPU */
	uint64_t rows, bad;
	char host[TOP_NAME_MAX];
};

/* 0 or -ENOMEM. `span_ns` is what the sums are over; at least TOP_SLICES. */
int top_model_open(struct top_model **ret, uint64_t span_ns);
void top_model_close(struct top_model *m);
/* Forgets everything but its span and the time. */
void top_model_clear(struct top_model *m);

/* The time is `now`: what is older than the span before it goes. */
void top_model_advance(struct top_model *m, uint64_t now);

/* Takes a record in. One that is damaged is counted and left out. */
void top_model_record(struct top_model *m, const void *map, size_t size);

/* The time that CPU values (or off-CPU values) are of, and the time that events are of; 0: there was nothing. */
uint64_t top_model_covered(const struct top_model *m, bool offcpu);
uint64_t top_model_watched(const struct top_model *m);
uint64_t top_model_sum(const struct top_model *m, unsigned value); /* TOP_ALL_* */
uint64_t top_model_evicted(const struct top_model *m);

/* The function and library of a frame's text, in place: `ret_name` and `ret_library` lie within it. */
struct top_piece {
	const char *at;
	size_t size;
};
void top_frame_split(struct top_piece frame, struct top_piece *ret_name, struct top_piece *ret_library);

#endif

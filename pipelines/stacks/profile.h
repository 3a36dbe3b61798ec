/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From samples to rows, for every module that profiles. A sample's stack is unwound (asynchronously, by the stack worker); samples with
 * the same thread, stack and cause are summed over a window; when the window ends each sum becomes a row with its frames as texts.
 *
 * Invariants: each sample taken in is settled exactly once, with its row or with the reason why there is none; memory is bounded: when a
 * window is full it ends early, so rows cover less time and no sample is lost.
 */
#ifndef SONDE_PROFILE_H
#define SONDE_PROFILE_H

#include "sonde/stack.h"
#include "stacks/symbols.h"

#define PROFILE_CAUSE_MAX 256u

struct profile; /* opaque */

/* A finished sum. Valid during the call. */
struct profile_row {
	const struct sonde_event *event; /* header of its first sample, time set to the window's end */
	uint64_t value, samples;
	uint64_t window_ns;
	const void *cause; /* bytes given with its samples */
	size_t cause_size;
	const char *stack; /* frame texts, NUL-terminated each, leaf first: kernel frames ([k]), then user frames */
	size_t stack_size; /* bytes, NULs included, at most 65535 less `profile_options.row_bytes` */
	uint64_t stack_id;
	enum symbols_code code; /* the most unusual of the program's frames */
	bool truncated;
};

struct profile_options {
	struct symbols *symbols; /* NULL: frames are bare addresses */
	uint64_t window_ns;
	size_t row_bytes; /* of the module's own row struct, in front of the stack's text */
	void *context;
	/* Writes the row; a negative errno when it was refused. Called once for each sum. */
	int (*row)(void *context, const struct profile_row *row);
	/* So many samples are done with; `reason` NULL: journaled with their row. */
	void (*settled)(void *context, uint64_t samples, const char *reason);
};

int profile_open(struct profile **ret, const struct profile_options *options);
void profile_close(struct profile *profile);

/* Takes one sample in. `stack` lies within the record of `event` (checked); `cause` of at most PROFILE_CAUSE_MAX bytes is part of what
 * makes two samples the same. -EBADMSG: malformed, settled by the caller. */
int profile_sample(struct profile *profile, const struct sonde_event *event, const struct sonde_stack *stack,
		   uint64_t value, const void *cause, size_t cause_size);
/* At least every 100 ms. */
void profile_tick(struct profile *profile, uint64_t now);
/* Ends the window and sends all rows, waiting for names at most `timeout_ms`. */
void profile_flush(struct profile *profile, int timeout_ms);

#endif

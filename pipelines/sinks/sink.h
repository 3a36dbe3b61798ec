/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sink follows the journal and carries records out. It has a thread, a reader and a cursor of its own, knows nothing
 * of BPF or of the modules, and moves its cursor only over what the far side has acknowledged.
 */
#ifndef SONDE_SINK_H
#define SONDE_SINK_H

#include "base/base.h"
#include "journal/journal.h"

struct sink_setup {
	const char *journal; /* folder */
	/* The writer of that folder where it lives in this process: the sink follows it (journal_follow) and tells it
	 * what is done with (journal_protect). NULL: another process writes. It outlives the sink. */
	struct journal *writer;
	const char *host, *run; /* of this agent run */
	/* Called from the sink's thread, in order of position, once for each record that the far side holds for good.
	 */
	void (*acknowledged)(void *context, const struct journal_record *record);
	/* The same for a record that the far side refuses for good (too large, invalid), in place of acknowledged();
	 * `reason` is its word. The stream goes on behind it. */
	void (*refused)(void *context, const struct journal_record *record, const char *reason);
	/* Called from the sink's thread when the cursor moved. */
	void (*moved)(void *context, uint64_t position);
	/* Called from the sink's thread with one sentence, at most one a second, when the state of the far side changes
	 * (unreachable, back, record refused). */
	void (*notice)(void *context, const char *text);
	void *context; /* of every callback; each may be NULL */
};

struct sink_health {
	/* Records: first sent, acknowledged, sent or waiting to be sent again, sent again, refused for good. */
	uint64_t sent, acknowledged, in_flight, retried, refused;
	uint64_t position; /* of the cursor: everything before it is acknowledged or refused */
	uint64_t missed;   /* records gone from the journal before the sink got to them */
	uint64_t rebuilt;  /* producers replaced after a fatal error */
	bool connected;
	char last_error[256];
};

#endif

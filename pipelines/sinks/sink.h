/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sink follows the journal and carries records out. It has a thread, a reader and a cursor of its own, knows nothing of
 * BPF or of the modules, and moves its cursor only over what the far side has acknowledged.
 */
#ifndef SONDE_SINK_H
#define SONDE_SINK_H

#include "base/base.h"
#include "journal/journal.h"

struct sink_setup {
	const char *journal; /* folder */
	const char *host, *run; /* of this agent run */
	/* Called from the sink's thread, in order of position, once for each record that the far side holds for good. */
	void (*acknowledged)(void *context, const struct journal_record *record);
	/* Called from the sink's thread when the cursor moved; the agent passes it to journal_protect(). */
	void (*moved)(void *context, uint64_t position);
	/* Called from the sink's thread with one sentence, at most one a second, when the state of the far side changes
	 * (unreachable, back, record refused). */
	void (*notice)(void *context, const char *text);
	void *context;
};

struct sink_health {
	uint64_t sent, acknowledged, in_flight, retried, refused; /* records */
	uint64_t rebuilt; /* producers replaced after a fatal error */
	bool connected;
	char last_error[256];
};

#endif

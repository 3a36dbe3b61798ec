/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that read a journal have in common: their options, and what they say at the end. */
#ifndef SONDE_STREAM_H
#define SONDE_STREAM_H

#include "journal/journal.h"
#include "output.h"
#include "progress.h"
#include "selection.h"

#define JOURNAL_DEFAULT   "/var/lib/sonde/journal"
#define STREAM_HELP_TYPE  "only these types, such as tcp.connect or process.*; several are separated by commas"
#define STREAM_HELP_WHERE "only records that fulfil the expression, such as 'comm = nginx and latency_ns > 10ms'"

struct stream_bounds {
	uint64_t end;              /* position: records that begin there or behind are not written */
	uint64_t read, written;    /* records, at most */
	struct progress *progress; /* NULL: not shown */
};

/* Writes the records from the reader's place on that fulfil `selection`, until there is no more or a bound is met.
 * 0, or a negative errno of the output. */
int stream_copy(struct journal_reader *reader, const struct selection *selection, struct output *output,
		struct stream_bounds bounds);

/* What an end of output means for the exit code: a far end that closed is none of our faults. Says anything else on
 * stderr, and, if any, how many records were bad or lost. */
int stream_finish(const char *command, int error, const struct journal_reader *reader, const struct output *output);

#endif

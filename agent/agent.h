/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's life: everything opened in order, one loop, everything closed in the opposite order. The loop's thread owns
 * modules, rings, journal and ledger; a sink has a thread of its own and reads the journal.
 */
#ifndef SONDE_AGENT_H
#define SONDE_AGENT_H

#include "base/base.h"
#include "identity/processes.h"
#include "ledger.h"
#include "loader.h"
#include "setup.h"
#include "sinks/sink.h"

struct agent_options {
	const char *file; /* NULL: the default file */
	const char *const *sets;
	size_t n_sets;
	uint64_t duration_ns; /* 0: until a signal */
	uint64_t began;       /* boot clock, when the process began */
};

/* Runs until SIGTERM, SIGINT or the duration's end: 0, or a negative errno with a sentence; -EINVAL: configuration. */
int agent_run(const struct agent_options *options, struct fault *fault);

/* What `sonde stats` and `sonde probes` ask for, as JSON. */
struct agent_view {
	const struct schema *schema;
	struct loader *loader;
	struct ledger *ledger; /* NULL: nothing runs */
	struct journal *journal;
	const struct sink_health *kafka;   /* NULL: off */
	const struct processes *processes; /* NULL: nothing runs */
	const char *run;
	uint64_t began; /* boot clock */
	uint64_t attach_ns;
	int worker_pid;
};
void report_stats(FILE *out, const struct agent_view *view);
void report_probes(FILE *out, const struct agent_view *view);
void report_metrics(FILE *out, const struct agent_view *view);

/* The lines that a run begins and ends with, for people. */
void report_begin(FILE *out, const struct agent_view *view, const char *journal);
void report_end(FILE *out, const struct agent_view *view);

#endif

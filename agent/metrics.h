/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /metrics: the ledger and the agent's cost as OpenMetrics text (version 1.0.0). The server has no thread: it lives
 * in the agent's loop, and the page is rendered there when it is asked for, so it needs no lock and costs nothing in between.
 */
#ifndef SONDE_METRICS_H
#define SONDE_METRICS_H

#include "base/base.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_INFO };

/* A family of samples. `name` is without the suffix (_total, _info) that its samples get from the type. */
struct metric {
	const char *name;
	enum metric_type type;
	const char *unit; /* the end of the name, such as "bytes"; or "" */
	const char *help;
};

/* The ledger; {type}, and {type,reason} for dropped and expired. */
extern const struct metric metric_events_produced, metric_events_filtered, metric_events_dropped,
	metric_events_journaled, metric_events_acknowledged, metric_events_pending, metric_events_expired;
/* {program} */
extern const struct metric metric_program_runs, metric_program_run_ns;
/* The agent and its journal. {process}: agent, worker. {map} */
extern const struct metric metric_memory_bytes, metric_map_bytes, metric_cpu_ns, metric_journal_bytes,
	metric_journal_bad_records, metric_journal_disk_errors;
/* {sink} */
extern const struct metric metric_sink_connected, metric_sink_errors;
/* {version,host,run}; and the seconds since the epoch at which the agent began */
extern const struct metric metric_agent, metric_start_time_seconds;

/* Lines of the page. The samples of a family follow its head, and no other family's come between. Labels are (name, value); hostile
 * values are escaped, and bytes that are not UTF-8 written as U+FFFD. */
void metric_begin(FILE *out, const struct metric *metric);
void metric_value(FILE *out, const struct metric *metric, uint64_t value, const char *const (*labels)[2],
		  size_t n_labels);

struct metrics; /* opaque: the server */

/* Writes all families; called in metrics_serve(). 0 or a negative errno (the client then gets status 500). */
typedef int metrics_render(void *context, FILE *out);

/* `listen` is "127.0.0.1:9435" or "[::1]:9435"; port 0 takes any free one. No names but "localhost", and no port
 * alone: the agent opens to other hosts only where such an address is written out. -EINVAL, -EADDRINUSE, -EACCES ... with a sentence. */
int metrics_open(struct metrics **ret, const char *listen, metrics_render *render, void *context, struct fault *fault);
void metrics_close(struct metrics *metrics);

/* Whether other hosts can reach it: worth a line in the log. */
bool metrics_exposed(const struct metrics *metrics);
uint16_t metrics_port(const struct metrics *metrics);

/* Readable when metrics_serve() has something to do; to be called at least once a second as well, for timeouts. */
int metrics_fd(const struct metrics *metrics);
void metrics_serve(struct metrics *metrics);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* OpenMetrics text, version 1.0.0: the families of the agent's page, and their lines. */
#include "metrics.h"

#include "encode/text.h"

#include <inttypes.h>
#include <string.h>

const struct metric metric_events_produced = { "sonde_events_produced", METRIC_COUNTER, "",
					       "Events that happened, by type" };
const struct metric metric_events_filtered = { "sonde_events_filtered", METRIC_COUNTER, "",
					       "Events that a filter left out" };
const struct metric metric_events_dropped = { "sonde_events_dropped", METRIC_COUNTER, "",
					      "Events lost before the journal, by reason" };
const struct metric metric_events_journaled = { "sonde_events_journaled", METRIC_COUNTER, "",
						"Events written to the journal" };
const struct metric metric_events_acknowledged = { "sonde_events_acknowledged", METRIC_COUNTER, "",
						   "Journaled events that the sink has acknowledged" };
const struct metric metric_events_pending = { "sonde_events_pending", METRIC_GAUGE, "",
					      "Journaled events that wait for the sink" };
const struct metric metric_events_expired = { "sonde_events_expired", METRIC_COUNTER, "",
					      "Journaled events that went before the sink took them, by reason" };
const struct metric metric_program_runs = { "sonde_program_runs", METRIC_COUNTER, "", "Runs of a BPF program" };
const struct metric metric_program_run_ns = { "sonde_program_run_ns", METRIC_COUNTER, "ns",
					      "Time spent in a BPF program" };
const struct metric metric_memory_bytes = { "sonde_memory_bytes", METRIC_GAUGE, "bytes",
					    "Resident memory, without the journal's page cache" };
const struct metric metric_map_bytes = { "sonde_map_bytes", METRIC_GAUGE, "bytes",
					 "Kernel memory of BPF maps and rings" };
const struct metric metric_cpu_ns = { "sonde_cpu_ns", METRIC_COUNTER, "ns", "CPU time of the agent's processes" };
const struct metric metric_journal_bytes = { "sonde_journal_bytes", METRIC_GAUGE, "bytes",
					     "Size of the journal's segments" };
const struct metric metric_journal_bad_records = { "sonde_journal_bad_records", METRIC_COUNTER, "",
						   "Records skipped because they were damaged" };
const struct metric metric_journal_disk_errors = { "sonde_journal_disk_errors", METRIC_COUNTER, "",
						   "Segments that could not be begun" };
const struct metric metric_sink_connected = { "sonde_sink_connected", METRIC_GAUGE, "",
					      "Whether the sink answers: 1 or 0" };
const struct metric metric_sink_errors = { "sonde_sink_errors", METRIC_COUNTER, "", "Errors that a sink met" };
const struct metric metric_agent = { "sonde_agent", METRIC_INFO, "", "This agent" };
const struct metric metric_start_time_seconds = { "sonde_start_time_seconds", METRIC_GAUGE, "seconds",
						  "When this run began, since the epoch" };

static const char *const type_names[] = { "counter", "gauge", "info" };
static const char *const suffixes[] = { "_total", "", "_info" };

static void write_escaped(FILE *out, const char *text)
{
	const uint8_t *at = (const uint8_t *)text, *end = at + strlen(text);

	while (at < end) {
		unsigned length;

		if (utf8_next(at, end, &length) < 0)
			fputs("\xef\xbf\xbd", out);
		else if (*at == '\n')
			fputs("\\n", out);
		else
			fprintf(out, "%s%.*s", *at == '\\' || *at == '"' ? "\\" : "", (int)length, (const char *)at);
		at += length;
	}
}

void metric_begin(FILE *out, const struct metric *metric)
{
	fprintf(out, "# TYPE %s %s\n", metric->name, type_names[metric->type]);
	if (metric->unit[0])
		fprintf(out, "# UNIT %s %s\n", metric->name, metric->unit);
	fprintf(out, "# HELP %s ", metric->name);
	write_escaped(out, metric->help);
	fputc('\n', out);
}

void metric_value(FILE *out, const struct metric *metric, uint64_t value, const char *const (*labels)[2],
		  size_t n_labels)
{
	fprintf(out, "%s%s", metric->name, suffixes[metric->type]);
	for (size_t i = 0; i < n_labels; i++) {
		fprintf(out, "%c%s=\"", i ? ',' : '{', labels[i][0]);
		write_escaped(out, labels[i][1]);
		fputc('"', out);
	}
	fprintf(out, "%s %" PRIu64 "\n", n_labels ? "}" : "", value);
}

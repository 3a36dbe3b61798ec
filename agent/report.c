/* SPDX-License-Identifier: Apache-2.0 */
/* A running agent as JSON (for the control socket) and as metrics: one look at the ledger, the programs, the memory, the journal. */
#include <inttypes.h>
#include <string.h>

#include "agent.h"
#include "metrics.h"

struct memory {
	uint64_t anon, shared; /* bytes: RssAnon, RssShmem */
};

static struct memory memory_of(int pid)
{
	_cleanup_(free_pointer) char *text = NULL;
	struct memory m = { 0 };
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/status", pid);
	if (!pid || read_small_file(path, 65536, &text, NULL) < 0)
		return m;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		uint64_t kib;

		if (sscanf(line, "RssAnon: %" SCNu64, &kib) == 1)
			m.anon = kib << 10;
		if (sscanf(line, "RssShmem: %" SCNu64, &kib) == 1)
			m.shared = kib << 10;
	}
	return m;
}

/* User and system time of a process in ns, from /proc/PID/stat fields 14 and 15 (proc(5)). */
static uint64_t cpu_of(int pid)
{
	_cleanup_(free_pointer) char *text = NULL;
	unsigned long long user, system;
	char path[64];
	const char *at;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	if (!pid || read_small_file(path, 4096, &text, NULL) < 0)
		return 0;
	at = strrchr(text, ')');
	if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2)
		return 0;
	return (user + system) * (NS_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* Text of our own making: names of programs, hooks, reasons; only quotes and backslashes can stand in the way. */
static void write_text(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', out);
		fputc((unsigned char)*text < 0x20 ? ' ' : *text, out);
	}
	fputc('"', out);
}

static void write_reasons(FILE *out, const char *key, const uint64_t *counts, const char *const *names, int n)
{
	bool first = true;

	fprintf(out, ", \"%s\": {", key);
	for (int i = 0; i < n; i++) {
		if (!counts[i])
			continue;
		fprintf(out, "%s\"%s\": %" PRIu64, first ? "" : ", ", names[i], counts[i]);
		first = false;
	}
	fputc('}', out);
}

static void write_types(FILE *out, const struct agent_view *v)
{
	bool first = true;

	fprintf(out, "\"types\": {");
	for (uint16_t i = 0; i < schema_count(v->schema); i++) {
		struct ledger_row r;

		ledger_row(v->ledger, i, &r);
		if (!r.produced && !r.open)
			continue;
		fputs(first ? "" : ", ", out);
		write_text(out, schema_type(v->schema, i)->name);
		fprintf(out,
			": {\"produced\": %" PRIu64 ", \"filtered\": %" PRIu64 ", \"journaled\": %" PRIu64
			", \"acknowledged\": %" PRIu64 ", \"pending\": %" PRIu64 ", \"open\": %" PRIu64,
			r.produced, r.filtered, r.journaled, r.acknowledged, r.pending, r.open);
		write_reasons(out, "dropped", r.dropped, ledger_reason_names, LEDGER_REASONS);
		write_reasons(out, "expired", r.expired, ledger_expiry_names, LEDGER_EXPIRIES);
		fputc('}', out);
		first = false;
	}
	fputc('}', out);
}

static void write_measure(FILE *out, const struct measure_view *m)
{
	fprintf(out, "{\"measure\": ");
	write_text(out, m->name);
	fprintf(out, ", \"hook\": ");
	if (m->hook)
		write_text(out, m->hook);
	else
		fputs("null", out);
	if (m->why[0]) {
		fprintf(out, ", \"why\": ");
		write_text(out, m->why);
	}
	fprintf(out, ", \"runs\": %" PRIu64 ", \"run_ns\": %" PRIu64 ", \"misses\": %" PRIu64 "}", m->runs, m->run_ns,
		m->misses);
}

static void write_events(FILE *out, const struct schema *schema, const char *module)
{
	bool first = true;

	fprintf(out, "\"events\": [");
	for (size_t i = 0; i < schema_count(schema); i++) {
		const struct event_type *t = schema_type(schema, i);

		if (t->internal || strcmp(t->module, module))
			continue;
		fputs(first ? "" : ", ", out);
		write_text(out, t->name);
		first = false;
	}
	fputc(']', out);
}

void report_probes(FILE *out, const struct agent_view *v)
{
	struct measure_view measures[MEASURES_MAX];

	fprintf(out, "{\"modules\": [");
	for (size_t i = 0; i < loader_count(v->loader); i++) {
		struct module *m = loader_module(v->loader, i);
		size_t n = module_measures(m, measures, ARRAY_SIZE(measures));

		fprintf(out, "%s{\"module\": ", i ? ", " : "");
		write_text(out, module_name(m));
		fprintf(out, ", \"running\": %s, ", module_running(m) ? "true" : "false");
		write_events(out, v->schema, module_name(m));
		fprintf(out, ", \"measures\": [");
		for (size_t k = 0; k < n; k++) {
			fputs(k ? ", " : "", out);
			write_measure(out, &measures[k]);
		}
		fprintf(out, "]}");
	}
	fprintf(out, "]}\n");
}

static void write_memory(FILE *out, const char *key, int pid)
{
	struct memory m = memory_of(pid);

	fprintf(out,
		"\"%s\": {\"pid\": %d, \"rss_anon_bytes\": %" PRIu64 ", \"rss_shmem_bytes\": %" PRIu64
		", \"cpu_ns\": %" PRIu64 "}",
		key, pid, m.anon, m.shared, cpu_of(pid));
}

static void write_journal(FILE *out, const struct journal *journal)
{
	struct journal_health h;

	journal_health(journal, &h);
	fprintf(out,
		"\"journal\": {\"segments\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"bound_bytes\": %" PRIu64
		", \"backlog_bytes\": %" PRIu64 ", \"bad_records\": %" PRIu64 ", \"torn_bytes\": %" PRIu64
		", \"disk_errors\": %" PRIu64 "}",
		h.segments, h.bytes, journal_bound(journal), journal_backlog(journal), h.bad_records, h.torn_bytes,
		h.disk_errors);
}

static void write_kafka(FILE *out, const struct sink_health *k)
{
	fprintf(out,
		"\"kafka\": {\"connected\": %s, \"sent\": %" PRIu64 ", \"acknowledged\": %" PRIu64
		", \"in_flight\": %" PRIu64 ", \"retried\": %" PRIu64 ", \"refused\": %" PRIu64
		", \"rebuilt\": %" PRIu64 ", \"missed\": %" PRIu64 ", \"last_error\": ",
		k->connected ? "true" : "false", k->sent, k->acknowledged, k->in_flight, k->retried, k->refused,
		k->rebuilt, k->missed);
	write_text(out, k->last_error);
	fputc('}', out);
}

static void write_processes(FILE *out, const struct processes *processes)
{
	struct processes_health h;

	processes_health(processes, &h);
	fprintf(out,
		"\"processes\": {\"held\": %" PRIu64 ", \"ended\": %" PRIu64 ", \"evicted\": %" PRIu64
		", \"lost\": %" PRIu64 ", \"text_bytes\": %" PRIu64 "}",
		h.held, h.ended, h.evicted, h.lost, h.text_bytes);
}

void report_stats(FILE *out, const struct agent_view *v)
{
	fprintf(out, "{\"run\": \"%s\", \"uptime_ns\": %" PRIu64 ", \"attach_ns\": %" PRIu64 ", ", v->run,
		now_boottime_ns() - v->began, v->attach_ns);
	write_types(out, v);
	fputs(", ", out);
	write_memory(out, "agent", getpid());
	fputs(", ", out);
	write_memory(out, "worker", v->worker_pid);
	fprintf(out, ", \"map_bytes\": %" PRIu64 ", ", loader_map_bytes(v->loader));
	write_journal(out, v->journal);
	if (v->kafka) {
		fputs(", ", out);
		write_kafka(out, v->kafka);
	}
	if (v->processes) {
		fputs(", ", out);
		write_processes(out, v->processes);
	}
	fputs(", \"probes\": ", out);
	report_probes(out, v);
	fputs("}\n", out);
}

static void metrics_of_types(FILE *out, const struct agent_view *v, const struct metric *metric, size_t offset)
{
	metric_begin(out, metric);
	for (uint16_t i = 0; i < schema_count(v->schema); i++) {
		const char *labels[][2] = { { "type", schema_type(v->schema, i)->name } };
		struct ledger_row r;
		uint64_t value;

		ledger_row(v->ledger, i, &r);
		memcpy(&value, (const char *)&r + offset, sizeof value);
		if (r.produced || r.open)
			metric_value(out, metric, value, labels, 1);
	}
}

static void metrics_of_reasons(FILE *out, const struct agent_view *v, const struct metric *metric, size_t offset,
			       const char *const *names, int n)
{
	metric_begin(out, metric);
	for (uint16_t i = 0; i < schema_count(v->schema); i++) {
		struct ledger_row r;

		ledger_row(v->ledger, i, &r);
		for (int k = 0; k < n; k++) {
			const char *labels[][2] = { { "type", schema_type(v->schema, i)->name },
						    { "reason", names[k] } };
			uint64_t value;

			memcpy(&value, (const char *)&r + offset + sizeof value * (size_t)k, sizeof value);
			if (value)
				metric_value(out, metric, value, labels, 2);
		}
	}
}

static void metrics_of_programs(FILE *out, const struct agent_view *v, const struct metric *metric, bool ns)
{
	struct measure_view measures[MEASURES_MAX];

	metric_begin(out, metric);
	for (size_t i = 0; i < loader_count(v->loader); i++) {
		struct module *m = loader_module(v->loader, i);
		size_t n = module_running(m) ? module_measures(m, measures, ARRAY_SIZE(measures)) : 0;

		for (size_t k = 0; k < n; k++) {
			char program[128];
			const char *labels[][2] = { { "program", program } };

			snprintf(program, sizeof program, "%s.%s", module_name(m), measures[k].name);
			metric_value(out, metric, ns ? measures[k].run_ns : measures[k].runs, labels, 1);
		}
	}
}

static void metrics_of_processes(FILE *out, const struct agent_view *v)
{
	const char *agent[][2] = { { "process", "agent" } }, *worker[][2] = { { "process", "worker" } };
	struct memory a = memory_of(getpid()), w = memory_of(v->worker_pid);

	metric_begin(out, &metric_memory_bytes);
	metric_value(out, &metric_memory_bytes, a.anon + a.shared, agent, 1);
	metric_value(out, &metric_memory_bytes, w.anon + w.shared, worker, 1);
	metric_begin(out, &metric_cpu_ns);
	metric_value(out, &metric_cpu_ns, cpu_of(getpid()), agent, 1);
	metric_value(out, &metric_cpu_ns, cpu_of(v->worker_pid), worker, 1);
}

void report_metrics(FILE *out, const struct agent_view *v)
{
	struct journal_health h;

	metrics_of_types(out, v, &metric_events_produced, offsetof(struct ledger_row, produced));
	metrics_of_types(out, v, &metric_events_filtered, offsetof(struct ledger_row, filtered));
	metrics_of_types(out, v, &metric_events_journaled, offsetof(struct ledger_row, journaled));
	metrics_of_types(out, v, &metric_events_acknowledged, offsetof(struct ledger_row, acknowledged));
	metrics_of_types(out, v, &metric_events_pending, offsetof(struct ledger_row, pending));
	metrics_of_reasons(out, v, &metric_events_dropped, offsetof(struct ledger_row, dropped), ledger_reason_names,
			   LEDGER_REASONS);
	metrics_of_reasons(out, v, &metric_events_expired, offsetof(struct ledger_row, expired), ledger_expiry_names,
			   LEDGER_EXPIRIES);
	metrics_of_programs(out, v, &metric_program_runs, false);
	metrics_of_programs(out, v, &metric_program_run_ns, true);
	metrics_of_processes(out, v);
	journal_health(v->journal, &h);
	metric_begin(out, &metric_journal_bytes);
	metric_value(out, &metric_journal_bytes, h.bytes, NULL, 0);
	metric_begin(out, &metric_journal_bad_records);
	metric_value(out, &metric_journal_bad_records, h.bad_records, NULL, 0);
	metric_begin(out, &metric_journal_disk_errors);
	metric_value(out, &metric_journal_disk_errors, h.disk_errors, NULL, 0);
	if (v->kafka) {
		const char *labels[][2] = { { "sink", "kafka" } };

		metric_begin(out, &metric_sink_connected);
		metric_value(out, &metric_sink_connected, v->kafka->connected, labels, 1);
	}
}

void report_begin(FILE *out, const struct agent_view *view, const char *journal)
{
	struct measure_view measures[MEASURES_MAX];
	size_t modules = 0, hooks = 0;

	for (size_t i = 0; i < loader_count(view->loader); i++) {
		const struct module *m = loader_module(view->loader, i);
		size_t n = module_running(m) ? module_measures(m, measures, ARRAY_SIZE(measures)) : 0;

		modules += i > 0 && module_running(m);
		for (size_t k = 0; k < n; k++)
			hooks += measures[k].hook != NULL;
	}
	fprintf(out, "sonde " SONDE_VERSION ": %zu module%s, %zu hooks attached in %.0f ms; journal %s%s; %s ends\n",
		modules, modules == 1 ? "" : "s", hooks, (double)view->attach_ns / NS_PER_MS, journal,
		view->kafka ? ", followed to Kafka" : "", isatty(fileno(out)) ? "Ctrl-C" : "SIGTERM");
}

void report_end(FILE *out, const struct agent_view *view)
{
	uint64_t journaled = 0, lost = 0;

	for (uint16_t type = 0; type < schema_count(view->schema); type++) {
		struct ledger_row row;

		ledger_row(view->ledger, type, &row);
		if (!schema_type(view->schema, type)->internal)
			journaled += row.journaled;
		for (int i = 0; i < LEDGER_REASONS; i++)
			lost += row.dropped[i];
		for (int i = 0; i < LEDGER_EXPIRIES; i++)
			lost += i == LEDGER_RETENTION ? 0 : row.expired[i];
	}
	fprintf(out, "sonde: ended after %.1f s: %" PRIu64 " events journaled, %" PRIu64 " lost%s\n",
		(double)(now_boottime_ns() - view->began) / NS_PER_SEC, journaled, lost,
		lost ? "; 'sonde cat --type agent.loss' says which and why" : "");
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "command.h"
#include "command_setup.h"
#include "control.h"
#include "json.h"

typedef unsigned long long ull;

static uint64_t sum_of(struct json reasons)
{
	uint64_t sum = 0;

	for (struct json k = json_first(reasons); k.at; k = json_next(k))
		sum += json_number(json_value_of(k));
	return sum;
}

static void print_reasons(const char *type, const char *what, struct json reasons)
{
	char reason[64];

	for (struct json k = json_first(reasons); k.at; k = json_next(k)) {
		json_text(k, reason, sizeof reason);
		printf("  %s: %llu %s for %s\n", type, (ull)json_number(json_value_of(k)), what, reason);
	}
}

static void print_ledger(struct json types)
{
	char name[64];

	printf("%-18s %12s %12s %10s %12s %12s %12s %10s\n", "type", "produced", "filtered", "dropped", "journaled",
	       "acknowledged", "pending", "expired");
	for (struct json k = json_first(types); k.at; k = json_next(k)) {
		struct json t = json_value_of(k);

		json_text(k, name, sizeof name);
		printf("%-18s %12llu %12llu %10llu %12llu %12llu %12llu %10llu\n", name,
		       (ull)json_number(json_key(t, "produced")), (ull)json_number(json_key(t, "filtered")),
		       (ull)sum_of(json_key(t, "dropped")), (ull)json_number(json_key(t, "journaled")),
		       (ull)json_number(json_key(t, "acknowledged")), (ull)json_number(json_key(t, "pending")),
		       (ull)sum_of(json_key(t, "expired")));
	}
	for (struct json k = json_first(types); k.at; k = json_next(k)) {
		json_text(k, name, sizeof name);
		print_reasons(name, "dropped", json_key(json_value_of(k), "dropped"));
		print_reasons(name, "expired", json_key(json_value_of(k), "expired"));
	}
}

static double mib(uint64_t bytes)
{
	return (double)bytes / (1 << 20);
}

static void print_process(struct json top, const char *name)
{
	struct json p = json_key(top, name);

	if (json_number(json_key(p, "pid")))
		printf("%-18s pid %llu, %.1f MiB (%.1f anonymous), %.2f s CPU\n", name,
		       (ull)json_number(json_key(p, "pid")),
		       mib(json_number(json_key(p, "rss_anon_bytes")) + json_number(json_key(p, "rss_shmem_bytes"))),
		       mib(json_number(json_key(p, "rss_anon_bytes"))),
		       (double)json_number(json_key(p, "cpu_ns")) / 1e9);
}

static void print_programs(struct json modules)
{
	char module[64], measure[64];

	for (struct json m = json_first(modules); m.at; m = json_next(m)) {
		json_text(json_key(m, "module"), module, sizeof module);
		for (struct json k = json_first(json_key(m, "measures")); k.at; k = json_next(k)) {
			uint64_t runs = json_number(json_key(k, "runs")), ns = json_number(json_key(k, "run_ns"));

			json_text(json_key(k, "measure"), measure, sizeof measure);
			if (runs)
				printf("  %-9s %-16s %10llu runs, %6llu ns each\n", module, measure, (ull)runs,
				       (ull)(ns / runs));
		}
	}
}

static void print_stats(struct json top)
{
	struct json journal = json_key(top, "journal"), kafka = json_key(top, "kafka");
	char text[256];

	print_ledger(json_key(top, "types"));
	json_text(json_key(top, "run"), text, sizeof text);
	printf("\nrun                %s, up %.1f s, attached in %.0f ms\n", text,
	       (double)json_number(json_key(top, "uptime_ns")) / 1e9,
	       (double)json_number(json_key(top, "attach_ns")) / 1e6);
	print_process(top, "agent");
	print_process(top, "worker");
	printf("%-18s %.1f MiB\n", "maps and rings", mib(json_number(json_key(top, "map_bytes"))));
	printf("%-18s %.1f of %.1f MiB in %llu segments; %llu bad records, %llu disk errors\n", "journal",
	       mib(json_number(json_key(journal, "bytes"))), mib(json_number(json_key(journal, "bound_bytes"))),
	       (ull)json_number(json_key(journal, "segments")), (ull)json_number(json_key(journal, "bad_records")),
	       (ull)json_number(json_key(journal, "disk_errors")));
	if (kafka.at) {
		json_text(json_key(kafka, "last_error"), text, sizeof text);
		printf("%-18s %s; %llu acknowledged, %llu in flight, %llu refused%s%s\n", "kafka",
		       json_is_true(json_key(kafka, "connected")) ? "connected" : "not connected",
		       (ull)json_number(json_key(kafka, "acknowledged")),
		       (ull)json_number(json_key(kafka, "in_flight")), (ull)json_number(json_key(kafka, "refused")),
		       text[0] ? "; " : "", text);
	}
	printf("programs           (ns with sysctl kernel.bpf_stats_enabled=1)\n");
	print_programs(json_key(json_key(top, "probes"), "modules"));
}

static int run(int argc, char **argv)
{
	const char *file = NULL;
	struct argument_texts sets = { 0 };
	bool json = false;
	const struct argument rows[] = {
		{ 0, "json", NULL, "print one JSON document", .flag = &json },
		{ 'c', "config", "FILE", "read where the agent answers from this configuration", .text = &file },
		{ 0, "set", "KEY=VALUE", "change one option, such as agent.control=/run/other.sock; may be repeated",
		  .texts = &sets },
		{ 0 },
	};
	const struct usage usage = {
		"stats",
		"Prints the ledger of the agent that runs: for each event type what was produced, filtered, dropped, "
		"journaled and acknowledged; then what the agent costs.",
		rows, NULL
	};
	_cleanup_(free_pointer) char *text = NULL;
	struct fault fault = { 0 };
	struct setup setup;
	int r = arguments_take(&usage, argc, argv);

	if (r >= 0)
		return r;
	r = command_setup(&setup, file, &sets);
	if (r >= 0)
		return r;
	r = control_ask(config_text(setup.config, "agent.control"), "stats", &text, &fault);
	setup_free(&setup);
	if (r < 0) {
		fprintf(stderr, "sonde: %s\n", fault.text[0] ? fault.text : strerror(-r));
		return EXIT_FAULT;
	}
	if (json)
		printf("%s%s", text, strchr(text, '\n') ? "" : "\n");
	else
		print_stats((struct json){ text });
	return EXIT_OK;
}

const struct command command_stats = { "stats", "print the ledger, and what the agent costs", run };

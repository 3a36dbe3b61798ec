/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which hooks are in use, and why others are not. With an agent running, its own answer; without one, all modules are loaded for a moment
 * on this kernel (and attached to nothing that outlives the command), which needs root.
 */
#include <errno.h>
#include <string.h>

#include "agent.h"
#include "command.h"
#include "command_setup.h"
#include "control.h"
#include "json.h"

static void print_measure(struct json m)
{
	char name[64], hook[128], why[256];
	uint64_t runs = json_number(json_key(m, "runs")), ns = json_number(json_key(m, "run_ns"));

	json_text(json_key(m, "measure"), name, sizeof name);
	json_text(json_key(m, "hook"), hook, sizeof hook);
	json_text(json_key(m, "why"), why, sizeof why);
	printf("  %-16s %s", name, hook[0] ? hook : "none");
	if (runs && ns)
		printf("%*s%8llu ns a run, %llu runs", (int)(strlen(hook) < 40 ? 40 - strlen(hook) : 1), "",
		       (unsigned long long)(ns / runs), (unsigned long long)runs);
	if (why[0])
		printf("  (%s)", why);
	putchar('\n');
}

static void print_module(struct json m)
{
	char name[64], event[64];

	json_text(json_key(m, "module"), name, sizeof name);
	printf("%s%s:", name, json_is_true(json_key(m, "running")) ? "" : " (not running)");
	for (struct json e = json_first(json_key(m, "events")); e.at; e = json_next(e)) {
		json_text(e, event, sizeof event);
		printf(" %s", event);
	}
	putchar('\n');
	for (struct json k = json_first(json_key(m, "measures")); k.at; k = json_next(k))
		print_measure(k);
}

/* Starting a module needs companions' hosts; for a look at the hooks the programs are enough. */
static int look(struct setup *setup, char **ret_json, struct fault *fault)
{
	struct agent_view view = { .schema = setup->schema, .loader = setup->loader };
	size_t size;
	FILE *out;
	int r = loader_check_kernel(fault);

	for (size_t i = 0; r == 0 && i < loader_count(setup->loader); i++) {
		r = module_try(loader_module(setup->loader, i), setup->config, fault);
		if (r < 0 && i > 0 && r != -EPERM) {
			fprintf(stderr, "sonde: %s\n", fault->text);
			r = 0;
		}
	}
	if (r < 0)
		return r;
	out = open_memstream(ret_json, &size);
	if (!out)
		return -ENOMEM;
	report_probes(out, &view);
	return fclose(out) ? -errno : 0;
}

static int run(int argc, char **argv)
{
	const char *file = NULL;
	struct argument_texts sets = { 0 };
	bool json = false;
	const struct argument rows[] = {
		{ 0, "json", NULL, "print one JSON document", .flag = &json },
		{ 'c', "config", "FILE", "read this configuration", .text = &file },
		{ 0, "set", "KEY=VALUE", "change one option; may be repeated", .texts = &sets },
		{ 0 },
	};
	const struct usage usage = {
		"probes",
		"Prints modules and their measures: the hook in use or why there is none, and, with sysctl "
		"kernel.bpf_stats_enabled=1, what a run costs. Asks the agent that runs; where none does, tries this "
		"kernel.",
		rows, NULL
	};
	_cleanup_(free_pointer) char *text = NULL;
	struct fault fault = { 0 }, refused = { 0 };
	struct setup setup;
	int r = arguments_take(&usage, argc, argv);

	if (r >= 0)
		return r;
	r = command_setup(&setup, file, &sets);
	if (r >= 0)
		return r;
	r = control_ask(config_text(setup.config, "agent.control"), "probes", &text, &refused);
	if (r < 0)
		r = look(&setup, &text, &fault);
	setup_free(&setup);
	if (r < 0) {
		fprintf(stderr, "sonde: %s\n", fault.text[0] ? fault.text : strerror(-r));
		return EXIT_FAULT;
	}
	if (json)
		printf("%s%s", text, strchr(text, '\n') ? "" : "\n");
	else
		for (struct json m = json_first(json_key((struct json){ text }, "modules")); m.at; m = json_next(m))
			print_module(m);
	return EXIT_OK;
}

const struct command command_probes = { "probes", "print modules, measures and the hooks in use", run };

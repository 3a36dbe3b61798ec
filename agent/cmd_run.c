/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "agent.h"
#include "arguments.h"
#include "command.h"
#include "command_setup.h"

#define SETS_MAX (ARGUMENT_TEXTS_MAX + 1)

static int run(int argc, char **argv)
{
	struct agent_options options = { .began = now_boottime_ns() };
	const char *file = NULL, *journal = NULL;
	struct argument_texts sets = { 0 };
	const struct argument rows[] = {
		{ 'c', "config", "FILE",
		  "read this configuration; without it /etc/sonde/sonde.yaml, where there is one", .text = &file },
		{ 0, "set", "KEY=VALUE", "change one option, such as modules.tcp.enabled=false; may be repeated",
		  .texts = &sets },
		{ 0, "for", "DURATION", "end by itself after this time, such as 30s",
		  .duration = &options.duration_ns },
		{ 0, "journal", "DIR", "keep the journal here: the same as --set journal.path=DIR", .text = &journal },
		{ 0 },
	};
	const struct usage usage = {
		"run",
		"Runs the agent: attaches the modules, journals what they see, and publishes it where a sink is "
		"enabled. SIGTERM and SIGINT end it in order: programs detached, rings drained, the last ledger "
		"written, sinks "
		"flushed. SIGHUP reads the configuration again.",
		rows, command_write_options
	};
	const char *all[SETS_MAX];
	char set[4096];
	struct fault fault = { 0 };
	int r = arguments_take(&usage, argc, argv);

	if (r >= 0)
		return r;
	memcpy(all, sets.items, sets.n * sizeof *all);
	options.file = file;
	options.sets = all;
	options.n_sets = sets.n;
	if (journal) {
		snprintf(set, sizeof set, "journal.path=%s", journal);
		all[options.n_sets++] = set;
	}
	r = agent_run(&options, &fault);
	if (r == 0)
		return EXIT_OK;
	fprintf(stderr, "sonde: %s\n", fault.text[0] ? fault.text : strerror(-r));
	return r == -EINVAL ? EXIT_CONFIG : EXIT_FAULT;
}

const struct command command_run = { "run", "run the agent", run };

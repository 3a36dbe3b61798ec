/* SPDX-License-Identifier: Apache-2.0 */
/* sonde burst: asks the agent that runs to sample one process more often for a while. */
#include <errno.h>
#include <string.h>

#include "command.h"
#include "command_setup.h"
#include "control.h"
#include "json.h"
#include "probes/cpu/burst.h"

struct burst_options {
	const char *pid, *file;
	uint64_t rate, duration;
	struct argument_texts sets;
};

static int read_pid(const char *text, unsigned *ret)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || end == text || n < 1 || n > INT32_MAX) {
		fprintf(stderr, "sonde burst: '%.64s' is no process id\n", text);
		return EXIT_USAGE;
	}
	*ret = (unsigned)n;
	return EXIT_OK;
}

static int ask(const struct burst_options *options, unsigned pid)
{
	_cleanup_(free_pointer) char *text = NULL;
	struct fault fault = { 0 };
	struct setup setup;
	char request[96];
	int r = command_setup(&setup, options->file, &options->sets);

	if (r >= 0)
		return r;
	snprintf(request, sizeof request, "cpu burst %u %u %llu", pid, (unsigned)options->rate,
		 (unsigned long long)options->duration);
	r = control_ask(config_text(setup.config, "agent.control"), request, &text, &fault);
	setup_free(&setup);
	if (r < 0) {
		fprintf(stderr, "sonde burst: %s\n", fault.text[0] ? fault.text : strerror(-r));
		return EXIT_FAULT;
	}
	printf("process %u: %llu threads, and those to come, at %llu Hz for %g s\n", pid,
	       (unsigned long long)json_number(json_key((struct json){ text }, "threads")),
	       (unsigned long long)options->rate, (double)options->duration / 1e9);
	return EXIT_OK;
}

static int run(int argc, char **argv)
{
	struct burst_options options = { .rate = BURST_RATE_MAX, .duration = 10 * NS_PER_SEC };
	const struct argument rows[] = {
		{ 0, NULL, "PID", "the process", .text = &options.pid, .required = true },
		{ 0, "rate", "HZ", "samples a second of CPU time; by default 999", .number = &options.rate, .min = 1,
		  .max = BURST_RATE_MAX },
		{ 0, "for", "DURATION", "for so long; by default 10s", .duration = &options.duration,
		  .min = NS_PER_SEC / 10, .max = BURST_SECONDS_MAX * NS_PER_SEC },
		{ 'c', "config", "FILE", "read where the agent answers from this configuration",
		  .text = &options.file },
		{ 0, "set", "KEY=VALUE", "change one option, such as agent.control=/run/other.sock; may be repeated",
		  .texts = &options.sets },
		{ 0 },
	};
	const struct usage usage = { "burst",
				     "Makes the agent that runs sample one process, all its threads, more often for a "
				     "while. What comes of it is in "
				     "the stream: profile.cpu, whose period_ns says what a sample stands for.\n"
				     "At most 8 processes at once, 60 s each and 512 threads together.",
				     rows, NULL };
	unsigned pid;
	int r = arguments_take(&usage, argc, argv);

	if (r >= 0)
		return r;
	r = read_pid(options.pid, &pid);
	return r ? r : ask(&options, pid);
}

const struct command command_burst = { "burst", "sample one process more often for a while", run };

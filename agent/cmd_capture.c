/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sonde capture: asks the agent that runs for the packets that an expression means, for a while, and writes them to a file. They come by
 * the journal, like everything: the agent is only asked to begin, and whether it is done.
 */
#include "arguments.h"
#include "command.h"
#include "command_setup.h"
#include "control.h"
#include "encode/record.h"
#include "filter/filter.h"
#include "interrupt.h"
#include "json.h"
#include "output.h"
#include "packet_rows.h"
#include "stream.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define TICK_MS      100
#define HELD_BYTES   (64u << 20)
#define LATE_NS      (3 * NS_PER_SEC) /* the last records are published within a second */
#define DURATION_MAX (600 * NS_PER_SEC)

struct capture_options {
	const char *expression, *output, *file, *journal;
	uint64_t duration;
	struct argument_texts sets;
};

/* A capture that is under way. */
struct capturing {
	const char *control, *output;
	struct journal_reader *reader;
	uint64_t request, until, expected;
	bool ended; /* the agent, or its module, was gone before it was done */
	struct fault fault;
	sigset_t asked;
	uint64_t packets;
};

static bool is_ours(const struct journal_record *record, uint64_t request)
{
	struct value value;

	return record_get(record->map, record->size, "request", &value) == 0 && value.kind == VALUE_UINT &&
	       value.u == request;
}

/* What the journal has by now. */
static int take_records(struct capturing *c, struct packet_rows *rows)
{
	struct journal_record record;
	int r = 0;

	while (r == 0 && journal_reader_next(c->reader, &record))
		if (is_ours(&record, c->request)) {
			r = packet_rows_add(rows, record.map, record.size);
			r = r == -EBADMSG ? 0 : r;
		}
	return r;
}

/* Whether the agent is done; how many packets it has written then. */
static bool is_done(struct capturing *c)
{
	_cleanup_(free_pointer) char *text = NULL;
	char request[64];

	snprintf(request, sizeof request, "capture state %" PRIu64, c->request);
	if (control_ask(c->control, request, &text, &c->fault) < 0) {
		c->ended = true; /* what it wrote is in the journal */
		return true;
	}
	c->expected = json_number(json_key((struct json){ text }, "packets"));
	return !json_is_true(json_key((struct json){ text }, "open"));
}

static int follow(struct capturing *c, struct packet_rows *rows)
{
	struct progress progress;
	bool done = false;
	uint64_t begin = now_boottime_ns(), last = UINT64_MAX;
	int r = 0;

	progress_begin(&progress, "capture", "waiting for packets");
	while (r == 0 && now_boottime_ns() < last && !(done && packet_rows_count(rows) >= c->expected) &&
	       !interrupt_came(&c->asked)) {
		uint64_t now = now_boottime_ns();

		journal_reader_wait(c->reader, TICK_MS);
		if (!done && now >= c->until && (done = is_done(c)))
			last = now + LATE_NS;
		r = take_records(c, rows);
		progress_show(&progress, MIN_OF(now, c->until) - begin, c->until - begin, packet_rows_count(rows));
	}
	progress_end(&progress);
	return r;
}

static int write_file(void *context, FILE *out)
{
	struct capturing *c = context;
	struct packet_rows *rows = NULL;
	int r = packet_rows_make(&rows, out, HELD_BYTES);

	if (r == 0)
		r = follow(c, rows);
	if (r == 0)
		r = packet_rows_end(rows);
	c->packets = rows ? packet_rows_count(rows) : 0;
	packet_rows_free(rows);
	return r;
}

/* What is not in the file, as far as it is known. */
static void say_rest(const struct capturing *c)
{
	uint64_t bad, lost;

	journal_reader_counts(c->reader, &bad, &lost);
	if (c->ended)
		fprintf(stderr, "sonde capture: the agent did not say that this is all: %s\n", c->fault.text);
	if (c->packets < c->expected)
		fprintf(stderr,
			"sonde capture: %" PRIu64
			" packets more have not come through the journal; sonde stats has what was lost\n",
			c->expected - c->packets);
	if (lost)
		fprintf(stderr,
			"sonde capture: %" PRIu64 " bytes of records were overwritten before they could be read\n",
			lost);
	if (bad)
		fprintf(stderr, "sonde capture: %" PRIu64 " bad record%s skipped\n", bad, bad == 1 ? "" : "s");
}

static int start(struct capturing *c, const struct capture_options *options)
{
	_cleanup_(free_pointer) char *text = NULL;
	char request[CONTROL_REQUEST_MAX];
	int n = snprintf(request, sizeof request, "capture start %" PRIu64 " %s", options->duration,
			 options->expression);

	if (n >= (int)sizeof request)
		return fault_set(&c->fault, -E2BIG, "the expression is too long: at most %zu bytes",
				 sizeof request - 48);
	c->until = now_boottime_ns() + options->duration;
	int r = control_ask(c->control, request, &text, &c->fault);

	if (r == 0)
		c->request = json_number(json_key((struct json){ text }, "request"));
	return r;
}

static int fail(const struct fault *fault, int code)
{
	fprintf(stderr, "sonde capture: %s\n", fault->text);
	return code;
}

static int capture(const struct capture_options *options, const struct setup *setup)
{
	struct capturing c = { .control = config_text(setup->config, "agent.control") };
	const char *journal = options->journal ? options->journal : config_text(setup->config, "journal.path");
	int r = journal_reader_open(&c.reader, journal, JOURNAL_END, &c.fault);

	if (r == 0) {
		interrupt_block(&c.asked);
		r = start(&c, options);
		if (r < 0)
			journal_reader_close(c.reader);
	}
	if (r < 0)
		return fail(&c.fault, EXIT_FAULT);
	r = output_replace(options->output, write_file, &c);
	if (r >= 0)
		say_rest(&c);
	journal_reader_close(c.reader);
	if (r < 0) {
		fault_set(&c.fault, r, "cannot write %s: %s", options->output, strerror(-r));
		return fail(&c.fault, EXIT_FAULT);
	}
	fprintf(stderr, "sonde capture: %" PRIu64 " packets%s\n", c.packets,
		c.packets ? "" : "; the agent sees those that modules.capture.filter and filter.socket leave");
	return EXIT_OK;
}

static int check_expression(const char *expression)
{
	struct filter *filter = NULL;
	struct fault fault = { 0 };

	if (filter_compile(&filter, expression, FILTER_RAW, &fault) < 0)
		return fail(&fault, EXIT_USAGE);
	filter_free(filter);
	return EXIT_OK;
}

static int run(int argc, char **argv)
{
	struct capture_options options = { .expression = "", .duration = 10 * NS_PER_SEC };
	const struct argument rows[] = {
		{ 0, NULL, "EXPR",
		  "which packets, as tcpdump has it: 'tcp port 5432 and host 10.0.0.7'; by default all",
		  .text = &options.expression },
		{ 'o', "output", "FILE", "write here, as pcapng; - is standard output", .text = &options.output,
		  .required = true },
		{ 0, "for", "DURATION", "for so long; by default 10s", .duration = &options.duration,
		  .min = NS_PER_SEC / 10, .max = DURATION_MAX },
		{ 0, "journal", "DIR", "the journal of the agent, by default what journal.path says",
		  .text = &options.journal },
		{ 'c', "config", "FILE", "read where the agent answers from this configuration",
		  .text = &options.file },
		{ 0, "set", "KEY=VALUE", "change one option, such as agent.control=/run/other.sock; may be repeated",
		  .texts = &options.sets },
		{ 0 },
	};
	const struct usage usage = {
		"capture",
		"Asks the agent that runs for packets as they pass its sockets, from the IP header on, and writes them "
		"with process and container as comments. Its module capture must run: "
		"modules.capture.enabled=true. It keeps headers, and payload where modules.capture.payload says so.\n"
		"The packets are in the stream, too, as packet.capture. What was kept of flows that were reset, slow "
		"or sent again is "
		"written by sonde cat --format pcapng.",
		rows, NULL
	};
	struct setup setup;
	int r = arguments_take(&usage, argc, argv);

	if (r >= 0)
		return r;
	r = check_expression(options.expression);
	if (r)
		return r;
	r = command_setup(&setup, options.file, &options.sets);
	if (r >= 0)
		return r;
	r = capture(&options, &setup);
	setup_free(&setup);
	return r;
}

const struct command command_capture = { "capture", "write the packets that pass for a while to a file", run };

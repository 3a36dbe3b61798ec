/* SPDX-License-Identifier: Apache-2.0 */
/* sonde replay: what the agent would have said of the connections and queries in a capture. */
#include "arguments.h"
#include "command.h"
#include "output.h"
#include "replay.h"
#include "selection.h"
#include "stream.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>

struct replay_command {
	const char *format;
	bool quiet, live; /* live: packets come as they are captured, and somebody watches */
	struct replay_options options;
	struct selection_options conditions;
	struct selection *selection;
	struct output output;
};

static int fail(const struct fault *fault, int code)
{
	fprintf(stderr, "sonde replay: %s\n", fault->text);
	return code;
}

static int on_row(void *context, const void *map, size_t size)
{
	struct replay_command *c = context;

	int r = selection_match(c->selection, map, size) ? output_record(&c->output, map, size) : 0;

	return r == 0 && c->live ? output_flush(&c->output) : r;
}

/* ---- the summary ---- */

/* ", 12 closed" behind others; nothing for 0. */
static void say_count(const char **before, uint64_t count, const char *what)
{
	if (!count)
		return;
	fprintf(stderr, "%s%" PRIu64 " %s", *before, count, what);
	*before = ", ";
}

static void end_counts(const char *before, const char *begin)
{
	if (before != begin)
		fputc('\n', stderr);
}

static void say_packets(const struct replay_sums *s, uint64_t took_ns)
{
	double seconds = (double)MAX_OF(took_ns, 1u) / 1e9;

	fprintf(stderr,
		"sonde replay: %s, %" PRIu64 " packets, %.1f MB, %.3f s of traffic; read in %.2f s, %.0f packets/s\n",
		s->format, s->packets, (double)s->bytes / 1e6, (double)(s->last - MIN_OF(s->first, s->last)) / 1e9,
		seconds, (double)s->packets / seconds);
}

static void say_connections(const struct flow_counts *f)
{
	const char begin[] = "  connections: ", *at = begin;

	say_count(&at, f->seen, "seen");
	say_count(&at, f->closed, "closed");
	say_count(&at, f->reset, "reset");
	say_count(&at, f->failed, "not made");
	say_count(&at, f->half_open, "with half a handshake");
	say_count(&at, f->open, "open at the end");
	say_count(&at, f->seen - f->begun, "that began before");
	end_counts(at, begin);
	at = "  segments: ";
	const char *segments = at;

	say_count(&at, f->answers, "answers");
	say_count(&at, f->retransmits, "retransmits");
	say_count(&at, f->out_of_order, "out of order");
	if (f->zero_window_ns) {
		fprintf(stderr, "%s%.3f s without a window", at, (double)f->zero_window_ns / 1e9);
		at = ", ";
	}
	end_counts(at, segments);
}

static void say_queries(const struct dns_counts *d)
{
	const char begin[] = "  DNS: ", *at = begin;

	say_count(&at, d->messages, "messages");
	say_count(&at, d->answered, "queries answered");
	say_count(&at, d->timed_out, "without an answer");
	say_count(&at, d->open, "open at the end");
	say_count(&at, d->unasked, "answers to no query");
	end_counts(at, begin);
}

/* What is not in the rows, and why. */
static void say_left_out(const struct replay_sums *s)
{
	static const char *const kinds[PACKET_KINDS] = {
		[PACKET_OTHER] = "neither TCP nor UDP", [PACKET_NOT_IP] = "not IP",
		[PACKET_FRAGMENT] = "fragments",        [PACKET_CUT] = "cut off within their headers",
		[PACKET_MALFORMED] = "malformed",       [PACKET_LINK] = "of an unknown link type",
	};
	const char begin[] = "  left out: ", *at = begin;

	say_count(&at, s->filtered, "by the filter");
	for (int kind = 0; kind < PACKET_KINDS; kind++)
		if (kinds[kind])
			say_count(&at, s->kinds[kind], kinds[kind]);
	say_count(&at, s->flows.stray, "resets of no connection");
	say_count(&at, s->flows.evicted, "connections for want of room (--connections)");
	say_count(&at, s->flows.idle, "connections without a packet for an hour");
	say_count(&at, s->dns.malformed, "malformed DNS messages");
	say_count(&at, s->dns_cut, "DNS messages not captured whole");
	say_count(&at, s->dns.broken, "DNS streams with gaps");
	say_count(&at, s->dns.given_up, "DNS queries for want of room");
	say_count(&at, s->services_beyond, "answers of services beyond the bound, summed as one");
	end_counts(at, begin);
}

static void say_sums(const struct replay_command *c, const struct replay_sums *s, uint64_t took_ns)
{
	if (c->quiet)
		return;
	say_packets(s, took_ns);
	say_connections(&s->flows);
	say_queries(&s->dns);
	say_left_out(s);
}

/* ---- the work ---- */

static int copy(struct replay_command *c, struct replay *replay)
{
	struct replay_sums sums;
	struct fault fault, ended, note;
	uint64_t began = now_boottime_ns();
	int r = replay_run(replay, &sums, &fault), code = EXIT_OK, e;

	progress_end(c->options.progress);
	e = output_end(&c->output, true, &ended, &note);
	if (r == 0)
		r = output_flush(&c->output);
	if (r == -EPIPE || e == -EPIPE)
		return EXIT_OK;
	if (r < 0) {
		if (!fault.text[0])
			fault_set(&fault, r, "cannot write: %s", strerror(-r));
		code = fail(&fault, EXIT_FAULT);
	}
	say_sums(c, &sums, now_boottime_ns() - began);
	return code;
}

static int replay(struct replay_command *c)
{
	enum output_format format = isatty(STDOUT_FILENO) ? OUTPUT_TEXT : OUTPUT_JSON;
	struct progress progress;
	struct replay *replay = NULL;
	struct fault fault;
	int r, code;

	if (c->format)
		output_format_read(&format, c->format, &fault);
	if (selection_make(&c->selection, &c->conditions, &fault) < 0)
		return fail(&fault, EXIT_USAGE);
	c->live = !strcmp(c->options.path, "-") && isatty(STDOUT_FILENO);
	progress_begin(&progress, "replay", "reading packets");
	progress.terminal &= !isatty(STDOUT_FILENO); /* rows say it too */
	c->options.progress = &progress;
	r = replay_new(&replay, &c->options, on_row, c, &fault);
	if (r < 0) {
		selection_free(c->selection);
		return fail(&fault, strncmp(fault.text, "--filter", 8) ? EXIT_FAULT : EXIT_USAGE);
	}
	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(c->options.path, "-")) /* Ctrl-C is for who captures: what it captured is read to the end */
		signal(SIGINT, SIG_IGN);
	r = output_begin(&c->output, stdout, format);
	if (r < 0)
		code = fail((fault_set(&fault, r, "out of memory"), &fault), EXIT_FAULT);
	else
		code = copy(c, replay);
	replay_free(replay);
	selection_free(c->selection);
	return code;
}

static int run(int argc, char **argv)
{
	uint64_t flows = 131072, window = 10 * NS_PER_SEC, slow = NS_PER_SEC;
	struct replay_command c = { 0 };
	const struct argument rows[] = {
		{ 0, NULL, "FILE", "the capture: pcap or pcapng, also packed with gzip; - is standard input",
		  .text = &c.options.path, .required = true },
		{ 0, "filter", "EXPR", "only packets that pass this filter, such as 'tcp port 5432' (docs/filters.md)",
		  .text = &c.options.filter },
		{ 0, "type", "GLOB", STREAM_HELP_TYPE, .text = &c.conditions.types },
		{ 0, "where", "EXPR", STREAM_HELP_WHERE, .text = &c.conditions.where },
		{ 0, "format", "NAME",
		  "text, one object a line, or the maps back to back; by default text on a terminal, else json",
		  .text = &c.format, .choices = "text|json|msgpack" },
		{ 0, "window", "TIME", "how long a window of tcp.turnaround is", .duration = &window, .min = NS_PER_MS,
		  .max = 24 * 3600 * NS_PER_SEC },
		{ 0, "slow", "TIME", "an answer that took that long is a tcp.slow; 0 for none", .duration = &slow },
		{ 0, "connections", "N", "how many are followed at a time; past it the oldest give way",
		  .number = &flows, .min = 16, .max = 16777216 },
		{ 0, "quiet", NULL, "say nothing at the end", .flag = &c.quiet },
		{ 0 },
	};
	const struct usage usage = {
		.command = "replay",
		.about =
			"Says what the agent would have said of the connections, answers and DNS queries in a capture, "
			"as the same events.\nAt the end the summary on standard error tells what was read, and what "
			"was left out.",
		.arguments = rows,
	};
	int r = arguments_take(&usage, argc, argv);

	if (r >= 0)
		return r;
	c.options.flows = (uint32_t)flows;
	c.options.window_ns = window;
	c.options.slow_ns = slow;
	return replay(&c);
}

const struct command command_replay = { "replay", "analyse a capture file as the agent would", run };

/* SPDX-License-Identifier: Apache-2.0 */
#include "replay.h"

#include <errno.h>
#include <string.h>

#include "flows/services.h"
#include "probes/dns/over_tcp.h"
#include "replay_filter.h"

#define DNS_PORT        53
#define DNS_TIMEOUT     (5 * NS_PER_SEC)
#define DNS_QUERIES     65536u
#define DNS_STREAM_ROOM (8u << 20)
#define SERVICES_MAX    4096u
#define IDLE_NS         (3600 * NS_PER_SEC)

struct replay {
	struct replay_options options;
	struct capture *capture;
	struct replay_filter *filter;
	struct replay_rows *rows;
	struct flows *flows;
	struct dns *dns;
	struct services *services;
	struct replay_sums sums;
	uint64_t now;        /* never goes back */
	uint64_t window_end; /* 0: no packet yet */
};

/* ---- what the parts find ---- */

static void on_connect(void *context, const struct flow_ends *ends, uint64_t time, uint64_t latency_ns, int error)
{
	replay_row_connect(((struct replay *)context)->rows, ends, time, latency_ns, error);
}

static void on_accept(void *context, const struct flow_ends *ends, uint64_t time, uint64_t latency_ns)
{
	replay_row_accept(((struct replay *)context)->rows, ends, time, latency_ns);
}

static void on_close(void *context, const struct flow_ends *ends, const struct flow_close *close)
{
	replay_row_close(((struct replay *)context)->rows, ends, close);
}

static void on_answer(void *context, const struct flow_ends *ends, uint64_t time, uint64_t turnaround_ns)
{
	struct replay *r = context;

	services_add(r->services, &ends->ip[FLOW_SERVER], ends->port[FLOW_SERVER], turnaround_ns);
	if (r->options.slow_ns && turnaround_ns >= r->options.slow_ns)
		replay_row_slow(r->rows, ends, time, turnaround_ns);
}

static void on_unanswered(void *context, const struct flow_ends *ends, uint64_t time)
{
	struct replay *r = context;

	services_add_error(r->services, &ends->ip[FLOW_SERVER], ends->port[FLOW_SERVER]);
}

static void on_data(void *context, const struct flow_ends *ends, enum flow_side from, uint64_t time,
		    const uint8_t *bytes, uint32_t size)
{
	dns_over_tcp(((struct replay *)context)->dns, ends, from, time, bytes, size);
}

static void on_data_end(void *context, const struct flow_ends *ends)
{
	dns_over_tcp_end(((struct replay *)context)->dns, ends);
}

static void on_query(void *context, const struct dns_query *query)
{
	replay_row_dns(((struct replay *)context)->rows, query);
}

static void on_service(void *context, const struct service *service)
{
	struct replay *r = context;

	replay_row_turnaround(r->rows, service, r->window_end, r->options.window_ns);
}

/* ---- begin and end ---- */

static int make_parts(struct replay *r)
{
	const struct flow_options flows = { .flows = r->options.flows,
					    .data_port = DNS_PORT,
					    .idle_ns = IDLE_NS,
					    .events = { on_connect, on_accept, on_close, on_answer, on_unanswered,
							on_data, on_data_end, r } };
	const struct dns_options dns = { DNS_QUERIES, DNS_STREAM_ROOM, DNS_TIMEOUT, on_query, r, 0 };
	int error = flows_new(&r->flows, &flows);

	if (error == 0)
		error = dns_new(&r->dns, &dns);
	if (error == 0)
		error = services_new(&r->services, SERVICES_MAX);
	return error;
}

int replay_new(struct replay **ret, const struct replay_options *options, replay_sink *sink, void *context,
	       struct fault *fault)
{
	struct replay *r = calloc(1, sizeof *r);
	int error;

	if (!r)
		return fault_set(fault, -ENOMEM, "out of memory");
	r->options = *options;
	error = make_parts(r);
	if (error < 0)
		fault_set(fault, error, "%s", strerror(-error));
	if (error == 0 && options->filter)
		error = replay_filter_new(&r->filter, options->filter, fault);
	if (error == 0)
		error = replay_rows_new(&r->rows, options->path, sink, context, fault);
	if (error == 0)
		error = capture_open(&r->capture, options->path, fault);
	if (error < 0) {
		replay_free(r);
		return error;
	}
	*ret = r;
	return 0;
}

void replay_free(struct replay *r)
{
	if (!r)
		return;
	capture_close(r->capture);
	replay_filter_free(r->filter);
	replay_rows_free(r->rows);
	flows_free(r->flows);
	dns_free(r->dns);
	services_free(r->services);
	free(r);
}

/* ---- packets ---- */

static void end_window(struct replay *r)
{
	services_flush(r->services, on_service, r);
}

/* Windows end at whole multiples of their length since the epoch: those of different files and hosts fit. */
static void pass_time(struct replay *r, uint64_t time)
{
	uint64_t window = r->options.window_ns;

	r->sums.first = r->sums.packets == 1 ? time : MIN_OF(r->sums.first, time);
	if (time <= r->now && r->window_end)
		return;
	r->now = r->sums.last = time;
	if (time >= r->window_end) {
		if (r->window_end)
			end_window(r);
		r->window_end = (time / window + 1) * window;
	}
	dns_tick(r->dns, r->now);
}

static void take_datagram(struct replay *r, uint64_t time, const struct packet *p)
{
	struct dns_ends ends = { .source_port = p->source_port, .target_port = p->target_port };

	if (p->source_port != DNS_PORT && p->target_port != DNS_PORT)
		return;
	if (p->captured < p->length) {
		r->sums.dns_cut++;
		return;
	}
	memcpy(ends.source, p->source.bytes, sizeof ends.source);
	memcpy(ends.target, p->target.bytes, sizeof ends.target);
	dns_datagram(r->dns, time, &ends, p->payload, p->captured);
}

static int take_frame(struct replay *r, const struct frame *frame, struct fault *fault)
{
	enum packet_kind kind;
	struct packet p;

	r->sums.packets++;
	r->sums.bytes += frame->length;
	pass_time(r, frame->time);
	if (r->filter) {
		int passes = replay_filter_match(r->filter, frame, fault);

		r->sums.filtered += passes == 0;
		if (passes <= 0)
			return passes;
	}
	kind = packet_decode(frame, &p);
	r->sums.kinds[kind]++;
	if (kind == PACKET_TCP)
		flows_packet(r->flows, frame->time, &p);
	else if (kind == PACKET_UDP)
		take_datagram(r, frame->time, &p);
	else if (kind == PACKET_UNREACHABLE)
		flows_unreachable(r->flows, frame->time, &p);
	return replay_rows_error(r->rows);
}

int replay_run(struct replay *r, struct replay_sums *ret, struct fault *fault)
{
	uint64_t size = capture_size(r->capture);
	struct frame frame;
	int error;

	fault_set(fault, 0, "%s", "");
	while ((error = capture_next(r->capture, &frame, fault)) > 0) {
		error = take_frame(r, &frame, fault);
		if (error < 0)
			break;
		if (size)
			progress_show(r->options.progress, capture_done(r->capture), size, r->sums.packets);
	}
	flows_end(r->flows);
	end_window(r);
	if (error == 0)
		error = replay_rows_error(r->rows);
	flows_count(r->flows, &r->sums.flows);
	dns_count(r->dns, &r->sums.dns);
	r->sums.services_beyond = services_beyond(r->services);
	r->sums.format = capture_format(r->capture);
	*ret = r->sums;
	return error;
}

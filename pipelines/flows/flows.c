/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each packet means for its connection. A connection that is over stays for LINGER_NS, so that what is sent again after the end is still
 * its own; only then is its end said, with all counts final.
 */
#include "flows/flow_table.h"

#include <errno.h>

#define LINGER_NS  (2 * NS_PER_SEC)
#define OPENING_NS (75 * NS_PER_SEC) /* more than any step of a SYN's back-off */
#define REORDER_NS (3 * NS_PER_MS)   /* where the round-trip time is not known; tshark's too */

struct flows {
	struct flow_options options;
	struct flow_table table;
	struct flow_counts counts;
	uint64_t now; /* never goes back */
};

static uint64_t since(uint64_t from, uint64_t to)
{
	return to > from ? to - from : 0;
}

int flows_new(struct flows **ret, const struct flow_options *options)
{
	struct flows *f = calloc(1, sizeof *f);
	int r = f ? flow_table_make(&f->table, MAX_OF(options->flows, 1u)) : -ENOMEM;

	if (r < 0) {
		free(f);
		return r;
	}
	f->options = *options;
	*ret = f;
	return 0;
}

void flows_free(struct flows *f)
{
	if (!f)
		return;
	flow_table_free(&f->table);
	free(f);
}

void flows_count(const struct flows *f, struct flow_counts *ret)
{
	*ret = f->counts;
}

/* ---- the end of a connection ---- */

static struct flow_close sum_up(const struct flow *flow)
{
	struct flow_close close = { .time = flow->end_time,
				    .life_ns = since(flow->begin_time, flow->end_time),
				    .whole = flow->syn_seen };

	for (int side = FLOW_CLIENT; side <= FLOW_SERVER; side++)
		close.ends[side] = (struct flow_end){
			.sent_bytes = flow->halves[side].bytes,
			.min_rtt_ns = flow->halves[side].min_rtt,
			.zero_window_ns = half_zero_window(&flow->halves[side], flow->end_time),
			.retransmits = flow->halves[side].retransmits,
			.error = flow->error[side],
		};
	return close;
}

/* A connection that is over: which count it belongs to. */
static void count_end(struct flows *f, const struct flow *flow)
{
	if (flow->refused)
		f->counts.failed++;
	else if (!flow->established)
		f->counts.half_open++;
	else if (flow->reset)
		f->counts.reset++;
	else
		f->counts.closed++;
}

/* Says what happened to who wants to know. */
#define TELL(events, what, ...)                                                                                        \
	do {                                                                                                           \
		if ((events)->what)                                                                                    \
			(events)->what((events)->context, __VA_ARGS__);                                                \
	} while (0)

/* Takes the flow out of the table. `lost`: the count of those whose end was not seen; NULL: it is over. */
static void forget(struct flows *f, struct flow *flow, uint64_t *lost)
{
	const struct flow_events *events = &f->options.events;

	for (int side = FLOW_CLIENT; side <= FLOW_SERVER; side++) {
		f->counts.retransmits += flow->halves[side].retransmits;
		f->counts.zero_window_ns += half_zero_window(&flow->halves[side], f->now);
	}
	if (flow->state == FLOW_OVER) {
		if (flow->established) {
			struct flow_close close = sum_up(flow);

			TELL(events, close, &flow->ends, &close);
		}
		count_end(f, flow);
	} else {
		++*lost;
	}
	if (flow->wants_data)
		TELL(events, data_end, &flow->ends);
	flow_table_remove(&f->table, flow);
}

static bool awaits_answer(const struct flow *flow)
{
	return flow->state == FLOW_OPENING && flow->syn_seen && !flow->answer_time;
}

static void refuse(struct flows *f, struct flow *flow, uint64_t time, int error)
{
	const struct flow_events *events = &f->options.events;

	flow->refused = true;
	TELL(events, connect, &flow->ends, time, since(flow->syn_time, time), error);
}

/* No answer came to a SYN for so long that its sender has given up. */
static void give_up(struct flows *f, struct flow *flow)
{
	if (awaits_answer(flow))
		refuse(f, flow, flow->last_time + OPENING_NS, ETIMEDOUT);
	flow_table_touch(&f->table, flow, FLOW_OVER);
	forget(f, flow, NULL);
}

static void expire(struct flows *f)
{
	struct flow *flow;

	while ((flow = flow_table_oldest(&f->table, FLOW_OVER)) && f->now - flow->last_time >= LINGER_NS)
		forget(f, flow, NULL);
	while ((flow = flow_table_oldest(&f->table, FLOW_OPENING)) && f->now - flow->last_time >= OPENING_NS)
		give_up(f, flow);
	while ((flow = flow_table_oldest(&f->table, FLOW_OPEN)) && f->now - flow->last_time >= f->options.idle_ns)
		forget(f, flow, &f->counts.idle);
}

static void make_room(struct flows *f)
{
	for (enum flow_state state = FLOW_OVER; state < FLOW_STATES; state++) {
		struct flow *flow = flow_table_oldest(&f->table, state);

		if (flow) {
			forget(f, flow, &f->counts.evicted);
			return;
		}
	}
}

/* It is over now, with the reset of `by`; or in peace: -1. */
static void end(struct flows *f, struct flow *flow, uint64_t time, int by)
{
	const struct flow_events *events = &f->options.events;

	flow->end_time = time;
	if (by >= 0) {
		flow->reset = true;
		flow->error[!by] = ECONNRESET;
		if (by == FLOW_SERVER && flow->waiting)
			TELL(events, unanswered, &flow->ends, time);
	}
	flow->waiting = false;
	flow_table_touch(&f->table, flow, FLOW_OVER);
}

/* ---- its begin ---- */

/* Who is the server where nobody was seen to begin: services have the lower port numbers. */
static enum flow_side guess_sender(const struct packet *p)
{
	if (p->tcp.flags & TCP_SYN)
		return p->tcp.flags & TCP_ACK ? FLOW_SERVER : FLOW_CLIENT;
	return p->source_port < p->target_port ? FLOW_SERVER : FLOW_CLIENT;
}

static bool wants_data(const struct flows *f, const struct packet *p)
{
	uint16_t port = f->options.data_port;

	return f->options.events.data && (!port || p->source_port == port || p->target_port == port);
}

static struct flow *begin(struct flows *f, uint64_t time, const struct packet *p, uint32_t bucket,
			  enum flow_side *ret_from)
{
	enum flow_side from = guess_sender(p);
	bool syn = p->tcp.flags & TCP_SYN;
	struct flow_ends ends;
	struct flow *flow;

	ends.ip[from] = p->source;
	ends.ip[!from] = p->target;
	ends.port[from] = p->source_port;
	ends.port[!from] = p->target_port;
	flow = flow_table_add(&f->table, bucket, &ends, syn ? FLOW_OPENING : FLOW_OPEN);
	if (!flow) {
		make_room(f);
		flow = flow_table_add(&f->table, bucket, &ends, syn ? FLOW_OPENING : FLOW_OPEN);
	}
	flow->syn_seen = syn && from == FLOW_CLIENT;
	flow->syn_time = flow->begin_time = time;
	flow->established = !syn;
	flow->wants_data = wants_data(f, p);
	f->counts.seen++;
	f->counts.begun += flow->syn_seen;
	*ret_from = from;
	return flow;
}

/* Whether this SYN begins another connection with the same ends. */
static bool begins_anew(const struct flow *flow, const struct packet *p, enum flow_side from)
{
	if ((p->tcp.flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
		return false;
	return from != FLOW_CLIENT || !flow->syn_seen || p->tcp.seq != flow->halves[FLOW_CLIENT].first;
}

static void forget_for_new(struct flows *f, struct flow *flow, uint64_t time)
{
	if (flow->state == FLOW_OPENING) {
		give_up(f, flow);
		return;
	}
	if (flow->state == FLOW_OPEN)
		end(f, flow, time, -1);
	forget(f, flow, NULL);
}

static void handshake(struct flows *f, struct flow *flow, uint64_t time, const struct packet *p, enum flow_side from)
{
	const struct flow_events *events = &f->options.events;
	uint8_t flags = p->tcp.flags & (TCP_SYN | TCP_ACK | TCP_RST);

	if (flags == (TCP_SYN | TCP_ACK) && from == FLOW_SERVER && !flow->answer_time) {
		flow->answer_time = time;
		if (flow->syn_seen)
			TELL(events, connect, &flow->ends, time, since(flow->syn_time, time), 0);
	} else if (flags == TCP_ACK && from == FLOW_CLIENT && flow->answer_time) {
		flow->established = true;
		flow->begin_time = time;
		flow_table_touch(&f->table, flow, FLOW_OPEN);
		TELL(events, accept, &flow->ends, time, flow->syn_seen ? since(flow->syn_time, time) : 0);
	} else if (flags == TCP_ACK && (from == FLOW_CLIENT || !flow->syn_seen || (flow->answer_time && p->length))) {
		flow->established = true; /* a part of the handshake was not captured */
		flow->begin_time = time;
		flow_table_touch(&f->table, flow, FLOW_OPEN);
	}
}

static void reset(struct flows *f, struct flow *flow, uint64_t time, enum flow_side from)
{
	bool in_peace = flow->halves[0].finished && flow->halves[1].finished;

	if (awaits_answer(flow))
		refuse(f, flow, time, from == FLOW_SERVER ? ECONNREFUSED : ECANCELED);
	if (flow->state != FLOW_OVER)
		end(f, flow, time, in_peace || !flow->established ? -1 : (int)from);
}

/* ---- what it carries ---- */

static void turn(struct flows *f, struct flow *flow, uint64_t time, enum flow_side from)
{
	const struct flow_events *events = &f->options.events;

	if (from == FLOW_CLIENT) {
		flow->request_time = time;
		flow->waiting = true;
	} else if (flow->waiting) {
		flow->waiting = false;
		f->counts.answers++;
		TELL(events, answer, &flow->ends, time, since(flow->request_time, time));
	}
}

static void hand_on(struct flows *f, const struct flow *flow, uint64_t time, const struct packet *p,
		    enum flow_side from, enum half_kind kind, uint32_t fresh)
{
	const struct flow_events *events = &f->options.events;
	uint32_t at = p->length - fresh, there = p->captured > at ? MIN_OF(p->captured - at, fresh) : 0;

	if (kind == HALF_AHEAD)
		events->data(events->context, &flow->ends, from, time, NULL, 0);
	if (there)
		events->data(events->context, &flow->ends, from, time, p->payload + at, there);
	if (there < fresh)
		events->data(events->context, &flow->ends, from, time, NULL, fresh - there);
}

static void carry(struct flows *f, struct flow *flow, uint64_t time, const struct packet *p, enum flow_side from)
{
	struct half *half = &flow->halves[from], *other = &flow->halves[!from];
	uint64_t rtt = flow->established && flow->syn_seen ? since(flow->syn_time, flow->begin_time) : 0;
	enum half_kind kind;
	uint32_t fresh;

	kind = half_segment(half, other, time, p, rtt ? rtt : REORDER_NS, &fresh);
	if (p->length && (fresh || kind == HALF_OUT_OF_ORDER))
		turn(f, flow, time, from);
	if (fresh && flow->wants_data)
		hand_on(f, flow, time, p, from, kind, fresh);
	f->counts.out_of_order += kind == HALF_OUT_OF_ORDER;
	half_acknowledge(half, other, time, p);
	if (half->fin_acked && other->fin_acked && flow->state != FLOW_OVER)
		end(f, flow, time, -1);
}

void flows_packet(struct flows *f, uint64_t time, const struct packet *p)
{
	enum flow_side from;
	uint32_t bucket;
	struct flow *flow;

	f->now = MAX_OF(f->now, time);
	expire(f);
	flow = flow_table_find(&f->table, p, &from, &bucket);
	if (flow && begins_anew(flow, p, from)) {
		forget_for_new(f, flow, time);
		flow = NULL;
	}
	if (!flow && p->tcp.flags & TCP_RST) {
		f->counts.stray++;
		return;
	}
	if (!flow)
		flow = begin(f, time, p, bucket, &from);
	flow->last_time = f->now;
	flow_table_touch(&f->table, flow, flow->state);
	if (p->tcp.flags & TCP_RST) {
		reset(f, flow, time, from);
		return;
	}
	if (flow->state == FLOW_OPENING)
		handshake(f, flow, time, p, from);
	carry(f, flow, time, p, from);
}

void flows_unreachable(struct flows *f, uint64_t time, const struct packet *p)
{
	enum flow_side from;
	uint32_t bucket;
	struct flow *flow;

	f->now = MAX_OF(f->now, time);
	expire(f);
	flow = flow_table_find(&f->table, p, &from, &bucket);
	if (!flow || !awaits_answer(flow) || from != FLOW_CLIENT || p->tcp.seq != flow->halves[from].first)
		return;
	flow->last_time = f->now;
	refuse(f, flow, time, p->error);
	end(f, flow, time, -1);
}

void flows_end(struct flows *f)
{
	struct flow *flow;

	while ((flow = flow_table_oldest(&f->table, FLOW_OVER)))
		forget(f, flow, NULL);
	while ((flow = flow_table_oldest(&f->table, FLOW_OPENING)))
		forget(f, flow, &f->counts.open);
	while ((flow = flow_table_oldest(&f->table, FLOW_OPEN)))
		forget(f, flow, &f->counts.open);
}

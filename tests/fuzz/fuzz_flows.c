/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any sequence of segments between few ends, eight bytes each: every connection is counted once, a connection is accepted and closed once
 * at most, and no time is longer than what passed.
 */
#include <stdlib.h>
#include <string.h>

#include "flows/flows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	uint64_t now, connects, accepts, closes, answers;
};

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void on_connect(void *context, const struct flow_ends *ends, uint64_t time, uint64_t latency_ns, int error)
{
	((struct seen *)context)->connects++;
}

static void on_accept(void *context, const struct flow_ends *ends, uint64_t time, uint64_t latency_ns)
{
	struct seen *seen = context;

	seen->accepts++;
	check(latency_ns <= seen->now);
}

static void on_close(void *context, const struct flow_ends *ends, const struct flow_close *close)
{
	struct seen *seen = context;

	seen->closes++;
	check(close->life_ns <= seen->now);
	for (int i = 0; i < 2; i++)
		check(close->ends[i].min_rtt_ns <= seen->now && close->ends[i].zero_window_ns <= seen->now);
}

static void on_answer(void *context, const struct flow_ends *ends, uint64_t time, uint64_t turnaround_ns)
{
	struct seen *seen = context;

	seen->answers++;
	check(turnaround_ns <= seen->now);
}

static void on_unanswered(void *context, const struct flow_ends *ends, uint64_t time)
{
}

static void on_data(void *context, const struct flow_ends *ends, enum flow_side from, uint64_t time,
		    const uint8_t *bytes, uint32_t size)
{
	volatile uint8_t last = 0;

	if (bytes && size)
		last = (uint8_t)(last + bytes[0] + bytes[size - 1]);
}

static void on_data_end(void *context, const struct flow_ends *ends)
{
}

static struct packet segment(const uint8_t *at, const uint8_t *payload)
{
	static const uint8_t flags[] = { TCP_SYN, TCP_SYN | TCP_ACK, TCP_ACK, TCP_FIN | TCP_ACK,
					 TCP_RST, TCP_RST | TCP_ACK, TCP_FIN, TCP_SYN | TCP_FIN };
	struct packet p = { .source_port = 53, .target_port = (uint16_t)(50 + (at[0] >> 4)) };

	p.source.bytes[0] = p.target.bytes[0] = 1;
	if (at[0] & 1) {
		p.source_port = p.target_port;
		p.target_port = 53;
	}
	p.tcp.flags = flags[at[1] & 7];
	p.tcp.window = (at[1] & 8) ? 0 : at[1];
	/* Near each other, near the wrap, or anywhere. */
	p.tcp.seq = (at[1] & 0x80 ? at[2] * 0x01010101u : 0xffffffc0u + at[2]);
	p.tcp.ack = (at[1] & 0x40 ? at[3] * 0x01010101u : 0xffffffc0u + at[3]);
	p.length = at[4] & 63;
	p.captured = at[5] < p.length ? at[5] : p.length;
	p.payload = payload;
	return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen seen = { 0 };
	const struct flow_options options = { 4,
					      53,
					      30 * NS_PER_SEC,
					      { on_connect, on_accept, on_close, on_answer, on_unanswered, on_data,
						on_data_end, &seen } };
	struct flows *f = NULL;
	struct flow_counts c;
	uint8_t *payload = calloc(1, 64);

	check(payload && flows_new(&f, &options) == 0);
	for (; size >= 8; data += 8, size -= 8) {
		struct packet p = segment(data, payload);

		seen.now += (uint64_t)(data[6] << 8 | data[7]) * NS_PER_MS;
		flows_packet(f, seen.now, &p);
	}
	seen.now += 1000 * NS_PER_SEC;
	flows_end(f);
	flows_count(f, &c);
	check(c.seen == c.closed + c.reset + c.failed + c.half_open + c.idle + c.evicted + c.open);
	check(seen.closes == c.closed + c.reset && seen.accepts <= c.seen && seen.answers == c.answers);
	flows_free(f);
	free(payload);
	return 0;
}

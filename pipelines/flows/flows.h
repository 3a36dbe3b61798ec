/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP connections as they are seen on the wire at one place: how they begin, how long answers take, how they end. Pure: packets and their
 * times in, calls out. Memory is taken once. Times are the packets' own and may come slightly out of order.
 */
#ifndef SONDE_FLOWS_H
#define SONDE_FLOWS_H

#include "packets/packet.h"

struct flows; /* opaque */

enum flow_side { FLOW_CLIENT, FLOW_SERVER };

struct flow_ends {
	union packet_ip ip[2]; /* by flow_side */
	uint16_t port[2];
};

/* What there is to say of one end when a connection is over. */
struct flow_end {
	uint64_t sent_bytes; /* payload, each byte once */
	uint64_t min_rtt_ns; /* from a segment of this end to its acknowledgement, as they come by here; 0: not known */
	uint64_t zero_window_ns; /* this end had no room for more */
	uint32_t retransmits;
	int error; /* ECONNRESET: the other end reset it */
};

struct flow_close {
	uint64_t time, life_ns; /* since it was established, or first seen */
	bool whole;             /* its begin was seen: which end is the client is known and not guessed */
	struct flow_end ends[2];
};

/* Any of them may be NULL: nobody wants to know. */
struct flow_events {
	/* The server answered the SYN; or `error`: ECONNREFUSED, ETIMEDOUT (no answer), ECANCELED (the client gave up),
	 * EHOSTUNREACH and the like. */
	void (*connect)(void *context, const struct flow_ends *ends, uint64_t time, uint64_t latency_ns, int error);
	/* The handshake is complete: from the first SYN to the client's ACK; 0: the SYN was not seen. */
	void (*accept)(void *context, const struct flow_ends *ends, uint64_t time, uint64_t latency_ns);
	void (*close)(void *context, const struct flow_ends *ends, const struct flow_close *close);
	/* From the last byte of a request to the first of its answer. */
	void (*answer)(void *context, const struct flow_ends *ends, uint64_t time, uint64_t turnaround_ns);
	/* The server reset the connection where an answer was due. */
	void (*unanswered)(void *context, const struct flow_ends *ends, uint64_t time);
	/* Of connections to or from `data_port`: the next bytes that `from` sent. NULL: `size` of them were not captured; 0: nobody
	 * knows how many are missing here. */
	void (*data)(void *context, const struct flow_ends *ends, enum flow_side from, uint64_t time,
		     const uint8_t *bytes, uint32_t size);
	/* Such a connection is over. */
	void (*data_end)(void *context, const struct flow_ends *ends);
	void *context;
};

struct flow_options {
	uint32_t flows;     /* in the table at a time; see counts.evicted */
	uint16_t data_port; /* 0: any */
	uint64_t idle_ns;   /* after which a connection without packets is forgotten */
	struct flow_events events;
};

/* seen = closed + reset + failed + half_open + idle + evicted + open, at every moment after flows_end(). */
struct flow_counts {
	uint64_t seen;
	uint64_t begun; /* of these, their SYN was seen */
	uint64_t closed, reset;
	uint64_t failed;    /* never made: refused, timed out, given up */
	uint64_t half_open; /* the handshake was not completed */
	uint64_t idle;      /* forgotten after flow_options.idle_ns */
	uint64_t evicted;   /* gave way to newer ones */
	uint64_t open;      /* at the end */
	uint64_t stray;     /* resets of no connection that was seen */
	uint64_t retransmits, out_of_order, answers;
	uint64_t zero_window_ns;
};

int flows_new(struct flows **ret, const struct flow_options *options); /* 0 or a negative errno */
void flows_free(struct flows *flows);

void flows_packet(struct flows *flows, uint64_t time, const struct packet *packet);
/* PACKET_UNREACHABLE: word came back that a segment did not arrive. It ends a connection that is being made, and no other (RFC 5461). */
void flows_unreachable(struct flows *flows, uint64_t time, const struct packet *packet);

/* There are no more packets: what is over and was only held for stragglers is said, and what is open counted. */
void flows_end(struct flows *flows);

void flows_count(const struct flows *flows, struct flow_counts *ret);

#endif

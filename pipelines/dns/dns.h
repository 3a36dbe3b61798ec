/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queries and their answers, put together from messages as they are seen, over UDP and TCP. Pure: bytes and times in, one call for each query that was
 * answered, or was not in time. Time is the packets' own and may come slightly out of order. All memory is taken when it is made, but
 * that of messages over TCP that come in pieces, which is bounded.
 */
#ifndef SONDE_DNS_H
#define SONDE_DNS_H

#include "dns/message.h"

struct dns; /* opaque */

/* Who sent a message, and to whom. */
struct dns_ends {
	uint8_t source[16], target[16];
	uint16_t source_port, target_port;
};

/* A query that came to its end. Valid during the call. */
struct dns_query {
	uint64_t time, latency_ns; /* of the answer, or of giving up; since the first time it was asked */
	struct dns_ends ends;      /* source: who asked */
	const struct dns_name *name;
	const void *owner; /* as dns_set_owner() had it when the query was asked; NULL: options.owner_bytes is 0 */
	uint16_t qtype, qclass;
	bool tcp, answered;
	uint16_t rcode, flags, n_answers; /* of the answer */
	uint32_t repeats;                 /* times that it was asked again, before */
};

struct dns_options {
	uint32_t queries;    /* open at a time; the oldest gives way, and is counted */
	size_t stream_bytes; /* held of messages in pieces */
	uint64_t timeout_ns; /* after which a query has no answer */
	void (*query)(void *context, const struct dns_query *query);
	void *context;
	size_t owner_bytes; /* kept with each query; 0: nothing is */
};

struct dns_counts {
	uint64_t messages, malformed;
	uint64_t answered, timed_out;
	uint64_t unasked;  /* answers to no query that was seen */
	uint64_t given_up; /* open queries that gave way to newer ones */
	uint64_t broken;   /* streams that could not be followed */
	uint32_t open;     /* queries, now */
};

int dns_new(struct dns **ret, const struct dns_options *options); /* 0 or a negative errno */
void dns_free(struct dns *dns);

/* Whose doing it is what comes from now on: options.owner_bytes, copied with each query that is asked. To be called before the first message
 * where these are not 0. */
void dns_set_owner(struct dns *dns, const void *owner);

/* One message over UDP, or its first bytes: header and question must be whole, of what is cut off nothing is known. */
void dns_datagram(struct dns *dns, uint64_t time, const struct dns_ends *ends, const uint8_t *bytes, size_t size);

/* The next bytes of one direction of a TCP connection. NULL: `size` bytes went by unseen; they may be the rest of a message whose begin was
 * seen, which is then taken as one that is cut. Else, and where it is not known how many (0), what follows cannot be told. */
void dns_stream(struct dns *dns, uint64_t time, const struct dns_ends *ends, const uint8_t *bytes, size_t size);
/* The connection ended: both directions are forgotten. */
void dns_stream_end(struct dns *dns, const struct dns_ends *ends);

/* Holds for all queries that are open, too. */
void dns_set_timeout(struct dns *dns, uint64_t timeout_ns);

/* It is `time` now: says which queries have no answer. To be called before the messages of that time. */
void dns_tick(struct dns *dns, uint64_t time);

void dns_count(const struct dns *dns, struct dns_counts *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One direction of a TCP connection as it is seen on its way: what is new, what was sent again, how long acknowledgements take. Pure.
 * Sequence numbers wrap; they are compared as RFC 9293 section 3.4 does.
 */
#ifndef SONDE_HALF_H
#define SONDE_HALF_H

#include "packets/packet.h"

#define HALF_HOLES_MAX 4

/* `next` is behind the highest byte seen. Holes lie below it, in order of their coming: bytes that were not seen. */
struct half {
	uint32_t first, next, fin; /* fin: the number behind it, once `finished` */
	uint32_t ack;              /* the last that this side sent */
	uint64_t bytes;            /* of payload, each once; what was not captured between counts as sent */
	uint64_t high_time;        /* when `next` last moved */
	uint64_t rtt_time;         /* of the segment that is waited for; 0: none */
	uint32_t rtt_end;
	uint32_t retransmits;
	uint64_t min_rtt;             /* 0: not known */
	uint64_t zero_since, zero_ns; /* this side had no room for more */
	struct {
		uint32_t begin, end;
	} holes[HALF_HOLES_MAX];
	uint16_t window;
	uint8_t n_holes, n_same_acks;
	bool seen, acked, finished, fin_acked;
};

enum half_kind {
	HALF_NOTHING,      /* no payload, SYN or FIN; or a keep-alive */
	HALF_NEXT,         /* what was waited for */
	HALF_AHEAD,        /* bytes before it are missing */
	HALF_RETRANSMIT,   /* sent before, as far as can be told */
	HALF_OUT_OF_ORDER, /* late, but sent once */
};

/* A segment of `half`, whose peer is `other`. `reorder_ns`: what comes no later than that behind its successors was overtaken, not sent
 * again. `ret_fresh`: payload bytes that move `next` on (they are the last of the segment). */
enum half_kind half_segment(struct half *half, const struct half *other, uint64_t time, const struct packet *packet,
			    uint64_t reorder_ns, uint32_t *ret_fresh);

/* The acknowledgement and window of a segment of `half`, as its peer sees them. Not for resets. */
void half_acknowledge(struct half *half, struct half *other, uint64_t time, const struct packet *packet);

/* Time without room, up to `time`. */
uint64_t half_zero_window(const struct half *half, uint64_t time);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "flows/half.h"

#include <string.h>

#define FAST_ACKS  2 /* repeated acknowledgements that have a segment sent again */
#define SAMPLE_MAX (1ull << 62)
/* Further ahead than any window (RFC 7323: less than 2^30): the number is not of this stream. */
#define AHEAD_MAX (1 << 30)

static int32_t distance(uint32_t from, uint32_t to)
{
	return (int32_t)(to - from);
}

static uint64_t since(uint64_t from, uint64_t to)
{
	return to > from ? to - from : 0;
}

static void add_hole(struct half *h, uint32_t begin, uint32_t end)
{
	if (h->n_holes == HALF_HOLES_MAX)
		memmove(&h->holes[0], &h->holes[1], --h->n_holes * sizeof h->holes[0]);
	h->holes[h->n_holes].begin = begin;
	h->holes[h->n_holes++].end = end;
}

/* Takes what begin..end covers out of the holes: whether there was any. */
static bool fill_holes(struct half *h, uint32_t begin, uint32_t end)
{
	bool filled = false;

	for (unsigned i = 0; i < h->n_holes;) {
		uint32_t b = h->holes[i].begin, e = h->holes[i].end;

		if (distance(e, begin) >= 0 || distance(end, b) >= 0) {
			i++;
			continue;
		}
		filled = true;
		if (distance(b, begin) > 0 && distance(end, e) > 0) { /* its middle: the smaller part is kept as seen */
			h->holes[i++].begin = end;
		} else if (distance(b, begin) > 0) {
			h->holes[i++].end = begin;
		} else if (distance(end, e) > 0) {
			h->holes[i++].begin = end;
		} else {
			memmove(&h->holes[i], &h->holes[i + 1], (--h->n_holes - i) * sizeof h->holes[0]);
		}
	}
	return filled;
}

static bool is_keep_alive(const struct half *h, const struct packet *p)
{
	return p->length <= 1 && distance(p->tcp.seq, h->next) == 1 && !(p->tcp.flags & (TCP_SYN | TCP_FIN | TCP_RST));
}

/* `next` moves on to `end`: how many of these are payload. */
static void move_on(struct half *h, uint64_t time, const struct packet *p, uint32_t end)
{
	uint32_t moved = end - h->next, numbers = 0;

	if (p->tcp.flags & TCP_FIN && !h->finished) {
		h->finished = true;
		h->fin = end;
		numbers++;
	}
	if (p->tcp.flags & TCP_SYN)
		numbers++;
	h->bytes += moved - MIN_OF(moved, numbers);
	h->next = end;
	h->high_time = time;
}

/* Behind what was seen already. A segment that fills a hole was overtaken, unless it comes so late, or is asked for, that it
 * must be another copy of one that was lost before it came by here. */
static enum half_kind judge_late(struct half *h, const struct half *other, uint64_t time, const struct packet *p,
				 uint32_t end, uint64_t reorder_ns)
{
	bool asked = other->n_same_acks >= FAST_ACKS && other->ack == p->tcp.seq;

	if (fill_holes(h, p->tcp.seq, end) && !asked && since(h->high_time, time) < reorder_ns)
		return HALF_OUT_OF_ORDER;
	h->retransmits++;
	h->rtt_time = 0; /* which copy would be acknowledged? (Karn) */
	return HALF_RETRANSMIT;
}

enum half_kind half_segment(struct half *h, const struct half *other, uint64_t time, const struct packet *p,
			    uint64_t reorder_ns, uint32_t *ret_fresh)
{
	uint32_t numbers = p->length + !!(p->tcp.flags & TCP_SYN) + !!(p->tcp.flags & TCP_FIN),
		 end = p->tcp.seq + numbers;
	enum half_kind kind = HALF_NEXT;
	int32_t ahead;

	*ret_fresh = 0;
	if (!h->seen) {
		h->first = h->next = p->tcp.seq;
		h->high_time = time;
		h->seen = true;
	}
	ahead = distance(h->next, p->tcp.seq);
	if (!numbers || is_keep_alive(h, p) || ahead > AHEAD_MAX || ahead < -AHEAD_MAX)
		return HALF_NOTHING;
	if (ahead > 0) {
		add_hole(h, h->next, p->tcp.seq);
		kind = HALF_AHEAD;
	} else if (ahead < 0) {
		kind = judge_late(h, other, time, p, end, reorder_ns);
	}
	if (distance(h->next, end) <= 0)
		return kind;
	*ret_fresh = MIN_OF(p->length, numbers - !!(p->tcp.flags & TCP_FIN) - (uint32_t)MAX_OF(0, -ahead));
	move_on(h, time, p, end);
	if (!h->rtt_time && kind != HALF_RETRANSMIT) {
		h->rtt_time = time;
		h->rtt_end = end;
	}
	return kind;
}

static void take_window(struct half *h, uint64_t time, const struct packet *p)
{
	if (p->tcp.flags & TCP_SYN)
		return;
	if (p->tcp.window == 0 && !h->zero_since) {
		h->zero_since = time;
	} else if (p->tcp.window && h->zero_since) {
		h->zero_ns += since(h->zero_since, time);
		h->zero_since = 0;
	}
}

void half_acknowledge(struct half *h, struct half *other, uint64_t time, const struct packet *p)
{
	uint32_t ack = p->tcp.ack;

	take_window(h, time, p);
	if (!(p->tcp.flags & TCP_ACK))
		return;
	if (h->acked && ack == h->ack && !p->length && p->tcp.window == h->window)
		h->n_same_acks = (uint8_t)MIN_OF(h->n_same_acks + 1u, 255u);
	else if (!h->acked || ack != h->ack)
		h->n_same_acks = 0;
	h->ack = ack;
	h->window = p->tcp.window;
	h->acked = true;
	if (!other->seen)
		return;
	if (other->rtt_time && distance(other->rtt_end, ack) >= 0) {
		uint64_t rtt = since(other->rtt_time, time);

		if (rtt && (!other->min_rtt || rtt < other->min_rtt))
			other->min_rtt = rtt;
		other->rtt_time = 0;
	}
	if (other->finished && distance(other->fin, ack) >= 0)
		other->fin_acked = true;
}

uint64_t half_zero_window(const struct half *h, uint64_t time)
{
	return h->zero_ns + (h->zero_since ? since(h->zero_since, time) : 0);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS over TCP: each message behind its length in two bytes. Most come whole in one segment and are read where they lie; one in pieces is put
 * together. Streams lie in a table of small sets by a hash of their ends: in a full one the stream unused for longest gives way.
 */
#include "dns/dns_state.h"

#include <string.h>

#define MESSAGE_LEAST 12u

static void drop_bytes(struct dns *d, struct stream *s)
{
	if (s->bytes)
		d->stream_bytes -= s->need;
	free(s->bytes);
	s->bytes = NULL;
	s->have = s->need = s->known = 0;
}

void dns_streams_free(struct dns *d)
{
	for (unsigned set = 0; set < STREAM_SETS; set++)
		for (unsigned way = 0; way < STREAM_WAYS; way++)
			free(d->streams[set][way].bytes);
}

/* The stream of these ends; if there is none, NULL or, with `make`, a new one. */
static struct stream *stream_of(struct dns *d, const struct dns_ends *ends, bool make)
{
	struct stream *set = d->streams[siphash(&d->key, ends, sizeof *ends) % STREAM_SETS], *oldest = set;

	for (unsigned way = 0; way < STREAM_WAYS; way++) {
		if (set[way].used && memcmp(&set[way].ends, ends, sizeof *ends) == 0)
			return &set[way];
		if (set[way].used < oldest->used)
			oldest = &set[way];
	}
	if (!make)
		return NULL;
	if (oldest->used && !oldest->broken && oldest->have)
		d->counts.broken++;
	drop_bytes(d, oldest);
	*oldest = (struct stream){ .ends = *ends };
	return oldest;
}

static void break_stream(struct dns *d, struct stream *s)
{
	if (!s->broken)
		d->counts.broken++;
	drop_bytes(d, s);
	s->broken = true;
}

/* A message that cannot be one: this is no DNS, or its begin was missed. */
static void message(struct dns *d, uint64_t time, struct stream *s, const uint8_t *bytes, uint32_t size)
{
	bool malformed;

	dns_message_seen(d, time, &s->ends, true, bytes, size, &malformed);
	if (malformed)
		break_stream(d, s);
}

/* Takes what belongs to the message that was begun: how much that is. Behind bytes that were not seen none are of use. */
static size_t go_on(struct dns *d, uint64_t time, struct stream *s, const uint8_t *bytes, size_t size)
{
	size_t n = MIN_OF(size, (size_t)(s->need - s->have));

	if (bytes && s->known == s->have) {
		memcpy(s->bytes + s->have, bytes, n);
		s->known += (uint32_t)n;
	}
	s->have += (uint32_t)n;
	if (s->have == s->need) {
		message(d, time, s, s->bytes, s->known);
		if (!s->broken)
			drop_bytes(d, s);
	}
	return n;
}

/* Its length is known, and its bytes are not all there. */
static void begin_pieces(struct dns *d, struct stream *s, uint32_t need)
{
	if (d->stream_bytes + need <= d->options.stream_bytes)
		s->bytes = malloc(need);
	if (!s->bytes) {
		break_stream(d, s);
		return;
	}
	d->stream_bytes += need;
	s->need = need;
	s->have = s->known = 0;
}

/* The length's bytes, which may come one by one. How many were taken. */
static size_t take_length(struct stream *s, const uint8_t *bytes, size_t size)
{
	size_t n = MIN_OF(size, (size_t)(2 - s->have));

	memcpy(s->length + s->have, bytes, n);
	s->have += (uint32_t)n;
	return n;
}

/* Takes a length and, where all of its message is there, that too: how much that is. */
static size_t begin(struct dns *d, uint64_t time, struct stream *s, const uint8_t *bytes, size_t size)
{
	size_t n = take_length(s, bytes, size);
	uint32_t need = (uint32_t)s->length[0] << 8 | s->length[1];

	if (s->have < 2)
		return n;
	if (need < MESSAGE_LEAST) {
		break_stream(d, s);
	} else if (size - n >= need) {
		s->have = 0;
		message(d, time, s, bytes + n, need);
		n += need;
	} else {
		begin_pieces(d, s, need);
	}
	return n;
}

void dns_stream(struct dns *d, uint64_t time, const struct dns_ends *ends, const uint8_t *bytes, size_t size)
{
	struct stream *s = stream_of(d, ends, true);

	s->used = ++d->clock;
	if (!bytes && !size)
		break_stream(d, s);
	while (size && !s->broken) {
		size_t n = 0;

		if (s->bytes)
			n = go_on(d, time, s, bytes, size);
		else if (bytes)
			n = begin(d, time, s, bytes, size);
		else
			break_stream(d, s);
		bytes = bytes ? bytes + n : NULL;
		size -= n;
	}
}

static void end_stream(struct dns *d, const struct dns_ends *ends)
{
	struct stream *s = stream_of(d, ends, false);

	if (!s)
		return;
	drop_bytes(d, s);
	s->used = 0;
}

void dns_stream_end(struct dns *d, const struct dns_ends *ends)
{
	struct dns_ends back = { .source_port = ends->target_port, .target_port = ends->source_port };

	memcpy(back.source, ends->target, sizeof back.source);
	memcpy(back.target, ends->source, sizeof back.target);
	end_stream(d, ends);
	end_stream(d, &back);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open queries lie in one array: chained by a hash of ends and id, and in a list by the time they were asked. A query times out a fixed time
 * after it was asked, so the list's head is always the next to do so.
 */
#include "dns/dns_state.h"

#include <errno.h>
#include <string.h>

int dns_new(struct dns **ret, const struct dns_options *options)
{
	struct dns *d = calloc(1, sizeof *d);

	if (!d)
		return -ENOMEM;
	d->options = *options;
	d->n_buckets = 16;
	while (d->n_buckets < options->queries)
		d->n_buckets *= 2;
	d->pending = calloc(options->queries + 1u, sizeof *d->pending);
	d->buckets = calloc(d->n_buckets, sizeof *d->buckets);
	d->owners = calloc(options->queries + 1u, MAX_OF(options->owner_bytes, 1u));
	if (!d->pending || !d->buckets || !d->owners || siphash_make_key(&d->key) < 0) {
		dns_free(d);
		return -ENOMEM;
	}
	*ret = d;
	return 0;
}

void dns_free(struct dns *d)
{
	if (!d)
		return;
	dns_streams_free(d);
	free(d->pending);
	free(d->owners);
	free(d->buckets);
	free(d);
}

void dns_count(const struct dns *d, struct dns_counts *ret)
{
	*ret = d->counts;
}

void dns_set_owner(struct dns *d, const void *owner)
{
	d->owner = owner;
}

static uint8_t *owner_of(const struct dns *d, const struct pending *p)
{
	return d->owners + (size_t)(p - d->pending) * d->options.owner_bytes;
}

static uint32_t bucket_of(const struct dns *d, const struct dns_ends *ends, uint16_t id, bool tcp)
{
	struct {
		struct dns_ends ends;
		uint16_t id, tcp;
	} key = { *ends, id, tcp };

	return (uint32_t)(siphash(&d->key, &key, sizeof key) & (d->n_buckets - 1));
}

/* ---- the list; index 0 is none ---- */

static void unlink_pending(struct dns *d, uint32_t n)
{
	struct pending *p = &d->pending[n];
	uint32_t *at = &d->buckets[p->bucket];

	while (*at != n)
		at = &d->pending[*at].chain;
	*at = p->chain;
	*(p->older ? &d->pending[p->older].newer : &d->oldest) = p->newer;
	*(p->newer ? &d->pending[p->newer].older : &d->newest) = p->older;
	p->chain = d->unused;
	d->unused = n;
	d->counts.open--;
}

/* A free place, in order of first use so that untouched memory stays untouched. */
static uint32_t take_place(struct dns *d)
{
	uint32_t n = d->unused;

	if (n) {
		d->unused = d->pending[n].chain;
		return n;
	}
	if (d->counts.open < d->options.queries)
		return d->counts.open + 1;
	d->counts.given_up++;
	unlink_pending(d, d->oldest);
	n = d->unused;
	d->unused = d->pending[n].chain;
	return n;
}

static void link_pending(struct dns *d, uint32_t n, uint32_t bucket)
{
	struct pending *p = &d->pending[n];

	p->bucket = bucket;
	p->chain = d->buckets[bucket];
	d->buckets[bucket] = n;
	p->newer = 0;
	p->older = d->newest;
	*(d->newest ? &d->pending[d->newest].newer : &d->oldest) = n;
	d->newest = n;
	d->counts.open++;
}

static bool same_question(const struct pending *p, const struct dns_message *m)
{
	return p->qtype == m->qtype && p->name.size == m->name.size &&
	       memcmp(p->name.bytes, m->name.bytes, m->name.size) == 0;
}

/* An answer may come without the question. */
static uint32_t find(const struct dns *d, uint32_t bucket, const struct dns_ends *ends, const struct dns_message *m,
		     bool tcp)
{
	for (uint32_t n = d->buckets[bucket]; n; n = d->pending[n].chain) {
		const struct pending *p = &d->pending[n];

		if (p->id == m->id && p->tcp == tcp && memcmp(&p->ends, ends, sizeof *ends) == 0 &&
		    (!m->asked || same_question(p, m)))
			return n;
	}
	return 0;
}

/* ---- queries and answers ---- */

static void asked(struct dns *d, uint64_t time, const struct dns_ends *ends, const struct dns_message *m, bool tcp)
{
	uint32_t bucket = bucket_of(d, ends, m->id, tcp), n;
	struct pending *p;

	if (!m->asked)
		return;
	n = find(d, bucket, ends, m, tcp);
	if (n) {
		d->pending[n].repeats++;
		return;
	}
	n = take_place(d);
	p = &d->pending[n];
	p->ends = *ends;
	p->time = time;
	p->repeats = 0;
	p->id = m->id;
	p->qtype = m->qtype;
	p->qclass = m->qclass;
	p->tcp = tcp;
	p->name.size = m->name.size;
	memcpy(p->name.bytes, m->name.bytes, m->name.size);
	if (d->options.owner_bytes)
		memcpy(owner_of(d, p), d->owner, d->options.owner_bytes);
	link_pending(d, n, bucket);
}

static struct dns_query ended(const struct dns *d, const struct pending *p, uint64_t time)
{
	return (struct dns_query){
		.time = time,
		.latency_ns = time > p->time ? time - p->time : 0,
		.ends = p->ends,
		.name = &p->name,
		.owner = d->options.owner_bytes ? owner_of(d, p) : NULL,
		.qtype = p->qtype,
		.qclass = p->qclass,
		.tcp = p->tcp,
		.repeats = p->repeats,
	};
}

static void answered(struct dns *d, uint64_t time, const struct dns_ends *ends, const struct dns_message *m, bool tcp)
{
	struct dns_ends asker = { .source_port = ends->target_port, .target_port = ends->source_port };
	struct dns_query q;
	uint32_t n;

	memcpy(asker.source, ends->target, sizeof asker.source);
	memcpy(asker.target, ends->source, sizeof asker.target);
	n = find(d, bucket_of(d, &asker, m->id, tcp), &asker, m, tcp);
	if (!n) {
		d->counts.unasked++;
		return;
	}
	q = ended(d, &d->pending[n], time);
	q.answered = true;
	q.rcode = m->rcode;
	q.flags = m->flags;
	q.n_answers = m->n_answers;
	d->counts.answered++;
	d->options.query(d->options.context, &q);
	unlink_pending(d, n);
}

void dns_message_seen(struct dns *d, uint64_t time, const struct dns_ends *ends, bool tcp, const uint8_t *bytes,
		      size_t size, bool *ret_malformed)
{
	struct dns_message m;

	d->counts.messages++;
	*ret_malformed = dns_parse(bytes, size, &m) < 0;
	if (*ret_malformed)
		d->counts.malformed++;
	else if (m.flags & DNS_FLAG_RESPONSE)
		answered(d, time, ends, &m, tcp);
	else
		asked(d, time, ends, &m, tcp);
}

void dns_datagram(struct dns *d, uint64_t time, const struct dns_ends *ends, const uint8_t *bytes, size_t size)
{
	bool malformed;

	dns_message_seen(d, time, ends, false, bytes, size, &malformed);
}

void dns_set_timeout(struct dns *d, uint64_t timeout_ns)
{
	d->options.timeout_ns = timeout_ns;
}

void dns_tick(struct dns *d, uint64_t time)
{
	while (d->oldest) {
		uint32_t n = d->oldest;
		uint64_t end = d->pending[n].time + d->options.timeout_ns;
		struct dns_query q;

		if (end > time)
			break;
		q = ended(d, &d->pending[n], end);
		d->counts.timed_out++;
		d->options.query(d->options.context, &q);
		unlink_pending(d, n);
	}
}

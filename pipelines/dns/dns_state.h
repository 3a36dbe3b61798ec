/* SPDX-License-Identifier: Apache-2.0 */
/* What the tracker of queries (dns.c) and the pieces of TCP (stream.c) share. */
#ifndef SONDE_DNS_STATE_H
#define SONDE_DNS_STATE_H

#include "base/siphash.h"
#include "dns/dns.h"

#define STREAM_SETS 256u
#define STREAM_WAYS 4u

/* An open query. Lies in one chain by hash, and in the list by age. */
struct pending {
	struct dns_ends ends;
	uint64_t time;
	uint32_t chain, older, newer; /* index + 1; 0: none */
	uint32_t bucket, repeats;
	uint16_t id, qtype, qclass;
	bool tcp;
	struct dns_name name;
};

/* One direction of a connection: the message that is not yet whole. `used` 0: free. */
struct stream {
	struct dns_ends ends;
	uint64_t used;
	uint8_t *bytes;             /* NULL: fewer than its length are there */
	uint32_t have, need, known; /* known: of these, the first that were seen */
	uint8_t length[2];          /* the prefix, as far as `have` */
	bool broken;
};

struct dns {
	struct dns_options options;
	struct siphash_key key;
	struct dns_counts counts;
	struct pending *pending;
	uint8_t *owners;              /* by place in `pending` */
	const void *owner;            /* of what comes */
	uint32_t *buckets, n_buckets; /* a power of two */
	uint32_t unused, oldest, newest;
	size_t stream_bytes;
	uint64_t clock; /* of streams: which was used last */
	struct stream streams[STREAM_SETS][STREAM_WAYS];
};

/* dns.c */
void dns_message_seen(struct dns *dns, uint64_t time, const struct dns_ends *ends, bool tcp, const uint8_t *bytes,
		      size_t size, bool *ret_malformed);

/* stream.c */
void dns_streams_free(struct dns *dns);

#endif

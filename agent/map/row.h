/* SPDX-License-Identifier: Apache-2.0 */
/* A record about a connection, a query or a service, as the map needs it. */
#ifndef SONDE_MAP_ROW_H
#define SONDE_MAP_ROW_H

#include "base/base.h"

enum map_event { MAP_CONNECT, MAP_ACCEPT, MAP_CLOSE, MAP_QUERY, MAP_TURNAROUND, MAP_EVENTS };
enum map_side { MAP_UNKNOWN, MAP_CLIENT, MAP_SERVER };

/* Lies in the record; NULL and 0 when the key is absent. */
struct map_text {
	const char *text;
	size_t length;
};

/* IPv4 as ::ffff:a.b.c.d: a mapped address and its plain form are the same end. */
struct map_address {
	uint8_t bytes[16];
};

struct map_end {
	struct map_address address;
	uint16_t port;
	bool has_address, has_port;
};

struct map_row {
	enum map_event event;
	enum map_side side;
	uint64_t ts;
	bool owned; /* somebody on this host did it: `comm` or `container` is there */
	struct map_text host, comm, container, cgroup, proc;
	struct map_text error, rcode;
	struct map_end local, remote; /* of a query: who asked, who was asked */
	bool has_latency, has_srtt;
	uint64_t latency_ns, srtt_ns, sent_bytes, received_bytes, retransmits;
	uint64_t count, errors, sum_ns, max_ns; /* of a turnaround, with: */
	const uint8_t *hist, *hist_end;         /* pairs of texts and numbers */
	uint32_t n_hist;
};

/* 0; -ENODATA: a record of another type; -EBADMSG: damaged, or without what its type must have. */
int map_row_read(const void *map, size_t size, struct map_row *ret);

/* The next bucket of a turnaround's histogram; false at its end, or where it is damaged. */
bool map_row_bucket(struct map_row *row, uint64_t *ret_ns, uint64_t *ret_count);

bool map_text_is(struct map_text text, const char *what);

#endif

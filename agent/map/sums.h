/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who talks to whom, summed from rows in bounded memory.
 *
 * A connection of which both ends are on this host is told of twice, once from each side. Rows are therefore gathered by
 * connection (its four, turned so that the client comes first) until its place is needed for another one; then it is added
 * to the edge from client to server. An end of which no row came is a node by its address; where another connection to the
 * same address and port was accepted on this host, map_sums_finish() puts who accepted it in its place.
 *
 * Invariants: each connection and each row is counted in exactly one edge or service; what finds a table full goes to
 * a node that stands for all others, which was made before anything else took the room.
 */
#ifndef SONDE_MAP_SUMS_H
#define SONDE_MAP_SUMS_H

#include "flows/histogram.h"
#include "map/row.h"

#define MAP_NAME_MAX   64u
#define MAP_SCOPE_MAX  96u
#define MAP_CAUSES_MAX 8u
#define MAP_CAUSE_MAX  24u
#define MAP_COMMS_MAX  4u

struct map_limits {
	uint32_t processes, addresses, edges, services, listeners, executions, connections, histograms;
	uint32_t peers; /* addresses in the finished map; the rest is one node */
};

enum map_kind { MAP_PROCESS, MAP_CONTAINER, MAP_ADDRESS, MAP_OTHERS, MAP_KINDS };

/* Texts are clean (flame_clean). */
struct map_node {
	enum map_kind kind;
	bool local;                                  /* an address of this host */
	struct map_address address;                  /* MAP_ADDRESS */
	char name[MAP_NAME_MAX];                     /* comm, first digits of a container's id, or address */
	char container[MAP_NAME_MAX + 4];            /* id */
	char scope[MAP_SCOPE_MAX];                   /* last part of the cgroup's path */
	char comms[MAP_COMMS_MAX][MAP_NAME_MAX / 2]; /* of a container: the first that were seen */
	uint64_t merged;                             /* MAP_OTHERS: how many it stands for; 0: not known */
	uint64_t weight;
};

/* All additions stop at the largest number: rows are hostile. */
struct map_times {
	uint64_t count, sum, max;
	struct histogram *histogram; /* NULL: no percentiles */
};

enum map_phase { MAP_AT_CONNECT, MAP_AT_CLOSE, MAP_AT_QUERY, MAP_PHASES };

struct map_cause {
	char name[MAP_CAUSE_MAX];
	enum map_phase phase;
	uint64_t count;
};

struct map_edge {
	uint32_t client, server;             /* nodes */
	uint16_t port;                       /* of the server; 0: several */
	uint64_t connections;                /* that were made, or were seen to end */
	uint64_t failed, broken;             /* could not be made; died of an error */
	uint64_t sent_bytes, received_bytes; /* by the client */
	uint64_t retransmits, srtt_sum, srtt_count;
	struct map_times connect, answers, queries;
	uint64_t answer_errors, query_errors;
	struct map_cause causes[MAP_CAUSES_MAX]; /* the last stands for all others */
	uint32_t n_causes;
};

/* What a server says of all its clients at once. */
struct map_service {
	uint32_t node;
	uint16_t port;
	struct map_times answers;
	uint64_t errors;
};

/* Sorted: widest edges first, heaviest nodes first. */
struct map_view {
	const struct map_node *nodes;
	const struct map_edge *edges;
	const struct map_service *services;
	uint32_t n_nodes, n_edges, n_services;
	uint64_t rows, connections, failed, from, to;
	const char *host;  /* "" when rows are of several, or none */
	const char *notes; /* sentences, each ended by a zero byte, the last by two */
};

struct map_sums; /* opaque */

int map_sums_make(struct map_sums **ret, const struct map_limits *limits);
void map_sums_free(struct map_sums *sums);
/* 0, -EBADMSG: not counted, or -ENOMEM. */
int map_sums_add(struct map_sums *sums, struct map_row *row);
/* Once, at the end: -ENOMEM, or 0 and the view, which lies in the sums. */
int map_sums_finish(struct map_sums *sums, struct map_view *ret);

/* Adds and stops at the largest number. */
static inline void map_sum(uint64_t *to, uint64_t value)
{
	if (__builtin_add_overflow(*to, value, to))
		*to = UINT64_MAX;
}

uint64_t map_edge_errors(const struct map_edge *edge);
uint64_t map_edge_tries(const struct map_edge *edge);
/* Text of an address: `room` has INET6_ADDRSTRLEN bytes. */
const char *map_address_text(const struct map_address *address, char *room);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of struct map_sums, for the files that fill and finish it. */
#ifndef SONDE_MAP_SUMS_STATE_H
#define SONDE_MAP_SUMS_STATE_H

#include "flame/table.h"
#include "map/sums.h"

#define MAP_NOTES_MAX 1024u

/* Nodes that are there from the beginning. Number 0 is none. */
enum { MAP_NOBODY, MAP_OTHER_CLIENTS, MAP_OTHER_SERVERS, MAP_OTHER_PROCESSES, MAP_FIRST_NODE };

/* The address of a connection: the client's end first. */
struct map_four {
	struct map_address client, server;
	uint16_t client_port, server_port;
};

/* What rows said of one connection so far. `said` has a bit for each event and side that was taken. */
struct map_connection {
	struct map_four four;
	uint32_t next;    /* in its chain, one more than the place */
	uint32_t ends[2]; /* nodes of client and server; 0: no row of theirs */
	uint8_t said;
	bool used, has_latency;
	char error[MAP_CAUSE_MAX];
	uint64_t latency_ns;
	uint64_t sent_bytes, received_bytes; /* by the client, as it says itself or else as the server says */
	uint64_t retransmits, srtt_ns[2];
};

/* Who accepts at an address and port. */
struct map_listener {
	struct map_address address;
	uint16_t port;
	bool several; /* nodes: an address such as 127.0.0.1 in several network namespaces */
	uint32_t node;
};

struct map_sums {
	struct map_limits limits;
	struct flame_budget budget;
	struct flame_secret secret;
	struct map_node *nodes;
	uint32_t n_nodes, n_processes, n_addresses;
	struct map_edge *edges;
	uint32_t n_edges;
	struct map_service *services;
	uint32_t n_services;
	struct map_listener *listeners;
	uint32_t n_listeners;
	uint32_t n_executions, n_histograms;
	struct flame_map by_node, by_edge, by_service, by_listener, by_execution;
	struct map_connection *connections;
	uint32_t *heads;
	uint32_t hand;
	uint64_t rows, from, to;
	char host[MAP_NAME_MAX];
	bool several_hosts;
	/* Rows (of histograms: edges) that found a table full. */
	uint64_t full_processes, full_addresses, full_edges, full_histograms, full_services;
	uint32_t *numbers;     /* of nodes in the finished map, by their numbers before; UINT32_MAX: not in it */
	uint64_t made, failed; /* connections of all edges */
	char notes[MAP_NOTES_MAX];
	size_t notes_size;
};

/* Other addresses that are asked are not those that ask. */
static inline uint32_t map_as_server(uint32_t node)
{
	return node == MAP_OTHER_CLIENTS ? MAP_OTHER_SERVERS : node;
}

/* ---- sums.c ---- */

/* The node of an address; where there is no room, MAP_OTHER_CLIENTS. */
int map_find_address(struct map_sums *s, const struct map_address *address, bool local, uint32_t *ret);
int map_find_owner(struct map_sums *s, const struct map_row *row, uint32_t *ret);
int map_find_edge(struct map_sums *s, uint32_t client, uint32_t server, uint16_t port, struct map_edge **ret);
/* From who the row belongs to, to the address at its far end. */
int map_find_outward(struct map_sums *s, const struct map_row *row, struct map_edge **ret);
const struct map_listener *map_find_listener(const struct map_sums *s, const struct map_address *address,
					     uint16_t port);
int map_note_listener(struct map_sums *s, const struct map_end *end, uint32_t node);

/* ---- amounts.c ---- */

void map_add_cause(struct map_edge *edge, enum map_phase phase, const char *name, uint64_t count);
/* The name of an error as it may be shown: of another form than ECONNRESET or NXDOMAIN it is "other". */
void map_cause_name(struct map_text text, char room[MAP_CAUSE_MAX]);
int map_add_time(struct map_sums *s, struct map_times *times, uint64_t ns);
int map_merge_times(struct map_sums *s, struct map_times *to, const struct map_times *from);
int map_add_answers(struct map_sums *s, struct map_times *times, struct map_row *row);

/* ---- connections.c ---- */

int map_connections_make(struct map_sums *s);
int map_connections_add(struct map_sums *s, const struct map_row *row);
/* All that are still held go to their edges. */
int map_connections_end(struct map_sums *s);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections in a fixed table, chained by a keyed hash of their four. A place is taken from the connection that holds it
 * by a hand that goes round and prefers those that have ended: a long connection keeps its place while short ones pass.
 */
#include "map/sums_state.h"

#include <errno.h>
#include <string.h>

#define LOOK 64u /* places that the hand looks at before it takes what is under it */

enum { CLIENT, SERVER };

#define SAID_BEGIN(end) (1u << (end))
#define SAID_CLOSE(end) (4u << (end))

int map_connections_make(struct map_sums *s)
{
	s->connections = calloc(s->limits.connections, sizeof *s->connections);
	s->heads = calloc(s->limits.connections, sizeof *s->heads);
	return s->connections && s->heads ? 0 : -ENOMEM;
}

static uint32_t *chain_of(struct map_sums *s, const struct map_four *four)
{
	return &s->heads[flame_hash(&s->secret, four, sizeof *four) % s->limits.connections];
}

static struct map_connection *find(struct map_sums *s, const struct map_four *four)
{
	for (uint32_t at = *chain_of(s, four); at; at = s->connections[at - 1].next)
		if (memcmp(&s->connections[at - 1].four, four, sizeof *four) == 0)
			return &s->connections[at - 1];
	return NULL;
}

static void unlink_place(struct map_sums *s, const struct map_connection *c)
{
	uint32_t place = (uint32_t)(c - s->connections) + 1, *at = chain_of(s, &c->four);

	while (*at != place)
		at = &s->connections[*at - 1].next;
	*at = c->next;
}

static int find_ends(struct map_sums *s, const struct map_connection *c, uint32_t ends[2])
{
	int r = 0;

	ends[CLIENT] = c->ends[CLIENT];
	ends[SERVER] = c->ends[SERVER];
	if (!ends[CLIENT])
		r = map_find_address(s, &c->four.client, false, &ends[CLIENT]);
	if (r == 0 && !ends[SERVER])
		r = map_find_address(s, &c->four.server, false, &ends[SERVER]);
	return r;
}

/* The connection becomes part of its edge, and its place is free. */
static int settle(struct map_sums *s, struct map_connection *c)
{
	struct map_edge *e;
	uint32_t ends[2];
	int r = find_ends(s, c, ends);

	if (r == 0)
		r = map_find_edge(s, ends[CLIENT], ends[SERVER], c->four.server_port, &e);
	if (r < 0)
		return r;
	map_sum(&e->connections, 1);
	if (c->error[0]) {
		map_sum(&e->broken, 1);
		map_add_cause(e, MAP_AT_CLOSE, c->error, 1);
	}
	map_sum(&e->sent_bytes, c->sent_bytes);
	map_sum(&e->received_bytes, c->received_bytes);
	map_sum(&e->retransmits, c->retransmits);
	if (c->srtt_ns[CLIENT] || c->srtt_ns[SERVER]) {
		map_sum(&e->srtt_sum, c->srtt_ns[CLIENT] ? c->srtt_ns[CLIENT] : c->srtt_ns[SERVER]);
		map_sum(&e->srtt_count, 1);
	}
	if (c->has_latency)
		r = map_add_time(s, &e->connect, c->latency_ns);
	unlink_place(s, c);
	*c = (struct map_connection){ 0 };
	return r;
}

static int take_place(struct map_sums *s, const struct map_four *four, struct map_connection **ret)
{
	struct map_connection *c = &s->connections[s->hand];
	uint32_t *head;
	int r = 0;

	for (uint32_t i = 0; i < LOOK && c->used && !(c->said & (SAID_CLOSE(CLIENT) | SAID_CLOSE(SERVER))); i++) {
		s->hand = (s->hand + 1) % s->limits.connections;
		c = &s->connections[s->hand];
	}
	s->hand = (s->hand + 1) % s->limits.connections;
	if (c->used)
		r = settle(s, c);
	if (r < 0)
		return r;
	head = chain_of(s, four);
	*c = (struct map_connection){ .four = *four, .used = true, .next = *head };
	*head = (uint32_t)(c - s->connections) + 1;
	*ret = c;
	return 0;
}

static struct map_four turn(const struct map_row *row, bool client)
{
	const struct map_end *a = client ? &row->local : &row->remote, *b = client ? &row->remote : &row->local;

	return (struct map_four){ a->address, b->address, a->port, b->port };
}

/* Whether this end is the client. Where the row does not say: as the connection is known, or as who listens where is
 * known; else a server's port is the lower one. */
static bool is_client(struct map_sums *s, const struct map_row *row)
{
	struct map_four four;

	if (row->side != MAP_UNKNOWN)
		return row->side == MAP_CLIENT;
	four = turn(row, true);
	if (find(s, &four))
		return true;
	four = turn(row, false);
	if (find(s, &four) || map_find_listener(s, &row->local.address, row->local.port))
		return false;
	return map_find_listener(s, &row->remote.address, row->remote.port) || row->remote.port < row->local.port;
}

static void take_close(struct map_connection *c, const struct map_row *row, unsigned end)
{
	if (end == CLIENT || !(c->said & SAID_CLOSE(CLIENT))) {
		c->sent_bytes = end == CLIENT ? row->sent_bytes : row->received_bytes;
		c->received_bytes = end == CLIENT ? row->received_bytes : row->sent_bytes;
	}
	map_sum(&c->retransmits, row->retransmits);
	if (row->has_srtt)
		c->srtt_ns[end] = row->srtt_ns;
	if (row->error.length && !c->error[0])
		map_cause_name(row->error, c->error);
}

/* No connection came of it, so there is no other end to wait for. */
static int add_failure(struct map_sums *s, const struct map_row *row)
{
	char name[MAP_CAUSE_MAX];
	struct map_edge *e;
	int r = map_find_outward(s, row, &e);

	if (r < 0)
		return r;
	map_cause_name(row->error, name);
	map_sum(&e->failed, 1);
	map_add_cause(e, MAP_AT_CONNECT, name, 1);
	return 0;
}

int map_connections_add(struct map_sums *s, const struct map_row *row)
{
	unsigned end = is_client(s, row) ? CLIENT : SERVER;
	unsigned bit = row->event == MAP_CLOSE ? SAID_CLOSE(end) : SAID_BEGIN(end);
	struct map_four four = turn(row, end == CLIENT);
	struct map_connection *c;
	uint32_t node;
	int r;

	if (row->event == MAP_CONNECT && row->error.length)
		return add_failure(s, row);
	r = map_find_owner(s, row, &node);
	c = find(s, &four);
	if (r == 0 && c && c->said & bit) { /* the same four anew */
		r = settle(s, c);
		c = NULL;
	}
	if (r == 0 && !c)
		r = take_place(s, &four, &c);
	if (r < 0)
		return r;
	c->said |= (uint8_t)bit;
	if (row->owned || !c->ends[end])
		c->ends[end] = node;
	if (row->event == MAP_CONNECT && row->has_latency) {
		c->latency_ns = row->latency_ns;
		c->has_latency = true;
	}
	if (row->event == MAP_CLOSE)
		take_close(c, row, end);
	return end == SERVER && row->owned ? map_note_listener(s, &row->local, node) : 0;
}

int map_connections_end(struct map_sums *s)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < s->limits.connections; i++)
		if (s->connections[i].used)
			r = settle(s, &s->connections[i]);
	return r;
}

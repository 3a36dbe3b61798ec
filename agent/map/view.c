/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The finished map, made in place: what is still held is settled, addresses whose listener is known become that process,
 * all but the busiest addresses outside become one, edges that now have the same ends become one, and what is left gets
 * its order and its numbers.
 */
#include "map/sums_state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#define UNUSED UINT32_MAX

static void _printf_(2, 3) note(struct map_sums *s, const char *format, ...)
{
	size_t room = sizeof s->notes - s->notes_size - 1;
	va_list values;
	int n;

	va_start(values, format);
	n = vsnprintf(s->notes + s->notes_size, room, format, values);
	va_end(values);
	if (n > 0 && (size_t)n < room)
		s->notes_size += (size_t)n + 1;
	s->notes[s->notes_size] = '\0';
}

/* Bytes first; what carried none still has its tries. */
static uint64_t weight_of(const struct map_edge *e)
{
	uint64_t weight = map_edge_tries(e);

	map_sum(&weight, e->answers.count);
	map_sum(&weight, e->answer_errors);
	map_sum(&weight, e->sent_bytes);
	map_sum(&weight, e->received_bytes);
	return weight;
}

static int merge_edge(struct map_sums *s, struct map_edge *to, const struct map_edge *from)
{
	int r;

	map_sum(&to->connections, from->connections);
	map_sum(&to->failed, from->failed);
	map_sum(&to->broken, from->broken);
	map_sum(&to->sent_bytes, from->sent_bytes);
	map_sum(&to->received_bytes, from->received_bytes);
	map_sum(&to->retransmits, from->retransmits);
	map_sum(&to->srtt_sum, from->srtt_sum);
	map_sum(&to->srtt_count, from->srtt_count);
	map_sum(&to->answer_errors, from->answer_errors);
	map_sum(&to->query_errors, from->query_errors);
	for (uint32_t i = 0; i < from->n_causes; i++)
		map_add_cause(to, from->causes[i].phase, from->causes[i].name, from->causes[i].count);
	r = map_merge_times(s, &to->connect, &from->connect);
	if (r == 0)
		r = map_merge_times(s, &to->answers, &from->answers);
	return r < 0 ? r : map_merge_times(s, &to->queries, &from->queries);
}

static void free_times(struct map_sums *s, struct map_times *t)
{
	s->n_histograms -= t->histogram != NULL;
	free(t->histogram);
	t->histogram = NULL;
}

static int by_ends(const void *a, const void *b)
{
	const struct map_edge *x = a, *y = b;

	if (x->client != y->client)
		return x->client < y->client ? -1 : 1;
	if (x->server != y->server)
		return x->server < y->server ? -1 : 1;
	return (x->port > y->port) - (x->port < y->port);
}

/* Edges of the same ends become one. */
static int merge_edges(struct map_sums *s)
{
	uint32_t n = 0;
	int r = 0;

	qsort(s->edges, s->n_edges, sizeof *s->edges, by_ends);
	for (uint32_t i = 0; i < s->n_edges; i++) {
		struct map_edge *e = &s->edges[i];

		if (!n || by_ends(&s->edges[n - 1], e) != 0) {
			if (n != i) {
				s->edges[n] = *e;
				*e = (struct map_edge){ 0 };
			}
			n++;
			continue;
		}
		if (r == 0)
			r = merge_edge(s, &s->edges[n - 1], e);
		free_times(s, &e->connect);
		free_times(s, &e->answers);
		free_times(s, &e->queries);
	}
	s->n_edges = n;
	return r;
}

static void resolve_servers(struct map_sums *s)
{
	for (uint32_t i = 0; i < s->n_edges; i++) {
		struct map_edge *e = &s->edges[i];
		const struct map_node *server = &s->nodes[e->server];
		const struct map_listener *l = NULL;

		if (server->kind == MAP_ADDRESS)
			l = map_find_listener(s, &server->address, e->port);
		if (l && !l->several)
			e->server = l->node;
	}
}

/* ---- the busiest addresses ---- */

static void weigh_nodes(struct map_sums *s)
{
	for (uint32_t i = 0; i < s->n_nodes; i++)
		s->nodes[i].weight = 0;
	for (uint32_t i = 0; i < s->n_edges; i++) {
		const struct map_edge *e = &s->edges[i];

		map_sum(&s->nodes[e->client].weight, weight_of(e));
		if (e->server != e->client)
			map_sum(&s->nodes[e->server].weight, weight_of(e));
	}
	for (uint32_t i = 0; i < s->n_services; i++)
		map_sum(&s->nodes[s->services[i].node].weight, MAX_OF(s->services[i].answers.count, 1u));
}

static bool is_peer(const struct map_node *n)
{
	return n->kind == MAP_ADDRESS && !n->local && n->weight;
}

static int by_weight(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x < y) - (x > y);
}

/* The least weight of an address that keeps its own place, and how many of just that weight do. */
static int find_least(const struct map_sums *s, uint32_t n_peers, uint64_t *ret_least, uint32_t *ret_ties)
{
	_cleanup_(free_pointer) uint64_t *weights = calloc(n_peers, sizeof *weights);
	uint32_t n = 0, above = 0;

	if (!weights)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n_nodes; i++)
		if (is_peer(&s->nodes[i]))
			weights[n++] = s->nodes[i].weight;
	qsort(weights, n, sizeof *weights, by_weight);
	*ret_least = weights[s->limits.peers - 1];
	while (weights[above] > *ret_least)
		above++;
	*ret_ties = s->limits.peers - above;
	return 0;
}

/* Puts the node of others in the place of addresses that go into it, and counts these by what they do. */
static void regroup(struct map_sums *s, uint8_t *did)
{
	struct map_node *clients = &s->nodes[MAP_OTHER_CLIENTS], *servers = &s->nodes[MAP_OTHER_SERVERS];

	for (uint32_t i = 0; i < s->n_edges; i++) {
		struct map_edge *e = &s->edges[i];

		clients->merged += s->numbers[e->client] != e->client && !(did[e->client] & 1);
		did[e->client] |= 1;
		servers->merged += s->numbers[e->server] != e->server && !(did[e->server] & 2);
		did[e->server] |= 2;
		e->client = s->numbers[e->client];
		e->server = map_as_server(s->numbers[e->server]);
	}
	for (uint32_t i = 0; i < s->n_services; i++)
		s->services[i].node = map_as_server(s->numbers[s->services[i].node]);
	if (s->full_addresses) /* how many more there are is not known */
		clients->merged = servers->merged = 0;
}

static int group_addresses(struct map_sums *s)
{
	_cleanup_(free_pointer) uint8_t *did = calloc(s->n_nodes, 1);
	uint32_t n_peers = 0, ties, grouped = 0;
	uint64_t least;
	int r;

	if (!did)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n_nodes; i++)
		n_peers += is_peer(&s->nodes[i]);
	if (n_peers <= s->limits.peers)
		return 0;
	r = find_least(s, n_peers, &least, &ties);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < s->n_nodes; i++) {
		struct map_node *n = &s->nodes[i];

		if (!is_peer(n) || n->weight > least || (n->weight == least && ties && ties--))
			continue;
		s->numbers[i] = MAP_OTHER_CLIENTS;
		grouped++;
	}
	regroup(s, did);
	note(s, "%s%" PRIu32 " addresses that carried less are not told apart; --peers says how many are",
	     s->full_addresses ? "more than " : "", grouped);
	return merge_edges(s);
}

/* ---- order and numbers ---- */

struct place {
	uint64_t weight;
	uint32_t node;
};

static int by_place(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->weight != y->weight)
		return x->weight < y->weight ? 1 : -1;
	return x->node < y->node ? -1 : 1;
}

static int by_edge_weight(const void *a, const void *b)
{
	const struct map_edge *x = a, *y = b;
	uint64_t v = weight_of(x), w = weight_of(y);

	if (v != w)
		return v < w ? 1 : -1;
	return by_ends(a, b);
}

/* Nodes in the order of their weight, without those of no edge. */
static int number_nodes(struct map_sums *s)
{
	_cleanup_(free_pointer) struct place *places = calloc(s->n_nodes, sizeof *places);
	struct map_node *nodes;
	uint32_t n = 0;

	if (!places)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n_nodes; i++) {
		s->numbers[i] = UNUSED;
		if (s->nodes[i].weight)
			places[n++] = (struct place){ s->nodes[i].weight, i };
	}
	qsort(places, n, sizeof *places, by_place);
	nodes = calloc(MAX_OF(n, 1u), sizeof *nodes);
	if (!nodes)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		nodes[i] = s->nodes[places[i].node];
		s->numbers[places[i].node] = i;
	}
	free(s->nodes);
	s->nodes = nodes;
	s->n_nodes = n;
	return 0;
}

/* Edges and services without a count, such as those of damaged or empty rows, are not shown. */
static void number_edges(struct map_sums *s)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_edges; i++) {
		struct map_edge e = s->edges[i];

		e.client = s->numbers[e.client];
		e.server = s->numbers[e.server];
		s->edges[i] = (struct map_edge){ 0 };
		if (e.client == UNUSED || e.server == UNUSED) {
			free_times(s, &e.connect);
			free_times(s, &e.answers);
			free_times(s, &e.queries);
			continue;
		}
		map_sum(&s->made, e.connections);
		map_sum(&s->failed, e.failed);
		s->edges[n++] = e;
	}
	s->n_edges = n;
	qsort(s->edges, n, sizeof *s->edges, by_edge_weight);
	n = 0;
	for (uint32_t i = 0; i < s->n_services; i++) {
		struct map_service service = s->services[i];

		service.node = s->numbers[service.node];
		s->services[i] = (struct map_service){ 0 };
		if (service.node == UNUSED)
			free_times(s, &service.answers);
		else
			s->services[n++] = service;
	}
	s->n_services = n;
}

static void note_losses(struct map_sums *s)
{
	if (s->full_addresses)
		note(s, "addresses past the first %" PRIu32 " are not told apart", s->limits.addresses);
	if (s->full_processes)
		note(s, "processes past the first %" PRIu32 " are one node, 'other processes'", s->limits.processes);
	if (s->full_edges)
		note(s, "there was no room for all edges: %" PRIu64 " rows are in those between others", s->full_edges);
	if (s->full_histograms)
		note(s,
		     "there was no room for all percentiles: where they are missing, times have a mean and a maximum");
	if (s->full_services)
		note(s, "services past the first %" PRIu32 " have no answer times", s->limits.services);
}

int map_sums_finish(struct map_sums *s, struct map_view *ret)
{
	int r = map_connections_end(s);

	s->numbers = r < 0 ? NULL : calloc(s->n_nodes, sizeof *s->numbers);
	if (!s->numbers)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n_nodes; i++)
		s->numbers[i] = i;
	resolve_servers(s);
	r = merge_edges(s);
	weigh_nodes(s);
	if (r == 0)
		r = group_addresses(s);
	weigh_nodes(s);
	if (r == 0)
		r = number_nodes(s);
	if (r < 0)
		return r;
	number_edges(s);
	note_losses(s);
	*ret = (struct map_view){ s->nodes,    s->edges,
				  s->services, s->n_nodes,
				  s->n_edges,  s->n_services,
				  s->rows,     s->made,
				  s->failed,   s->rows ? s->from : 0,
				  s->to,       s->several_hosts ? "" : s->host,
				  s->notes };
	return 0;
}

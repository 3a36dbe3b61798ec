/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes, edges and services by keyed hashes, each table of a size that is given at its making. */
#include "map/sums_state.h"

#include "flame/frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define TABLES_BYTES     (64ull << 20)
#define CONTAINER_DIGITS 12

static int begin(struct map_sums *s)
{
	s->nodes[MAP_OTHER_CLIENTS] = (struct map_node){ .kind = MAP_OTHERS, .name = "other clients" };
	s->nodes[MAP_OTHER_SERVERS] = (struct map_node){ .kind = MAP_OTHERS, .name = "other servers" };
	s->nodes[MAP_OTHER_PROCESSES] =
		(struct map_node){ .kind = MAP_OTHERS, .name = "other processes", .local = true };
	s->n_nodes = MAP_FIRST_NODE;
	return map_connections_make(s);
}

int map_sums_make(struct map_sums **ret, const struct map_limits *limits)
{
	struct map_sums *s = calloc(1, sizeof *s);
	int r = -ENOMEM;

	if (!s)
		return r;
	s->limits = *limits;
	s->budget.limit = TABLES_BYTES;
	s->from = UINT64_MAX;
	flame_secret_make(&s->secret);
	flame_map_begin(&s->by_node, &s->budget);
	flame_map_begin(&s->by_edge, &s->budget);
	flame_map_begin(&s->by_service, &s->budget);
	flame_map_begin(&s->by_listener, &s->budget);
	flame_map_begin(&s->by_execution, &s->budget);
	s->nodes = calloc(MAP_FIRST_NODE + (size_t)limits->processes + limits->addresses, sizeof *s->nodes);
	/* Behind the limit, room for the edges among the nodes of others. */
	s->edges = calloc((size_t)limits->edges + 4, sizeof *s->edges);
	s->services = calloc((size_t)limits->services + 1, sizeof *s->services);
	s->listeners = calloc(limits->listeners, sizeof *s->listeners);
	if (s->nodes && s->edges && s->services && s->listeners)
		r = begin(s);
	if (r < 0)
		map_sums_free(s);
	else
		*ret = s;
	return r;
}

void map_sums_free(struct map_sums *s)
{

	if (!s)
		return;
	flame_map_free(&s->by_node);
	flame_map_free(&s->by_edge);
	flame_map_free(&s->by_service);
	flame_map_free(&s->by_listener);
	flame_map_free(&s->by_execution);
	for (uint32_t i = 0; s->edges && i < s->n_edges; i++) {
		free(s->edges[i].connect.histogram);
		free(s->edges[i].answers.histogram);
		free(s->edges[i].queries.histogram);
	}
	for (uint32_t i = 0; s->services && i < s->n_services; i++)
		free(s->services[i].answers.histogram);
	free(s->nodes);
	free(s->edges);
	free(s->services);
	free(s->listeners);
	free(s->connections);
	free(s->heads);
	free(s->numbers);
	free(s);
}

/* ---- nodes ---- */

/* A cut never parts a character: flame_clean() wrote whole ones. */
static void set_text(char *room, size_t size, struct map_text text)
{
	char clean[FLAME_NAME_MAX + 4];
	size_t n = flame_clean(text.text, MIN_OF(text.length, (size_t)FLAME_NAME_MAX), clean), keep = n;

	if (n >= size) {
		keep = size - 1;
		while (keep && ((uint8_t)clean[keep] & 0xc0) == 0x80)
			keep--;
	}
	memcpy(room, clean, keep);
	room[keep] = '\0';
}

const char *map_address_text(const struct map_address *address, char *room)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (memcmp(address->bytes, mapped, sizeof mapped) == 0)
		return inet_ntop(AF_INET, address->bytes + sizeof mapped, room, INET6_ADDRSTRLEN);
	return inet_ntop(AF_INET6, address->bytes, room, INET6_ADDRSTRLEN);
}

static bool is_loopback(const struct map_address *a)
{
	static const uint8_t one[16] = { [15] = 1 }, mapped[13] = { [10] = 0xff, [11] = 0xff, [12] = 127 };

	return memcmp(a->bytes, one, sizeof one) == 0 || memcmp(a->bytes, mapped, sizeof mapped) == 0;
}

/* 0 and the number of a fresh node; 1 where `key` is known already; -ENOBUFS, -ENOMEM. */
static int find_node(struct map_sums *s, uint64_t key, uint32_t *n, uint32_t limit, uint32_t *ret)
{
	int r;

	if (flame_map_find(&s->by_node, key, ret))
		return 1;
	if (*n >= limit)
		return -ENOBUFS;
	r = flame_map_put(&s->by_node, key, s->n_nodes);
	if (r < 0)
		return r;
	*ret = s->n_nodes++;
	++*n;
	return 0;
}

int map_find_address(struct map_sums *s, const struct map_address *address, bool local, uint32_t *ret)
{
	struct {
		uint8_t kind;
		struct map_address address;
	} key = { MAP_ADDRESS, *address };
	int r = find_node(s, flame_hash(&s->secret, &key, sizeof key), &s->n_addresses, s->limits.addresses, ret);
	char text[INET6_ADDRSTRLEN];
	struct map_node *node;

	if (r == -ENOBUFS) {
		s->full_addresses++;
		*ret = MAP_OTHER_CLIENTS;
		return 0;
	}
	if (r < 0)
		return r;
	node = &s->nodes[*ret];
	if (r == 0) {
		*node = (struct map_node){ .kind = MAP_ADDRESS, .address = *address, .local = is_loopback(address) };
		snprintf(node->name, sizeof node->name, "%s", map_address_text(address, text));
	}
	node->local |= local;
	return 0;
}

static struct map_text leaf_of(struct map_text path)
{
	const char *slash = path.length ? memrchr(path.text, '/', path.length) : NULL;

	if (!slash)
		return path;
	return (struct map_text){ slash + 1, path.length - (size_t)(slash + 1 - path.text) };
}

static void note_comm(struct map_node *node, struct map_text comm)
{
	char text[MAP_NAME_MAX / 2];

	set_text(text, sizeof text, comm);
	for (size_t i = 0; comm.length && i < MAP_COMMS_MAX; i++) {
		if (!node->comms[i][0])
			memcpy(node->comms[i], text, sizeof text);
		if (strcmp(node->comms[i], text) == 0)
			return;
	}
}

/* People know a process by its container, or by its name and the unit that it is in. */
static int find_process(struct map_sums *s, const struct map_row *row, uint32_t *ret)
{
	struct map_node made;
	int r;

	memset(&made, 0, sizeof made); /* all its bytes are hashed */
	made.kind = row->container.length ? MAP_CONTAINER : MAP_PROCESS;
	made.local = true;
	if (made.kind == MAP_CONTAINER) {
		set_text(made.container, sizeof made.container, row->container);
		set_text(made.name, CONTAINER_DIGITS + 1, row->container);
	} else {
		set_text(made.name, sizeof made.name, row->comm);
		set_text(made.scope, sizeof made.scope, leaf_of(row->cgroup));
	}
	r = find_node(s, flame_hash(&s->secret, &made, sizeof made), &s->n_processes, s->limits.processes, ret);
	if (r == -ENOBUFS) {
		s->full_processes++;
		*ret = MAP_OTHER_PROCESSES;
		return 0;
	}
	if (r == 0)
		s->nodes[*ret] = made;
	if (r >= 0 && made.kind == MAP_CONTAINER)
		note_comm(&s->nodes[*ret], row->comm);
	return MIN_OF(r, 0);
}

/* Threads of one execution may have names of their own: the first that was seen is that of all. */
int map_find_owner(struct map_sums *s, const struct map_row *row, uint32_t *ret)
{
	uint64_t execution = flame_hash(&s->secret, row->proc.text, row->proc.length);
	int r;

	if (!row->owned)
		return row->local.has_address ? map_find_address(s, &row->local.address, false, ret)
					      : (*ret = MAP_OTHER_PROCESSES, 0);
	if (row->proc.length && !row->container.length && flame_map_find(&s->by_execution, execution, ret))
		return 0;
	r = find_process(s, row, ret);
	if (r == 0 && row->proc.length && !row->container.length && s->n_executions < s->limits.executions) {
		r = flame_map_put(&s->by_execution, execution, *ret);
		s->n_executions += r == 0;
	}
	return r == -ENOBUFS ? 0 : r;
}

/* ---- edges ---- */

static bool seek_edge(struct map_sums *s, uint32_t client, uint32_t server, uint16_t port, uint32_t limit,
		      struct map_edge **ret, int *error)
{
	struct {
		uint32_t client, server, port;
	} ends = { client, server, port };
	uint64_t key = flame_hash(&s->secret, &ends, sizeof ends);
	uint32_t place;

	if (!flame_map_find(&s->by_edge, key, &place)) {
		if (s->n_edges >= limit)
			return false;
		*error = flame_map_put(&s->by_edge, key, s->n_edges);
		if (*error < 0)
			return *error != -ENOBUFS;
		place = s->n_edges++;
		s->edges[place] = (struct map_edge){ .client = client, .server = server, .port = port };
	}
	*error = 0;
	*ret = &s->edges[place];
	return true;
}

static uint32_t others_of(const struct map_sums *s, uint32_t node)
{
	bool outside = s->nodes[node].kind == MAP_ADDRESS || node < MAP_OTHER_PROCESSES;

	return outside ? MAP_OTHER_CLIENTS : MAP_OTHER_PROCESSES;
}

/* Where there is no room for one more, an edge that is there among those of others, which always have theirs. */
int map_find_edge(struct map_sums *s, uint32_t client, uint32_t server, uint16_t port, struct map_edge **ret)
{
	uint32_t limit = s->limits.edges;
	int error = 0;

	server = map_as_server(server);
	if (seek_edge(s, client, server, port, limit, ret, &error))
		return error;
	s->full_edges++;
	if (seek_edge(s, others_of(s, client), map_as_server(others_of(s, server)), 0, limit + 4, ret, &error))
		return error;
	return -ENOMEM;
}

/* ---- services ---- */

static uint64_t listener_key(const struct map_sums *s, const struct map_address *address, uint16_t port)
{
	struct {
		struct map_address address;
		uint16_t port;
	} key = { *address, port };

	return flame_hash(&s->secret, &key, sizeof key);
}

const struct map_listener *map_find_listener(const struct map_sums *s, const struct map_address *address, uint16_t port)
{
	uint32_t place;

	return flame_map_find(&s->by_listener, listener_key(s, address, port), &place) ? &s->listeners[place] : NULL;
}

int map_note_listener(struct map_sums *s, const struct map_end *end, uint32_t node)
{
	uint64_t key = listener_key(s, &end->address, end->port);
	uint32_t place;
	int r;

	if (flame_map_find(&s->by_listener, key, &place)) {
		s->listeners[place].several |= s->listeners[place].node != node;
		return 0;
	}
	if (s->n_listeners >= s->limits.listeners)
		return 0;
	r = flame_map_put(&s->by_listener, key, s->n_listeners);
	if (r == 0)
		s->listeners[s->n_listeners++] = (struct map_listener){ end->address, end->port, false, node };
	return r == -ENOBUFS ? 0 : r;
}

static int find_service(struct map_sums *s, uint32_t node, uint16_t port, struct map_service **ret)
{
	uint32_t ends[2] = { node, port }, place;
	uint64_t key = flame_hash(&s->secret, ends, sizeof ends);
	int r;

	if (flame_map_find(&s->by_service, key, &place)) {
		*ret = &s->services[place];
		return 0;
	}
	*ret = &s->services[s->n_services];
	if (s->n_services >= s->limits.services) {
		s->full_services++;
		return -ENOBUFS;
	}
	r = flame_map_put(&s->by_service, key, s->n_services);
	if (r == 0)
		s->services[s->n_services++] = (struct map_service){ .node = node, .port = port };
	return r;
}

/* ---- rows ---- */

/* A server's row is of all its clients; a client's of one edge. */
static int add_turnaround(struct map_sums *s, struct map_row *row)
{
	bool client = row->side == MAP_CLIENT || (row->side == MAP_UNKNOWN && row->remote.has_port);
	struct map_service *service = NULL;
	struct map_edge *e;
	uint32_t node, server;
	int r;

	if (client ? !row->remote.has_address || !row->remote.has_port : !row->local.has_port)
		return -EBADMSG;
	r = map_find_owner(s, row, &node);
	if (r == 0 && client) {
		r = map_find_address(s, &row->remote.address, false, &server);
		if (r == 0)
			r = map_find_edge(s, node, server, row->remote.port, &e);
		if (r < 0)
			return r;
		map_sum(&e->answer_errors, row->errors);
		return map_add_answers(s, &e->answers, row);
	}
	if (r == 0 && row->owned && row->local.has_address)
		r = map_note_listener(s, &row->local, node);
	if (r == 0)
		r = find_service(s, node, row->local.port, &service);
	if (r < 0)
		return r == -ENOBUFS ? 0 : r;
	map_sum(&service->errors, row->errors);
	return map_add_answers(s, &service->answers, row);
}

int map_find_outward(struct map_sums *s, const struct map_row *row, struct map_edge **ret)
{
	uint32_t client, server;
	int r = map_find_owner(s, row, &client);

	if (r == 0)
		r = map_find_address(s, &row->remote.address, false, &server);
	return r < 0 ? r : map_find_edge(s, client, server, row->remote.port, ret);
}

/* That there is no such name is an answer as good as any. */
static bool is_failure(const struct map_row *row)
{
	if (row->error.length)
		return !map_text_is(row->error, "none");
	return row->rcode.length && !map_text_is(row->rcode, "NOERROR") && !map_text_is(row->rcode, "NXDOMAIN");
}

static int add_query(struct map_sums *s, const struct map_row *row)
{
	char name[MAP_CAUSE_MAX];
	struct map_edge *e;
	int r = map_find_outward(s, row, &e);

	if (r < 0)
		return r;
	if (is_failure(row)) {
		map_cause_name(row->error.length ? row->error : row->rcode, name);
		map_sum(&e->query_errors, 1);
		map_add_cause(e, MAP_AT_QUERY, name, 1);
	}
	return map_add_time(s, &e->queries, row->latency_ns);
}

static void note_host(struct map_sums *s, const struct map_row *row)
{
	char host[sizeof s->host];

	set_text(host, sizeof host, row->host);
	if (!s->rows)
		memcpy(s->host, host, sizeof host);
	s->several_hosts |= strcmp(s->host, host) != 0;
}

int map_sums_add(struct map_sums *s, struct map_row *row)
{
	uint32_t ignored;
	int r = 0;

	note_host(s, row);
	s->rows++;
	s->from = MIN_OF(s->from, row->ts);
	s->to = MAX_OF(s->to, row->ts);
	/* Where somebody of this host has an end, its address is this host's. */
	if (row->owned && row->local.has_address && !is_loopback(&row->local.address))
		r = map_find_address(s, &row->local.address, true, &ignored);
	if (r < 0)
		return r;
	if (row->event == MAP_TURNAROUND)
		return add_turnaround(s, row);
	return row->event == MAP_QUERY ? add_query(s, row) : map_connections_add(s, row);
}

uint64_t map_edge_errors(const struct map_edge *e)
{
	uint64_t n = e->failed;

	map_sum(&n, e->broken);
	map_sum(&n, e->answer_errors);
	map_sum(&n, e->query_errors);
	return n;
}

uint64_t map_edge_tries(const struct map_edge *e)
{
	uint64_t n = e->connections;

	map_sum(&n, e->failed);
	map_sum(&n, e->queries.count);
	return n;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table for a terminal: each client with its servers below it, widest first. What failed stands in a line of its own,
 * marked by an exclamation mark and, where colours are, red.
 */
#include "encode/cells.h"
#include "map/write.h"

#include <inttypes.h>
#include <string.h>

#define SLOW_NS NS_PER_SEC

/* Where columns begin. */
enum {
	AT_SERVER = 2,
	AT_COUNT = 38,
	AT_P50 = 47,
	AT_P99 = 57,
	AT_SENT = 67,
	AT_RECEIVED = 78,
	AT_RTT = 89,
	AT_RETRANSMITS = 99
};

struct lines {
	FILE *out;
	bool colour;
	unsigned columns;
	int error;
	struct cells cells;
};

static bool is_slow(const struct map_times *t)
{
	return map_percentile(t, 990) >= (int64_t)SLOW_NS;
}

bool map_edge_is_bad(const struct map_edge *e)
{
	uint64_t tries = map_edge_tries(e), errors = map_edge_errors(e);

	map_sum(&tries, e->answers.count);
	if (errors && errors >= tries / 100)
		return true;
	return is_slow(&e->connect) || is_slow(&e->answers) || is_slow(&e->queries);
}

static void begin(struct lines *l)
{
	cells_begin(&l->cells, l->colour, l->columns);
}

static void end(struct lines *l)
{
	int r;

	errno = 0;
	r = cells_write(&l->cells, l->out);
	if (r == 0 && fputc('\n', l->out) == EOF)
		r = errno ? -errno : -EIO;
	l->error = l->error ? l->error : r;
}

static void go_to(struct lines *l, unsigned column)
{
	if (l->cells.column >= column && column)
		cells_ascii(&l->cells, " ");
	while (l->cells.column < column && !l->cells.cut)
		cells_ascii(&l->cells, " ");
}

static void put_name(struct lines *l, const struct map_node *n)
{
	char label[MAP_LABEL_MAX];

	map_label(n, label);
	cells_text(&l->cells, (const uint8_t *)label, strlen(label), false);
}

static void put_time(struct lines *l, unsigned column, int64_t ns)
{
	if (ns < 0)
		return;
	go_to(l, column);
	cells_duration(&l->cells, (uint64_t)ns);
}

static void put_bytes(struct lines *l, unsigned column, uint64_t bytes)
{
	if (!bytes)
		return;
	go_to(l, column);
	cells_size(&l->cells, bytes);
}

static void put_count(struct lines *l, uint64_t count)
{
	go_to(l, AT_COUNT);
	cells_format(&l->cells, "%" PRIu64, count);
}

static void put_plural(struct lines *l, uint64_t count, const char *what)
{
	cells_format(&l->cells, "%" PRIu64 " %s%s, ", count, what, count == 1 ? "" : "s");
}

static void put_head(struct lines *l, const struct map_view *v)
{
	static const struct {
		unsigned column;
		const char *text;
	} heads[] = { { AT_SERVER, "SERVER" }, { AT_COUNT, "COUNT" },
		      { AT_P50, "P50" },       { AT_P99, "P99" },
		      { AT_SENT, "SENT" },     { AT_RECEIVED, "RECEIVED" },
		      { AT_RTT, "RTT" },       { AT_RETRANSMITS, "RETRANSMITS" } };

	begin(l);
	put_plural(l, v->n_nodes, "node");
	put_plural(l, v->n_edges, "edge");
	put_plural(l, v->connections, "connection");
	cells_format(&l->cells, "%" PRIu64 " failed", v->failed);
	cells_ascii(&l->cells, ", in ");
	cells_duration(&l->cells, v->to - v->from);
	end(l);
	begin(l);
	cells_colour(&l->cells, CELLS_DIM);
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		go_to(l, heads[i].column);
		cells_ascii(&l->cells, heads[i].text);
	}
	cells_plain(&l->cells);
	end(l);
}

static void put_client(struct lines *l, const struct map_node *n)
{
	begin(l);
	cells_colour(&l->cells, CELLS_BOLD);
	put_name(l, n);
	cells_plain(&l->cells);
	if (n->scope[0]) {
		cells_colour(&l->cells, CELLS_DIM);
		cells_ascii(&l->cells, "  ");
		cells_text(&l->cells, (const uint8_t *)n->scope, strlen(n->scope), false);
		cells_plain(&l->cells);
	}
	end(l);
}

static void put_server(struct lines *l, const struct map_view *v, const struct map_edge *e)
{
	begin(l);
	go_to(l, AT_SERVER);
	put_name(l, &v->nodes[e->server]);
	if (e->port)
		cells_format(&l->cells, " :%u", e->port);
	put_count(l, e->connections);
	put_time(l, AT_P50, map_percentile(&e->connect, 500));
	put_time(l, AT_P99, map_percentile(&e->connect, 990));
	put_bytes(l, AT_SENT, e->sent_bytes);
	put_bytes(l, AT_RECEIVED, e->received_bytes);
	if (e->srtt_count)
		put_time(l, AT_RTT, (int64_t)MIN_OF(e->srtt_sum / e->srtt_count, (uint64_t)INT64_MAX));
	if (e->retransmits) {
		go_to(l, AT_RETRANSMITS);
		cells_format(&l->cells, "%" PRIu64, e->retransmits);
	}
	end(l);
}

static void put_times(struct lines *l, const char *what, const struct map_times *t)
{
	if (!t->count)
		return;
	begin(l);
	go_to(l, AT_SERVER + 2);
	cells_ascii(&l->cells, what);
	put_count(l, t->count);
	put_time(l, AT_P50, map_percentile(t, 500));
	put_time(l, AT_P99, map_percentile(t, 990));
	end(l);
}

static void put_errors(struct lines *l, const struct map_edge *e)
{
	static const char *const phases[MAP_PHASES] = { "no connection", "broken", "query" };
	const char *before = "";

	if (!map_edge_errors(e))
		return;
	begin(l);
	cells_colour(&l->cells, CELLS_RED);
	cells_ascii(&l->cells, "  ! ");
	for (uint32_t i = 0; i < e->n_causes; i++) {
		cells_format(&l->cells, "%s%" PRIu64 " %s: %s", before, e->causes[i].count, phases[e->causes[i].phase],
			     e->causes[i].name);
		before = ", ";
	}
	if (e->answer_errors)
		cells_format(&l->cells, "%s%" PRIu64 " without an answer", before, e->answer_errors);
	cells_plain(&l->cells);
	end(l);
}

static void put_services(struct lines *l, const struct map_view *v, uint32_t node, bool *named)
{
	for (uint32_t i = 0; i < v->n_services; i++) {
		const struct map_service *service = &v->services[i];
		char what[64];

		if (service->node != node)
			continue;
		if (!*named)
			put_client(l, &v->nodes[node]);
		*named = true;
		snprintf(what, sizeof what, "answers of its port %u", service->port);
		put_times(l, what, &service->answers);
		if (!service->errors)
			continue;
		begin(l);
		cells_colour(&l->cells, CELLS_RED);
		cells_format(&l->cells, "  ! %" PRIu64 " without an answer", service->errors);
		cells_plain(&l->cells);
		end(l);
	}
}

/* Edges are sorted by weight, so each client's are too; `first` and `next` chain them by client. */
static void put_node(struct lines *l, const struct map_view *v, uint32_t node, const uint32_t *first,
		     const uint32_t *next)
{
	bool named = first[node] != 0;

	if (named)
		put_client(l, &v->nodes[node]);
	for (uint32_t at = first[node]; at; at = next[at - 1]) {
		const struct map_edge *e = &v->edges[at - 1];

		put_server(l, v, e);
		put_times(l, "answers", &e->answers);
		put_times(l, "DNS queries", &e->queries);
		put_errors(l, e);
	}
	put_services(l, v, node, &named);
}

int map_write_text(FILE *out, const struct map_view *v, bool colour, unsigned columns)
{
	_cleanup_(free_pointer) uint32_t *first = calloc(v->n_nodes + 1u, sizeof *first);
	_cleanup_(free_pointer) uint32_t *next = calloc(v->n_edges + 1u, sizeof *next);
	struct lines lines = { .out = out, .colour = colour, .columns = columns };

	if (!first || !next)
		return -ENOMEM;
	for (uint32_t i = v->n_edges; i-- > 0;) {
		next[i] = first[v->edges[i].client];
		first[v->edges[i].client] = i + 1;
	}
	put_head(&lines, v);
	for (uint32_t i = 0; i < v->n_nodes && !lines.error; i++)
		put_node(&lines, v, i, first, next);
	return lines.error ? lines.error : fflush(out) == EOF ? -errno : 0;
}

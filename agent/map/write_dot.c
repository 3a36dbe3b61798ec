/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For Graphviz. Names stand in quoted texts only: there a backslash, a quote and, since Graphviz knows HTML's entities, an
 * ampersand mean something, and are escaped; control characters were taken out as names came in.
 */
#include "encode/cells.h"
#include "map/write.h"

#include <inttypes.h>
#include <string.h>

static void put_escaped(FILE *out, const char *text)
{
	for (; *text; text++)
		if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else if (*text == '&')
			fputs("&amp;", out);
		else
			fputc(*text, out);
}

static void put_duration(FILE *out, const char *what, int64_t ns)
{
	struct cells cells;

	if (ns < 0)
		return;
	cells_begin(&cells, false, 0);
	cells_ascii(&cells, what);
	cells_duration(&cells, (uint64_t)ns);
	cells_write(&cells, out);
}

/* From 1 to 7 points: a tenfold of traffic is half a point. */
static double width_of(const struct map_edge *e)
{
	uint64_t bytes = e->sent_bytes | e->received_bytes;
	double width = 1;

	for (; bytes > 1; bytes >>= 1)
		width += 0.15;
	return MIN_OF(width, 7);
}

static void put_edge(FILE *out, const struct map_edge *e)
{
	fprintf(out, "\tn%" PRIu32 " -> n%" PRIu32 " [label=\"", e->client, e->server);
	if (e->port)
		fprintf(out, ":%u\\n", e->port);
	fprintf(out, "%" PRIu64 "x", map_edge_tries(e));
	put_duration(out, " connect p99 ", map_percentile(&e->connect, 990));
	put_duration(out, " answer p99 ", map_percentile(&e->answers, 990));
	put_duration(out, " query p99 ", map_percentile(&e->queries, 990));
	if (map_edge_errors(e))
		fprintf(out, "\\n%" PRIu64 " errors", map_edge_errors(e));
	fprintf(out, "\", penwidth=%.1f", width_of(e));
	if (map_edge_is_bad(e))
		fputs(", color=\"#c8322b\", fontcolor=\"#c8322b\"", out);
	fputs("];\n", out);
}

int map_write_dot(FILE *out, const struct map_view *v)
{
	static const char *const shapes[MAP_KINDS] = { "box", "box3d", "ellipse", "ellipse" };
	char label[MAP_LABEL_MAX];

	errno = 0;
	fputs("digraph sonde {\n\trankdir=LR;\n\tnode [shape=box, style=\"rounded,filled\", fillcolor=\"#eef2f7\", "
	      "color=\"#7a8696\", fontname=\"sans-serif\", fontsize=11];\n"
	      "\tedge [color=\"#7a8696\", fontname=\"sans-serif\", fontsize=9];\n",
	      out);
	for (uint32_t i = 0; i < v->n_nodes; i++) {
		const struct map_node *n = &v->nodes[i];

		map_label(n, label);
		fprintf(out, "\tn%" PRIu32 " [shape=%s, label=\"", i, shapes[n->kind]);
		put_escaped(out, label);
		if (n->scope[0]) {
			fputs("\\n", out);
			put_escaped(out, n->scope);
		}
		fputs("\"];\n", out);
	}
	for (uint32_t i = 0; i < v->n_edges; i++)
		put_edge(out, &v->edges[i]);
	fputs("}\n", out);
	return ferror(out) || fflush(out) == EOF ? (errno ? -errno : -EIO) : 0;
}

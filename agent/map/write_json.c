/* SPDX-License-Identifier: Apache-2.0 */
/* JSON for programs and for the page. Numbers that are not known are not there. */
#include "map/write.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char *const kinds[MAP_KINDS] = { "process", "container", "address", "others" };
static const char *const phases[MAP_PHASES] = { "connect", "close", "query" };

int64_t map_percentile(const struct map_times *t, unsigned permille)
{
	return t->histogram && t->histogram->count ? (int64_t)histogram_percentile(t->histogram, permille) : -1;
}

void map_label(const struct map_node *n, char room[MAP_LABEL_MAX])
{
	if (n->kind == MAP_CONTAINER && n->comms[0][0])
		snprintf(room, MAP_LABEL_MAX, "%s (%s)", n->comms[0], n->name);
	else if (n->kind == MAP_OTHERS && n->merged)
		snprintf(room, MAP_LABEL_MAX, "%" PRIu64 " %s", n->merged, n->name);
	else
		snprintf(room, MAP_LABEL_MAX, "%s", n->name[0] ? n->name : "?");
}

static void put_text(struct sink *s, const char *key, const char *text)
{
	if (!*text)
		return;
	sink_format(s, ",\"%s\":", key);
	sink_string(s, (struct flame_span){ text, strlen(text) });
}

static void put_number(struct sink *s, const char *key, uint64_t number)
{
	sink_format(s, ",\"%s\":", key);
	sink_number(s, number);
}

static void put_times(struct sink *s, const char *key, const struct map_times *t, uint64_t errors)
{
	static const struct {
		const char *name;
		unsigned permille;
	} marks[] = { { "p50_ns", 500 }, { "p90_ns", 900 }, { "p99_ns", 990 } };

	if (!t->count && !errors)
		return;
	sink_format(s, ",\"%s\":{\"count\":%" PRIu64, key, t->count);
	put_number(s, "errors", errors);
	if (t->count) {
		put_number(s, "mean_ns", t->sum / t->count);
		put_number(s, "max_ns", t->max);
	}
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
		if (map_percentile(t, marks[i].permille) >= 0)
			put_number(s, marks[i].name, (uint64_t)map_percentile(t, marks[i].permille));
	sink_put(s, "}", 1);
}

static void put_node(struct sink *s, const struct map_node *n, uint32_t id)
{
	char label[MAP_LABEL_MAX];

	map_label(n, label);
	sink_format(s, "%s\n{\"id\":%" PRIu32 ",\"kind\":\"%s\"", id ? "," : "", id, kinds[n->kind]);
	put_text(s, "label", label);
	put_text(s, "name", n->name);
	put_text(s, "container", n->container);
	put_text(s, "scope", n->scope);
	if (n->comms[0][0]) {
		sink_format(s, ",\"comms\":[");
		for (size_t i = 0; i < MAP_COMMS_MAX && n->comms[i][0]; i++) {
			sink_put(s, ",", i ? 1 : 0);
			sink_string(s, (struct flame_span){ n->comms[i], strlen(n->comms[i]) });
		}
		sink_put(s, "]", 1);
	}
	if (n->merged)
		put_number(s, "merged", n->merged);
	sink_format(s, ",\"local\":%s}", n->local ? "true" : "false");
}

static void put_causes(struct sink *s, const struct map_edge *e)
{
	if (!e->n_causes)
		return;
	sink_format(s, ",\"causes\":[");
	for (uint32_t i = 0; i < e->n_causes; i++)
		sink_format(s, "%s{\"at\":\"%s\",\"cause\":\"%s\",\"count\":%" PRIu64 "}", i ? "," : "",
			    phases[e->causes[i].phase], e->causes[i].name, e->causes[i].count);
	sink_put(s, "]", 1);
}

static void put_edge(struct sink *s, const struct map_edge *e, bool first)
{
	sink_format(s, "%s\n{\"client\":%" PRIu32 ",\"server\":%" PRIu32, first ? "" : ",", e->client, e->server);
	if (e->port)
		put_number(s, "port", e->port);
	put_number(s, "connections", e->connections);
	put_number(s, "failed", e->failed);
	put_number(s, "broken", e->broken);
	put_number(s, "sent_bytes", e->sent_bytes);
	put_number(s, "received_bytes", e->received_bytes);
	put_number(s, "retransmits", e->retransmits);
	if (e->srtt_count)
		put_number(s, "srtt_ns", e->srtt_sum / e->srtt_count);
	put_times(s, "connect", &e->connect, e->failed);
	put_times(s, "answers", &e->answers, e->answer_errors);
	put_times(s, "queries", &e->queries, e->query_errors);
	put_causes(s, e);
	put_number(s, "errors", map_edge_errors(e));
	sink_format(s, ",\"bad\":%s}", map_edge_is_bad(e) ? "true" : "false");
}

void map_put_json(struct sink *s, const struct map_view *v)
{
	sink_format(s, "{\"from_ns\":%" PRIu64 ",\"to_ns\":%" PRIu64, v->from, v->to);
	put_text(s, "host", v->host);
	put_number(s, "rows", v->rows);
	put_number(s, "connections", v->connections);
	put_number(s, "failed", v->failed);
	sink_format(s, ",\"notes\":[");
	for (const char *note = v->notes; *note; note += strlen(note) + 1) {
		sink_put(s, ",", note == v->notes ? 0 : 1);
		sink_string(s, (struct flame_span){ note, strlen(note) });
	}
	sink_format(s, "],\n\"nodes\":[");
	for (uint32_t i = 0; i < v->n_nodes; i++)
		put_node(s, &v->nodes[i], i);
	sink_format(s, "],\n\"edges\":[");
	for (uint32_t i = 0; i < v->n_edges; i++)
		put_edge(s, &v->edges[i], i == 0);
	sink_format(s, "],\n\"services\":[");
	for (uint32_t i = 0; i < v->n_services; i++) {
		const struct map_service *service = &v->services[i];

		sink_format(s, "%s\n{\"node\":%" PRIu32 ",\"port\":%u", i ? "," : "", service->node, service->port);
		put_times(s, "answers", &service->answers, service->errors);
		sink_put(s, "}", 1);
	}
	sink_format(s, "]}\n");
}

int map_write_json(FILE *out, const struct map_view *view)
{
	struct sink *sink;
	int r = sink_make(&sink, out, true);

	if (r < 0)
		return r;
	map_put_json(sink, view);
	r = sink_end(sink);
	errno = 0;
	return r < 0 ? r : fflush(out) == EOF ? (errno ? -errno : -EIO) : 0;
}

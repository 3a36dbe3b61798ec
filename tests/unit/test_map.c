/* SPDX-License-Identifier: Apache-2.0 */
/* The sums of sonde map, from made-up rows: both ends of a connection joined, ends of which nobody tells, bounds, hostile
 * names and damage. Real connections and the page are for tests/e2e/test_map.py. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "encode/pack.h"
#include "map/write.h"

static const struct map_limits wide = { 64, 256, 256, 64, 64, 64, 64, 64, 40 };

struct row {
	const char *type, *comm, *cgroup, *container, *proc, *laddr, *raddr, *error, *side, *rcode;
	uint64_t lport, rport, latency_ns, sent, received, srtt, retransmits, count, errors;
};

static uint16_t put_str(struct pack *p, const char *key, const char *value)
{
	if (!value)
		return 0;
	pack_text(p, key);
	pack_text(p, value);
	return 1;
}

static uint16_t put_uint(struct pack *p, const char *key, uint64_t value)
{
	if (!value)
		return 0;
	pack_text(p, key);
	pack_uint(p, value);
	return 1;
}

static size_t pack_row(uint8_t room[2048], const struct row *row)
{
	struct pack p = pack_over(room, 2048);
	uint8_t *map = pack_open_map(&p), *hist;
	bool dns = strcmp(row->type, "dns.query") == 0;
	uint16_t n = put_str(&p, "type", row->type);

	n += put_uint(&p, "ts", 1000);
	n += put_str(&p, "host", "h");
	n += put_str(&p, "comm", row->comm);
	n += put_str(&p, "proc", row->proc);
	n += put_str(&p, "container", row->container);
	n += put_str(&p, "cgroup", row->cgroup);
	n += put_str(&p, dns ? "client" : "laddr", row->laddr);
	n += put_str(&p, dns ? "server" : "raddr", row->raddr);
	n += put_uint(&p, dns ? "client_port" : "lport", row->lport);
	n += put_uint(&p, dns ? "server_port" : "rport", row->rport);
	n += put_str(&p, "side", row->side);
	n += put_str(&p, "error", row->error);
	n += put_str(&p, "rcode", row->rcode);
	n += put_uint(&p, "latency_ns", row->latency_ns);
	n += put_uint(&p, "sent_bytes", row->sent);
	n += put_uint(&p, "received_bytes", row->received);
	n += put_uint(&p, "srtt_ns", row->srtt);
	n += put_uint(&p, "retransmits", row->retransmits);
	n += put_uint(&p, "errors", row->errors);
	if (row->count) {
		n += put_uint(&p, "count", row->count);
		n += put_uint(&p, "max_ns", 5000);
		pack_text(&p, "hist");
		hist = pack_open_map(&p);
		n += 1;
		pack_text(&p, "1024");
		pack_uint(&p, row->count - 1);
		pack_text(&p, "4096");
		pack_uint(&p, 1);
		pack_close(&p, hist, 2);
	}
	pack_close(&p, map, n);
	assert_false(p.full);
	return (size_t)(p.at - room);
}

static int add(struct map_sums *s, const struct row *row)
{
	uint8_t room[2048];
	size_t size = pack_row(room, row);
	struct map_row read;
	int r = map_row_read(room, size, &read);

	return r < 0 ? r : map_sums_add(s, &read);
}

static struct map_view finish(struct map_sums *s)
{
	struct map_view view;

	assert_int_equal(map_sums_finish(s, &view), 0);
	return view;
}

static struct map_sums *sums(const struct map_limits *limits)
{
	struct map_sums *s;

	assert_int_equal(map_sums_make(&s, limits), 0);
	return s;
}

/* The four rows of one connection of this host with itself. */
static void add_whole(struct map_sums *s, const char *client, const char *server, uint64_t port, uint64_t ephemeral)
{
	struct row rows[] = {
		{ .type = "tcp.connect", .comm = client, .lport = ephemeral, .rport = port, .latency_ns = 50000 },
		{ .type = "tcp.accept", .comm = server, .lport = port, .rport = ephemeral, .latency_ns = 70000 },
		{ .type = "tcp.close",
		  .comm = client,
		  .side = "client",
		  .lport = ephemeral,
		  .rport = port,
		  .sent = 10,
		  .received = 200,
		  .srtt = 30,
		  .retransmits = 1 },
		{ .type = "tcp.close",
		  .comm = server,
		  .side = "server",
		  .lport = port,
		  .rport = ephemeral,
		  .sent = 200,
		  .received = 10,
		  .srtt = 40,
		  .retransmits = 2 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		rows[i].laddr = rows[i].raddr = "127.0.0.1";
		assert_int_equal(add(s, &rows[i]), 0);
	}
}

static const char *label(const struct map_view *v, uint32_t node)
{
	static char room[4][MAP_LABEL_MAX];
	static unsigned turn;

	turn = (turn + 1) % 4;
	map_label(&v->nodes[node], room[turn]);
	return room[turn];
}

static void test_both_ends_are_one_edge(void **state)
{
	struct map_sums *s = sums(&wide);
	struct map_view v;

	for (uint64_t i = 0; i < 200; i++) /* more than fit the table of connections */
		add_whole(s, "curl", "nginx", 80, 40000 + i);
	v = finish(s);
	assert_int_equal(v.n_nodes, 2);
	assert_int_equal(v.n_edges, 1);
	assert_string_equal(label(&v, v.edges[0].client), "curl");
	assert_string_equal(label(&v, v.edges[0].server), "nginx");
	assert_int_equal(v.edges[0].port, 80);
	assert_int_equal(v.edges[0].connections, 200);
	assert_int_equal(v.edges[0].sent_bytes, 2000);
	assert_int_equal(v.edges[0].received_bytes, 40000);
	assert_int_equal(v.edges[0].retransmits, 600);
	assert_int_equal(v.edges[0].srtt_sum / v.edges[0].srtt_count, 30);
	assert_int_equal(v.edges[0].connect.count, 200);
	assert_in_range(map_percentile(&v.edges[0].connect, 990), 48000, 52000);
	assert_int_equal(map_edge_errors(&v.edges[0]), 0);
	map_sums_free(s);
}

static void test_same_four_anew(void **state)
{
	struct map_sums *s = sums(&wide);
	struct map_view v;

	for (int i = 0; i < 7; i++)
		add_whole(s, "curl", "nginx", 80, 40000);
	v = finish(s);
	assert_int_equal(v.n_edges, 1);
	assert_int_equal(v.edges[0].connections, 7);
	assert_int_equal(v.edges[0].sent_bytes, 70);
	map_sums_free(s);
}

static void test_ends_of_which_nobody_tells(void **state)
{
	static const struct row rows[] = {
		{ .type = "tcp.connect",
		  .comm = "curl",
		  .laddr = "10.0.0.1",
		  .raddr = "10.0.0.9",
		  .lport = 4000,
		  .rport = 443,
		  .latency_ns = 9 },
		{ .type = "tcp.connect",
		  .comm = "curl",
		  .laddr = "10.0.0.1",
		  .raddr = "10.0.0.9",
		  .lport = 4001,
		  .rport = 443,
		  .error = "ETIMEDOUT" },
		{ .type = "tcp.accept",
		  .comm = "nginx",
		  .laddr = "::ffff:10.0.0.1",
		  .raddr = "10.0.0.8",
		  .lport = 80,
		  .rport = 5000 },
		{ .type = "tcp.close",
		  .comm = "nginx",
		  .side = "server",
		  .laddr = "10.0.0.1",
		  .raddr = "10.0.0.8",
		  .lport = 80,
		  .rport = 5000,
		  .sent = 7,
		  .received = 3,
		  .error = "ECONNRESET" },
		/* Its accept was never told, but another one of the same service was. */
		{ .type = "tcp.connect",
		  .comm = "wget",
		  .laddr = "10.0.0.1",
		  .raddr = "10.0.0.1",
		  .lport = 4002,
		  .rport = 80,
		  .latency_ns = 9 },
		/* Which end this is shows only by who listens. */
		{ .type = "tcp.close",
		  .comm = "nginx",
		  .laddr = "10.0.0.1",
		  .raddr = "10.0.0.7",
		  .lport = 80,
		  .rport = 12 },
	};
	struct map_sums *s = sums(&wide);
	struct map_view v;
	unsigned seen = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(add(s, &rows[i]), 0);
	v = finish(s);
	assert_int_equal(v.n_edges, 4);
	for (uint32_t i = 0; i < v.n_edges; i++) {
		const struct map_edge *e = &v.edges[i];

		if (!strcmp(label(&v, e->client), "curl")) {
			assert_string_equal(label(&v, e->server), "10.0.0.9");
			assert_int_equal(e->connections + 10 * e->failed, 11);
			assert_string_equal(e->causes[0].name, "ETIMEDOUT");
			seen |= 1;
		} else if (!strcmp(label(&v, e->client), "10.0.0.8")) {
			assert_string_equal(label(&v, e->server), "nginx");
			assert_int_equal(e->sent_bytes, 3);
			assert_int_equal(e->received_bytes, 7);
			assert_int_equal(e->broken, 1);
			seen |= 2;
		} else if (!strcmp(label(&v, e->client), "wget")) {
			assert_string_equal(label(&v, e->server), "nginx");
			seen |= 4;
		} else if (!strcmp(label(&v, e->client), "10.0.0.7")) {
			assert_string_equal(label(&v, e->server), "nginx");
			seen |= 8;
		}
	}
	assert_int_equal(seen, 15);
	assert_int_equal(v.connections, 4);
	assert_int_equal(v.failed, 1);
	map_sums_free(s);
}

static void test_who_is_one_node(void **state)
{
	static const struct row rows[] = {
		{ .comm = "java", .proc = "a", .cgroup = "/system.slice/app.service", .lport = 1 },
		{ .comm = "http-exec-1", .proc = "a", .cgroup = "/system.slice/app.service", .lport = 2 },
		{ .comm = "java", .proc = "b", .cgroup = "/system.slice/app.service", .lport = 3 },
		{ .comm = "java", .proc = "c", .cgroup = "/system.slice/other.service", .lport = 4 },
		{ .comm = "sh", .proc = "d", .container = "0123456789abcdef", .lport = 5 },
		{ .comm = "node", .proc = "e", .container = "0123456789abcdef", .lport = 6 },
	};
	struct map_sums *s = sums(&wide);
	struct map_view v;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct row row = rows[i];

		row.type = "tcp.connect";
		row.laddr = "10.0.0.1", row.raddr = "10.0.0.2", row.rport = 9, row.latency_ns = 1;
		assert_int_equal(add(s, &row), 0);
	}
	v = finish(s);
	assert_int_equal(v.n_nodes, 4);
	for (uint32_t i = 0; i < v.n_edges; i++) {
		const struct map_node *n = &v.nodes[v.edges[i].client];
		bool app = !strcmp(n->scope, "app.service");

		assert_int_equal(v.edges[i].connections, app ? 3 : n->kind == MAP_CONTAINER ? 2 : 1);
		if (n->kind == MAP_CONTAINER)
			assert_string_equal(label(&v, v.edges[i].client), "sh (0123456789ab)");
	}
	map_sums_free(s);
}

static void test_same_address_of_several(void **state)
{
	static const struct row lost = { .type = "tcp.connect",
					 .comm = "x",
					 .laddr = "127.0.0.1",
					 .raddr = "127.0.0.1",
					 .lport = 9,
					 .rport = 80,
					 .latency_ns = 1 };
	struct map_sums *s = sums(&wide);
	struct map_view v;
	bool found = false;

	add_whole(s, "a", "nginx", 80, 1000);
	add_whole(s, "b", "apache", 80, 2000);
	assert_int_equal(add(s, &lost), 0);
	v = finish(s);
	assert_int_equal(v.n_edges, 3);
	for (uint32_t i = 0; i < v.n_edges; i++)
		if (!strcmp(label(&v, v.edges[i].client), "x")) {
			assert_string_equal(label(&v, v.edges[i].server), "127.0.0.1");
			found = true;
		}
	assert_true(found);
	map_sums_free(s);
}

static void test_answers_and_queries(void **state)
{
	static const struct row rows[] = {
		{ .type = "tcp.turnaround",
		  .comm = "pg",
		  .side = "server",
		  .laddr = "127.0.0.1",
		  .lport = 5432,
		  .count = 100,
		  .errors = 3 },
		{ .type = "tcp.turnaround",
		  .comm = "pg",
		  .side = "server",
		  .laddr = "127.0.0.1",
		  .lport = 5432,
		  .count = 50 },
		{ .type = "tcp.turnaround",
		  .comm = "app",
		  .side = "client",
		  .raddr = "127.0.0.1",
		  .rport = 5432,
		  .count = 100 },
		{ .type = "dns.query",
		  .comm = "app",
		  .laddr = "10.0.0.1",
		  .raddr = "10.0.0.53",
		  .lport = 99,
		  .rport = 53,
		  .rcode = "NOERROR",
		  .latency_ns = 1000 },
		{ .type = "dns.query",
		  .comm = "app",
		  .laddr = "10.0.0.1",
		  .raddr = "10.0.0.53",
		  .lport = 98,
		  .rport = 53,
		  .rcode = "SERVFAIL",
		  .latency_ns = 1000 },
		{ .type = "dns.query",
		  .comm = "app",
		  .laddr = "10.0.0.1",
		  .raddr = "10.0.0.53",
		  .lport = 97,
		  .rport = 53,
		  .error = "timeout",
		  .latency_ns = 5000 },
		{ .type = "dns.query",
		  .comm = "app",
		  .laddr = "10.0.0.1",
		  .raddr = "10.0.0.53",
		  .lport = 96,
		  .rport = 53,
		  .rcode = "NXDOMAIN",
		  .error = "none",
		  .latency_ns = 5 },
	};
	struct map_sums *s = sums(&wide);
	struct map_view v;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(add(s, &rows[i]), 0);
	v = finish(s);
	assert_int_equal(v.n_services, 1);
	assert_int_equal(v.services[0].answers.count, 150);
	assert_int_equal(v.services[0].errors, 3);
	assert_in_range(map_percentile(&v.services[0].answers, 500), 1024, 1060);
	assert_string_equal(label(&v, v.services[0].node), "pg");
	assert_int_equal(v.n_edges, 2);
	for (uint32_t i = 0; i < 2; i++)
		if (v.edges[i].port == 53) {
			assert_int_equal(v.edges[i].queries.count, 4);
			assert_int_equal(v.edges[i].query_errors, 2);
		} else {
			assert_int_equal(v.edges[i].answers.count, 100);
		}
	map_sums_free(s);
}

/* Every table too small by far: what does not fit is with the others, and the sums stay whole. */
static void test_bounds(void **state)
{
	static const struct map_limits narrow = { 4, 8, 8, 2, 2, 2, 4, 3, 2 };
	struct map_sums *s = sums(&narrow);
	uint64_t connections = 0, bytes = 0;
	char comm[16], address[32];
	struct map_view v;

	for (uint64_t i = 0; i < 300; i++) {
		struct row row = { .type = "tcp.close",
				   .side = i % 3 ? "client" : "server",
				   .comm = comm,
				   .laddr = "10.0.0.1",
				   .raddr = address,
				   .lport = 1000 + i,
				   .rport = 1 + i % 50,
				   .sent = 5,
				   .received = 6 };

		snprintf(comm, sizeof comm, "p%u", (unsigned)(i % 11));
		snprintf(address, sizeof address, "192.0.2.%u", (unsigned)(i % 200));
		assert_int_equal(add(s, &row), 0);
		row = (struct row){ .type = "tcp.turnaround",
				    .comm = comm,
				    .side = "server",
				    .laddr = "10.0.0.1",
				    .lport = i + 1,
				    .count = 2 };
		assert_int_equal(add(s, &row), 0);
	}
	v = finish(s);
	for (uint32_t i = 0; i < v.n_edges; i++) {
		connections += v.edges[i].connections;
		bytes += v.edges[i].sent_bytes + v.edges[i].received_bytes;
		assert_true(v.edges[i].client < v.n_nodes && v.edges[i].server < v.n_nodes);
	}
	assert_int_equal(connections, 300);
	assert_int_equal(v.connections, 300);
	assert_int_equal(bytes, 3300);
	assert_true(v.n_nodes <= 4 + 2 + 3);
	assert_true(v.n_services <= 2);
	assert_non_null(strstr(v.notes, "not told apart"));
	map_sums_free(s);
}

static void test_peers_are_grouped(void **state)
{
	struct map_limits few = wide;
	struct map_sums *s;
	struct map_view v;
	bool found = false;
	char address[32];

	few.peers = 5;
	s = sums(&few);
	for (unsigned i = 0; i < 30; i++) {
		struct row row = { .type = "tcp.close",
				   .side = "server",
				   .comm = "nginx",
				   .laddr = "10.0.0.1",
				   .raddr = address,
				   .lport = 80,
				   .rport = 1000 + i,
				   .sent = 100 + i / 2 };

		snprintf(address, sizeof address, "192.0.2.%u", i);
		assert_int_equal(add(s, &row), 0);
	}
	v = finish(s);
	assert_int_equal(v.n_nodes, 1 + 5 + 1);
	for (uint32_t i = 0; i < v.n_edges; i++)
		if (v.nodes[v.edges[i].client].kind == MAP_OTHERS) {
			assert_string_equal(label(&v, v.edges[i].client), "25 other clients");
			assert_int_equal(v.edges[i].connections, 25);
			found = true;
		}
	assert_true(found);
	map_sums_free(s);
}

static void write_all_forms(const struct map_view *v, char **ret, size_t *size)
{
	FILE *out = open_memstream(ret, size);

	assert_int_equal(map_write_text(out, v, true, 100), 0);
	assert_int_equal(map_write_dot(out, v), 0);
	assert_int_equal(map_write_json(out, v), 0);
	assert_int_equal(map_write_page(out, v, true), 0);
	assert_int_equal(map_write_page(out, v, false), 0);
	fclose(out);
}

static void test_hostile_names(void **state)
{
	static const char *const names[] = { "</script><b>",
					     "\" ]; evil [",
					     "\x1b[31m\n\r",
					     "\xff\xfe\xc3(",
					     "&lt;&amp;\\N\\",
					     "{{data}}",
					     "\xe2\x80\xae"
					     "txt" };
	struct map_sums *s = sums(&wide);
	struct map_view v;
	char *text;
	size_t size;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct row row = { .type = "tcp.connect",
				   .comm = names[i],
				   .cgroup = names[i],
				   .container = i % 2 ? names[i] : NULL,
				   .proc = names[i],
				   .laddr = "10.0.0.1",
				   .raddr = "10.0.0.2",
				   .lport = 1,
				   .rport = 2,
				   .error = names[i] };

		assert_int_equal(add(s, &row), 0);
	}
	v = finish(s);
	assert_int_equal(v.failed, ARRAY_SIZE(names));
	for (uint32_t i = 0; i < v.n_edges; i++)
		assert_string_equal(v.edges[i].causes[0].name, "other");
	write_all_forms(&v, &text, &size);
	assert_null(strstr(text, "</script><b>\""));
	assert_null(strstr(text, "\"\" ];"));
	assert_null(strstr(text, "\xff\xfe"));
	assert_null(strstr(text, "\xe2\x80\xae"));
	assert_null(strstr(text, "\x1b[31m\n"));
	assert_non_null(strstr(text, "\\u003c/script\\u003e\\u003cb\\u003e"));
	assert_non_null(strstr(text, "&amp;lt;&amp;amp;\\\\N\\\\"));
	free(text);
	map_sums_free(s);
}

static void test_huge_numbers_stop(void **state)
{
	struct row row = { .type = "tcp.close",
			   .side = "client",
			   .comm = "x",
			   .laddr = "10.0.0.1",
			   .raddr = "10.0.0.2",
			   .lport = 1,
			   .rport = 2,
			   .sent = UINT64_MAX,
			   .received = UINT64_MAX,
			   .retransmits = UINT64_MAX,
			   .srtt = UINT64_MAX };
	struct row answers = { .type = "tcp.turnaround",
			       .side = "client",
			       .comm = "x",
			       .raddr = "10.0.0.2",
			       .rport = 2,
			       .count = UINT64_MAX,
			       .errors = UINT64_MAX };
	struct map_sums *s = sums(&wide);
	struct map_view v;
	char *text;
	size_t size;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(add(s, &row), 0);
		assert_int_equal(add(s, &answers), 0);
	}
	v = finish(s);
	assert_int_equal(v.edges[0].sent_bytes, UINT64_MAX);
	assert_int_equal(v.edges[0].answer_errors, UINT64_MAX);
	assert_in_range(map_percentile(&v.edges[0].answers, 500), 1024, 1060);
	write_all_forms(&v, &text, &size);
	free(text);
	map_sums_free(s);
}

/* A row cut anywhere, and with any byte of it changed: refused or counted, and nothing is read past its end. */
static void test_damaged_rows(void **state)
{
	static const struct row whole = { .type = "tcp.turnaround",
					  .side = "client",
					  .comm = "x",
					  .laddr = "10.0.0.1",
					  .raddr = "::1",
					  .lport = 7,
					  .rport = 2,
					  .count = 40 };
	struct map_sums *s = sums(&wide);
	uint8_t room[2048];
	size_t size = pack_row(room, &whole);
	struct map_row row;

	for (size_t n = 0; n < size; n++) {
		uint8_t *part = malloc(n + 1);

		memcpy(part, room, n);
		assert_int_not_equal(map_row_read(part, n, &row), 0);
		free(part);
	}
	for (size_t at = 0; at < size; at++)
		for (unsigned change = 1; change < 256; change += 7) {
			room[at] ^= (uint8_t)change;
			if (map_row_read(room, size, &row) == 0)
				assert_int_not_equal(map_sums_add(s, &row), -ENOMEM);
			room[at] ^= (uint8_t)change;
		}
	finish(s);
	map_sums_free(s);
}

static void test_rows_without_what_they_must_have(void **state)
{
	static const struct {
		struct row row;
		int expected;
	} rows[] = {
		{ { .type = "process.exec", .comm = "x" }, -ENODATA },
		{ { .type = "tcp.connect", .comm = "x" }, -EBADMSG },
		{ { .type = "tcp.close", .comm = "x", .laddr = "1.2.3.4", .raddr = "nonsense", .lport = 1, .rport = 2 },
		  -EBADMSG },
		{ { .type = "tcp.close",
		    .comm = "x",
		    .laddr = "1.2.3.4",
		    .raddr = "1.2.3.4",
		    .lport = 1,
		    .rport = 65536 },
		  -EBADMSG },
		{ { .type = "tcp.turnaround", .comm = "x", .laddr = "1.2.3.4" }, -EBADMSG },
		{ { .type = "tcp.turnaround", .comm = "x", .side = "client", .lport = 5 }, -EBADMSG },
		{ { .type = "dns.query", .comm = "x" }, -EBADMSG },
	};
	struct map_sums *s = sums(&wide);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(add(s, &rows[i].row), rows[i].expected);
	assert_int_equal(finish(s).n_edges, 0);
	map_sums_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ends_are_one_edge),
		cmocka_unit_test(test_same_four_anew),
		cmocka_unit_test(test_ends_of_which_nobody_tells),
		cmocka_unit_test(test_who_is_one_node),
		cmocka_unit_test(test_same_address_of_several),
		cmocka_unit_test(test_answers_and_queries),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_peers_are_grouped),
		cmocka_unit_test(test_hostile_names),
		cmocka_unit_test(test_huge_numbers_stop),
		cmocka_unit_test(test_damaged_rows),
		cmocka_unit_test(test_rows_without_what_they_must_have),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

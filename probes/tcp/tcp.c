/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock of the tcp module: what its programs cannot see by themselves is looked at, through iterators over its own tables. Who listens, and which
 * resets are in doubt, at each tick. Who is connected, once an interval and in pieces, each one read of as many bytes as entries. And once, at the start, every socket that
 * somebody has. The rows are made in the kernel; nothing comes out of the iterators but bytes that count.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "probes/iterate.h"
#include "sonde/module.h"

#define TICK_NS     (100 * NS_PER_MS)
#define TABLE_MOST  131072u /* CONNECTIONS_MAX of the kernel side */
#define PIECE_LEAST 256u
#define PIECE_MOST  16384u /* what one read of an iterator gives at once is 32 KiB */

extern const struct sonde_module sonde_module_tcp;

struct tcp {
	int listeners, doubts, connections; /* links of the iterators; negative: this kernel has none */
	int data;                           /* a map; not ours to close */
	int walk;                           /* open while the connections are walked through */
	uint64_t interval, next_walk;
	uint32_t piece; /* entries at a tick */
};

static const struct sonde_option options[] = {
	{ .type = SONDE_OPTION_DURATION,
	  .key = "interval",
	  .value = "60s",
	  .unit = "ns",
	  .help = "how often a connection that lives longer, and carried something, is a tcp.stats; 0s: never" },
	{ 0 },
};

/* ---- iterators ---- */

/* Over the table `map`, or where it is NULL over what the program says itself. */
static int link_iterator(struct sonde_host *host, const char *program, const char *map)
{
	union bpf_iter_link_info over = { .map.map_fd = (uint32_t)(map ? host->map(host, map) : 0) };
	int fd = host->program(host, program), link;
	LIBBPF_OPTS(bpf_link_create_opts, how, .iter_info = map ? &over : NULL, .iter_info_len = map ? sizeof over : 0);

	if (fd < 0)
		return fd;
	link = bpf_link_create(fd, 0, BPF_TRACE_ITER, &how);
	return link < 0 ? -errno : link;
}

/* Reads on; false: that was all. What is interrupted goes on with the next read. */
static bool read_piece(int fd, uint32_t bytes)
{
	char sink[PIECE_MOST];
	ssize_t n = read(fd, sink, MIN_OF(bytes, sizeof sink));

	return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

static void run_iterator(int link)
{
	iterate(link, 0, NULL, NULL);
}

static void take_older_ones(struct sonde_host *host)
{
	if (iterate_program(host->program(host, "older__iter"), 0, NULL, NULL) < 0)
		host->notice(host, "connections that are there already cannot be read: they have no owner");
}

/* ---- connections that go on ---- */

/* Twice as fast as need be, so that the walk is over before the next one is due. */
static uint32_t piece_of(uint64_t interval)
{
	uint64_t entries = 2 * TABLE_MOST * TICK_NS / MAX_OF(interval, TICK_NS);

	return (uint32_t)MIN_OF(MAX_OF(entries, PIECE_LEAST), PIECE_MOST);
}

static void walk_on(struct tcp *t, uint64_t now)
{
	if (t->walk < 0) {
		if (now < t->next_walk)
			return;
		t->next_walk = now + t->interval;
		t->walk = bpf_iter_create(t->connections);
		if (t->walk < 0)
			return;
	}
	if (!read_piece(t->walk, t->piece))
		close_fd(&t->walk);
}

/* ---- the module ---- */

static void tcp_detach(struct sonde_host *host)
{
	struct tcp *t = host->module_data;

	close_fd(&t->walk);
	close_fd(&t->listeners);
	close_fd(&t->doubts);
	close_fd(&t->connections);
	free(t);
	host->module_data = NULL;
}

static int tcp_attach(struct sonde_host *host)
{
	struct tcp *t = malloc(sizeof *t);

	if (!t)
		return -ENOMEM;
	*t = (struct tcp){ .listeners = link_iterator(host, "listen__iter", "tcp_listeners"),
			   .doubts = link_iterator(host, "doubt__iter", "tcp_doubts"),
			   .connections = link_iterator(host, "stats__iter", "tcp_connections"),
			   .data = host->map(host, ".data"),
			   .walk = -1,
			   .interval = host->number(host, "interval") };
	t->piece = piece_of(t->interval);
	t->next_walk = now_boottime_ns() + t->interval;
	host->module_data = t;
	take_older_ones(host);
	return 0;
}

static void tcp_tick(struct sonde_host *host, uint64_t now)
{
	struct tcp *t = host->module_data;

	run_iterator(t->listeners);
	run_iterator(t->doubts);
	if (t->interval && t->connections >= 0)
		walk_on(t, now);
}

/* What was dropped since the last event is said while the rings are still read. */
static void tcp_stop(struct sonde_host *host)
{
	struct tcp *t = host->module_data;
	uint32_t zero = 0, ending = 1;

	if (t->data < 0 || bpf_map_update_elem(t->data, &zero, &ending, BPF_ANY) < 0)
		return;
	run_iterator(t->listeners);
	run_iterator(t->doubts);
}

const struct sonde_module sonde_module_tcp = {
	.abi = SONDE_MODULE_ABI,
	.signature = SONDE_MODULE_SIGNATURE,
	.name = "tcp",
	.summary = "TCP connections: who with whom, how fast, what passed and what failed",
	.options = options,
	.attach = tcp_attach,
	.detach = tcp_detach,
	.tick = tcp_tick,
	.stop = tcp_stop,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * udp.socket of sockets that live: at each interval's end the kernel side is asked for them, by an iterator over what it keeps. Sockets that are
 * closed say so themselves.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "probes/iterate.h"
#include "probes/udp/udp.h"
#include "sonde/module.h"

extern const struct sonde_module sonde_module_udp;

struct udp {
	int living;     /* link of the iterator */
	uint64_t begin; /* of the interval, boot clock */
};

static const struct sonde_option options[] = {
	{ .type = SONDE_OPTION_DURATION,
	  .key = "interval",
	  .value = "60s",
	  .min = 100000000,
	  .unit = "ns",
	  .help = "how often sockets that live have a row, where there is something to say of them",
	  .live = 1 },
	{ 0 },
};

static void take_row(void *context, const void *row)
{
	struct sonde_host *host = context;

	host->emit(host, "udp_socket", (void *)row); /* which lies where it can be completed */
}

/* Runs an iterator to its end. */
static int read_iterator(struct sonde_host *host, int link)
{
	return iterate(link, sizeof(struct udp_socket), take_row, host);
}

/* A link to an iterator's program, `map`: over what is in it, else -1. */
static int link_iterator(struct sonde_host *host, const char *name, int map)
{
	union bpf_iter_link_info over = { .map = { .map_fd = (uint32_t)map } };
	LIBBPF_OPTS(bpf_link_create_opts, options, .iter_info = map < 0 ? NULL : &over,
		    .iter_info_len = map < 0 ? 0 : sizeof over);
	int program = host->program(host, name), link;

	if (program < 0)
		return program;
	link = bpf_link_create(program, 0, BPF_TRACE_ITER, &options);
	return link < 0 ? -errno : link;
}

/* Sockets that are older than the agent are known from now on. */
static int read_older(struct sonde_host *host)
{
	_cleanup_(close_fd) int link = link_iterator(host, "older__iter", -1);

	return link < 0 ? link : read_iterator(host, link);
}

static void read_living(struct sonde_host *host)
{
	struct udp *u = host->module_data;

	if (read_iterator(host, u->living) < 0)
		host->notice(host, "UDP sockets cannot be read: those that live have no row this time");
}

static void udp_detach(struct sonde_host *host)
{
	struct udp *u = host->module_data;

	if (!u)
		return;
	close_fd(&u->living);
	free(u);
	host->module_data = NULL;
}

static int udp_attach(struct sonde_host *host)
{
	struct udp *u = calloc(1, sizeof *u);
	int map = host->map(host, "udp_uses");

	if (!u)
		return -ENOMEM;
	host->module_data = u;
	u->begin = now_boottime_ns();
	u->living = map < 0 ? map : link_iterator(host, "living__iter", map);
	if (u->living < 0) {
		int r = u->living;

		udp_detach(host);
		return r;
	}
	if (read_older(host) < 0)
		host->notice(host,
			     "UDP sockets that are there already cannot be read: they are known by their next use");
	return 0;
}

static void udp_tick(struct sonde_host *host, uint64_t now)
{
	struct udp *u = host->module_data;

	if (now < u->begin + host->number(host, "interval"))
		return;
	u->begin = now;
	read_living(host);
}

/* Also those that live on have their last words. */
static void udp_flush(struct sonde_host *host, int timeout_ms)
{
	read_living(host);
}

const struct sonde_module sonde_module_udp = {
	.abi = SONDE_MODULE_ABI,
	.signature = SONDE_MODULE_SIGNATURE,
	.name = "udp",
	.summary = "UDP sockets: udp.socket",
	.options = options,
	.attach = udp_attach,
	.detach = udp_detach,
	.tick = udp_tick,
	.flush = udp_flush,
};

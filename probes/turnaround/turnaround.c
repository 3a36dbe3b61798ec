/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp.turnaround: the sums of the kernel side, read and taken away after each window. The programs add to the sums of one window while those
 * of the one before are read: `parity` says which. A program that began before the change may still add to the old ones, so these
 * are left alone for SETTLE_NS.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "probes/turnaround/row.h"
#include "sonde/module.h"

#define SETTLE_NS 50000000ull
#define HIST_ROOM 32768u
_Static_assert(TURNAROUND_BUCKETS == HISTOGRAM_BUCKETS && TURNAROUND_LAST_LOG == HISTOGRAM_LAST_LOG,
	       "the same buckets");

extern const struct sonde_module sonde_module_turnaround;

struct turnaround {
	int services, data; /* maps; not ours to close */
	uint32_t parity;    /* of the window that is open */
	uint64_t begin;     /* of the open window, boot clock */
	uint64_t ended;     /* of the one before, which is still to be read; 0: it was */
	uint64_t length_ns; /* of that one */
	struct turnaround_sums sums;
	struct turnaround_row row;
};

static const struct sonde_option options[] = {
	{ .type = SONDE_OPTION_DURATION,
	  .key = "slow",
	  .value = "1s",
	  .unit = "ns",
	  .help = "an answer that took as long is an event of its own, tcp.slow; 0: none is" },
	{ .type = SONDE_OPTION_UINT,
	  .key = "slow_rate",
	  .value = "100",
	  .max = 100000,
	  .unit = "",
	  .help = "the most tcp.slow in a second; all others are in the histograms only" },
	{ 0 },
};

static void emit_service(struct sonde_host *host, const struct turnaround_key *key, uint64_t time, uint64_t length_ns)
{
	struct turnaround *t = host->module_data;

	if (turnaround_row(&t->row, key, &t->sums, time, length_ns))
		host->emit(host, "tcp_turnaround", &t->row);
}

/* ---- windows ---- */

/* What finds no room in the table is summed here: it must be there before the window begins. */
static int make_rest(struct turnaround *t, uint32_t parity)
{
	const struct turnaround_key rest = { .window = (uint8_t)parity };

	memset(&t->sums, 0, sizeof t->sums);
	return bpf_map_update_elem(t->services, &rest, &t->sums, BPF_ANY) < 0 ? -errno : 0;
}

static int set_parity(struct turnaround *t, uint32_t parity)
{
	uint32_t zero = 0;

	return bpf_map_update_elem(t->data, &zero, &parity, BPF_ANY) < 0 ? -errno : 0;
}

/* Reads and takes away the sums of `parity`. Those of the other window come and go meanwhile; where the walk is thrown back to the
 * table's begin by that, it finds what is left. */
static void read_window(struct sonde_host *host, uint32_t parity, uint64_t time, uint64_t length_ns)
{
	struct turnaround *t = host->module_data;
	struct turnaround_key key, next;
	unsigned steps = 0;
	int r = bpf_map_get_next_key(t->services, NULL, &next);

	while (r == 0 && steps++ < 4 * TURNAROUND_SERVICES) {
		key = next;
		r = bpf_map_get_next_key(t->services, &key, &next);
		if (key.window != parity || bpf_map_lookup_elem(t->services, &key, &t->sums) < 0)
			continue;
		emit_service(host, &key, time, length_ns);
		bpf_map_delete_elem(t->services, &key);
	}
}

static void settle(struct sonde_host *host)
{
	struct turnaround *t = host->module_data;

	if (!t->ended)
		return;
	read_window(host, !t->parity, t->ended, t->length_ns);
	t->ended = 0;
}

static void end_window(struct sonde_host *host, uint64_t now)
{
	struct turnaround *t = host->module_data;

	settle(host);
	make_rest(t, !t->parity);
	if (set_parity(t, !t->parity) < 0)
		return; /* the window goes on */
	t->parity = !t->parity;
	t->ended = now;
	t->length_ns = now - t->begin;
	t->begin = now;
}

/* ---- the module ---- */

static void turnaround_detach(struct sonde_host *host)
{
	free(host->module_data);
	host->module_data = NULL;
}

static int turnaround_attach(struct sonde_host *host)
{
	struct turnaround *t = calloc(1, sizeof *t);
	int r;

	if (!t)
		return -ENOMEM;
	host->module_data = t;
	t->services = host->map(host, "turnaround_services");
	t->data = host->map(host, ".data");
	t->begin = now_boottime_ns();
	r = t->services < 0 ? t->services : t->data < 0 ? t->data : make_rest(t, 0);
	if (r < 0)
		turnaround_detach(host);
	return r;
}

static void turnaround_tick(struct sonde_host *host, uint64_t now)
{
	struct turnaround *t = host->module_data;

	if (t->ended && now >= t->ended + SETTLE_NS)
		settle(host);
	if (now >= t->begin + host->window_ns)
		end_window(host, now);
}

/* The programs are gone: both windows are at rest. */
static void turnaround_flush(struct sonde_host *host, int timeout_ms)
{
	struct turnaround *t = host->module_data;
	uint64_t now = now_boottime_ns();

	settle(host);
	read_window(host, t->parity, now, now - t->begin);
}

const struct sonde_module sonde_module_turnaround = {
	.abi = SONDE_MODULE_ABI,
	.signature = SONDE_MODULE_SIGNATURE,
	.name = "turnaround",
	.summary = "How long answers take, by service: tcp.turnaround, tcp.slow",
	.options = options,
	.attach = turnaround_attach,
	.detach = turnaround_detach,
	.tick = turnaround_tick,
	.flush = turnaround_flush,
};

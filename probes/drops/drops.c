/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.drop: the sums of the kernel side, read and taken away after each window. The programs add to the sums of one window while those of the
 * one before are read: `parity` says which. A program that began before the change may still add to the old ones, so these are
 * left alone for SETTLE_NS; and longer where the names of the kernel's functions are still being read.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/base.h"
#include "probes/drops/row.h"
#include "probes/iterate.h"
#include "sonde/module.h"
#include "stacks/symbols.h"

#define SETTLE_NS 50000000ull
#define NAMES_NS  4000000000ull /* for how long names are waited for */

extern const struct sonde_module sonde_module_drops;

struct drops {
	int table, data;    /* maps; not ours to close */
	uint32_t parity;    /* of the window that is open */
	uint64_t begin;     /* of the open window, boot clock */
	uint64_t ended;     /* of the one before, which is still to be read; 0: it was */
	uint64_t length_ns; /* of that one */
	struct reasons *reasons;
};

/* ---- rows ---- */

static void fill_place(struct sonde_host *host, struct net_drop *row, uint64_t location)
{
	struct symbols_frame frame;
	char text[32];

	if (host->symbols) {
		symbols_kernel_frame(host->symbols, location, true, &frame);
		drops_row_place(row, frame.text, frame.length);
		return;
	}
	snprintf(text, sizeof text, "0x%llx", (unsigned long long)location);
	drops_row_place(row, text, strlen(text));
}

static void emit_sums(struct sonde_host *host, const struct drops_key *key, const struct drops_sums *sums,
		      uint64_t time, uint64_t length_ns)
{
	struct drops *d = host->module_data;
	struct net_drop row;

	if (!drops_row(&row, key, sums, d->reasons, time, length_ns))
		return;
	if (key->location)
		fill_place(host, &row, key->location);
	host->emit(host, "net_drop", &row);
}

static bool are_names_coming(struct sonde_host *host)
{
	return host->symbols && symbols_kernel_state(host->symbols) == SYMBOLS_ASKED;
}

static void wait_for_names(struct sonde_host *host, int timeout_ms)
{
	uint64_t until = now_boottime_ns() + (uint64_t)MAX_OF(timeout_ms, 0) * NS_PER_MS;

	while (are_names_coming(host) && now_boottime_ns() < until) {
		struct pollfd fd = { .fd = symbols_fd(host->symbols), .events = POLLIN };

		poll(&fd, 1, 10);
		symbols_answer(host->symbols);
	}
}

/* ---- windows ---- */

/* What finds no room in the table is summed here: it must be there before the window begins. */
static int make_rest(struct drops *d, uint32_t parity)
{
	const struct drops_key rest = { .window = parity };
	const struct drops_sums none = { .flags = SONDE_FLAG_NO_TASK };

	return bpf_map_update_elem(d->table, &rest, &none, BPF_ANY) < 0 ? -errno : 0;
}

static int set_parity(struct drops *d, uint32_t parity)
{
	uint32_t zero = 0;

	return bpf_map_update_elem(d->data, &zero, &parity, BPF_ANY) < 0 ? -errno : 0;
}

/* Reads and takes away the sums of `parity`. Those of the other window come and go meanwhile; where the walk is thrown back to the
 * table's begin by that, it finds what is left. */
static void read_window(struct sonde_host *host, uint32_t parity, uint64_t time, uint64_t length_ns)
{
	struct drops *d = host->module_data;
	struct drops_key key, next;
	struct drops_sums sums;
	unsigned steps = 0;
	int r = bpf_map_get_next_key(d->table, NULL, &next);

	while (r == 0 && steps++ < 4 * DROPS_KEYS) {
		key = next;
		r = bpf_map_get_next_key(d->table, &key, &next);
		if (key.window != parity || bpf_map_lookup_elem(d->table, &key, &sums) < 0)
			continue;
		emit_sums(host, &key, &sums, time, length_ns);
		bpf_map_delete_elem(d->table, &key);
	}
}

static void settle(struct sonde_host *host)
{
	struct drops *d = host->module_data;

	if (!d->ended)
		return;
	read_window(host, !d->parity, d->ended, d->length_ns);
	d->ended = 0;
}

static void end_window(struct sonde_host *host, uint64_t now)
{
	struct drops *d = host->module_data;

	settle(host);
	make_rest(d, !d->parity);
	if (set_parity(d, !d->parity) < 0)
		return; /* the window goes on */
	d->parity = !d->parity;
	d->ended = now;
	d->length_ns = now - d->begin;
	d->begin = now;
}

/* ---- the module ---- */

static void drops_detach(struct sonde_host *host)
{
	struct drops *d = host->module_data;

	if (!d)
		return;
	reasons_free(d->reasons);
	free(d);
	host->module_data = NULL;
}

static int drops_attach(struct sonde_host *host)
{
	struct drops *d = calloc(1, sizeof *d);
	int r;

	if (!d)
		return -ENOMEM;
	host->module_data = d;
	d->table = host->map(host, "drops_table");
	d->data = host->map(host, ".data");
	d->begin = now_boottime_ns();
	r = d->table < 0 ? d->table : d->data < 0 ? d->data : make_rest(d, 0);
	if (r == 0)
		r = reasons_read(&d->reasons);
	if (r < 0) {
		drops_detach(host);
		return r;
	}
	/* Sockets that are older than the agent have their owners from now on. */
	if (iterate_program(host->program(host, "older__iter"), 0, NULL, NULL) < 0)
		host->notice(host, "sockets that are there already cannot be read: their drops have no owner");
	return 0;
}

static void drops_tick(struct sonde_host *host, uint64_t now)
{
	struct drops *d = host->module_data;
	bool wait = are_names_coming(host) && now < d->ended + NAMES_NS; /* with the first tick they are asked for */

	if (d->ended && now >= d->ended + SETTLE_NS && !wait)
		settle(host);
	if (now >= d->begin + host->window_ns)
		end_window(host, now);
}

/* The programs are gone: both windows are at rest. */
static void drops_flush(struct sonde_host *host, int timeout_ms)
{
	struct drops *d = host->module_data;
	uint64_t now = now_boottime_ns();

	wait_for_names(host, timeout_ms);
	settle(host);
	read_window(host, d->parity, now, now - d->begin);
}

const struct sonde_module sonde_module_drops = {
	.abi = SONDE_MODULE_ABI,
	.signature = SONDE_MODULE_SIGNATURE,
	.name = "drops",
	.summary = "Packets that the kernel dropped: net.drop",
	.attach = drops_attach,
	.detach = drops_detach,
	.tick = drops_tick,
	.flush = drops_flush,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp.turnaround: the sums of the kernel side, read and taken away after each window. The programs add to the sums of one window while those
 * of the one before are read. A program that began before the change may still add to the old ones, so these are left alone for SETTLE_NS. What was read
 * is made all zeros, and free for another service.
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
	int services, sums_of, free, data; /* maps; not ours to close */
	uint32_t window;                   /* the one that is open */
	uint64_t begin;                    /* of the open window, boot clock */
	uint64_t ended;                    /* of the one before, which is still to be read; 0: it was */
	uint64_t length_ns;                /* of that one */
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
	{ .type = SONDE_OPTION_UINT,
	  .key = "whole",
	  .value = "512",
	  .max = 1000000,
	  .unit = "",
	  .help = "how many answers of one connection in a window are measured each, and eight times as many of one "
		  "service; "
		  "of more, one in some sixteen is, and stands for those before it; 0: all are" },
	{ 0 },
};

static void emit_service(struct sonde_host *host, const struct turnaround_key *key, uint64_t time, uint64_t length_ns)
{
	struct turnaround *t = host->module_data;

	if (turnaround_row(&t->row, key, &t->sums, time, length_ns))
		host->emit(host, "tcp_turnaround", &t->row);
}

/* ---- windows ---- */

static const struct turnaround_sums none;

static int clear_slot(struct turnaround *t, uint32_t slot)
{
	return bpf_map_update_elem(t->sums_of, &slot, &none, BPF_ANY) < 0 ? -errno : 0;
}

static int free_slots(struct turnaround *t)
{
	for (uint32_t slot = TURNAROUND_RESTS; slot < TURNAROUND_SLOTS; slot++) {
		if (bpf_map_update_elem(t->free, NULL, &slot, BPF_ANY) < 0)
			return -errno;
	}
	return 0;
}

static int set_window(struct turnaround *t, uint32_t window)
{
	uint32_t zero = 0;

	return bpf_map_update_elem(t->data, &zero, &window, BPF_ANY) < 0 ? -errno : 0;
}

static void read_service(struct sonde_host *host, const struct turnaround_key *key, uint32_t slot, uint64_t time,
			 uint64_t length_ns)
{
	struct turnaround *t = host->module_data;

	if (bpf_map_lookup_elem(t->sums_of, &slot, &t->sums) < 0)
		return;
	if (t->sums.passed)
		turnaround_spread(&t->sums, host->number(host, "slow"));
	emit_service(host, key, time, length_ns);
	clear_slot(t, slot);
}

/* Reads and takes away the sums of one of the windows. Those of the other come and go meanwhile; where the walk is thrown back to the
 * table's begin by that, it finds what is left. */
static void read_window(struct sonde_host *host, uint32_t parity, uint64_t time, uint64_t length_ns)
{
	struct turnaround *t = host->module_data;
	const struct turnaround_key rest = { .window = (uint8_t)parity };
	struct turnaround_key key, next;
	unsigned steps = 0;
	uint32_t slot;
	int r = bpf_map_get_next_key(t->services, NULL, &next);

	while (r == 0 && steps++ < 4 * TURNAROUND_SERVICES) {
		key = next;
		r = bpf_map_get_next_key(t->services, &key, &next);
		if (key.window != parity || bpf_map_lookup_elem(t->services, &key, &slot) < 0)
			continue;
		read_service(host, &key, slot, time, length_ns);
		bpf_map_delete_elem(t->services, &key);
		bpf_map_update_elem(t->free, NULL, &slot, BPF_ANY);
	}
	read_service(host, &rest, parity, time, length_ns);
}

static void settle(struct sonde_host *host)
{
	struct turnaround *t = host->module_data;

	if (!t->ended)
		return;
	read_window(host, !(t->window & 1), t->ended, t->length_ns);
	t->ended = 0;
}

static void end_window(struct sonde_host *host, uint64_t now)
{
	struct turnaround *t = host->module_data;

	settle(host);
	if (set_window(t, t->window + 1) < 0)
		return; /* the window goes on */
	t->window++;
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
	t->sums_of = host->map(host, "turnaround_sums");
	t->free = host->map(host, "turnaround_free");
	t->data = host->map(host, ".data");
	t->window = TURNAROUND_FIRST_WINDOW;
	t->begin = now_boottime_ns();
	r = MIN_OF(MIN_OF(t->services, t->sums_of), MIN_OF(t->free, t->data));
	if (r >= 0)
		r = free_slots(t);
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
	read_window(host, t->window & 1, now, now - t->begin);
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

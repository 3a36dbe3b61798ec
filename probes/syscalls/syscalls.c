/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syscall.compat gets its name here. syscall.stats are the sums of the kernel side, read and taken away after each window: the programs add to the sums
 * of one window while those of the one before are read, `parity` says which. A program that began before the change may still add to
 * the old ones, so these are left alone for SETTLE_NS.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "probes/syscalls/row.h"
#include "sonde/module.h"

#define SETTLE_NS   50000000ull
#define RECORD_MOST 8192u

extern const struct sonde_module sonde_module_syscalls;

struct syscalls {
	int table, data;    /* maps; not ours to close */
	uint32_t parity;    /* of the window that is open */
	uint64_t begin;     /* of the open window, boot clock */
	uint64_t ended;     /* of the one before, which is still to be read; 0: it was */
	uint64_t length_ns; /* of that one */
	struct syscalls_sums sums;
	struct syscalls_row row;
	char record[RECORD_MOST + SYSCALLS_NAME_ROOM] __attribute__((aligned(8)));
};

static const struct sonde_option options[] = {
	{ .type = SONDE_OPTION_BOOL,
	  .key = "compat",
	  .value = "true",
	  .help = "syscall.compat: tell of each 32-bit system call; a look at every exit of any" },
	{ .type = SONDE_OPTION_BOOL,
	  .key = "stats",
	  .value = "false",
	  .help = "syscall.stats: sum up every system call by process and window; costs each of them" },
	{ 0 },
};

/* ---- syscall.compat ---- */

static const struct sonde_event *syscalls_refine(struct sonde_host *host, const struct sonde_event *event)
{
	struct syscalls *s = host->module_data;
	struct syscall_compat *row = (struct syscall_compat *)s->record;
	char *name = s->record + event->size;

	if (event->size > RECORD_MOST)
		return NULL;
	memcpy(s->record, event, event->size);
	syscalls_name(name, row->nr, true);
	row->syscall = (struct sonde_text){ (uint16_t)event->size, (uint16_t)strlen(name) };
	row->event.size += row->syscall.length;
	return &row->event;
}

/* ---- syscall.stats: windows ---- */

/* What finds no room in the table is summed here: it must be there before the window begins. */
static int make_rest(struct syscalls *s, uint32_t parity)
{
	const struct syscalls_key rest = { .nr = ~0u, .window = (uint8_t)parity };

	memset(&s->sums, 0, sizeof s->sums);
	return bpf_map_update_elem(s->table, &rest, &s->sums, BPF_ANY) < 0 ? -errno : 0;
}

static int set_parity(struct syscalls *s, uint32_t parity)
{
	uint32_t zero = 0;

	return bpf_map_update_elem(s->data, &zero, &parity, BPF_ANY) < 0 ? -errno : 0;
}

/* Where the walk is thrown back to the table's begin, as rows of the other window come and go, it finds what is left. */
static void read_window(struct sonde_host *host, uint32_t parity, uint64_t time, uint64_t length_ns)
{
	struct syscalls *s = host->module_data;
	struct syscalls_key key, next;
	unsigned steps = 0;
	int r = bpf_map_get_next_key(s->table, NULL, &next);

	while (r == 0 && steps++ < 4 * SYSCALLS_ROWS) {
		key = next;
		r = bpf_map_get_next_key(s->table, &key, &next);
		if (key.window != parity || bpf_map_lookup_elem(s->table, &key, &s->sums) < 0)
			continue;
		if (syscalls_row(&s->row, &key, &s->sums, time, length_ns))
			host->emit(host, "syscall_stats", &s->row);
		bpf_map_delete_elem(s->table, &key);
	}
}

static void settle(struct sonde_host *host)
{
	struct syscalls *s = host->module_data;

	if (!s->ended)
		return;
	read_window(host, !s->parity, s->ended, s->length_ns);
	s->ended = 0;
}

static void end_window(struct sonde_host *host, uint64_t now)
{
	struct syscalls *s = host->module_data;

	settle(host);
	make_rest(s, !s->parity);
	if (set_parity(s, !s->parity) < 0)
		return; /* the window goes on */
	s->parity = !s->parity;
	s->ended = now;
	s->length_ns = now - s->begin;
	s->begin = now;
}

/* ---- the module ---- */

static void syscalls_detach(struct sonde_host *host)
{
	free(host->module_data);
	host->module_data = NULL;
}

static int syscalls_attach(struct sonde_host *host)
{
	struct syscalls *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return -ENOMEM;
	host->module_data = s;
	s->table = host->map(host, "syscalls_table");
	s->data = host->map(host, ".data");
	s->begin = now_boottime_ns();
	r = s->table < 0 ? s->table : s->data < 0 ? s->data : make_rest(s, 0);
	if (r < 0)
		syscalls_detach(host);
	return r;
}

static void syscalls_tick(struct sonde_host *host, uint64_t now)
{
	struct syscalls *s = host->module_data;

	if (!host->number(host, "stats"))
		return;
	if (s->ended && now >= s->ended + SETTLE_NS)
		settle(host);
	if (now >= s->begin + host->window_ns)
		end_window(host, now);
}

/* The programs are gone: both windows are at rest. */
static void syscalls_flush(struct sonde_host *host, int timeout_ms)
{
	struct syscalls *s = host->module_data;
	uint64_t now = now_boottime_ns();

	settle(host);
	read_window(host, s->parity, now, now - s->begin);
}

const struct sonde_module sonde_module_syscalls = {
	.abi = SONDE_MODULE_ABI,
	.signature = SONDE_MODULE_SIGNATURE,
	.name = "syscalls",
	.summary = "32-bit system calls, and statistics of all: syscall.compat, syscall.stats",
	.options = options,
	.attach = syscalls_attach,
	.detach = syscalls_detach,
	.refines = "syscall.compat",
	.refine = syscalls_refine,
	.tick = syscalls_tick,
	.flush = syscalls_flush,
};

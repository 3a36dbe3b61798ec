/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sched.thread and sched.runqueue. At each window's end all threads are read once, by the iterator of the kernel side; threads that end within the
 * window send their last part themselves. Each part is a row of its thread, and is added to its cgroup's histogram.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "probes/sched/groups.h"
#include "probes/iterate.h"
#include "probes/sched/sched.h"
#include "sonde/module.h"

extern const struct sonde_module sonde_module_sched;

struct sched {
	int link;
	bool threads;
	uint64_t begin;
	struct sched_groups groups;
};

static const struct sonde_option options[] = {
	{ .type = SONDE_OPTION_BOOL,
	  .key = "threads",
	  .value = "true",
	  .unit = "",
	  .help = "a row for each thread that ran; else only the cgroups' run queues" },
	{ 0 },
};

/* Why a row was refused, in the ledger's words. */
static const char *refusal(int r)
{
	if (r >= 0)
		return NULL;
	return r == -ENOBUFS    ? "journal_full"
	       : r == -EMSGSIZE ? "too_large"
	       : r == -EBADMSG  ? "malformed"
				: "disk_full";
}

static int take_report(struct sonde_host *host, const struct sched_report *report)
{
	struct sched *s = host->module_data;
	struct sched_thread row = { .event = report->event,
				    .running_ns = report->running_ns,
				    .runnable_ns = report->runnable_ns,
				    .sleeping_ns = report->sleeping_ns,
				    .blocked_ns = report->blocked_ns,
				    .voluntary = report->voluntary,
				    .involuntary = report->involuntary,
				    .migrations = report->migrations,
				    .window_ns = report->window_ns };

	sched_groups_add(&s->groups, report);
	row.event.size = sizeof row;
	return s->threads ? host->emit(host, "sched_thread", &row) : 0;
}

static void sched_record(struct sonde_host *host, const struct sonde_event *event)
{
	if (event->size < sizeof(struct sched_report))
		host->settled(host, "sched_report", 1, "malformed");
	else
		host->settled(host, "sched_report", 1, refusal(take_report(host, (const struct sched_report *)event)));
}

static void take_read(void *context, const void *report)
{
	take_report(context, report);
}

static int read_threads(struct sonde_host *host)
{
	struct sched *s = host->module_data;

	return iterate(s->link, sizeof(struct sched_report), take_read, host);
}

static void emit_group(struct sonde_host *host, const struct sched_group *group, uint64_t now)
{
	struct sched *s = host->module_data;
	struct {
		struct sched_runqueue row;
		uint8_t hist[SCHED_HIST_ROOM];
	} all = { .row = { .event = { .flags = SONDE_FLAG_NO_TASK | (group->cgroup_v1 ? SONDE_FLAG_CGROUP_V1 : 0),
				      .time = now,
				      .cgroup = group->cgroup },
			   .count = group->count,
			   .sum_ns = group->sum_ns,
			   .max_ns = group->max_ns,
			   .p50_ns = sched_group_percentile(group, 500),
			   .p90_ns = sched_group_percentile(group, 900),
			   .p99_ns = sched_group_percentile(group, 990),
			   .p999_ns = sched_group_percentile(group, 999),
			   .window_ns = now - s->begin } };

	all.row.hist = (struct sonde_text){ .offset = sizeof all.row,
					    .length = (uint16_t)sched_group_pack(group, all.hist, sizeof all.hist) };
	all.row.event.size = (uint32_t)(sizeof all.row + all.row.hist.length);
	host->emit(host, "sched_runqueue", &all);
}

static void end_window(struct sonde_host *host, uint64_t now)
{
	struct sched *s = host->module_data;

	if (read_threads(host) < 0)
		host->notice(host, "the threads cannot be read: this window has only those that ended");
	for (unsigned i = 0; i < SCHED_GROUPS_MAX; i++)
		if (s->groups.groups[i].count)
			emit_group(host, &s->groups.groups[i], now);
	if (s->groups.rest.count)
		emit_group(host, &s->groups.rest, now);
	sched_groups_clear(&s->groups);
	s->begin = now;
}

static void sched_detach(struct sonde_host *host)
{
	struct sched *s = host->module_data;

	if (!s)
		return;
	close_fd(&s->link);
	free(s);
	host->module_data = NULL;
}

/* From now on the reading gives what it finds. */
static int end_begin(struct sonde_host *host)
{
	uint32_t zero = 0, none = 0;
	int map = host->map(host, ".data");

	if (map < 0)
		return map;
	return bpf_map_update_elem(map, &zero, &none, BPF_ANY) < 0 ? -errno : 0;
}

static int sched_attach(struct sonde_host *host)
{
	int program = host->program(host, "threads__iter"), r = program < 0 ? program : 0;
	struct sched *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	host->module_data = s;
	s->threads = host->number(host, "threads") != 0;
	s->link = -1;
	if (r == 0)
		s->link = bpf_link_create(program, 0, BPF_TRACE_ITER, NULL);
	if (r == 0 && s->link < 0)
		r = -errno;
	if (r == 0)
		r = read_threads(host);
	if (r == 0)
		r = end_begin(host);
	s->begin = now_boottime_ns();
	if (r < 0)
		sched_detach(host);
	return r;
}

static void sched_tick(struct sonde_host *host, uint64_t now)
{
	struct sched *s = host->module_data;

	if (now >= s->begin + host->window_ns)
		end_window(host, now);
}

static void sched_flush(struct sonde_host *host, int timeout_ms)
{
	end_window(host, now_boottime_ns());
}

const struct sonde_module sonde_module_sched = {
	.abi = SONDE_MODULE_ABI,
	.signature = SONDE_MODULE_SIGNATURE,
	.name = "sched",
	.summary = "How threads share the CPUs: sched.thread, sched.runqueue",
	.options = options,
	.attach = sched_attach,
	.detach = sched_detach,
	.record = sched_record,
	.tick = sched_tick,
	.flush = sched_flush,
};

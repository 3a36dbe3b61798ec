/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.offcpu in user space. Samples go into a profile with their cause, and come back as finished rows. Shortly before each window
 * ends, and at the stop, a round over all threads samples those that stay blocked.
 *
 * The interval doubles while samples have to be put off, as a CPU has had its share of them, and halves when there are few. Each sample carries
 * the time that it stands for, so that sums stay right.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "probes/offcpu/cause.h"
#include "probes/offcpu/offcpu.h"
#include "probes/offcpu/waiting.h"
#include "sonde/module.h"
#include "stacks/profile.h"

#define BUDGET_NS     (1ull << 28) /* the kernel side's unit of time for `most` */
#define ADAPT_NS      (500 * NS_PER_MS)
#define INTERVAL_MOST (10 * NS_PER_SEC)
#define ROUND_LEAD    (500 * NS_PER_MS)
#define ROUND_MS      3000
#define LAST_BYTES    (4u << 20) /* of slices in the round at the stop, which nobody empties the ring for */
#define LEAST_SLICE   4096u

extern const struct sonde_module sonde_module_offcpu;

struct offcpu {
	struct sonde_host *host;
	struct profile *profile;
	struct waiting *waiting;
	struct ring_buffer *kicks;
	int control_map, counts_map;
	struct offcpu_control control;
	struct offcpu_counts *per_cpu;
	unsigned n_cpus;
	uint64_t made, held, adapt_at, round_at, rate;
	char row[sizeof(struct profile_offcpu) + UINT16_MAX] __attribute__((aligned(8)));
};

static const struct sonde_option options[] = {
	{ .type = SONDE_OPTION_DURATION,
	  .key = "interval",
	  .value = "10ms",
	  .min = NS_PER_MS,
	  .max = NS_PER_SEC,
	  .unit = "ns",
	  .help = "blocked time that one sample stands for" },
	{ .type = SONDE_OPTION_UINT,
	  .key = "rate",
	  .value = "200",
	  .min = 10,
	  .max = 10000,
	  .unit = "Hz",
	  .help = "samples a second and CPU at most; above it the interval grows" },
	{ .type = SONDE_OPTION_SIZE,
	  .key = "slice",
	  .value = "32KiB",
	  .min = LEAST_SLICE,
	  .max = SONDE_STACK_SLICE_MAX,
	  .unit = "bytes",
	  .help = "how much of a program's stack is copied for a sample, at most" },
	{ .type = SONDE_OPTION_BOOL,
	  .key = "waker",
	  .value = "false",
	  .unit = "",
	  .help = "also note which thread ends each wait" },
	{ 0 },
};

/* ---- rows ---- */

static int emit_row(void *context, const struct profile_row *from)
{
	struct offcpu *o = context;
	struct profile_offcpu *row = (struct profile_offcpu *)o->row;

	if (from->stack_size > UINT16_MAX - sizeof *row || from->cause_size < sizeof(struct offcpu_cause))
		return -EMSGSIZE;
	*row = (struct profile_offcpu){ .event = *from->event,
					.stack = { .offset = sizeof *row, .length = (uint16_t)from->stack_size },
					.stack_id = from->stack_id,
					.value = from->value,
					.unit = "ns",
					.window_ns = from->window_ns,
					.waits = from->samples,
					.code = from->code,
					.stack_truncated = from->truncated };
	memcpy(row + 1, from->stack, from->stack_size);
	offcpu_key_write(from->cause, from->cause_size, row);
	offcpu_wait_function(from->stack, from->stack_size, row->wait, sizeof row->wait);
	row->event.size = (uint32_t)(sizeof *row + from->stack_size);
	return o->host->emit(o->host, "profile_offcpu", row);
}

static void settled(void *context, uint64_t samples, const char *reason)
{
	struct offcpu *o = context;

	o->host->settled(o->host, "offcpu_sample", samples, reason);
}

static void offcpu_record(struct sonde_host *host, const struct sonde_event *event)
{
	struct offcpu *o = host->module_data;
	const struct offcpu_sample *sample = (const struct offcpu_sample *)event;
	struct offcpu_key key;
	int r = -EBADMSG;

	if (event->size >= sizeof *sample + sizeof(struct sonde_stack))
		r = offcpu_key_make(sample, &key);
	if (r == 0)
		r = profile_sample(o->profile, event, (const struct sonde_stack *)(sample + 1), sample->value, &key,
				   offcpu_key_size(&key));
	if (r < 0)
		host->settled(host, "offcpu_sample", 1, "malformed");
}

/* ---- the interval ---- */

static int write_control(const struct offcpu *o)
{
	uint32_t zero = 0;

	return bpf_map_update_elem(o->control_map, &zero, &o->control, BPF_ANY) < 0 ? -errno : 0;
}

/* Samples that were made and put off, so far. */
static int read_counts(const struct offcpu *o, uint64_t *ret_made, uint64_t *ret_held)
{
	uint32_t zero = 0;

	if (bpf_map_lookup_elem(o->counts_map, &zero, o->per_cpu) < 0)
		return -errno;
	*ret_made = *ret_held = 0;
	for (unsigned i = 0; i < o->n_cpus; i++) {
		*ret_made += o->per_cpu[i].due;
		*ret_held += o->per_cpu[i].held;
	}
	return 0;
}

/* How many were put off says nothing: a thread is put off again with each switch until it gets its sample. */
static void adapt(struct offcpu *o, uint64_t now)
{
	uint64_t made = 0, held = 0, before = o->control.interval,
		 few = o->rate * o->n_cpus * ADAPT_NS / NS_PER_SEC / 4;

	if (now < o->adapt_at || read_counts(o, &made, &held) < 0)
		return;
	if (held > o->held)
		o->control.interval = MIN_OF(before * 2, INTERVAL_MOST);
	else if (made - o->made < few)
		o->control.interval = MAX_OF(before / 2, o->control.base);
	if (o->control.interval != before)
		write_control(o);
	o->made = made;
	o->held = held;
	o->adapt_at = now + ADAPT_NS;
}

/* ---- the module's functions ---- */

static void offcpu_detach(struct sonde_host *host)
{
	struct offcpu *o = host->module_data;

	if (!o)
		return;
	waiting_close(o->waiting);
	ring_buffer__free(o->kicks);
	profile_close(o->profile);
	free(o->per_cpu);
	free(o);
	host->module_data = NULL;
}

static int open_profile(struct offcpu *o)
{
	const struct profile_options options = { .symbols = o->host->symbols,
						 .window_ns = o->host->window_ns,
						 .row_bytes = sizeof(struct profile_offcpu),
						 .context = o,
						 .row = emit_row,
						 .settled = settled };

	return profile_open(&o->profile, &options);
}

/* Nothing is ever in this ring: what its wake-ups leave behind is passed over. */
static int no_kick(void *context, void *data, size_t size)
{
	return 0;
}

static int open_kicks(struct offcpu *o)
{
	for (int i = 0; i < OFFCPU_KICKS; i++) {
		char name[] = "offcpu_kick0";
		int map;

		name[sizeof name - 2] += (char)i;
		map = o->host->map(o->host, name);
		if (map < 0)
			return map;
		if (!o->kicks)
			o->kicks = ring_buffer__new(map, no_kick, NULL, NULL);
		else if (ring_buffer__add(o->kicks, map, no_kick, NULL) < 0)
			return -errno;
		if (!o->kicks)
			return -errno;
	}
	return 0;
}

static int open_maps(struct offcpu *o)
{
	o->control_map = o->host->map(o->host, "offcpu_control");
	o->counts_map = o->host->map(o->host, "offcpu_counts");
	if (o->control_map < 0 || o->counts_map < 0)
		return -ENOENT;
	o->n_cpus = (unsigned)MAX_OF(libbpf_num_possible_cpus(), 1);
	o->per_cpu = calloc(o->n_cpus, sizeof *o->per_cpu);
	return o->per_cpu ? open_kicks(o) : -ENOMEM;
}

/* Takes in the threads that are there already. */
static int open_rounds(struct offcpu *o)
{
	int program = o->host->program(o->host, "waiting__iter_s"), r;

	if (program < 0)
		program = o->host->program(o->host, "waiting__iter");
	r = program < 0 ? -ENOSYS : waiting_open(&o->waiting, program);
	o->control.begins = 1;
	if (r == 0)
		r = write_control(o);
	if (r == 0)
		r = waiting_take_in(o->waiting);
	o->control.begins = 0;
	return r;
}

static void read_options(struct offcpu *o)
{
	const struct sonde_host *host = o->host;

	o->rate = host->number(host, "rate");
	o->control.base = o->control.interval = host->number(host, "interval");
	o->control.slice_bytes = (uint32_t)host->number(host, "slice");
	o->control.most = (uint32_t)MAX_OF(o->rate * BUDGET_NS / NS_PER_SEC, 1);
}

static int offcpu_attach(struct sonde_host *host)
{
	struct offcpu *o = calloc(1, sizeof *o);
	uint64_t now = now_boottime_ns();
	int r;

	if (!o)
		return -ENOMEM;
	host->module_data = o;
	o->host = host;
	read_options(o);
	o->round_at = now + host->window_ns - MIN_OF(host->window_ns / 4, ROUND_LEAD);
	o->adapt_at = now + ADAPT_NS;
	r = open_maps(o);
	if (r == 0)
		r = open_profile(o);
	if (r == 0)
		r = open_rounds(o);
	if (r == 0)
		r = write_control(o);
	if (r < 0)
		offcpu_detach(host);
	return r;
}

static void offcpu_tick(struct sonde_host *host, uint64_t now)
{
	struct offcpu *o = host->module_data;

	ring_buffer__consume(o->kicks);
	adapt(o, now);
	if (now >= o->round_at) {
		waiting_start(o->waiting);
		o->round_at = MAX_OF(o->round_at + host->window_ns, now);
	}
	profile_tick(o->profile, now);
}

/* The last part of all waits that go on. Nobody empties the ring meanwhile: slices are cut to what it holds. */
static void offcpu_stop(struct sonde_host *host)
{
	struct offcpu *o = host->module_data;
	uint64_t samples = MAX_OF(waiting_samples(o->waiting), 1);

	o->round_at = UINT64_MAX;
	o->control.slice_bytes =
		(uint32_t)MAX_OF(MIN_OF(LAST_BYTES / samples, (uint64_t)o->control.slice_bytes), LEAST_SLICE);
	write_control(o);
	if (waiting_now(o->waiting, ROUND_MS) < 0)
		host->notice(
			host,
			"the last round over waiting threads took too long: waits that go on are not in the last rows");
}

static void offcpu_flush(struct sonde_host *host, int timeout_ms)
{
	struct offcpu *o = host->module_data;

	profile_flush(o->profile, timeout_ms);
}

const struct sonde_module sonde_module_offcpu = {
	.abi = SONDE_MODULE_ABI,
	.signature = SONDE_MODULE_SIGNATURE,
	.name = "offcpu",
	.summary = "Where threads wait, and for what: profile.offcpu",
	.options = options,
	.attach = offcpu_attach,
	.detach = offcpu_detach,
	.record = offcpu_record,
	.tick = offcpu_tick,
	.stop = offcpu_stop,
	.flush = offcpu_flush,
};

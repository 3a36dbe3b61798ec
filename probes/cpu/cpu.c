/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.cpu in user space. A perf event on each CPU drives the sampling program; its samples are summed in a window. Names are asked
 * for as soon as a stack is new, while its process lives; when the window ends it becomes the *closing* one, a fresh one takes over, and
 * each row goes out once all its frames are final, after 2 s in any case. When a window is full it ends early: then rows cover less time,
 * and no sample is lost.
 *
 * Invariants: each sample taken in is settled exactly once, with its row; at most one window is closing.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "base/base.h"
#include "probes/cpu/cpu.h"
#include "probes/cpu/sums.h"
#include "sonde/module.h"
#include "stacks/symbols.h"

#define CPUS_MAX       4096u
#define WINDOW_BYTES   (4u << 20)
#define WINDOW_BUCKETS 4096u
#define SYMBOLS_WAIT   (2 * NS_PER_SEC)
#define HOTPLUG_NS     (60 * NS_PER_SEC)
#define ROWS_A_TICK    1000u
#define ROW_BYTES      (sizeof(struct profile_cpu) + UINT16_MAX)

extern const struct sonde_module sonde_module_cpu;

/* The event of one CPU. `running` is its time enabled at the last check: it stands still once the CPU went away. */
struct cpu_event {
	int fd;
	uint64_t running;
};

struct cpu {
	struct cpu_event *events;
	unsigned n_events, opened;
	bool hardware;
	char hook[64];
	uint64_t rate, check_at;
	struct cpu_sums *open, *closing;
	uint64_t open_begin, closing_begin, closing_end;
	bool is_closing;
	char row[ROW_BYTES] __attribute__((aligned(8)));
};

static const struct sonde_option options[] = {
	{ .type = SONDE_OPTION_UINT,
	  .key = "rate",
	  .value = "99",
	  .min = 1,
	  .max = 999,
	  .unit = "Hz",
	  .help = "samples a second and CPU" },
	{ 0 },
};

/* ---- perf events ---- */

static int open_event(const struct cpu *c, unsigned cpu, bool hardware)
{
	struct perf_event_attr attr = {
		.size = sizeof attr,
		.type = hardware ? PERF_TYPE_HARDWARE : PERF_TYPE_SOFTWARE,
		.config = hardware ? (uint64_t)PERF_COUNT_HW_CPU_CYCLES : (uint64_t)PERF_COUNT_SW_CPU_CLOCK,
		.freq = 1,
		.sample_freq = c->rate,
		.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED,
		.exclude_idle = 1,
		.disabled = 1,
	};
	int fd = (int)syscall(SYS_perf_event_open, &attr, -1, (int)cpu, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Opens the event of one CPU and hangs the program on it. -ENODEV: the CPU is not there. */
static int start_event(struct cpu *c, unsigned cpu, int program)
{
	_cleanup_(close_fd) int fd = open_event(c, cpu, c->hardware);

	if (fd < 0)
		return fd;
	if (ioctl(fd, PERF_EVENT_IOC_SET_BPF, program) < 0 || ioctl(fd, PERF_EVENT_IOC_ENABLE, 0) < 0)
		return -errno;
	c->events[cpu] = (struct cpu_event){ .fd = fd };
	c->opened++;
	fd = -1;
	return 0;
}

static void stop_event(struct cpu *c, unsigned cpu)
{
	if (c->events[cpu].fd < 0)
		return;
	close_fd(&c->events[cpu].fd);
	c->opened--;
}

/* An event whose CPU went away stays behind dead, even when the CPU comes back. */
static bool event_lives(struct cpu_event *event)
{
	uint64_t value[2];
	bool lives;

	if (event->fd < 0)
		return false;
	lives = read(event->fd, value, sizeof value) == sizeof value && value[1] > event->running;
	event->running = value[1];
	return lives;
}

/* CPUs that are there get an event, the others lose theirs. The last error when none could be started. */
static int follow_cpus(struct cpu *c, int program)
{
	int error = -ENODEV;

	for (unsigned cpu = 0; cpu < c->n_events; cpu++) {
		int r;

		if (event_lives(&c->events[cpu]))
			continue;
		stop_event(c, cpu);
		r = start_event(c, cpu, program);
		if (r < 0 && r != -ENODEV)
			error = r;
	}
	return c->opened ? 0 : error;
}

/* Hardware cycles where there is a counter for them: they also sample code with interrupts off. */
static void choose_event(struct cpu *c)
{
	_cleanup_(close_fd) int fd = open_event(c, 0, true);

	c->hardware = fd >= 0;
	snprintf(c->hook, sizeof c->hook, "perf_event %s, %llu Hz", c->hardware ? "cycles" : "cpu-clock",
		 (unsigned long long)c->rate);
}

/* ---- rows ---- */

/* Frame `i` as it stands now. All but the leaf of each side, and a program's leaf below a kernel, are where calls return to. */
static void name_frame(const struct sonde_host *host, const struct cpu_sum *e, unsigned i, struct symbols_frame *ret)
{
	uint64_t address = cpu_sum_frames(e)[i];
	bool user = i >= e->n_kernel;

	if (user)
		symbols_user_frame(host->symbols, e->event.proc, (int)e->event.pid, address, i > e->n_kernel, ret);
	else
		symbols_kernel_frame(host->symbols, address, i > 0, ret);
}

static bool names_final(const struct sonde_host *host, const struct cpu_sum *e)
{
	bool final = true;

	for (unsigned i = 0; host->symbols && i < e->n_kernel + (unsigned)e->n_user; i++) {
		struct symbols_frame frame;

		name_frame(host, e, i, &frame);
		final = final && frame.final;
	}
	return final;
}

/* Without symbols a frame is its address. */
static void bare_frame(const struct cpu_sum *e, unsigned i, char text[40], struct symbols_frame *ret)
{
	int n = snprintf(text, 40, "0x%llx%s", (unsigned long long)cpu_sum_frames(e)[i],
			 i < e->n_kernel ? " ([k])" : "");

	*ret = (struct symbols_frame){ .text = text, .length = (size_t)n, .id = hash_bytes(text, (size_t)n) };
}

/* The texts behind the row, and the number of the stack from those of its frames. */
static void fill_stack(const struct sonde_host *host, const struct cpu_sum *e, struct profile_cpu *row)
{
	char *begin = (char *)(row + 1), *to = begin, *end = begin + UINT16_MAX, text[40];
	uint64_t id = 0xcbf29ce484222325ull;

	for (unsigned i = 0; i < e->n_kernel + (unsigned)e->n_user; i++) {
		struct symbols_frame frame;

		if (host->symbols)
			name_frame(host, e, i, &frame);
		else
			bare_frame(e, i, text, &frame);
		if (frame.length + 1 > (size_t)(end - to)) {
			row->stack_truncated = true;
			break;
		}
		memcpy(to, frame.text, frame.length + 1);
		to += frame.length + 1;
		id = (id ^ frame.id) * 0x100000001b3ull;
		id ^= id >> 32;
	}
	row->stack = (struct sonde_text){ .offset = sizeof *row, .length = (uint16_t)(to - begin) };
	row->stack_id = id;
	row->event.size = (uint32_t)(sizeof *row + row->stack.length);
}

/* Why a row was refused, in the ledger's words: its samples go the same way. */
static const char *refusal(int r)
{
	if (r >= 0)
		return NULL;
	return r == -ENOBUFS    ? "journal_full"
	       : r == -EMSGSIZE ? "too_large"
	       : r == -EBADMSG  ? "malformed"
				: "disk_full";
}

static void emit_row(struct sonde_host *host, struct cpu_sum *e)
{
	struct cpu *c = host->module_data;
	struct profile_cpu *row = (struct profile_cpu *)c->row;

	*row = (struct profile_cpu){ .event = e->event,
				     .value = e->value,
				     .unit = "samples",
				     .window_ns = c->closing_end - c->closing_begin,
				     .stack_truncated = e->truncated };
	row->event.time = c->closing_end;
	fill_stack(host, e, row);
	e->done = true;
	host->settled(host, "cpu_sample", e->value, refusal(host->emit(host, "profile_cpu", row)));
}

/* Sends what is ready, with `force` everything. True when nothing is left. */
static bool send_rows(struct sonde_host *host, bool force, unsigned most)
{
	struct cpu *c = host->module_data;
	bool left = false;

	if (!c->is_closing)
		return true;
	for (struct cpu_sum *e = NULL; (e = cpu_sums_next(c->closing, e));) {
		if (e->done)
			continue;
		if (most && (force || names_final(host, e))) {
			emit_row(host, e);
			most--;
		} else {
			left = true;
		}
		if (!most)
			return false;
	}
	if (left)
		return false;
	cpu_sums_clear(c->closing);
	c->is_closing = false;
	return true;
}

static void end_window(struct sonde_host *host, uint64_t now)
{
	struct cpu *c = host->module_data;
	struct cpu_sums *fresh = c->closing;

	send_rows(host, true, UINT32_MAX);
	c->closing = c->open;
	c->open = fresh;
	c->closing_begin = c->open_begin;
	c->closing_end = c->open_begin = MAX_OF(now, c->open_begin + 1);
	c->is_closing = cpu_sums_count(c->closing) > 0;
}

/* ---- the module's functions ---- */

static void cpu_detach(struct sonde_host *host)
{
	struct cpu *c = host->module_data;

	if (!c)
		return;
	for (unsigned cpu = 0; cpu < c->n_events; cpu++)
		stop_event(c, cpu);
	cpu_sums_close(c->open);
	cpu_sums_close(c->closing);
	free(c->events);
	free(c);
	host->module_data = NULL;
}

static int make_tables(struct cpu *c)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	int r;

	c->n_events = (unsigned)MIN_OF(MAX_OF(cpus, 1), (long)CPUS_MAX);
	c->events = calloc(c->n_events, sizeof *c->events);
	if (!c->events)
		return -ENOMEM;
	for (unsigned i = 0; i < c->n_events; i++)
		c->events[i].fd = -1;
	r = cpu_sums_open(&c->open, WINDOW_BYTES, WINDOW_BUCKETS);
	return r < 0 ? r : cpu_sums_open(&c->closing, WINDOW_BYTES, WINDOW_BUCKETS);
}

static int cpu_attach(struct sonde_host *host)
{
	int program = host->program(host, "sample__perf_event"), r;
	struct cpu *c = calloc(1, sizeof *c);

	if (!c)
		return -ENOMEM;
	host->module_data = c;
	c->rate = host->number(host, "rate");
	c->open_begin = now_boottime_ns();
	c->check_at = c->open_begin + HOTPLUG_NS;
	r = program < 0 ? program : make_tables(c);
	if (r == 0) {
		choose_event(c);
		r = follow_cpus(c, program);
	}
	if (r < 0)
		cpu_detach(host);
	return r;
}

static void cpu_record(struct sonde_host *host, const struct sonde_event *event)
{
	struct cpu *c = host->module_data;
	const struct cpu_sample *sample = (const struct cpu_sample *)event;
	const struct cpu_sum *fresh = NULL;
	int r = event->size < sizeof *sample ? -EBADMSG : cpu_sums_add(c->open, sample, &fresh);

	if (r == -ENOSPC) {
		end_window(host, now_boottime_ns());
		r = cpu_sums_add(c->open, sample, &fresh);
	}
	if (r < 0)
		host->settled(host, "cpu_sample", 1, "malformed");
	else if (fresh)
		names_final(host, fresh);
}

static void cpu_tick(struct sonde_host *host, uint64_t now)
{
	struct cpu *c = host->module_data;

	if (now >= c->check_at) {
		c->check_at = now + HOTPLUG_NS;
		follow_cpus(c, host->program(host, "sample__perf_event"));
	}
	if (now >= c->open_begin + host->window_ns)
		end_window(host, now);
	send_rows(host, now >= c->closing_end + SYMBOLS_WAIT, ROWS_A_TICK);
}

static void cpu_stop(struct sonde_host *host)
{
	struct cpu *c = host->module_data;

	for (unsigned cpu = 0; cpu < c->n_events; cpu++)
		stop_event(c, cpu);
	c->check_at = UINT64_MAX;
}

/* Rings are drained and nobody else uses the loop's thread now: here waiting is allowed. */
static void cpu_flush(struct sonde_host *host, int timeout_ms)
{
	struct cpu *c = host->module_data;
	uint64_t until = now_boottime_ns() + (uint64_t)MAX_OF(timeout_ms, 0) * NS_PER_MS;

	end_window(host, now_boottime_ns());
	until = MIN_OF(until, c->closing_end + SYMBOLS_WAIT);
	while (host->symbols && !send_rows(host, false, UINT32_MAX) && now_boottime_ns() < until) {
		struct pollfd fd = { .fd = symbols_fd(host->symbols), .events = POLLIN };

		poll(&fd, 1, 50);
		symbols_answer(host->symbols);
	}
	send_rows(host, true, UINT32_MAX);
}

static const char *cpu_hook(struct sonde_host *host)
{
	const struct cpu *c = host ? host->module_data : NULL;

	return c ? c->hook : "perf_event";
}

const struct sonde_module sonde_module_cpu = {
	.abi = SONDE_MODULE_ABI,
	.signature = SONDE_MODULE_SIGNATURE,
	.name = "cpu",
	.summary = "Where CPU time goes: profile.cpu",
	.options = options,
	.attach = cpu_attach,
	.detach = cpu_detach,
	.record = cpu_record,
	.tick = cpu_tick,
	.stop = cpu_stop,
	.flush = cpu_flush,
	.hook = cpu_hook,
};

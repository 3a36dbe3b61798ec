/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.cpu in user space. A perf event on each CPU drives the sampling program; what becomes of its samples is the profile's
 * (stacks/profile.h), and here is only what is of this module: the events, and the row.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/base.h"
#include "base/perf_open.h"
#include "probes/cpu/burst.h"
#include "probes/cpu/cpu.h"
#include "sonde/module.h"
#include "stacks/profile.h"

#define CPUS_MAX      4096u
#define HOTPLUG_NS    (60 * NS_PER_SEC)
#define PHASES_MAX_NS (20 * NS_PER_SEC / 1000) /* the most that beginning may take */
#define ROW_BYTES     (sizeof(struct profile_cpu) + UINT16_MAX)

extern const struct sonde_module sonde_module_cpu;

/* The event of one CPU. `running` is its time enabled at the last check: it stands still once the CPU went away. */
struct cpu_event {
	int fd;
	uint64_t running;
};

struct cpu {
	struct cpu_event *events;
	unsigned n_events, opened;
	bool hardware, sampling;
	char hook[64];
	uint64_t rate, check_at;
	struct profile *profile;
	struct bursts *bursts;
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
	{ .type = SONDE_OPTION_SIZE,
	  .key = "slice",
	  .value = "64KiB",
	  .min = 1024,
	  .max = SONDE_STACK_SLICE_MAX,
	  .unit = "bytes",
	  .help = "the most that is copied of a program's stack to find its callers" },
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

	return perf_open(&attr, -1, (int)cpu);
}

/* Opens the event of one CPU and hangs the program on it. -ENODEV: the CPU is not there. */
static int start_event(struct cpu *c, unsigned cpu, int program)
{
	_cleanup_(close_fd) int fd = open_event(c, cpu, c->hardware);

	if (fd < 0)
		return fd;
	if (ioctl(fd, PERF_EVENT_IOC_SET_BPF, program) < 0 || (c->sampling && ioctl(fd, PERF_EVENT_IOC_ENABLE, 0) < 0))
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

/* Which CPU has which place in a period: neighbours are far apart. A step of about n divided by the golden ratio, coprime to n, comes by all. */
static unsigned step_of(unsigned n)
{
	unsigned step = MAX_OF((unsigned)(0.618 * n), 1u);

	while (common_divisor(step, n) > 1)
		step++;
	return step;
}

static void sleep_until(uint64_t boottime_ns)
{
	struct timespec until = { .tv_sec = (time_t)(boottime_ns / NS_PER_SEC),
				  .tv_nsec = (long)(boottime_ns % NS_PER_SEC) };

	while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}

/*
 * From the first tick on: before it nobody takes samples out of the ring. The CPUs' timers keep the phase that they begin with, so each
 * begins at a time of its own. Timers that expire together show a process less often than it runs: while one CPU is being sampled, what
 * waits for its work on another goes idle, and that is when the other's sample is taken.
 */
static void begin_sampling(struct cpu *c)
{
	uint64_t begin = now_boottime_ns(), period = MIN_OF(NS_PER_SEC / c->rate, PHASES_MAX_NS);
	unsigned n = c->n_events, step = step_of(n);

	c->sampling = true;
	for (unsigned place = 0; place < n; place++) {
		unsigned cpu = (unsigned)((uint64_t)place * step % n);

		if (c->events[cpu].fd < 0)
			continue;
		sleep_until(begin + period * place / n);
		ioctl(c->events[cpu].fd, PERF_EVENT_IOC_ENABLE, 0);
	}
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

static int emit_row(void *context, const struct profile_row *from)
{
	struct sonde_host *host = context;
	struct cpu *c = host->module_data;
	struct profile_cpu *row = (struct profile_cpu *)c->row;
	uint64_t period_ns;

	memcpy(&period_ns, from->cause, sizeof period_ns);

	*row = (struct profile_cpu){ .event = *from->event,
				     .stack = { .offset = sizeof *row, .length = (uint16_t)from->stack_size },
				     .stack_id = from->stack_id,
				     .value = from->value,
				     .unit = "samples",
				     .window_ns = from->window_ns,
				     .period_ns = period_ns ? period_ns : NS_PER_SEC / c->rate,
				     .code = from->code,
				     .stack_truncated = from->truncated };
	memcpy(row + 1, from->stack, from->stack_size);
	row->event.size = (uint32_t)(sizeof *row + from->stack_size);
	return host->emit(host, "profile_cpu", row);
}

static void settled(void *context, uint64_t samples, const char *reason)
{
	struct sonde_host *host = context;

	host->settled(host, "cpu_sample", samples, reason);
}

static int open_profile(struct sonde_host *host, struct cpu *c)
{
	const struct profile_options options = { .symbols = host->symbols,
						 .window_ns = host->window_ns,
						 .row_bytes = sizeof(struct profile_cpu),
						 .context = host,
						 .row = emit_row,
						 .settled = settled };

	return profile_open(&c->profile, &options);
}

/* ---- the module's functions ---- */

static void cpu_detach(struct sonde_host *host)
{
	struct cpu *c = host->module_data;

	if (!c)
		return;
	for (unsigned cpu = 0; cpu < c->n_events; cpu++)
		stop_event(c, cpu);
	bursts_close(c->bursts);
	profile_close(c->profile);
	free(c->events);
	free(c);
	host->module_data = NULL;
}

static int make_events(struct cpu *c)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);

	c->n_events = (unsigned)MIN_OF(MAX_OF(cpus, 1), (long)CPUS_MAX);
	c->events = calloc(c->n_events, sizeof *c->events);
	if (!c->events) {
		c->n_events = 0;
		return -ENOMEM;
	}
	for (unsigned i = 0; i < c->n_events; i++)
		c->events[i].fd = -1;
	return 0;
}

static int cpu_attach(struct sonde_host *host)
{
	int program = host->program(host, "sample__perf_event"), r;
	struct cpu *c = calloc(1, sizeof *c);

	if (!c)
		return -ENOMEM;
	host->module_data = c;
	c->rate = host->number(host, "rate");
	c->check_at = now_boottime_ns() + HOTPLUG_NS;
	r = program < 0 ? program : make_events(c);
	if (r == 0)
		r = open_profile(host, c);
	if (r == 0) {
		choose_event(c);
		r = follow_cpus(c, program);
	}
	if (r == 0)
		r = bursts_open(&c->bursts, host->program(host, "burst__perf_event"), host->map(host, "cpu_bursts"));
	if (r < 0)
		cpu_detach(host);
	return r;
}

static void cpu_record(struct sonde_host *host, const struct sonde_event *event)
{
	struct cpu *c = host->module_data;
	const struct cpu_sample *sample = (const struct cpu_sample *)event;
	int r = event->size < sizeof *sample ? -EBADMSG
					     : profile_sample(c->profile, event, &sample->stack, 1, &sample->period_ns,
							      sizeof sample->period_ns);

	if (r < 0)
		settled(host, 1, r == -EBADMSG ? "malformed" : "table_full");
}

static void cpu_tick(struct sonde_host *host, uint64_t now)
{
	struct cpu *c = host->module_data;

	if (!c->sampling)
		begin_sampling(c);
	bursts_tick(c->bursts);
	if (now >= c->check_at) {
		c->check_at = now + HOTPLUG_NS;
		follow_cpus(c, host->program(host, "sample__perf_event"));
	}
	profile_tick(c->profile, now);
}

static void cpu_stop(struct sonde_host *host)
{
	struct cpu *c = host->module_data;

	bursts_close(c->bursts);
	c->bursts = NULL;
	for (unsigned cpu = 0; cpu < c->n_events; cpu++)
		stop_event(c, cpu);
	c->check_at = UINT64_MAX;
}

static void cpu_flush(struct sonde_host *host, int timeout_ms)
{
	struct cpu *c = host->module_data;

	profile_flush(c->profile, timeout_ms);
}

static int cpu_request(struct sonde_host *host, const char *words, FILE *out)
{
	struct cpu *c = host->module_data;

	return bursts_request(c->bursts, words, out);
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
	.request = cpu_request,
};

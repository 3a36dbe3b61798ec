/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dummy event on each CPU counts nothing; it only asks for the records of tasks and mappings, which the kernel writes
 * to the ring of the CPU on which they happen. So what one process does on two CPUs lies in two rings, and a drain
 * merges them by time.
 *
 * Order: a drain delivers only what is older than its own begin, which it takes before it looks at any ring, and leaves
 * the rest to the next. A record that caused another (fork, then what the child does) was in its ring before the
 * other's time was taken, so it was there when the drain looked: across drains, too, no effect comes before its cause.
 * And whatever happened before a sample that the caller holds already is delivered.
 *
 * CPUs come and go: the event of a CPU that went away stays dead when it comes back. Its running time stands still,
 * which is how perf_events_follow() knows; what its ring holds is delivered first.
 */
#include "stacks/perf_events.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>

#include "base/perf_open.h"
#include "stacks/perf_merge.h"
#include "stacks/perf_record.h"
#include "stacks/perf_ring.h"
#include "stacks/perf_threads.h"

struct cpu_ring {
	struct perf_ring ring; /* first: it is found by it */
	int fd;                /* -1: none */
	void *area;
	uint64_t running;
	uint64_t whole; /* nothing of before is missing */
	bool dead;      /* only what it still holds is of interest */
};

struct perf_events {
	unsigned n_cpus;
	size_t page_size, data_size;
	uint64_t lost, broken;
	int epoll;
	struct cpu_ring *cpus;
	struct perf_merge merge;
	struct perf_threads threads;
	uint8_t scratch[PERF_RING_RECORD_MAX];
};

/* ---- one CPU ---- */

static int open_event(unsigned cpu, size_t data_size)
{
	struct perf_event_attr attr = {
		.size = sizeof attr,
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_DUMMY,
		.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_CPU,
		.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED,
		.sample_id_all = 1,
		.mmap = 1,
		.mmap2 = 1,
		.build_id = 1,
		.comm = 1,
		.comm_exec = 1,
		.task = 1,
		.use_clockid = 1,
		.clockid = CLOCK_BOOTTIME,
		.watermark = 1,
		.wakeup_watermark = (uint32_t)(data_size / 4),
	};

	return perf_open(&attr, -1, (int)cpu);
}

static int ring_open(struct perf_events *p, unsigned cpu)
{
	struct epoll_event watch = { .events = EPOLLIN, .data.u32 = cpu };
	size_t size = p->page_size + p->data_size;
	_cleanup_(close_fd) int fd = open_event(cpu, p->data_size);
	void *area;

	if (fd < 0)
		return fd;
	area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (area == MAP_FAILED)
		return -errno;
	if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &watch) < 0) {
		int error = -errno;

		munmap(area, size);
		return error;
	}
	p->cpus[cpu] = (struct cpu_ring){ .fd = fd, .area = area, .whole = now_boottime_ns() };
	perf_ring_init(&p->cpus[cpu].ring, area, p->page_size, p->data_size);
	fd = -1;
	return 0;
}

static void ring_close(struct perf_events *p, struct cpu_ring *c)
{
	if (c->fd < 0)
		return;
	p->broken += c->ring.broken;
	munmap(c->area, p->page_size + p->data_size);
	close_fd(&c->fd);
}

static bool ring_lives(struct cpu_ring *c)
{
	uint64_t value[2];
	bool lives = read(c->fd, value, sizeof value) == sizeof value && value[1] > c->running;

	c->running = lives ? value[1] : c->running;
	return lives;
}

/* ---- all of them ---- */

void perf_events_follow(struct perf_events *p)
{
	for (unsigned cpu = 0; cpu < p->n_cpus; cpu++) {
		struct cpu_ring *c = &p->cpus[cpu];

		if (c->fd >= 0 && !c->dead)
			c->dead = !ring_lives(c);
		if (c->fd >= 0 && c->dead && !perf_ring_look(&c->ring))
			ring_close(p, c);
		if (c->fd < 0)
			ring_open(p, cpu);
	}
}

static int open_all(struct perf_events *p, struct fault *fault)
{
	unsigned opened = 0;
	int error = -ENODEV;

	for (unsigned cpu = 0; cpu < p->n_cpus; cpu++) {
		int r = ring_open(p, cpu);

		if (r == 0)
			opened++;
		else if (r != -ENODEV) /* not online */
			return fault_set(fault, r, "the kernel's records of mappings on CPU %u: %s", cpu, strerror(-r));
		else
			error = r;
	}
	return opened ? 0 : fault_set(fault, error, "the kernel's records of mappings: %s", strerror(-error));
}

static int init(struct perf_events *p, unsigned pages)
{
	long n = sysconf(_SC_NPROCESSORS_CONF);
	int r;

	p->n_cpus = n > 0 ? (unsigned)n : 1;
	p->page_size = (size_t)sysconf(_SC_PAGESIZE);
	p->data_size = pages * p->page_size;
	p->cpus = calloc(p->n_cpus, sizeof *p->cpus);
	p->merge.heap = calloc(p->n_cpus, sizeof *p->merge.heap);
	if (!p->cpus || !p->merge.heap)
		return -ENOMEM;
	for (unsigned cpu = 0; cpu < p->n_cpus; cpu++)
		p->cpus[cpu].fd = -1;
	r = perf_threads_open(&p->threads);
	if (r < 0)
		return r;
	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	return p->epoll < 0 ? -errno : 0;
}

int perf_events_open(struct perf_events **ret, unsigned pages, struct fault *fault)
{
	struct perf_events *p;
	int r;

	if (!pages || pages & (pages - 1))
		return fault_set(fault, -EINVAL, "%u pages for the kernel's records: not a power of two", pages);
	p = calloc(1, sizeof *p);
	if (!p)
		return fault_set(fault, -ENOMEM, "no memory for the kernel's records of mappings");
	p->epoll = -1;
	r = init(p, pages);
	r = r < 0 ? fault_set(fault, r, "the kernel's records of mappings: %s", strerror(-r)) : open_all(p, fault);
	if (r < 0) {
		perf_events_close(p);
		return r;
	}
	*ret = p;
	return 0;
}

void perf_events_close(struct perf_events *p)
{
	if (!p)
		return;
	for (unsigned cpu = 0; p->cpus && cpu < p->n_cpus; cpu++)
		ring_close(p, &p->cpus[cpu]);
	perf_threads_close(&p->threads);
	close_fd(&p->epoll);
	free(p->cpus);
	free(p->merge.heap);
	free(p);
}

/* ---- delivering ---- */

static void deliver(const struct perf_record *r, bool last, const struct perf_events_handler *handler)
{
	/* Tasks outside the agent's own pid namespace have no number here. */
	if (r->pid <= 0)
		return;
	switch (r->kind) {
	case PERF_MAP:
		handler->map(handler->context, &r->map);
		break;
	case PERF_EXEC:
		handler->exec(handler->context, r->pid, r->time);
		break;
	case PERF_FORK:
		if (r->pid != r->parent)
			handler->fork(handler->context, r->parent, r->pid, r->time);
		break;
	case PERF_EXIT:
		if (last)
			handler->exit(handler->context, r->pid, r->time);
		break;
	case PERF_LOST:
	case PERF_OTHER:
		break;
	}
}

/* Keeps the count of threads. Returns whether this is the end of a process. */
static bool count_threads(struct perf_threads *threads, const struct perf_record *r)
{
	if (r->kind == PERF_EXIT)
		return perf_threads_end(threads, r->pid, r->tid);
	if (r->kind == PERF_FORK && r->pid == r->parent)
		perf_threads_begin(threads, r->pid);
	else if (r->kind == PERF_FORK || r->kind == PERF_EXEC)
		perf_threads_reset(threads, r->pid);
	return false;
}

static void take_record(struct perf_events *p, struct cpu_ring *c, const struct perf_events_handler *handler)
{
	struct perf_record record;
	size_t size;
	const void *bytes = perf_ring_take(&c->ring, p->scratch, &size);

	if (!bytes)
		return;
	if (perf_record_parse(bytes, size, &record) < 0) {
		p->broken++;
		return;
	}
	if (record.kind == PERF_LOST) {
		p->lost += record.lost;
		if (handler->lost)
			handler->lost(handler->context, c->whole, record.time);
	}
	deliver(&record, count_threads(&p->threads, &record), handler);
	c->whole = record.time;
}

void perf_events_drain(struct perf_events *p, const struct perf_events_handler *handler)
{
	uint64_t until = now_boottime_ns();
	struct perf_ring *ring;

	for (unsigned cpu = 0; cpu < p->n_cpus; cpu++)
		if (p->cpus[cpu].fd >= 0)
			perf_merge_add(&p->merge, &p->cpus[cpu].ring);
	while ((ring = perf_merge_first(&p->merge, until))) {
		take_record(p, (struct cpu_ring *)ring, handler);
		perf_merge_advance(&p->merge);
	}
	perf_merge_end(&p->merge);
}

int perf_events_parse(const void *record, size_t size, const struct perf_events_handler *handler)
{
	struct perf_record parsed;
	int r = perf_record_parse(record, size, &parsed);

	if (r == 0)
		deliver(&parsed, parsed.pid == parsed.tid, handler);
	return r;
}

/* ---- what is told of them ---- */

uint64_t perf_events_lost(const struct perf_events *p)
{
	uint64_t lost = p->lost + p->broken;

	for (unsigned cpu = 0; cpu < p->n_cpus; cpu++)
		lost += p->cpus[cpu].fd >= 0 ? p->cpus[cpu].ring.broken : 0;
	return lost;
}

uint64_t perf_events_bytes(const struct perf_events *p)
{
	uint64_t rings = 0;

	for (unsigned cpu = 0; cpu < p->n_cpus; cpu++)
		rings += p->cpus[cpu].fd >= 0;
	return rings * (p->page_size + p->data_size) + sizeof *p + perf_threads_bytes(&p->threads) +
	       p->n_cpus * (sizeof *p->cpus + sizeof *p->merge.heap);
}

int perf_events_fd(const struct perf_events *p)
{
	return p->epoll;
}

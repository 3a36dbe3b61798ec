/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bursts, see burst.h.
 *
 * The difficulty is to have each thread once. Events are opened on the threads that /proc lists; whatever these make later
 * inherits one. A thread made while the list is read may have inherited an event or not, and nothing tells which. So
 * threads that began between YOUNG_NS before the first look and YOUNG_NS after the last event was opened are no part of the
 * burst: they stay with the ordinary sampling, whose weights are as right. Older threads were all in the list, younger ones
 * all inherited. The margin covers what lies between a thread's inheriting and its time of birth in copy_process(), and
 * between its birth and its being listed (kernel/fork.c).
 *
 * The kernel side is told last, with a begin a little ahead, by when all events are enabled; and it knows the end, so the
 * moment at which the events are closed does not matter.
 *
 * Invariants: a slot is free exactly when its pid is 0; `n_threads` is the sum of all slots' descriptors.
 */
#include "probes/cpu/burst.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "base/perf_open.h"
#include "probes/cpu/burst_map.h"

#define YOUNG_NS (50 * NS_PER_MS)
#define AHEAD_NS (5 * NS_PER_MS)

struct burst {
	uint32_t pid;
	int process; /* pidfd */
	uint64_t until;
	int *events;
	uint32_t *tids;
	unsigned n;
};

struct bursts {
	int program, map;
	unsigned n_threads;
	struct burst slots[BURSTS_MAX];
};

static void close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

int bursts_open(struct bursts **ret, int program, int map)
{
	struct bursts *b = calloc(1, sizeof *b);

	if (!b)
		return -ENOMEM;
	b->program = program;
	b->map = map;
	*ret = b;
	return 0;
}

static void end_burst(struct bursts *bursts, struct burst *b)
{
	bpf_map_delete_elem(bursts->map, &b->pid);
	for (unsigned i = 0; i < b->n; i++)
		close(b->events[i]);
	bursts->n_threads -= b->n;
	close_fd(&b->process);
	free(b->events);
	free(b->tids);
	*b = (struct burst){ 0 };
}

void bursts_close(struct bursts *bursts)
{
	if (!bursts)
		return;
	for (unsigned i = 0; i < BURSTS_MAX; i++)
		if (bursts->slots[i].pid)
			end_burst(bursts, &bursts->slots[i]);
	free(bursts);
}

static struct burst *find_burst(struct bursts *bursts, uint32_t pid)
{
	for (unsigned i = 0; i < BURSTS_MAX; i++)
		if (bursts->slots[i].pid == pid)
			return &bursts->slots[i];
	return NULL;
}

int bursts_end(struct bursts *bursts, uint32_t pid)
{
	struct burst *b = pid ? find_burst(bursts, pid) : NULL;

	if (!b)
		return -ESRCH;
	end_burst(bursts, b);
	return 0;
}

static bool process_ended(const struct burst *b)
{
	struct pollfd p = { .fd = b->process, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

void bursts_tick(struct bursts *bursts)
{
	uint64_t now = now_boottime_ns();

	for (unsigned i = 0; i < BURSTS_MAX; i++) {
		struct burst *b = &bursts->slots[i];

		if (b->pid && (now >= b->until || process_ended(b)))
			end_burst(bursts, b);
	}
}

unsigned bursts_count(const struct bursts *bursts)
{
	unsigned n = 0;

	for (unsigned i = 0; i < BURSTS_MAX; i++)
		n += bursts->slots[i].pid != 0;
	return n;
}

/* ---- beginning ---- */

/* The CPU clock of a task, by its period: exact at any rate, whatever counters the machine has. The event is inherited by
 * threads, not by child processes (Linux 5.13). */
static int open_event(uint32_t tid, uint64_t period_ns)
{
	struct perf_event_attr attr = {
		.size = sizeof attr,
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = period_ns,
		.disabled = 1,
		.inherit = 1,
		.inherit_thread = 1,
	};

	return perf_open(&attr, (int)tid, -1);
}

static bool has_thread(const struct burst *b, uint32_t tid)
{
	for (unsigned i = 0; i < b->n; i++)
		if (b->tids[i] == tid)
			return true;
	return false;
}

/* 1: an event was opened; 0: the thread has one, or is gone. */
static int add_thread(struct bursts *bursts, struct burst *b, uint32_t tid, uint64_t period_ns)
{
	int fd;

	if (has_thread(b, tid))
		return 0;
	if (bursts->n_threads == BURST_THREADS_MAX)
		return -E2BIG;
	fd = open_event(tid, period_ns);
	if (fd < 0)
		return fd == -ESRCH ? 0 : fd;
	if (ioctl(fd, PERF_EVENT_IOC_SET_BPF, bursts->program) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	b->events[b->n] = fd;
	b->tids[b->n++] = tid;
	bursts->n_threads++;
	return 1;
}

static int add_threads(struct bursts *bursts, struct burst *b, uint64_t period_ns)
{
	char path[48];
	_cleanup_(close_dir) DIR *dir = NULL;
	int r = 0;

	snprintf(path, sizeof path, "/proc/%u/task", b->pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? -ESRCH : -errno;
	for (const struct dirent *entry; r >= 0 && (entry = readdir(dir));)
		if (entry->d_name[0] != '.')
			r = add_thread(bursts, b, (uint32_t)strtoul(entry->d_name, NULL, 10), period_ns);
	if (r < 0)
		return r;
	return b->n ? 0 : -ESRCH;
}

static int enable(const struct bursts *bursts, struct burst *b, struct cpu_burst *told, uint64_t duration_ns)
{
	told->from = now_boottime_ns() + AHEAD_NS;
	told->until = b->until = told->from + duration_ns;
	if (bpf_map_update_elem(bursts->map, &b->pid, told, BPF_ANY) < 0)
		return -errno;
	for (unsigned i = 0; i < b->n; i++)
		if (ioctl(b->events[i], PERF_EVENT_IOC_ENABLE, 0) < 0)
			return -errno;
	return 0;
}

static int start(struct bursts *bursts, struct burst *b, const struct burst_order *order)
{
	struct cpu_burst told = { .period_ns = NS_PER_SEC / order->rate };
	int r;

	b->process = (int)syscall(SYS_pidfd_open, (int)b->pid, 0);
	/* A thread's number: EINVAL, since Linux 6.9 ENOENT. */
	if (b->process < 0)
		return errno == EINVAL || errno == ENOENT ? -ESRCH : -errno;
	b->events = calloc(BURST_THREADS_MAX, sizeof *b->events);
	b->tids = calloc(BURST_THREADS_MAX, sizeof *b->tids);
	if (!b->events || !b->tids)
		return -ENOMEM;
	told.young_from = now_boottime_ns() - YOUNG_NS;
	r = add_threads(bursts, b, told.period_ns);
	if (r < 0)
		return r;
	told.young_to = now_boottime_ns() + YOUNG_NS;
	return enable(bursts, b, &told, order->duration_ns);
}

static int check_order(struct bursts *bursts, const struct burst_order *order, struct fault *fault)
{
	const struct burst *b;

	if (order->rate < 1 || order->rate > BURST_RATE_MAX)
		return fault_set(fault, -ERANGE, "the rate must be 1 to %u Hz, not %u", BURST_RATE_MAX, order->rate);
	if (order->duration_ns < NS_PER_SEC / 10 || order->duration_ns > BURST_SECONDS_MAX * NS_PER_SEC)
		return fault_set(fault, -ERANGE, "the duration must be 100 ms to %u s", BURST_SECONDS_MAX);
	if (!order->pid || order->pid > INT32_MAX)
		return fault_set(fault, -ESRCH, "there is no process %u", order->pid);
	b = find_burst(bursts, order->pid);
	if (b)
		return fault_set(fault, -EBUSY, "process %u has a burst already, for another %.1f s", order->pid,
				 (double)(b->until - MIN_OF(b->until, now_boottime_ns())) / 1e9);
	if (bursts_count(bursts) == BURSTS_MAX)
		return fault_set(fault, -EBUSY, "there are %u bursts already, as many as there may be", BURSTS_MAX);
	return 0;
}

static int explain(int r, uint32_t pid, struct fault *fault)
{
	switch (r) {
	case -ESRCH:
		return fault_set(fault, r, "there is no process %u (a thread's number is none)", pid);
	case -E2BIG:
		return fault_set(fault, r, "process %u has too many threads: all bursts together may have %u", pid,
				 BURST_THREADS_MAX);
	case -EMFILE:
	case -ENFILE:
		return fault_set(fault, r, "no descriptors left for the threads of process %u", pid);
	case -EACCES:
	case -EPERM:
		return fault_set(fault, r, "the kernel does not let this user sample process %u", pid);
	default:
		return fault_set(fault, r, "cannot sample process %u: %s", pid, strerror(-r));
	}
}

int bursts_begin(struct bursts *bursts, const struct burst_order *order, struct fault *fault)
{
	struct burst *b;
	int r;

	/* One that is over or whose process ended is in nobody's way. */
	bursts_tick(bursts);
	r = check_order(bursts, order, fault);
	if (r < 0)
		return r;
	b = find_burst(bursts, 0);
	*b = (struct burst){ .pid = order->pid, .process = -1 };
	r = start(bursts, b, order);
	if (r == 0)
		return 0;
	end_burst(bursts, b);
	return explain(r, order->pid, fault);
}

/* ---- the control socket ---- */

/* Quotes and backslashes do not occur in these sentences. */
int bursts_request(struct bursts *bursts, const char *words, FILE *out)
{
	struct burst_order order;
	struct fault fault = { 0 };
	unsigned long long ns;
	int end = 0;

	if (sscanf(words, "burst %u %u %llu%n", &order.pid, &order.rate, &ns, &end) != 3 || words[end])
		return -EINVAL;
	order.duration_ns = ns;
	if (bursts_begin(bursts, &order, &fault) < 0)
		fprintf(out, "{\"error\":\"%s\"}", fault.text);
	else
		fprintf(out, "{\"pid\":%u,\"rate\":%u,\"duration_ns\":%llu,\"threads\":%u}", order.pid, order.rate, ns,
			find_burst(bursts, order.pid)->n);
	return 0;
}

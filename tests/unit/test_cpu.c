/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cpu module with a host of the test's own: rows of made-up samples, whose sums are known exactly, and the real program on
 * real perf events, for which root is needed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "modules.h"
#include "probes/cpu/cpu.h"
#include "sonde/module.h"
#include "sonde/shared.h"
#include "stacks/symbols.h"

extern const struct sonde_module sonde_module_cpu;

struct sample {
	struct cpu_sample head;
	uint64_t frames[SONDE_STACK_KERNEL_MAX];
};

/* What the host saw. One test at a time uses it. */
static struct {
	struct bpf_object *object;
	uint64_t rows, value, settled, dropped, taken;
	uint64_t burning; /* samples whose stack has the burning function below this test's */
	uint64_t whole;   /* of these, with its caller right above */
	uint64_t refuse;  /* rows to refuse */
	int child;
} seen;

static uint64_t host_number(const struct sonde_host *host, const char *key)
{
	assert_string_equal(key, "rate");
	return 99;
}

static int host_program(const struct sonde_host *host, const char *name)
{
	struct bpf_program *p = seen.object ? bpf_object__find_program_by_name(seen.object, name) : NULL;

	return p ? bpf_program__fd(p) : -ENOENT;
}

static int host_map(const struct sonde_host *host, const char *name)
{
	struct bpf_map *m = seen.object ? bpf_object__find_map_by_name(seen.object, name) : NULL;

	return m ? bpf_map__fd(m) : -ENOENT;
}

static int find_item(const char *items, size_t size, const char *begin)
{
	int i = 0;

	for (size_t at = 0; at < size; at += strlen(items + at) + 1, i++)
		if (!strncmp(items + at, begin, strlen(begin)))
			return i;
	return -1;
}

static int host_emit(struct sonde_host *host, const char *type, void *data)
{
	struct profile_cpu *row = data;
	const char *stack = (char *)data + row->stack.offset;

	assert_string_equal(type, "profile_cpu");
	assert_string_equal(row->unit, "samples");
	assert_int_equal(row->event.size, row->stack.offset + row->stack.length);
	assert_true(row->value > 0 && row->window_ns > 0);
	if (row->stack.length)
		assert_int_equal(stack[row->stack.length - 1], 0);
	if (seen.refuse) {
		seen.refuse--;
		return -ENOSPC;
	}
	seen.rows++;
	seen.value += row->value;
	if ((int)row->event.pid == seen.child) {
		int burn = find_item(stack, row->stack.length, "test_cpu_burn+0x");
		int above = find_item(stack, row->stack.length, "burn_for+0x");

		seen.burning += burn >= 0 ? row->value : 0;
		seen.whole += burn >= 0 && above == burn + 1 ? row->value : 0;
		for (size_t at = 0; burn >= 0 && above != burn + 1 && at < row->stack.length;
		     at += strlen(stack + at) + 1)
			print_message("%s %s\n", at ? "  " : "not whole:", stack + at);
	}
	return 0;
}

static void host_settled(struct sonde_host *host, const char *type, uint64_t count, const char *reason)
{
	assert_string_equal(type, "cpu_sample");
	*(reason ? &seen.dropped : &seen.settled) += count;
}

static struct sonde_host make_host(struct symbols *symbols)
{
	memset(&seen, 0, sizeof seen);
	return (struct sonde_host){ .abi = SONDE_MODULE_ABI,
				    .symbols = symbols,
				    .window_ns = NS_PER_SEC,
				    .number = host_number,
				    .program = host_program,
				    .map = host_map,
				    .emit = host_emit,
				    .settled = host_settled };
}

/* A kernel thread's: its frames are all there is. */
static struct sample make_sample(uint64_t proc, uint32_t tid, unsigned kernel, uint64_t first)
{
	struct sample s = { .head = { .event = { .size = (uint32_t)(sizeof s.head + kernel * 8),
						 .proc = proc,
						 .pid = (uint32_t)proc,
						 .tid = tid,
						 .comm = "made-up" },
				      .stack = { .n_kernel = (uint16_t)kernel } } };

	for (unsigned i = 0; i < kernel; i++)
		s.frames[i] = first + i * 16;
	return s;
}

/* ---- rows ---- */

/* The module cannot attach without a program; these tests give it one that does nothing. */
static void attach_idle(struct sonde_host *host)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "cpu");
	const struct builtin_object *b = builtin_objects;

	while (b->name && strcmp(b->name, "cpu"))
		b++;
	assert_non_null(b->name);
	if (geteuid() != 0)
		skip();
	seen.object = bpf_object__open_mem(b->begin, (size_t)(b->end - b->begin), &options);
	assert_non_null(seen.object);
	if (bpf_object__load(seen.object) < 0)
		skip(); /* a machine that lets no one load programs */
	assert_int_equal(sonde_module_cpu.attach(host), 0);
}

static void detach(struct sonde_host *host)
{
	sonde_module_cpu.detach(host);
	bpf_object__close(seen.object);
	seen.object = NULL;
}

static void test_every_sample_is_settled(void **state)
{
	struct sonde_host host = make_host(NULL);
	uint64_t now = now_boottime_ns(), fed = 0;

	attach_idle(&host);
	seen.refuse = 3;
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < 2000; i++, fed++) {
			struct sample s = make_sample(1 + i % 5, 9, i % 7, 0x1000 * (1 + i % 50));

			sonde_module_cpu.record(&host, &s.head.event);
		}
		now += 1100 * NS_PER_MS;
		sonde_module_cpu.tick(&host, now);
	}
	sonde_module_cpu.flush(&host, 100);
	assert_int_equal(seen.settled + seen.dropped, fed);
	assert_int_equal(seen.value, seen.settled);
	assert_true(seen.dropped > 0 && seen.rows >= 5 * 50);
	detach(&host);
}

static void test_a_full_window_ends_early(void **state)
{
	struct sonde_host host = make_host(NULL);
	uint64_t fed = 0;

	attach_idle(&host);
	for (uint64_t i = 0; i < 20000; i++, fed++) {
		struct sample s = make_sample(1 + i, 9, 120, 0x1000 * i);

		sonde_module_cpu.record(&host, &s.head.event);
	}
	sonde_module_cpu.flush(&host, 100);
	assert_int_equal(seen.rows, fed);
	assert_int_equal(seen.settled, fed);
	assert_int_equal(seen.dropped, 0);
	detach(&host);
}

static void test_samples_that_lie_are_refused(void **state)
{
	struct sonde_host host = make_host(NULL);
	struct sample s = make_sample(1, 1, 3, 0x1000);

	attach_idle(&host);
	s.head.stack.n_kernel = 4;
	sonde_module_cpu.record(&host, &s.head.event);
	s.head.stack.n_kernel = 3;
	s.head.stack.n_slice = 1;
	sonde_module_cpu.record(&host, &s.head.event);
	s.head.stack.n_slice = UINT32_MAX;
	sonde_module_cpu.record(&host, &s.head.event);
	s.head.event.size = sizeof s.head.event;
	sonde_module_cpu.record(&host, &s.head.event);
	sonde_module_cpu.flush(&host, 100);
	assert_int_equal(seen.rows, 0);
	assert_int_equal(seen.dropped, 4);
	detach(&host);
}

static void test_long_stacks_are_whole(void **state)
{
	struct sonde_host host = make_host(NULL);
	struct sample s = make_sample(1, 1, SONDE_STACK_KERNEL_MAX, 0xffffffff00000000ull);

	attach_idle(&host);
	sonde_module_cpu.record(&host, &s.head.event);
	sonde_module_cpu.flush(&host, 100);
	assert_int_equal(seen.rows, 1);
	detach(&host);
}

/* ---- the real program ---- */

void test_cpu_burn(volatile uint64_t *sink);
__attribute__((noinline)) void test_cpu_burn(volatile uint64_t *sink)
{
	/* Without this a function that calls none keeps no frame, whatever the flags say. */
	__asm__ volatile("" : : "r"(__builtin_frame_address(0)));
	for (unsigned i = 0; i < 1000000; i++)
		*sink = *sink * 3 + i;
}

static int take_record(void *context, void *data, size_t size)
{
	const struct sonde_event *event = data;

	assert_true(event->size >= sizeof(struct cpu_sample) && event->size <= size);
	seen.taken++;
	sonde_module_cpu.record(context, event);
	return 0;
}

void burn_for(double seconds);
__attribute__((noinline)) void burn_for(double seconds)
{
	volatile uint64_t sink = 1;
	struct timespec t;

	do {
		test_cpu_burn(&sink);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	} while ((double)t.tv_sec + (double)t.tv_nsec / 1e9 < seconds);
}

static int start_burning(double seconds)
{
	int pid = fork();

	if (pid == 0) {
		burn_for(seconds);
		_exit(0);
	}
	return pid;
}

/* The kernel's own count of the same clock: where a host took this machine's CPU, a tick that came late is one, however many are due. */
struct yardstick {
	int fd;
	void *ring;
};

static void yardstick_start(struct yardstick *y, int pid)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.freq = 1,
		.sample_freq = 99,
	};

	y->fd = (int)syscall(SYS_perf_event_open, &attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
	assert_true(y->fd >= 0);
	y->ring = mmap(NULL, 2 * (size_t)getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED, y->fd, 0);
	assert_true(y->ring != MAP_FAILED);
}

/* A sample of no fields is its header. */
static uint64_t yardstick_stop(struct yardstick *y)
{
	struct perf_event_mmap_page *page = y->ring;
	uint64_t samples = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE) / sizeof(struct perf_event_header);

	munmap(y->ring, 2 * (size_t)getpagesize());
	close(y->fd);
	return samples;
}

__attribute__((unused)) static void test_samples_of_a_real_load(void **state)
{
	const struct symbols_options bounds = { .cache_bytes = 8u << 20,
						.worker_bytes = 8u << 20,
						.worker_uid = 65534 };
	struct symbols *symbols;
	uint64_t until = now_boottime_ns() + 30 * NS_PER_SEC;

	if (geteuid() != 0)
		skip();
	assert_int_equal(symbols_open(&symbols, &bounds, NULL), 0);

	struct sonde_host host = make_host(symbols);
	struct yardstick yardstick;

	attach_idle(&host);
	seen.child = start_burning(1.5);
	yardstick_start(&yardstick, seen.child);

	struct ring_buffer *ring = ring_buffer__new(
		bpf_map__fd(bpf_object__find_map_by_name(seen.object, "sonde_bulk")), take_record, &host, NULL);
	int status;

	assert_non_null(ring);
	while (waitpid(seen.child, &status, WNOHANG) == 0 && now_boottime_ns() < until) {
		/* Not woken by each sample, which would then find us running, or who comes after us: the agent is not either. */
		nanosleep(&(struct timespec){ .tv_nsec = 50 * NS_PER_MS }, NULL);
		ring_buffer__consume(ring);
		symbols_answer(symbols);
		sonde_module_cpu.tick(&host, now_boottime_ns());
	}
	ring_buffer__consume(ring);
	sonde_module_cpu.flush(&host, 5000);

	uint64_t counted = yardstick_stop(&yardstick);

	print_message("%s: %llu samples in %llu rows, %llu of the load, for which the kernel counts %llu\n",
		      sonde_module_cpu.hook(&host), (unsigned long long)seen.value, (unsigned long long)seen.rows,
		      (unsigned long long)seen.burning, (unsigned long long)counted);
	assert_int_equal(seen.value + seen.dropped, seen.taken);
	assert_int_equal(seen.settled, seen.value);
	/* 1.5 s at 99 Hz are 148; those of the first moment may be of the child before it burned. */
	assert_in_range(counted, 10, 165);
	/* Where others want the CPU too, which of them a timer of the CPU finds running is chance: four standard deviations. */
	assert_true(fabs((double)seen.burning - (double)counted) <= 0.1 * (double)counted + 4 * sqrt((double)counted));
	assert_true(seen.whole * 100 >= seen.burning * 99);
	ring_buffer__free(ring);
	detach(&host);
	symbols_close(symbols);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_sample_is_settled),      cmocka_unit_test(test_a_full_window_ends_early),
		cmocka_unit_test(test_samples_that_lie_are_refused), cmocka_unit_test(test_long_stacks_are_whole),
#ifndef __SANITIZE_THREAD__ /* its runtime takes the samples, and keeps no frame pointers */
		cmocka_unit_test(test_samples_of_a_real_load),
#endif
	};

	libbpf_set_print(NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

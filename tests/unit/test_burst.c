/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bursts with two small programs of the test's own, on real perf events; root is needed. The truth is the CPU time that the
 * load's own threads measured.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "probes/cpu/burst.h"

#define BASE_RATE 99
#define CPUS_MAX  64

struct taken {
	uint64_t base, burst, burst_ns;
};

struct fixture {
	struct bpf_object *object;
	struct bursts *bursts;
	int events[CPUS_MAX];
	int n_cpus;
};

/* ---- the load: a child process that burns in threads ---- */

/* Shared with the child. */
struct load {
	volatile int stop, started, idle; /* idle: threads sleep */
	volatile uint64_t cpu_ns, ended_threads;
};

struct thread {
	struct load *load;
	uint64_t ms;
};

static uint64_t thread_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static void *burn(void *context)
{
	struct thread *t = context;

	__atomic_add_fetch(&t->load->started, 1, __ATOMIC_SEQ_CST);
	while (t->load->idle && !t->load->stop)
		usleep(10000);
	while (!t->load->stop && (!t->ms || thread_ns() < t->ms * NS_PER_MS))
		for (volatile int i = 0; i < 1000; i++)
			;
	__atomic_add_fetch(&t->load->cpu_ns, thread_ns(), __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&t->load->ended_threads, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* `lasting` threads that burn until the stop, or `passing` ones in turns, of 20 ms each. */
static _Noreturn void run_load(struct load *load, unsigned lasting, bool passing)
{
	struct thread for_long = { .load = load }, for_short = { .load = load, .ms = 20 };
	pthread_t threads[512], one;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < lasting; i++)
		if (pthread_create(&threads[i], NULL, burn, &for_long))
			_exit(1);
	while (passing && !load->stop) {
		if (pthread_create(&one, NULL, burn, &for_short))
			_exit(1);
		pthread_join(one, NULL);
	}
	for (unsigned i = 0; i < lasting; i++)
		pthread_join(threads[i], NULL);
	load->cpu_ns += thread_ns();
	_exit(0);
}

static struct load *load_share(void)
{
	struct load *load = mmap(NULL, sizeof *load, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(load != MAP_FAILED);
	return load;
}

static int load_begin(struct load *load, unsigned lasting, bool passing)
{
	int pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		run_load(load, lasting, passing);
	while ((unsigned)load->started < lasting + passing)
		usleep(1000);
	return pid;
}

static void load_end(struct load *load, int pid)
{
	int status;

	load->stop = 1;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* ---- the programs ---- */

static int program_fd(struct fixture *f, const char *name)
{
	return bpf_program__fd(bpf_object__find_program_by_name(f->object, name));
}

static int map_fd(struct fixture *f, const char *name)
{
	return bpf_object__find_map_fd_by_name(f->object, name);
}

static void sample_every_cpu(struct fixture *f)
{
	struct perf_event_attr attr = { .size = sizeof attr,
					.type = PERF_TYPE_SOFTWARE,
					.config = PERF_COUNT_SW_CPU_CLOCK,
					.sample_period = NS_PER_SEC / BASE_RATE };

	f->n_cpus = (int)MIN_OF(sysconf(_SC_NPROCESSORS_ONLN), (long)CPUS_MAX);
	for (int cpu = 0; cpu < f->n_cpus; cpu++) {
		f->events[cpu] = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
		assert_true(f->events[cpu] >= 0);
		assert_return_code(ioctl(f->events[cpu], PERF_EVENT_IOC_SET_BPF, program_fd(f, "sample__perf_event")),
				   errno);
	}
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	f->object = bpf_object__open_file(BURST_OBJECT, NULL);
	assert_non_null(f->object);
	assert_int_equal(bpf_object__load(f->object), 0);
	assert_int_equal(bursts_open(&f->bursts, program_fd(f, "burst__perf_event"), map_fd(f, "cpu_bursts")), 0);
	sample_every_cpu(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	bursts_close(f->bursts);
	for (int i = 0; i < f->n_cpus; i++)
		close(f->events[i]);
	bpf_object__close(f->object);
	free(f);
	return 0;
}

static struct taken taken_of(struct fixture *f, int pid)
{
	int fd = map_fd(f, "taken");
	struct taken sum = { 0 }, one;
	uint64_t key, next, *at = NULL;

	while (bpf_map_get_next_key(fd, at, &next) == 0) {
		key = next;
		at = &key;
		if ((int)(key >> 32) != pid || bpf_map_lookup_elem(fd, &key, &one) < 0)
			continue;
		sum.base += one.base;
		sum.burst += one.burst;
		sum.burst_ns += one.burst_ns;
	}
	return sum;
}

static void forget(struct fixture *f)
{
	int fd = map_fd(f, "taken");
	uint64_t key;

	while (bpf_map_get_next_key(fd, NULL, &key) == 0)
		bpf_map_delete_elem(fd, &key);
}

static void wait_ms(struct fixture *f, uint64_t ms)
{
	uint64_t until = now_boottime_ns() + ms * NS_PER_MS;

	while (now_boottime_ns() < until) {
		usleep(20000);
		bursts_tick(f->bursts);
	}
}

static int begin(struct fixture *f, int pid, unsigned rate, uint64_t ms)
{
	struct burst_order order = { .pid = (uint32_t)pid, .rate = rate, .duration_ns = ms * NS_PER_MS };
	struct fault fault = { 0 };
	int r = bursts_begin(f->bursts, &order, &fault);

	if (r < 0)
		assert_true(fault.text[0]);
	return r;
}

/* CPU time as the samples tell it. */
static double told_ns(const struct taken *t)
{
	return (double)t->base * 1e9 / BASE_RATE + (double)t->burst_ns;
}

static void assert_near(double a, double b, double share, double more)
{
	if (a > b * (1 + share) + more || a < b * (1 - share) - more)
		fail_msg("%g is not near %g", a, b);
}

/* Samples of a whole CPU hit one process of several by chance: four standard deviations. */
static void assert_sampled(uint64_t samples, uint64_t cpu_ns)
{
	double expected = BASE_RATE * (double)cpu_ns / 1e9;

	assert_near((double)samples, expected, 0.03, 4 * sqrt(expected) + 2);
}

/* ---- tests ---- */

static uint64_t process_ns(int pid)
{
	clockid_t clock;
	struct timespec t;

	assert_int_equal(clock_getcpuclockid(pid, &clock), 0);
	assert_int_equal(clock_gettime(clock, &t), 0);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static void samples_more_and_then_as_before(void **state)
{
	struct fixture *f = *state;
	struct load *load = load_share();
	int pid = load_begin(load, 3, false);
	struct taken during, after;
	uint64_t cpu;

	/* The threads are older than those that would be left to the ordinary sampling. */
	wait_ms(f, 150);
	forget(f);
	cpu = process_ns(pid);
	assert_int_equal(begin(f, pid, 999, 2000), 0);
	assert_int_equal(bursts_count(f->bursts), 1);
	wait_ms(f, 1900);
	during = taken_of(f, pid);
	cpu = process_ns(pid) - cpu;
	assert_near((double)during.burst, 999.0 * (double)cpu / 1e9, 0.03, 15);
	assert_near(told_ns(&during), (double)cpu, 0.03, 15e6);
	wait_ms(f, 200);
	assert_int_equal(bursts_count(f->bursts), 0);
	forget(f);
	cpu = process_ns(pid);
	wait_ms(f, 1500);
	after = taken_of(f, pid);
	cpu = process_ns(pid) - cpu;
	assert_int_equal(after.burst, 0);
	assert_sampled(after.base, cpu);
	load_end(load, pid);
}

static void threads_that_come_and_go_are_taken_along(void **state)
{
	struct fixture *f = *state;
	struct load *load = load_share();
	int pid = load_begin(load, 1, true);
	struct taken t;
	uint64_t threads;

	wait_ms(f, 150);
	forget(f);
	threads = load->ended_threads;
	uint64_t cpu = process_ns(pid);

	assert_int_equal(begin(f, pid, 999, 30000), 0);
	for (unsigned i = 0; i < 250 && load->ended_threads < threads + 40; i++)
		wait_ms(f, 100);
	t = taken_of(f, pid);
	cpu = process_ns(pid) - cpu;
	assert_true(load->ended_threads >= threads + 40);
	/* No time is counted twice and none is left out, whoever sampled it. */
	assert_near(told_ns(&t), (double)cpu, 0.04, 20e6);
	assert_true((double)t.burst_ns > 0.85 * (double)cpu);
	load_end(load, pid);
}

static void others_are_sampled_as_before(void **state)
{
	struct fixture *f = *state;
	struct load *load = load_share(), *other = load_share();
	int pid = load_begin(load, 1, false), neighbour = load_begin(other, 1, false);
	struct taken t;

	wait_ms(f, 150);
	forget(f);
	uint64_t cpu = process_ns(neighbour);

	assert_int_equal(begin(f, pid, 999, 2000), 0);
	wait_ms(f, 1500);
	t = taken_of(f, neighbour);
	cpu = process_ns(neighbour) - cpu;
	assert_int_equal(t.burst, 0);
	assert_sampled(t.base, cpu);
	load_end(load, pid);
	load_end(other, neighbour);
}

static void a_process_that_ends_ends_its_burst(void **state)
{
	struct fixture *f = *state;
	struct load *load = load_share();
	int pid = load_begin(load, 2, false);

	assert_int_equal(begin(f, pid, 500, 60000), 0);
	load_end(load, pid);
	bursts_tick(f->bursts);
	assert_int_equal(bursts_count(f->bursts), 0);
	assert_int_equal(bursts_end(f->bursts, (uint32_t)pid), -ESRCH);
}

static unsigned open_descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 2048; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void limits_hold(void **state)
{
	struct fixture *f = *state;
	struct load *loads[BURSTS_MAX + 1];
	int pids[BURSTS_MAX + 1];
	unsigned before = open_descriptors();

	for (unsigned i = 0; i <= BURSTS_MAX; i++) {
		loads[i] = load_share();
		loads[i]->idle = 1;
		pids[i] = load_begin(loads[i], 1, false);
	}
	for (unsigned i = 0; i < BURSTS_MAX; i++)
		assert_int_equal(begin(f, pids[i], 10, 60000), 0);
	assert_int_equal(begin(f, pids[BURSTS_MAX], 10, 60000), -EBUSY);
	assert_int_equal(begin(f, pids[0], 10, 60000), -EBUSY);
	assert_int_equal(bursts_end(f->bursts, (uint32_t)pids[0]), 0);
	assert_int_equal(begin(f, pids[BURSTS_MAX], 10, 60000), 0);
	for (unsigned i = 0; i <= BURSTS_MAX; i++)
		load_end(loads[i], pids[i]);
	bursts_tick(f->bursts);
	assert_int_equal(bursts_count(f->bursts), 0);
	assert_int_equal(open_descriptors(), before);
}

static void too_many_threads_are_refused(void **state)
{
	struct fixture *f = *state;
	struct load *a = load_share(), *b = load_share();
	unsigned before = open_descriptors();
	int first, second;

	a->idle = b->idle = 1;
	first = load_begin(a, 300, false);
	second = load_begin(b, 300, false);
	assert_int_equal(begin(f, first, 1, 1000), 0);
	assert_int_equal(begin(f, second, 1, 1000), -E2BIG);
	assert_int_equal(bursts_end(f->bursts, (uint32_t)first), 0);
	assert_int_equal(begin(f, second, 1, 1000), 0);
	assert_int_equal(bursts_end(f->bursts, (uint32_t)second), 0);
	assert_int_equal(open_descriptors(), before);
	load_end(a, first);
	load_end(b, second);
}

static void mistakes_are_named(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(begin(f, getpid(), 0, 1000), -ERANGE);
	assert_int_equal(begin(f, getpid(), 1000, 1000), -ERANGE);
	assert_int_equal(begin(f, getpid(), 99, 60001), -ERANGE);
	assert_int_equal(begin(f, getpid(), 99, 1), -ERANGE);
	assert_int_equal(begin(f, 0, 99, 1000), -ESRCH);
	assert_int_equal(begin(f, 0x7ffffffe, 99, 1000), -ESRCH);
	assert_int_equal(bursts_count(f->bursts), 0);
}

static void a_thread_is_no_process(void **state)
{
	struct fixture *f = *state;
	struct load *load = load_share();
	int pid = load_begin(load, 1, false), tid = 0;
	char path[64];

	for (int candidate = pid + 1; candidate < pid + 1000 && !tid; candidate++) {
		snprintf(path, sizeof path, "/proc/%d/task/%d", pid, candidate);
		tid = access(path, F_OK) == 0 ? candidate : 0;
	}
	assert_true(tid > 0);
	assert_int_equal(begin(f, tid, 99, 1000), -ESRCH);
	load_end(load, pid);
}

static void requests_are_answered(void **state)
{
	struct fixture *f = *state;
	char *text = NULL, words[64];
	size_t size;
	FILE *out = open_memstream(&text, &size);

	snprintf(words, sizeof words, "burst %d 499 1000000000", getpid());
	assert_int_equal(bursts_request(f->bursts, words, out), 0);
	fflush(out);
	assert_non_null(strstr(text, "\"rate\":499"));
	assert_int_equal(bursts_request(f->bursts, words, out), 0);
	fflush(out);
	assert_non_null(strstr(text, "{\"error\":\"process "));
	assert_int_equal(bursts_request(f->bursts, "", out), -EINVAL);
	assert_int_equal(bursts_request(f->bursts, "burst 1 2", out), -EINVAL);
	assert_int_equal(bursts_request(f->bursts, "burst 1 2 3 4", out), -EINVAL);
	fclose(out);
	free(text);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(samples_more_and_then_as_before),
		TEST(threads_that_come_and_go_are_taken_along),
		TEST(others_are_sampled_as_before),
		TEST(a_process_that_ends_ends_its_burst),
		TEST(limits_hold),
		TEST(too_many_threads_are_refused),
		TEST(mistakes_are_named),
		TEST(a_thread_is_no_process),
		TEST(requests_are_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

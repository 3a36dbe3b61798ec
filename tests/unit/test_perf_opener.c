/* SPDX-License-Identifier: Apache-2.0 */
/* The helper that opens perf events: what it opens, and what it can do at most. */
#include "perf_opener.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/perf_open.h"

static struct perf_opener *start(void)
{
	struct perf_opener *o = NULL;

	if (geteuid() != 0)
		fail_msg("only root may start what opens perf events");
	assert_int_equal(perf_opener_start(&o), 0);
	assert_non_null(o);
	return o;
}

static struct perf_event_attr dummy(void)
{
	return (struct perf_event_attr){ .size = sizeof(struct perf_event_attr),
					 .type = PERF_TYPE_SOFTWARE,
					 .config = PERF_COUNT_SW_DUMMY };
}

static int open_one(struct perf_opener *o, const struct perf_event_attr *attr)
{
	int fd = perf_opener_open(o, attr, 0, -1);

	if (fd >= 0) {
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		close(fd);
	}
	return fd < 0 ? fd : 0;
}

static void test_kinds(void **state)
{
	struct perf_opener *o = start();
	struct perf_event_attr attr = dummy();

	assert_int_equal(open_one(o, &attr), 0);
	attr.config = PERF_COUNT_SW_CPU_CLOCK;
	assert_int_equal(open_one(o, &attr), 0);
	attr.config = PERF_COUNT_SW_BPF_OUTPUT;
	assert_int_equal(open_one(o, &attr), -EINVAL);
	attr = dummy();
	attr.type = PERF_TYPE_RAW;
	assert_int_equal(open_one(o, &attr), -EINVAL);
	attr = dummy();
	attr.type = PERF_TYPE_BREAKPOINT;
	assert_int_equal(open_one(o, &attr), -EINVAL);
	attr = dummy();
	attr.size = 64;
	assert_int_equal(open_one(o, &attr), -EINVAL);
	/* What the kernel refuses comes back as it says it. */
	attr = dummy();
	assert_int_equal(perf_opener_open(o, &attr, INT32_MAX, -1), -ESRCH);
	perf_opener_stop(o);
}

static void test_rights(void **state)
{
	struct perf_opener *o = start();
	struct perf_event_attr attr = dummy();
	char path[64], *status;
	size_t size;

	assert_int_equal(open_one(o, &attr), 0); /* it has entered its sandbox */
	snprintf(path, sizeof path, "/proc/%d/status", perf_opener_pid(o));
	assert_int_equal(read_small_file(path, 1u << 16, &status, &size), 0);
	assert_non_null(strstr(status, "CapPrm:\t0000004000200000"));
	assert_non_null(strstr(status, "CapEff:\t0000004000200000"));
	assert_non_null(strstr(status, "CapBnd:\t0000004000200000"));
	assert_non_null(strstr(status, "NoNewPrivs:\t1"));
	assert_non_null(strstr(status, "Seccomp:\t2"));
	free(status);
	perf_opener_stop(o);
}

static void test_gone(void **state)
{
	struct perf_opener *o = start();
	struct perf_event_attr attr = dummy();

	kill(perf_opener_pid(o), SIGKILL);
	assert_int_equal(open_one(o, &attr), -EACCES);
	assert_int_equal(open_one(o, &attr), -EACCES);
	/* Only what the kernel refuses is asked of it. */
	int fd = perf_open(&attr, 0, -1);

	assert_true(fd >= 0);
	close(fd);
	perf_opener_stop(o);
}

/* One that does not answer holds nobody up for long, and an answer that comes too late is for no other question. */
static void test_held_up(void **state)
{
	struct perf_opener *o = start();
	struct perf_event_attr attr = dummy();
	uint64_t begin = now_boottime_ns();

	kill(perf_opener_pid(o), SIGSTOP);
	assert_int_equal(open_one(o, &attr), -EACCES);
	assert_true(now_boottime_ns() - begin < 4 * NS_PER_SEC);
	kill(perf_opener_pid(o), SIGCONT);
	assert_int_equal(open_one(o, &attr), -EACCES);
	perf_opener_stop(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_held_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

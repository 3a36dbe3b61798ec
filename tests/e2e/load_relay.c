/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two processes on a CPU each, for argv[1] seconds: one writes records into a pipe, the other reads them, has less to do for each, and
 * sleeps until there is one. Prints the pid and the CPU seconds of the writer, then of the reader.
 */
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RECORD_BYTES = 64, WRITER_ROUNDS = 6000, READER_ROUNDS = 3500 };

static double seconds_of(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof set, &set);
}

static void work(int rounds)
{
	for (volatile int i = 0; i < rounds; i++)
		;
}

int main(int argc, char **argv)
{
	double end = seconds_of(CLOCK_MONOTONIC) + (argc > 1 ? atof(argv[1]) : 10);
	char record[RECORD_BYTES] = { 0 };
	struct rusage usage;
	int pipe_fds[2];
	pid_t reader;

	if (pipe(pipe_fds) < 0 || (reader = fork()) < 0)
		return 1;
	if (reader == 0) {
		run_on(1);
		close(pipe_fds[1]);
		while (read(pipe_fds[0], record, sizeof record) == sizeof record)
			work(READER_ROUNDS);
		_exit(0);
	}
	run_on(0);
	while (seconds_of(CLOCK_MONOTONIC) < end) {
		work(WRITER_ROUNDS);
		if (write(pipe_fds[1], record, sizeof record) != sizeof record)
			return 1;
	}
	close(pipe_fds[1]);
	wait4(reader, NULL, 0, &usage);
	printf("%d %.3f %d %.3f\n", (int)getpid(), seconds_of(CLOCK_PROCESS_CPUTIME_ID), (int)reader,
	       (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	return 0;
}

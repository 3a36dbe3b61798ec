/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs to know every process's mappings: short programs run while the kernel's events are on, drained as the
 * agent does; the CPU time of the draining alone, over the processes seen, and of a drain when nothing happened. As
 * root. Usage: bench_spaces [PROGRAMS]
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "stacks/perf_events.h"
#include "stacks/spaces.h"

#define ROUND 100u /* programs between two drains: 50 ms on a busy host */
#define IDLE  100000u

struct counts {
	struct spaces *spaces;
	unsigned maps, execs, forks, exits;
};

static void on_map(void *context, const struct space_map_event *event)
{
	struct counts *c = context;

	c->maps++;
	spaces_map(c->spaces, event);
}

static void on_exec(void *context, int pid, uint64_t time)
{
	struct counts *c = context;

	c->execs++;
	spaces_exec(c->spaces, pid, time);
}

static void on_fork(void *context, int parent, int pid, uint64_t time)
{
	struct counts *c = context;

	c->forks++;
	spaces_fork(c->spaces, parent, pid, time);
}

static void on_exit_of(void *context, int pid, uint64_t time)
{
	struct counts *c = context;

	c->exits++;
	spaces_exit(c->spaces, pid, time);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

/* Wall time of `count` programs, one after the other. */
static uint64_t run_programs(unsigned count)
{
	char *const args[] = { (char *)"true", NULL };
	uint64_t begin = now_boottime_ns();

	for (unsigned i = 0; i < count; i++) {
		int pid, r = posix_spawn(&pid, "/bin/true", NULL, NULL, args, NULL);

		if (r)
			exit((fprintf(stderr, "/bin/true: %s\n", strerror(r)), 1));
		waitpid(pid, NULL, 0);
	}
	return now_boottime_ns() - begin;
}

static uint64_t drain(struct perf_events *events, struct counts *counts, unsigned times)
{
	struct perf_events_handler handler = { counts, on_map, on_exec, on_fork, on_exit_of, NULL };
	uint64_t begin = cpu_ns();

	for (unsigned i = 0; i < times; i++)
		perf_events_drain(events, &handler);
	spaces_sweep(counts->spaces, now_boottime_ns());
	return cpu_ns() - begin;
}

int main(int argc, char **argv)
{
	unsigned programs = argc > 1 ? (unsigned)atoi(argv[1]) : 5000;
	struct spaces_options options = { .bytes = 4 << 20, .grace_ns = 2 * NS_PER_SEC };
	struct counts counts = { 0 };
	struct perf_events *events;
	struct spaces_health health;
	struct fault fault = { 0 };
	uint64_t bare, watched = 0, cpu = 0, idle;

	bare = run_programs(programs);
	if (spaces_open(&counts.spaces, &options) < 0 || perf_events_open(&events, 64, &fault) < 0) {
		fprintf(stderr, "%s\n", fault.text);
		return 1;
	}
	for (unsigned done = 0; done < programs; done += ROUND) {
		watched += run_programs(ROUND);
		cpu += drain(events, &counts, 1);
	}
	idle = drain(events, &counts, IDLE);
	spaces_health(counts.spaces, &health);
	printf("%u execs, %u mappings, %u forks, %u exits, %llu lost; %llu bytes kept\n", counts.execs, counts.maps,
	       counts.forks, counts.exits, (unsigned long long)perf_events_lost(events),
	       (unsigned long long)health.bytes);
	printf("{\"drain_ns_per_process\": %llu, \"idle_drain_ns\": %llu, \"program_ns\": %llu, "
	       "\"program_watched_ns\": "
	       "%llu}\n",
	       (unsigned long long)(cpu / MAX_OF(counts.execs, 1u)), (unsigned long long)(idle / IDLE),
	       (unsigned long long)(bare / programs), (unsigned long long)(watched / programs));
	perf_events_close(events);
	spaces_close(counts.spaces);
	return 0;
}

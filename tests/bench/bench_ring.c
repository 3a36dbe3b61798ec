/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the ring into the journal: what the agent takes for one event, and so how many one core can take in a second.
 * The agent is stopped while the flood module fills a large ring, then goes on: what it does until the ring is empty is nothing but
 * this work. Prints one JSON line. Needs root.
 *
 *   bench_ring SONDE FOLDER_OF_flood.bpf.o [EVENTS [JOURNAL_FOLDER]]
 */
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/base.h"
#include "control.h"
#include "json.h"

#define RING    "268435456"
#define WAIT_NS (60 * NS_PER_SEC)

static char control[] = "/tmp/bench_ring.XXXXXX/control", journal[256];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static pid_t start(const char *sonde, const char *folder)
{
	char modules[512], socket[128];
	pid_t pid = fork();

	snprintf(modules, sizeof modules, "agent.modules=%s", folder);
	snprintf(socket, sizeof socket, "agent.control=%s", control);
	if (pid == 0) {
		execl(sonde, sonde, "run", "--journal", journal, "--set", modules, "--set", socket, "--set",
		      "rings.bulk=" RING, "--set", "modules.exec.enabled=false", "--set", "modules.tcp.enabled=false",
		      "--set", "modules.cpu.enabled=false", "--set", "journal.size=2GiB", NULL);
		_exit(127);
	}
	return pid;
}

/* What the agent says of the flood: events journaled, and its CPU time in ns. False while it does not answer. */
static bool ask(uint64_t *journaled, uint64_t *open, uint64_t *cpu)
{
	_cleanup_(free_pointer) char *text = NULL;
	struct json top, type;

	if (control_ask(control, "stats", &text, NULL) < 0)
		return false;
	top = (struct json){ text };
	type = json_key(json_key(top, "types"), "flood.event");
	*journaled = json_number(json_key(type, "journaled"));
	*open = json_number(json_key(type, "open"));
	*cpu = json_number(json_key(json_key(top, "agent"), "cpu_ns"));
	return true;
}

static void wait_for_answer(uint64_t *journaled, uint64_t *open, uint64_t *cpu)
{
	uint64_t until = now_boottime_ns() + WAIT_NS;

	while (!ask(journaled, open, cpu)) {
		if (now_boottime_ns() > until)
			die("the agent does not answer");
		usleep(20000);
	}
}

int main(int argc, char **argv)
{
	uint64_t events = argc > 3 ? strtoull(argv[3], NULL, 10) : 1000000, before, after, open, cpu_before, cpu_after,
		 begin, filled;
	char *slash = strrchr(control, '/');
	int status;
	pid_t pid;

	if (argc < 3)
		return 2;
	*slash = '\0';
	if (!mkdtemp(control))
		die("mkdtemp");
	snprintf(journal, sizeof journal, "%s/journal", argc > 4 ? argv[4] : control);
	*slash = '/';
	pid = start(argv[1], argv[2]);
	wait_for_answer(&before, &open, &cpu_before);
	kill(pid, SIGSTOP);
	begin = now_boottime_ns();
	for (uint64_t i = 0; i < events; i++)
		prctl(PR_SET_NAME, "bench_ring");
	filled = now_boottime_ns() - begin;
	begin = now_boottime_ns();
	kill(pid, SIGCONT);
	do {
		wait_for_answer(&after, &open, &cpu_after);
	} while (open && now_boottime_ns() - begin < WAIT_NS);
	begin = now_boottime_ns() - begin;
	kill(pid, SIGTERM);
	waitpid(pid, &status, 0);
	printf("{\"bench\": \"ring\", \"events\": %llu, \"journaled\": %llu, \"produce_ns\": %.0f, "
	       "\"cpu_ns_per_event\": %.0f, "
	       "\"wall_s\": %.3f, \"events_per_cpu_second\": %.0f}\n",
	       (unsigned long long)events, (unsigned long long)(after - before), (double)filled / (double)events,
	       (double)(cpu_after - cpu_before) / (double)(after - before), (double)begin / 1e9,
	       (double)(after - before) * 1e9 / (double)(cpu_after - cpu_before));
	return status != 0;
}

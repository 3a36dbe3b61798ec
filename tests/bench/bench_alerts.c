/* SPDX-License-Identifier: Apache-2.0 */
/* ns an event with a set of rules, live: bench_alerts FILE... (rule files), over a record of process.exec as the module exec makes it; and what the table of
 * processes takes for a fork, an exec, an exit and a lineage. */
#include "alerts/live.h"
#include "modules.h"
#include "probes/exec/exec.h"

#include <bpf/btf.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define ROUNDS 300000u

static struct schema *schema;
static struct processes *processes;
static struct users *users;
static struct {
	struct process_exec exec;
	char texts[4096];
} record;

static void add_module(const char *name)
{
	for (const struct builtin_object *o = builtin_objects; o->name; o++) {
		int fd = strcmp(o->name, name) ? -1 : memfd_create(name, 0);
		struct fault fault = { 0 };
		char path[64];
		struct btf *btf;

		if (fd < 0)
			continue;
		if (write_all(fd, o->begin, (size_t)(o->end - o->begin)) < 0)
			exit(1);
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		btf = btf__parse(path, NULL);
		if (!btf || schema_add(schema, name, btf, &fault) < 0)
			exit(1);
		btf__free(btf);
		close(fd);
	}
}

static struct sonde_text put(const char *bytes, size_t size)
{
	struct sonde_text text = { (uint16_t)record.exec.event.size, (uint16_t)size };

	memcpy((char *)&record + text.offset, bytes, size);
	record.exec.event.size += (uint32_t)size;
	return text;
}

static void make_record(void)
{
	record.exec.event = (struct sonde_event){ .size = sizeof record.exec,
						  .type = schema_find(schema, "process.exec", 12)->id,
						  .proc = 1ull << 40,
						  .parent = 5,
						  .pid = 4000,
						  .tid = 4000,
						  .comm = "true" };
	record.exec.args = put("/bin/true\0--one\0two words\0three", 31);
	record.exec.exe = put("true\0bin\0usr\0", 13);
	record.exec.cwd = put("project\0alice\0home\0", 19);
}

static void fill_table(void)
{
	struct process p = { .loginuid = -1,
			     .detailed = true,
			     .exe = "/usr/bin/bash",
			     .exe_length = 13,
			     .cwd = "/",
			     .cwd_length = 1,
			     .args = "bash\0-c\0something",
			     .args_length = 17,
			     .comm = "bash" };

	for (uint64_t i = 1; i <= 5; i++) {
		p.proc = i;
		p.parent = i - 1;
		p.pid = (uint32_t)i;
		processes_exec(processes, &p);
	}
}

/* CPU time: the machine may do other things meanwhile. */
static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static void print(const char *what, uint64_t begin)
{
	printf("%-40s %8.0f ns\n", what, (double)(cpu_ns() - begin) / ROUNDS);
}

static void bench_table(struct live *live)
{
	char room[LINEAGE_ROOM];
	uint64_t begin = cpu_ns();

	for (uint32_t i = 0; i < ROUNDS; i++)
		processes_fork(processes, 5, 1000 + i, 5000 + i % 20000, i);
	print("fork", begin);
	begin = cpu_ns();
	for (uint32_t i = 0; i < ROUNDS; i++) {
		record.exec.event.proc = (1ull << 41) + i;
		processes_exec(processes, live_own(live, &record.exec.event));
	}
	print("exec, the record read", begin);
	begin = cpu_ns();
	for (uint32_t i = 0; i < ROUNDS; i++)
		processes_exit(processes, (1ull << 41) + i);
	print("exit", begin);
	begin = cpu_ns();
	for (uint32_t i = 0; i < ROUNDS; i++)
		processes_lineage(processes, 5, room);
	print("lineage of five", begin);
}

static struct rules *load(int argc, char **argv)
{
	struct rules_file files[16];
	struct rules_options options = { 0 };
	struct fault fault = { 0 };
	struct rules *rules;
	int n = 0;

	for (int i = 1; i < argc && n < 16; i++, n++) {
		char *text;

		if (read_small_file(argv[i], 8u << 20, &text, &files[n].size) < 0)
			return NULL;
		files[n].label = argv[i];
		files[n].text = text;
	}
	if (rules_load(&rules, files, (size_t)n, &options, &fault) < 0) {
		fprintf(stderr, "%s\n", fault.text);
		return NULL;
	}
	return rules;
}

int main(int argc, char **argv)
{
	struct live_setup setup = { .host = "here" };
	uint32_t matched[64];
	struct live *live;
	uint64_t begin;

	if (argc < 2) {
		fputs("usage: bench_alerts FILE... (rule files)\n", stderr);
		return 2;
	}
	setup.rules = load(argc, argv);
	if (!setup.rules || schema_new(&schema) < 0)
		return 1;
	add_module("exec");
	if (processes_open(&processes, 8u << 20) < 0 || users_open(&users, "/etc/passwd", "/etc/group") < 0)
		return 1;
	fill_table();
	make_record();
	setup.schema = schema;
	setup.processes = processes;
	setup.users = users;
	if (live_open(&live, &setup) < 0)
		return 1;
	begin = cpu_ns();
	for (uint32_t i = 0; i < ROUNDS; i++)
		live_match(live, &record.exec.event, i, 0, matched, 64);
	print("process.exec against the rules", begin);
	bench_table(live);
	return 0;
}

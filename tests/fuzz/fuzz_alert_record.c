/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a ring record of process.exec or tcp.connect, under rules that ask for every field there is: nothing outside of the record is read, and
 * outputs stay within their room. The first byte chooses the type; what a record lacks is zero.
 */
#include "alerts/live.h"
#include "modules.h"
#include "rules/field.h"

#include <bpf/btf.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RULES_ROOM (256u << 10)
#define OUTPUT     8192u

static struct schema *schema;
static struct processes *processes;
static struct users *users;
static struct rules *rules;
static struct live *live;
static const struct event_type *types[4];

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void add_module(const char *name)
{
	for (const struct builtin_object *o = builtin_objects; o->name; o++) {
		int fd = strcmp(o->name, name) ? -1 : memfd_create(name, 0);
		struct fault fault;
		char path[64];
		struct btf *btf;

		if (fd < 0)
			continue;
		check(write_all(fd, o->begin, (size_t)(o->end - o->begin)) == 0);
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		btf = btf__parse(path, NULL);
		check(btf && schema_add(schema, name, btf, &fault) == 0);
		btf__free(btf);
		close(fd);
	}
}

/* A rule for each field: with its argument, if it takes one. */
static char *write_rules(void)
{
	char *text = malloc(RULES_ROOM);
	size_t used = 0;

	for (size_t i = 0; i < n_rule_fields; i++) {
		const struct rule_field *f = &rule_fields[i];
		const char *argument = f->flags & RULE_TAKES_INDEX      ? "[1]"
				       : f->flags & RULE_NEEDS_ARGUMENT ? "[flags]"
									: "";

		if (strcmp(f->name, "evt.type.is") == 0)
			argument = "[execve]";
		used += (size_t)snprintf(
			text + used, RULES_ROOM - used,
			"- {rule: r%zu, desc: d, priority: INFO, condition: '%s%s exists', output: '%%%s%s'}\n", i,
			f->name, argument, f->name, argument);
		check(used < RULES_ROOM);
	}
	used += (size_t)snprintf(
		text + used, RULES_ROOM - used,
		"- {rule: ancestors, desc: d, priority: INFO, output: o, condition: 'proc.aname = a or "
		"proc.acmdline contains b or proc.apid in (1, 2)'}\n");
	return text;
}

static void prepare(void)
{
	static char *text;
	struct live_setup setup;
	struct rules_file file;
	struct rules_options options = { 0 };
	struct fault fault;
	struct process init = {
		.proc = 1, .pid = 1, .comm = "init", .exe = "", .cwd = "", .args = "init\0-x", .args_length = 7
	};

	check(schema_new(&schema) == 0);
	add_module("exec");
	add_module("tcp");
	types[0] = schema_find(schema, "process.exec", 12);
	types[1] = schema_find(schema, "tcp.connect", 11);
	types[2] = schema_find(schema, "process.fork", 12);
	types[3] = schema_find(schema, "process.exit", 12);
	check(processes_open(&processes, 1 << 20) == 0 && users_open(&users, "/etc/passwd", "/etc/group") == 0);
	processes_exec(processes, &init);
	text = write_rules();
	file = (struct rules_file){ "rules", text, strlen(text) };
	if (rules_load(&rules, &file, 1, &options, &fault) < 0)
		abort();
	setup = (struct live_setup){
		.rules = rules, .schema = schema, .processes = processes, .users = users, .host = "here"
	};
	check(live_open(&live, &setup) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t matched[512], n;
	const struct event_type *type;
	struct sonde_event *event;
	char output[OUTPUT];
	size_t room;

	if (!live)
		prepare();
	if (size < 1 || size > 60000)
		return 0;
	type = types[data[0] % 4];
	room = size - 1 < type->size ? type->size : size - 1;
	event = calloc(1, room);
	check(event);
	memcpy(event, data + 1, size - 1);
	event->size = (uint32_t)room;
	event->type = type->id;
	n = live_match(live, event, data[0], 5, matched, 512);
	for (uint32_t i = 0; i < n; i++)
		check(live_format(live, matched[i], output, sizeof output, NULL) < sizeof output);
	if (type == types[0])
		processes_exec(processes, live_own(live, event));
	free(event);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ns an event with a set of rules: bench_rules FILE... (rule files), over events of the kinds that a host has: opens, execs, connects, and calls that no rule asks
 * for. Values are prepared by slot, as a module would give them.
 */
#include "rules/field.h"
#include "rules/rules.h"

#include <string.h>

#define ROUNDS 200000u
#define LEVELS 8u

struct given {
	const char *field, *value; /* "#" before a number, "!" before a truth value */
};

static const struct kind {
	const char *name;
	struct given fields[28];
} kinds[] = {
	{ "open of a library, to read",
	  { { "evt.type", "openat" },
	    { "evt.is_open_read", "!true" },
	    { "evt.is_open_write", "!false" },
	    { "fd.typechar", "f" },
	    { "fd.num", "#3" },
	    { "evt.res", "SUCCESS" },
	    { "fd.name", "/usr/lib/x86_64-linux-gnu/libc.so.6" },
	    { "fd.nameraw", "/lib/x86_64-linux-gnu/libc.so.6" },
	    { "proc.name", "nginx" },
	    { "proc.pname", "systemd" },
	    { "container.id", "host" },
	    { "evt.arg.flags", "O_RDONLY|O_CLOEXEC" } } },
	{ "open of /etc/hosts, to read",
	  { { "evt.type", "openat" },
	    { "evt.is_open_read", "!true" },
	    { "evt.is_open_write", "!false" },
	    { "fd.typechar", "f" },
	    { "fd.num", "#3" },
	    { "evt.res", "SUCCESS" },
	    { "fd.name", "/etc/hosts" },
	    { "fd.nameraw", "/etc/hosts" },
	    { "proc.name", "curl" },
	    { "proc.pname", "bash" },
	    { "container.id", "host" },
	    { "evt.arg.flags", "O_RDONLY" } } },
	{ "open of a log, to append",
	  { { "evt.type", "openat" },
	    { "evt.is_open_read", "!false" },
	    { "evt.is_open_write", "!true" },
	    { "fd.typechar", "f" },
	    { "fd.num", "#4" },
	    { "evt.res", "SUCCESS" },
	    { "fd.name", "/var/log/nginx/access.log" },
	    { "proc.name", "nginx" },
	    { "container.id", "3ad7b26ded6d" },
	    { "user.uid", "#33" },
	    { "thread.cap_effective", "" },
	    { "evt.arg.flags", "O_APPEND|O_CREAT|O_WRONLY" } } },
	{ "exec of a compiler on the host",
	  { { "evt.type", "execve" },
	    { "evt.res", "SUCCESS" },
	    { "proc.name", "cc1" },
	    { "proc.pname", "gcc" },
	    { "proc.exe", "/usr/libexec/gcc/cc1" },
	    { "proc.exepath", "/usr/libexec/gcc/cc1" },
	    { "proc.args", "-quiet -I include -D_GNU_SOURCE -O2 -Wall file.c -o /tmp/ccX.s" },
	    { "proc.cmdline", "cc1 -quiet -I include -D_GNU_SOURCE -O2 -Wall file.c -o /tmp/ccX.s" },
	    { "proc.cwd", "/src/" },
	    { "container.id", "host" },
	    { "proc.tty", "#34816" },
	    { "user.name", "builder" },
	    { "proc.is_exe_from_memfd", "!false" },
	    { "proc.is_exe_upper_layer", "!false" },
	    { "proc.aname", "gcc make bash sshd sshd systemd" } } },
	{ "exec of a shell in a container",
	  { { "evt.type", "execve" },
	    { "evt.res", "SUCCESS" },
	    { "proc.name", "sh" },
	    { "proc.pname", "python3" },
	    { "proc.exe", "/bin/sh" },
	    { "proc.exepath", "/usr/bin/dash" },
	    { "proc.args", "-c exec healthcheck --fast" },
	    { "proc.cmdline", "sh -c exec healthcheck --fast" },
	    { "proc.pcmdline", "python3 -m server" },
	    { "proc.pexe", "python3" },
	    { "proc.cwd", "/app/" },
	    { "container.id", "3ad7b26ded6d" },
	    { "container.image.repository", "registry.example.org/app" },
	    { "proc.tty", "#0" },
	    { "user.name", "app" },
	    { "proc.is_exe_from_memfd", "!false" },
	    { "proc.is_exe_upper_layer", "!false" },
	    { "proc.aname", "python3 containerd-shim systemd" } } },
	{ "connect to a database",
	  { { "evt.type", "connect" },
	    { "fd.typechar", "4" },
	    { "fd.cip", "10.1.2.3" },
	    { "fd.sip", "10.9.8.7" },
	    { "fd.cport", "#40000" },
	    { "fd.sport", "#5432" },
	    { "evt.rawres", "#-115" },
	    { "evt.res", "EINPROGRESS" },
	    { "fd.l4proto", "tcp" },
	    { "proc.exe", "/app/server" },
	    { "container.id", "3ad7b26ded6d" },
	    { "container.image.repository", "registry.example.org/app" } } },
	{ "close, which no rule asks for", { { "evt.type", "close" } } },
};

/* What an event of one kind answers, by slot. */
struct prepared {
	struct rule_event event;
	struct rule_value *values, *ancestors[LEVELS];
	uint32_t n_ancestors;
};

static bool first_of(struct rule_event *event, const struct rule_ref *ref, struct rule_value *ret)
{
	const struct prepared *p = (const struct prepared *)event;

	*ret = p->values[ref->slot];
	return ret->kind != RULE_ABSENT;
}

static bool next_of(struct rule_event *event, const struct rule_ref *ref, struct rule_value *value)
{
	const struct rule_value *at = value->cursor;

	if (value->left == 0)
		return false;
	*value = at[1];
	return true;
}

static struct rule_value value_of(const char *text)
{
	if (*text == '#')
		return (struct rule_value){ .kind = RULE_NUMBER, .number = atoll(text + 1) };
	if (*text == '!')
		return (struct rule_value){ .kind = RULE_TRUTH, .truth = text[1] == 't' };
	return (struct rule_value){ .kind = RULE_TEXT, .text = text, .length = (uint32_t)strlen(text) };
}

/* Names of ancestors, as a row of values that each know the next. */
static struct rule_value *row_of(const char *names)
{
	struct rule_value *row = calloc(LEVELS, sizeof *row);
	uint32_t n = 0;

	while (*names && n < LEVELS) {
		size_t length = strcspn(names, " ");

		row[n++] = (struct rule_value){
			.kind = RULE_TEXT, .text = names, .length = (uint32_t)length, .list = true
		};
		names += length + (names[length] == ' ');
	}
	for (uint32_t i = 0; i < n; i++) {
		row[i].count = n;
		row[i].left = n - 1 - i;
		row[i].cursor = &row[i];
	}
	return row;
}

static void prepare(struct prepared *p, const struct rules *rules, const struct kind *kind)
{
	p->event = (struct rule_event){ first_of, next_of };
	p->values = calloc(rules_refs(rules), sizeof *p->values);
	for (uint32_t i = 0; i < rules_refs(rules); i++) {
		const struct rule_ref *ref = rules_ref(rules, i);

		for (const struct given *g = kind->fields; g->field; g++) {
			bool ancestor = strcmp(g->field, "proc.aname") == 0 && strcmp(ref->field->name, g->field) == 0;
			struct rule_value *row = ancestor ? row_of(g->value) : NULL;

			if (ancestor)
				p->values[i] = ref->index < 0                                   ? row[0]
					       : ref->index < (int64_t)LEVELS && ref->index > 0 ? row[ref->index - 1]
												: row[LEVELS - 1];
			else if (strcmp(ref->name, g->field) == 0)
				p->values[i] = value_of(g->value);
			if (ancestor && ref->index >= 0)
				p->values[i].list = false;
		}
	}
}

static void measure(const struct rules *rules, const struct kind *kind)
{
	struct prepared p = { 0 };
	uint32_t matched[64], fired = 0;
	uint64_t begin;

	prepare(&p, rules, kind);
	begin = now_boottime_ns();
	for (unsigned i = 0; i < ROUNDS; i++)
		fired += rules_match(rules, &p.event, matched, 64);
	printf("%7.1f ns  %u fire  %s\n", (double)(now_boottime_ns() - begin) / ROUNDS, fired / ROUNDS, kind->name);
}

static void on_report(void *context, enum rules_level level, const char *sentence)
{
	fprintf(stderr, "%s\n", sentence);
}

int main(int argc, char **argv)
{
	const struct rules_options options = { .report = on_report };
	struct rules_file files[16];
	struct rules *rules = NULL;
	struct fault fault;
	uint64_t begin;
	size_t n = 0;

	for (int i = 1; i < argc && n < ARRAY_SIZE(files); i++, n++) {
		char *text;

		if (read_small_file(argv[i], 8u << 20, &text, &files[n].size) < 0)
			return 1;
		files[n].label = argv[i];
		files[n].text = text;
	}
	if (n == 0) {
		fputs("bench_rules FILE...\n", stderr);
		return 2;
	}
	begin = now_boottime_ns();
	if (rules_load(&rules, files, n, &options, &fault) < 0)
		return 1;
	printf("%u rules loaded in %.1f ms, %u references\n", rules_count(rules),
	       (double)(now_boottime_ns() - begin) / 1e6, rules_refs(rules));
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		measure(rules, &kinds[i]);
	rules_free(rules);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's options. A row's default is its value as written in YAML; ranges are what the code that uses the value
 * can honour, and help is what a person who has never seen the agent needs to choose.
 *
 * The tables of modules are made at run time, since a module dropped into the folder brings rows of its own: each gets
 * one table of rows that the settings own, whose texts are borrowed.
 */
#include "settings.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define MODULES_MAX     64u
#define MODULE_ROWS_MAX 64u
#define MODULE_NAME_MAX 32u

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GIB (1ull << 30)

static const struct sonde_option top_rows[] = {
	{ .type = SONDE_OPTION_TEXT,
	  .key = "host",
	  .value = "\"\"",
	  .help = "the name of this host in every event, such as ${env:HOSTNAME}; empty: the system's host name" },
	{ 0 },
};

static const struct sonde_option filter_rows[] = {
	{ .type = SONDE_OPTION_LIST,
	  .key = "cgroup",
	  .value = "[]",
	  .live = 1,
	  .help = "cgroup paths, such as /system.slice/nginx.service; whatever lies below one counts as in it" },
	{ .type = SONDE_OPTION_LIST,
	  .key = "container",
	  .value = "[]",
	  .live = 1,
	  .help = "container ids, or the first 12 digits or more of one" },
	{ .type = SONDE_OPTION_LIST,
	  .key = "user",
	  .value = "[]",
	  .live = 1,
	  .help = "user names or numbers (the real user of the process)" },
	{ .type = SONDE_OPTION_LIST,
	  .key = "comm",
	  .value = "[]",
	  .live = 1,
	  .help = "process names as the kernel keeps them, at most 15 bytes" },
	{ .type = SONDE_OPTION_LIST,
	  .key = "pid",
	  .value = "[]",
	  .live = 1,
	  .help = "process ids, each with all that descends from it" },
	{ .type = SONDE_OPTION_TEXT,
	  .key = "socket",
	  .value = "\"\"",
	  .help = "of which sockets, for all modules that are about sockets, in the language of tcpdump: tcp port 5432 "
		  "and net "
		  "10.0.0.0/8 (docs/filters.md); empty: of all" },
	{ 0 },
};

static const struct sonde_option ring_rows[] = {
	{ .type = SONDE_OPTION_POWER,
	  .key = "priority",
	  .value = "4MiB",
	  .min = 4 * KIB,
	  .max = GIB,
	  .unit = "bytes",
	  .help = "the ring of security events: exec, exit, credentials, alerts; what finds it full is dropped and "
		  "counted" },
	{ .type = SONDE_OPTION_POWER,
	  .key = "bulk",
	  .value = "8MiB",
	  .min = 4 * KIB,
	  .max = GIB,
	  .unit = "bytes",
	  .help = "the ring of everything else; a flood here never costs a security event" },
	{ 0 },
};

static const struct sonde_option journal_rows[] = {
	{ .type = SONDE_OPTION_TEXT,
	  .key = "path",
	  .value = "/var/lib/sonde/journal",
	  .help = "the folder of the journal; made with mode 0700 when it is not there" },
	{ .type = SONDE_OPTION_SIZE,
	  .key = "size",
	  .value = "256MiB",
	  .min = 256 * KIB,
	  .max = 1024 * GIB,
	  .unit = "bytes",
	  .help = "the bound of all segments together; beyond it the overflow policy of each module decides" },
	{ .type = SONDE_OPTION_SIZE,
	  .key = "segment",
	  .value = "0B",
	  .max = GIB,
	  .unit = "bytes",
	  .help = "the size of one file of the journal, at least 64KiB and at most a quarter of the size; 0B: a 32nd "
		  "of it" },
	{ 0 },
};

static const struct sonde_option rule_rows[] = {
	{ .type = SONDE_OPTION_LIST,
	  .key = "files",
	  .value = "[]",
	  .live = 1,
	  .help = "files of rules in Falco's language, such as /etc/sonde/rules.yaml; later ones are read over earlier "
		  "ones (docs/rules.md)" },
	{ .type = SONDE_OPTION_BOOL,
	  .key = "lenient",
	  .value = "false",
	  .live = 1,
	  .help = "a rule with an unknown field is left out with a warning, where it is a mistake otherwise" },
	{ .type = SONDE_OPTION_DURATION,
	  .key = "fold",
	  .value = "10s",
	  .max = 3600 * NS_PER_SEC,
	  .unit = "ns",
	  .live = 1,
	  .help = "within which further alerts of one rule and one proc are counted, and told as one at its end; 0s: "
		  "each "
		  "is told" },
	{ .type = SONDE_OPTION_BOOL,
	  .key = "only",
	  .value = "false",
	  .live = 1,
	  .help = "security modules hook only what rules.files can fire on: other events of theirs cost nothing, and "
		  "are "
		  "not in the stream" },
	{ .type = SONDE_OPTION_MAP,
	  .key = "responses",
	  .value = "{}",
	  .help = "what is done when a rule fires, by the rule's name: kill, capture, burst, deny, block, with commas "
		  "between (docs/response.md)" },
	{ .type = SONDE_OPTION_UINT,
	  .key = "kill_rate",
	  .value = "60",
	  .min = 1,
	  .max = 1000000,
	  .unit = "",
	  .live = 1,
	  .help = "the most processes that responses kill in a minute" },
	{ 0 },
};

static const struct sonde_option kafka_rows[] = {
	{ .type = SONDE_OPTION_BOOL, .key = "enabled", .value = "false", .help = "publish the journal to Kafka" },
	{ .type = SONDE_OPTION_TEXT,
	  .key = "brokers",
	  .value = "\"127.0.0.1:9092\"",
	  .help = "the first brokers to ask, as host:port, separated by commas" },
	{ .type = SONDE_OPTION_TEXT, .key = "topic", .value = "sonde", .help = "the topic that takes the stream" },
	{ .type = SONDE_OPTION_CHOICE,
	  .key = "key",
	  .value = "host",
	  .choices = "host|host_module",
	  .help = "the key of each record: records of one key keep their order" },
	{ .type = SONDE_OPTION_MAP,
	  .key = "options",
	  .value = "{}",
	  .help = "any property of librdkafka, such as {security.protocol: ssl, linger.ms: 5}; passwords best as "
		  "file:/path" },
	{ .type = SONDE_OPTION_DURATION,
	  .key = "flush_timeout",
	  .value = "10s",
	  .max = 600 * NS_PER_SEC,
	  .unit = "ns",
	  .live = 1,
	  .help = "how long the end of the agent waits for the last acknowledgements" },
	{ 0 },
};

static const struct sonde_option agent_rows[] = {
	{ .type = SONDE_OPTION_TEXT,
	  .key = "user",
	  .value = "sonde",
	  .help = "the user that the agent becomes once everything is attached; empty, or no such user: it stays who "
		  "it is" },
	{ .type = SONDE_OPTION_SIZE,
	  .key = "memory",
	  .value = "64MiB",
	  .min = 16 * MIB,
	  .max = 64 * GIB,
	  .unit = "bytes",
	  .help = "the ceiling of resident memory, the worker included and the journal's page cache not" },
	{ .type = SONDE_OPTION_BOOL,
	  .key = "java_maps",
	  .value = "false",
	  .help = "JVMs that are profiled are asked, by a signal and a file as jcmd does, to write the names of the "
		  "code "
		  "they compiled to their /tmp" },
	{ .type = SONDE_OPTION_LIST,
	  .key = "debuginfod",
	  .value = "[]",
	  .help = "servers that are asked, by build id, for the symbols of stripped programs found nowhere else, such "
		  "as "
		  "https://debuginfod.debian.net; they learn which programs run here" },
	{ .type = SONDE_OPTION_TEXT,
	  .key = "control",
	  .value = "/run/sonde.sock",
	  .help = "the socket that sonde stats and sonde tap ask, for root alone; empty: none" },
	{ .type = SONDE_OPTION_TEXT,
	  .key = "listen",
	  .value = "\"\"",
	  .help = "where /metrics answers, such as 127.0.0.1:9435; empty: nowhere" },
	{ .type = SONDE_OPTION_TEXT,
	  .key = "modules",
	  .value = "/usr/lib/sonde/modules",
	  .help = "the folder of further modules; it and every file in it must be root's and writable by nobody else" },
	{ .type = SONDE_OPTION_DURATION,
	  .key = "window",
	  .value = "10s",
	  .min = 100 * NS_PER_MS,
	  .max = 3600 * NS_PER_SEC,
	  .unit = "ns",
	  .help = "over how long rows that sum up, such as profile.cpu, are summed" },
	{ .type = SONDE_OPTION_DURATION,
	  .key = "ledger_interval",
	  .value = "10s",
	  .min = 100 * NS_PER_MS,
	  .max = 3600 * NS_PER_SEC,
	  .unit = "ns",
	  .live = 1,
	  .help = "how often agent.ledger is written" },
	{ .type = SONDE_OPTION_DURATION,
	  .key = "drain_timeout",
	  .value = "5s",
	  .max = 600 * NS_PER_SEC,
	  .unit = "ns",
	  .live = 1,
	  .help = "how long the end of the agent takes at most to empty the rings into the journal" },
	{ 0 },
};

static const struct option_table top_table = { "", "This host", top_rows };

static const struct option_table agent_tables[] = {
	{ "filter",
	  "What is watched, decided in the kernel: a process that fits every filled list; all lists empty: everything",
	  filter_rows },
	{ "rings", "The two ways out of the kernel", ring_rows },
	{ "journal", "The stream on disk, which everything else reads", journal_rows },
	{ "rules", "Rules over the events: what fires is an event of type alert", rule_rows },
	{ "sinks.kafka", "Kafka follows the journal: nothing leaves it before the broker holds it", kafka_rows },
	{ "agent", "The agent itself", agent_rows },
};

/* Modules that cost something, and that not everybody asks for. */
static const struct sonde_option off_rows[] = {
	{ .type = SONDE_OPTION_BOOL, .key = "enabled", .value = "false", .help = "attach this module" },
	{ 0 },
};

static const struct option_table builtin_modules[] = {
	{ "exec", "Processes: process.exec, process.fork, process.exit", NULL },
	{ "cpu", "Where CPU time goes: profile.cpu", NULL },
	{ "tcp", "TCP connections: tcp.connect, tcp.accept, tcp.close", NULL },
	{ "turnaround", "How long answers take, by service: tcp.turnaround, tcp.slow", off_rows },
	{ "udp", "UDP sockets: udp.socket", off_rows },
	{ "drops", "Packets that the kernel dropped: net.drop", off_rows },
	{ "capture", "Packets of connections that something happened to: packet.capture", off_rows },
	{ "kernel", "What reaches into the kernel: module.*, kernel.kexec, bpf.*, perf.open, keys.ctl", off_rows },
	{ "net", "Sockets as security sees them: net.socket, net.bind, net.listen, net.connect, net.accept, net.dup",
	  off_rows },
	{ "uring", "What is done through io_uring: uring.create, uring.op, uring.done", off_rows },
	{ "syscalls", "32-bit system calls, and statistics of all: syscall.compat, syscall.stats", off_rows },
	{ "guard", "What rules.responses ask of the kernel; begins by itself where they do", off_rows },
	{ "dns", "Queries to DNS servers and their answers: dns.query", off_rows },
	{ "file", "What processes do to files: file.open, file.rename, file.unlink, file.chmod and others", off_rows },
	{ "process",
	  "What processes do to each other: process.ptrace, process.signal, process.memory_write, process.fd_get",
	  off_rows },
	{ "cred", "Rights of processes: cred.change", off_rows },
	{ "isolation", "Mounts, roots and namespaces: mount.*, ns.*, process.chroot", off_rows },
	{ "memory", "Memory that becomes code: memory.exec, memory.memfd, memory.userfaultfd, process.personality",
	  off_rows },
};

static const struct sonde_option common_rows[] = {
	{ .type = SONDE_OPTION_BOOL, .key = "enabled", .value = "true", .help = "attach this module" },
	{ .type = SONDE_OPTION_CHOICE,
	  .key = "overflow",
	  .value = "drop-oldest",
	  .choices = "drop-oldest|drop-newest|block",
	  .live = 1,
	  .help = "what goes when the journal is full of records that no sink has taken yet" },
	{ .type = SONDE_OPTION_BOOL,
	  .key = "stack",
	  .value = "false",
	  .help = "each of its events carries the stack of the thread that did it" },
};

struct module_table {
	char prefix[sizeof "modules." + MODULE_NAME_MAX];
	const char *title;
	struct sonde_option rows[MODULE_ROWS_MAX + 1];
	size_t n;
};

struct settings {
	struct module_table *modules;
	size_t n_modules;
	struct option_table tables[1 + MODULES_MAX + ARRAY_SIZE(agent_tables)];
	size_t n_tables;
};

static bool name_is_sound(const char *name)
{
	size_t length = strlen(name);

	return length && length <= MODULE_NAME_MAX &&
	       name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-")] == '\0';
}

static struct module_table *module_table(struct settings *settings, const char *name)
{
	for (size_t i = 0; i < settings->n_modules; i++) {
		if (!strcmp(settings->modules[i].prefix + strlen("modules."), name))
			return &settings->modules[i];
	}
	if (settings->n_modules == MODULES_MAX)
		return NULL;

	struct module_table *more = realloc(settings->modules, (settings->n_modules + 1) * sizeof *more);

	if (!more)
		return NULL;
	settings->modules = more;
	more += settings->n_modules++;
	*more = (struct module_table){ .title = "" };
	snprintf(more->prefix, sizeof more->prefix, "modules.%s", name);
	memcpy(more->rows, common_rows, sizeof common_rows);
	more->n = ARRAY_SIZE(common_rows);
	return more;
}

/* A row of the same key is replaced in its place. */
static int add_row(struct module_table *table, const struct sonde_option *row)
{
	for (size_t i = 0; i < table->n; i++) {
		if (!strcmp(table->rows[i].key, row->key)) {
			table->rows[i] = *row;
			return 0;
		}
	}
	if (table->n == MODULE_ROWS_MAX)
		return -E2BIG;
	table->rows[table->n++] = *row;
	return 0;
}

static int add_module(struct settings *settings, const struct option_table *module, struct fault *fault)
{
	if (!name_is_sound(module->prefix))
		return fault_set(fault, -EINVAL,
				 "'%.40s' is no name for a module; expected at most %u of a-z, 0-9, _ and -",
				 module->prefix, MODULE_NAME_MAX);

	struct module_table *table = module_table(settings, module->prefix);

	if (!table)
		return fault_set(fault, -ENOMEM, "no room for the module %s; at most %u are taken", module->prefix,
				 MODULES_MAX);
	if (module->title && *module->title)
		table->title = module->title;
	for (const struct sonde_option *row = module->rows; row && row->key; row++) {
		if (add_row(table, row) < 0)
			return fault_set(fault, -E2BIG, "the module %s has more than %u options", module->prefix,
					 MODULE_ROWS_MAX);
	}
	return 0;
}

static void list_tables(struct settings *settings)
{
	settings->tables[settings->n_tables++] = top_table;
	for (size_t i = 0; i < settings->n_modules; i++) {
		const struct module_table *m = &settings->modules[i];

		settings->tables[settings->n_tables++] = (struct option_table){ m->prefix, m->title, m->rows };
	}
	for (size_t i = 0; i < ARRAY_SIZE(agent_tables); i++)
		settings->tables[settings->n_tables++] = agent_tables[i];
}

int settings_make(struct settings **ret, const struct option_table *modules, size_t n_modules, struct fault *fault)
{
	struct settings *settings = calloc(1, sizeof *settings);
	int r = 0;

	if (!settings)
		return fault_set(fault, -ENOMEM, "out of memory");
	for (size_t i = 0; i < ARRAY_SIZE(builtin_modules) && r == 0; i++)
		r = add_module(settings, &builtin_modules[i], fault);
	for (size_t i = 0; i < n_modules && r == 0; i++)
		r = add_module(settings, &modules[i], fault);
	if (r < 0) {
		settings_free(settings);
		return r;
	}
	list_tables(settings);
	*ret = settings;
	return 0;
}

void settings_free(struct settings *settings)
{
	if (!settings)
		return;
	free(settings->modules);
	free(settings);
}

const struct option_table *settings_tables(const struct settings *settings, size_t *ret_n)
{
	*ret_n = settings->n_tables;
	return settings->tables;
}

int parse_listen(const char *text, char ret_address[64], uint16_t *ret_port)
{
	const char *colon = strrchr(text, ':');
	bool v6 = *text == '[' && colon > text && colon[-1] == ']';
	size_t length = colon ? (size_t)(colon - text) - (v6 ? 2 : 0) : 0;
	unsigned char address[16];
	char *end;

	if (!colon || length >= 64 || colon[1] < '0' || colon[1] > '9')
		return -EINVAL;

	unsigned long port = strtoul(colon + 1, &end, 10);

	if (*end || port < 1 || port > 65535)
		return -EINVAL;
	memcpy(ret_address, text + v6, length);
	ret_address[length] = '\0';
	if (length && inet_pton(v6 ? AF_INET6 : AF_INET, ret_address, address) != 1)
		return -EINVAL;
	*ret_port = (uint16_t)port;
	return 0;
}

static int check_journal(const struct config *config, struct fault *fault)
{
	uint64_t size = config_number(config, "journal.size"), segment = config_number(config, "journal.segment");

	if (segment && segment < 64 * KIB)
		return fault_set(fault, -EINVAL, "%s: journal.segment must be 0B or at least 64KiB",
				 config_origin(config, "journal.segment"));
	if (segment > size / 4)
		return fault_set(fault, -EINVAL, "%s: journal.segment must be at most a quarter of journal.size",
				 config_origin(config, "journal.segment"));
	if (!config_text(config, "journal.path")[0])
		return fault_set(fault, -EINVAL, "%s: journal.path must not be empty",
				 config_origin(config, "journal.path"));
	return 0;
}

static int check_kafka(const struct config *config, struct fault *fault)
{
	static const char *const needed[] = { "sinks.kafka.brokers", "sinks.kafka.topic" };

	if (!config_bool(config, "sinks.kafka.enabled"))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		if (!config_text(config, needed[i])[0])
			return fault_set(fault, -EINVAL, "%s: %s must not be empty while sinks.kafka.enabled is true",
					 config_origin(config, needed[i]), needed[i]);
	}
	return 0;
}

/* The library takes the servers as one text, with spaces between them. */
static int check_debuginfod(const struct config *config, struct fault *fault)
{
	const char *const *urls;
	size_t n = config_list(config, "agent.debuginfod", &urls);

	for (size_t i = 0; i < n; i++) {
		bool web = !strncmp(urls[i], "http://", 7) || !strncmp(urls[i], "https://", 8);

		if (!web || strpbrk(urls[i], " \t\r\n") || strlen(urls[i]) > 1024)
			return fault_set(
				fault, -EINVAL,
				"%s: agent.debuginfod holds '%.80s'; expected http:// or https://, a host, and no "
				"spaces",
				config_origin(config, "agent.debuginfod"), urls[i]);
	}
	return 0;
}

static int check_agent(const struct config *config, struct fault *fault)
{
	const char *listen = config_text(config, "agent.listen");
	char address[64];
	uint16_t port;

	if (*listen && parse_listen(listen, address, &port) < 0)
		return fault_set(fault, -EINVAL,
				 "%s: agent.listen must be address:port, such as 127.0.0.1:9435 or [::1]:9435",
				 config_origin(config, "agent.listen"));
	if (strlen(config_text(config, "agent.control")) > 107)
		return fault_set(fault, -EINVAL,
				 "%s: agent.control must be at most 107 bytes, which is what a socket's path can be",
				 config_origin(config, "agent.control"));
	if (strlen(config_text(config, "host")) > 255)
		return fault_set(fault, -EINVAL, "%s: host must be at most 255 bytes", config_origin(config, "host"));
	return 0;
}

static int check_filter(const struct config *config, struct fault *fault)
{
	const char *const *items;
	size_t n = config_list(config, "filter.pid", &items);

	for (size_t i = 0; i < n; i++) {
		char *end;
		unsigned long pid = strtoul(items[i], &end, 10);

		if (items[i][0] < '0' || items[i][0] > '9' || *end || pid < 1 || pid > 4194304)
			return fault_set(fault, -EINVAL,
					 "%s: filter.pid holds '%.32s'; expected whole numbers from 1 to 4194304",
					 config_origin(config, "filter.pid"), items[i]);
	}
	n = config_list(config, "filter.comm", &items);
	for (size_t i = 0; i < n; i++) {
		if (strlen(items[i]) > 15)
			return fault_set(fault, -EINVAL,
					 "%s: filter.comm holds '%.32s'; the kernel keeps 15 bytes of a name: '%.15s'",
					 config_origin(config, "filter.comm"), items[i], items[i]);
	}
	return 0;
}

int settings_check(const struct config *config, struct fault *fault)
{
	int r = check_journal(config, fault);

	r = r < 0 ? r : check_kafka(config, fault);
	r = r < 0 ? r : check_agent(config, fault);
	r = r < 0 ? r : check_debuginfod(config, fault);
	return r < 0 ? r : check_filter(config, fault);
}

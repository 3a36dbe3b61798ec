/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `sonde check`: whether the agent would run here, and if not, what to do. One line for each thing looked at, each
 * beginning with ok or error; nothing is loaded, attached or written. A fault of the configuration is exit code 78, of the machine 1.
 */
#include "arguments.h"
#include "command.h"
#include "options.h"
#include "privilege.h"
#include "responses.h"
#include "rule_files.h"
#include "setup.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

#define KAFKA_TIMEOUT_MS 5000

struct checking {
	const struct setup *setup;
	int code;
};

static void _printf_(1, 2) report_ok(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("ok     ", stdout);
	vprintf(format, args);
	fputc('\n', stdout);
	va_end(args);
}

static void _printf_(3, 4) report_error(struct checking *c, int code, const char *format, ...)
{
	va_list args;

	fflush(stdout);
	va_start(args, format);
	fputs("error  ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	c->code = c->code == EXIT_OK ? code : c->code;
}

static void on_notice(void *context, const char *text)
{
	report_error(context, EXIT_FAULT, "modules: %s", text);
}

static uint64_t effective_capabilities(void)
{
	uint64_t held = 0;

	if (capng_get_caps_process() < 0)
		return 0;
	for (unsigned i = 0; i <= CAP_LAST_CAP; i++) {
		if (capng_have_capability(CAPNG_EFFECTIVE, i))
			held |= PRIVILEGE_BIT(i);
	}
	return held;
}

static bool check_privileges(struct checking *c)
{
	uint64_t held = effective_capabilities(), missing = responses_capabilities(c->setup->config) & ~held;
	const char *user = config_text(c->setup->config, "agent.user");
	char names[256] = "", note[160] = "";

	if (*user && !getpwnam(user))
		snprintf(note, sizeof note,
			 "; it stays this user, since there is no '%.64s' (systemd-sysusers makes it)", user);
	if (!missing) {
		report_ok("privileges: user %u with every capability needed%s", (unsigned)geteuid(), note);
		return true;
	}
	for (unsigned i = 0; i <= CAP_LAST_CAP; i++) {
		size_t used = strlen(names);

		if (missing & PRIVILEGE_BIT(i))
			snprintf(names + used, sizeof names - used, " cap_%s", capng_capability_to_name(i));
	}
	report_error(c, EXIT_FAULT, "privileges: user %u lacks%s; run as root, or grant these", (unsigned)geteuid(),
		     names);
	return false;
}

/* The smallest program of a kind: return 0. A typed tracepoint needs its target at load. */
static bool kernel_takes(enum bpf_prog_type type, const char *typed_tracepoint)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options);

	if (typed_tracepoint) {
		int id = libbpf_find_vmlinux_btf_id(typed_tracepoint, BPF_TRACE_RAW_TP);

		if (id < 0)
			return false;
		options.expected_attach_type = BPF_TRACE_RAW_TP;
		options.attach_btf_id = (uint32_t)id;
	}

	_cleanup_(close_fd) int fd = bpf_prog_load(type, "sonde_check", "GPL", insns, ARRAY_SIZE(insns), &options);

	return fd >= 0;
}

/* What the programs are made of; asked of the kernel itself, which takes the right to load. */
static void check_features(struct checking *c, const char *release)
{
	bool typed = kernel_takes(BPF_PROG_TYPE_TRACING, "sched_process_exec");
	bool plain = kernel_takes(BPF_PROG_TYPE_TRACEPOINT, NULL), perf = kernel_takes(BPF_PROG_TYPE_PERF_EVENT, NULL);

	if (libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, NULL) != 1)
		report_error(c, EXIT_FAULT, "kernel: %s has no BPF ring buffer; sonde needs Linux 5.15 or newer",
			     release);
	else if (!typed && !plain)
		report_error(
			c, EXIT_FAULT,
			"kernel: %s takes no tracing programs; see whether lockdown or a security module forbids BPF",
			release);
	else
		report_ok("kernel: %s with BTF, ring buffer%s%s%s", release, typed ? ", typed tracepoints" : "",
			  plain ? ", tracepoints" : "", perf ? ", perf events" : "");
}

static void check_kernel(struct checking *c, bool privileged)
{
	struct fault fault;
	struct utsname u;

	uname(&u);
	if (loader_check_kernel(&fault) < 0)
		report_error(c, EXIT_FAULT, "kernel: %s", fault.text);
	else if (privileged)
		check_features(c, u.release);
	else
		report_ok("kernel: %s with BTF; more can be told with the privileges", u.release);
}

/* The folder, or where it will be made: the nearest one above that is there. */
static void nearest_folder(const char *path, char *ret, size_t room)
{
	struct stat st;

	snprintf(ret, room, "%s", path);
	while (lstat(ret, &st) < 0 && errno == ENOENT) {
		char *slash = strrchr(ret, '/');

		if (!slash) {
			snprintf(ret, room, ".");
			return;
		}
		slash[slash == ret] = '\0';
		if (slash == ret)
			return;
	}
}

static void check_journal(struct checking *c)
{
	const char *path = config_text(c->setup->config, "journal.path");
	uint64_t size = config_number(c->setup->config, "journal.size");
	char folder[4096], free_text[32], size_text[32];
	struct statvfs fs;
	struct stat st;

	nearest_folder(path, folder, sizeof folder);
	if (stat(folder, &st) < 0 || faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) < 0) {
		report_error(c, EXIT_FAULT,
			     "journal: %s: %s cannot be written: %s; set journal.path to a folder that can", path,
			     folder, strerror(errno));
		return;
	}
	if (!S_ISDIR(st.st_mode)) {
		report_error(c, EXIT_FAULT, "journal: %s: %s is not a folder; set journal.path to one", path, folder);
		return;
	}
	format_size(size_text, sizeof size_text, size);
	if (statvfs(folder, &fs) < 0 || !fs.f_bavail) {
		report_error(c, EXIT_FAULT,
			     "journal: %s: no room on the disk of %s; free some, or set journal.path to another", path,
			     folder);
		return;
	}

	uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;

	format_size(free_text, sizeof free_text, room >> 34 ? room >> 30 << 30 : room >> 20 << 20);
	report_ok("journal: %s, bounded to %s; %s free on its disk", path, size_text, free_text);
}

static void check_kafka(struct checking *c, bool offline)
{
	struct kafka_options options = { 0 };
	struct fault fault;

	if (!config_bool(c->setup->config, "sinks.kafka.enabled")) {
		report_ok("kafka: not enabled");
		return;
	}
	if (offline) {
		report_ok("kafka: enabled, not asked");
		return;
	}
	setup_kafka(c->setup->config, &options);
	if (kafka_probe(&options, KAFKA_TIMEOUT_MS, &fault) < 0)
		report_error(c, EXIT_FAULT, "kafka: %s", fault.text);
	else
		report_ok("kafka: %s answers, topic %s", options.brokers, options.topic);
}

static void on_rule_report(void *context, enum rules_level level, const char *sentence)
{
	if (level == RULES_ERROR)
		report_error(context, EXIT_CONFIG, "rules: %s", sentence);
	else
		printf("note   rules: %s\n", sentence);
}

static void on_unserved(void *context, const char *sentence)
{
	on_rule_report(context, RULES_WARNING, sentence);
}

static void check_rules(struct checking *c)
{
	const struct config *config = c->setup->config;
	const char *const *paths;
	size_t n = config_list(config, "rules.files", &paths);
	struct rules *rules = NULL;
	struct responses *responses = NULL;
	struct fault fault = { 0 };
	int r = 0;

	if (n == 0 && config_bool(config, "rules.only"))
		report_error(c, EXIT_CONFIG, "%s: rules.only is on, and rules.files names no file of rules",
			     config_origin(config, "rules.only"));
	if (n > 0)
		r = rule_files_load(&rules, paths, n, config_bool(config, "rules.lenient"), on_rule_report, c, &fault);
	if (r == 0 && responses_read(&responses, config, rules, &fault) < 0)
		report_error(c, EXIT_CONFIG, "%s", fault.text);
	responses_free(responses);
	if (r == 0 && n > 0) {
		rule_files_unserved(rules, c->setup, on_unserved, c);
		report_ok("rules: %u in %zu files", rules_count(rules), n);
	} else if (r < 0 && r != -EINVAL) {
		report_error(c, EXIT_CONFIG, "rules: %s", fault.text);
	}
	rules_free(rules);
}

static int run_check(int argc, char **argv)
{
	const char *file = NULL;
	struct argument_texts sets = { 0 };
	bool offline = false;
	const struct argument arguments[] = {
		{ 'c', "config", "FILE", "the configuration; without it /etc/sonde/sonde.yaml, where there is one",
		  .text = &file },
		{ 0, "set", "KEY=VALUE", "change one option over the file; may be repeated", .texts = &sets },
		{ 0, "offline", .help = "do not ask the Kafka brokers", .flag = &offline },
		{ 0 },
	};
	const struct usage usage = {
		.command = "check",
		.about = "Says whether the agent would run here: the configuration, the kernel, the privileges, the "
			 "journal's folder "
			 "and the Kafka brokers, one line each, and what to do about an error. Exit code 0: all is "
			 "well; 78: the "
			 "configuration is wrong; 1: something else is.",
		.arguments = arguments,
	};
	struct checking c = { 0 };
	struct setup setup = { 0 };
	struct fault fault;
	int code = arguments_take(&usage, argc, argv);

	if (code >= 0)
		return code;
	if (setup_make(&setup, file, sets.items, sets.n, on_notice, &c, &fault) < 0) {
		report_error(&c, EXIT_CONFIG, "configuration: %s", fault.text);
		return EXIT_CONFIG;
	}
	c.setup = &setup;
	report_ok("configuration: %s", setup.file ? setup.file : "the defaults");
	check_kernel(&c, check_privileges(&c));
	check_journal(&c);
	check_rules(&c);
	check_kafka(&c, offline);
	setup_free(&setup);
	return c.code;
}

const struct command command_check = {
	.name = "check",
	.summary = "say whether the agent would run here, and what to do if not",
	.run = run_check,
};

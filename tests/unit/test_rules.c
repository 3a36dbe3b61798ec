/* SPDX-License-Identifier: Apache-2.0 */
/* Rules: each operator and transformer as Falco's documentation has it, the loader's semantics, mistakes with their places, bounds, output. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <time.h>

#include "rule_lines.h"
#include "rules/field.h"
#include "rules/rules.h"

struct reports {
	char text[8192];
	unsigned errors, warnings;
};

static void on_report(void *context, enum rules_level level, const char *sentence)
{
	struct reports *reports = context;

	reports->errors += level == RULES_ERROR;
	reports->warnings += level == RULES_WARNING;
	if (strlen(reports->text) + strlen(sentence) + 2 < sizeof reports->text)
		strcat(strcat(reports->text, sentence), "\n");
}

static int load_files(struct rules **ret, const char *const *texts, size_t n, bool lenient, struct reports *reports)
{
	static const char *const labels[] = { "a.yaml", "b.yaml" };
	const struct rules_options options = { lenient, on_report, reports };
	struct rules_file files[2];
	struct fault fault;

	*reports = (struct reports){ 0 };
	for (size_t i = 0; i < n; i++)
		files[i] = (struct rules_file){ labels[i], texts[i], strlen(texts[i]) };
	return rules_load(ret, files, n, &options, &fault);
}

static struct rules *load(const char *text)
{
	struct reports reports;
	struct rules *rules = NULL;

	if (load_files(&rules, &text, 1, false, &reports) < 0)
		fail_msg("%s\n%s", text, reports.text);
	return rules;
}

static struct rules *load_two(const char *first, const char *second)
{
	const char *const texts[] = { first, second };
	struct reports reports;
	struct rules *rules = NULL;

	if (load_files(&rules, texts, 2, false, &reports) < 0)
		fail_msg("%s", reports.text);
	return rules;
}

static struct rule_line *read_event(const char *text)
{
	struct rule_line *line = NULL;
	struct fault fault;

	if (rule_line_read(&line, text, strlen(text), "event", &fault) < 0)
		fail_msg("%s: %s", text, fault.text);
	return line;
}

/* A rule of this condition. The type is asked for, so that no warning is due. */
static char *rule_text(const char *condition)
{
	static char room[16384];

	snprintf(
		room, sizeof room,
		"- rule: r\n  desc: d\n  output: o\n  priority: INFO\n  warn_evttypes: false\n  condition: |\n    %s\n",
		condition);
	return room;
}

static bool fires(const struct rules *rules, const char *event)
{
	struct rule_line *line = read_event(event);
	uint32_t matched[8];
	bool fired = rules_match(rules, rule_line_event(line), matched, 8) > 0;

	rule_line_free(line);
	return fired;
}

struct expectation {
	const char *condition;
	bool holds;
};

static void check_all(const char *event, const struct expectation *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct rules *rules = load(rule_text(rows[i].condition));

		if (fires(rules, event) != rows[i].holds)
			fail_msg("%s: expected %s", rows[i].condition, rows[i].holds ? "true" : "false");
		rules_free(rules);
	}
}

#define CHECK(event, rows) check_all(event, rows, ARRAY_SIZE(rows))

/* --- conditions --- */

static void test_comparisons(void **state)
{
	static const char event[] =
		"{\"evt.type\": \"open\", \"proc.name\": \"cat\", \"proc.pid\": 1234, \"evt.rawres\": -2,"
		"\"proc.fdusage\": 12.5, \"fd.sport\": 443, \"evt.is_open_read\": true, \"proc.exe\": \"\"}";
	static const struct expectation rows[] = {
		{ "proc.name = cat", true },
		{ "proc.name == cat", true },
		{ "proc.name=cat", true },
		{ "proc.name = \"cat\"", true },
		{ "proc.name = 'cat'", true },
		{ "proc.name = Cat", false },
		{ "proc.name != cat", false },
		{ "proc.name != dog", true },
		{ "proc.name < dog", true },
		{ "proc.name > dog", false },
		{ "proc.pid = 1234", true },
		{ "proc.pid = \"1234\"", true },
		{ "proc.pid != 1234", false },
		{ "proc.pid < 1235", true },
		{ "proc.pid <= 1234", true },
		{ "proc.pid > 1234", false },
		{ "proc.pid >= 1234", true },
		{ "proc.pid = 0x4d2", true },
		{ "proc.pid > 99", true }, /* a number, not text */
		{ "evt.rawres < 0", true },
		{ "evt.rawres = -2", true },
		{ "evt.rawres >= -1", false },
		{ "proc.fdusage > 12", true },
		{ "proc.fdusage = 12.5", true },
		{ "fd.sport = https", true }, /* /etc/services */
		{ "fd.sport = 443", true },
		{ "evt.is_open_read = true", true },
		{ "evt.is_open_read = false", false },
		{ "evt.is_open_read != false", true },
		{ "evt.failed = true", true },
		{ "proc.exe = \"\"", true },
		{ "proc.exe exists", true },
		{ "proc.cwd exists", false },
		{ "not proc.cwd exists", true },
		/* without a value a test is false, whatever it asks */
		{ "proc.cwd = /", false },
		{ "proc.cwd != /", false },
		{ "not proc.cwd = /", true },
		{ "proc.cwd in (/)", false },
		{ "not proc.cwd in (\"<NA>\")", true },
		{ "evt.dir = <", true },
		{ "evt.dir=>", false },
		{ "evt.dir = '<'", true },
		{ "evt.dir != <", false },
	};

	CHECK(event, rows);
}

static void test_text_operators(void **state)
{
	static const char event[] =
		"{\"evt.type\": \"open\", \"proc.cmdline\": \"java -jar App.jar\", \"evt.arg.flags\": "
		"\"O_TRUNC|O_WRONLY\","
		"\"fd.name\": \"/var/spool/maillog\", \"evt.buffer\": \"\\u0001*\\u00b3hi\", \"proc.name\": \"myexe\"}";
	static const struct expectation rows[] = {
		{ "proc.cmdline contains \"-jar\"", true }, /* the documentation's own */
		{ "proc.cmdline contains app", false },
		{ "proc.cmdline icontains app", true },
		{ "proc.cmdline icontains APPX", false },
		{ "evt.arg.flags contains O_TRUNC", true },
		{ "evt.arg.flags contains O_CREAT", false },
		{ "proc.cmdline startswith java", true },
		{ "proc.cmdline startswith jar", false },
		{ "proc.cmdline endswith .jar", true },
		{ "proc.cmdline endswith App", false },
		{ "proc.name glob my*", true },
		{ "proc.name glob my?xe", true },
		{ "proc.name glob MY*", false },
		{ "proc.name iglob MY*", true },
		{ "proc.name regex '[a-z]+'", true },
		{ "proc.name regex '[a-z]'", false },
		{ "fd.name pmatch (/var/run, /var/spool, /etc, /boot)", true },
		{ "fd.name pmatch (/var/spool/mail)", false },
		{ "fd.name pmatch (/var/spool/maillog)", true },
		{ "fd.name pmatch (/var/spool/)", true },
		{ "fd.name pmatch (/)", true },
		{ "fd.name pmatch (/var/*)", true },
		{ "fd.name glob /var/*", true }, /* fnmatch without flags: a star takes slashes */
		{ "fd.name pmatch (/*/spool)", true },
		{ "fd.name pmatch (/va?/spool, /x)", true },
		{ "fd.name pmatch (/*/*/*/*)", false },
		{ "fd.name pmatch (/v*g)", false }, /* here it does not */
		{ "fd.name pmatch ()", false },
		{ "evt.buffer contains hi", true },
		{ "evt.buffer startswith \"\\x01*\"", true },
		{ "evt.buffer bcontains c2b3", true },
		{ "evt.buffer bcontains 00", false },
		{ "evt.buffer bstartswith 012AC2B3", true },
		{ "evt.buffer bstartswith 2A", false },
		{ "proc.name = oneof (myexe, bash)", true },
		{ "proc.name == oneof (myexe, myexe)", false },
		{ "proc.name == anyof (bash, sh)", false },
		{ "proc.name == allof (myexe, myexe)", true },
		{ "proc.name != allof (bash, sh)", true },
		{ "proc.name != oneof (myexe, bash)", true },
		{ "proc.name contains allof (my, exe)", true },
		{ "proc.name glob anyof (x*, my*)", true },
		{ "proc.name regex allof (my.*, .*exe)", true },
		{ "proc.name != allof ()", false },
	};

	CHECK(event, rows);
}

static void test_sets(void **state)
{
	static const char event[] = "{\"evt.type\": \"dup\", \"proc.name\": \"b\", \"fd.types\": [\"file\", \"ipv4\"], "
				    "\"proc.aname\": [\"sh\", \"sshd\"],"
				    "\"proc.apid\": [7, 1], \"evt.rawres\": 2, \"fd.type\": \"ipv4\"}";
	static const struct expectation rows[] = {
		{ "proc.name in (a, b)", true },
		{ "proc.name in (a, c)", false },
		{ "proc.name in (a, c, d, e, f, g, h, b)", true }, /* hashed */
		{ "proc.name in (a, c, d, e, f, g, h, i)", false },
		{ "proc.name in ()", false },
		{ "not proc.name in ()", true },
		{ "proc.name intersects (a, b)", true },
		{ "evt.rawres in (0, 1, 2)", true },
		{ "evt.rawres in (9, 8, 7, 6, 5, 4, 3, 2)", true },
		{ "evt.rawres in (9, 8, 7, 6, 5, 4, 3, 1)", false },
		{ "fd.types in (file, ipv4, ipv6)", true }, /* all of them */
		{ "fd.types in (file, ipv6)", false },
		{ "fd.types intersects (ipv4, unix)", true }, /* one of them */
		{ "fd.types intersects (unix)", false },
		{ "fd.types exists", true },
		{ "len(fd.types) = 2", true },
		{ "proc.aname = sshd", true }, /* any ancestor */
		{ "proc.aname != sshd", true },
		{ "not proc.aname = sshd", false },
		{ "proc.aname in (sshd, login)", true },
		{ "proc.aname startswith ss", true },
		{ "proc.aname[1] = sh", true },
		{ "proc.aname[2] = sshd", true },
		{ "proc.aname[3] exists", false },
		{ "proc.apid = 1", true },
		{ "proc.apid[2] < 2", true },
	};

	CHECK(event, rows);
}

static void test_networks(void **state)
{
	static const char four[] =
		"{\"evt.type\": \"connect\", \"fd.cip\": \"172.40.111.222\", \"fd.sip\": \"142.251.111.147\","
		"\"fd.cport\": 54321, \"fd.sport\": 443, \"fd.rip\": \"172.40.111.222\"}";
	static const char six[] =
		"{\"evt.type\": \"connect\", \"fd.cip\": \"::1\", \"fd.sip\": \"2001:4860:4860::8888\"}";
	static const struct expectation of_four[] = {
		{ "fd.ip == 142.251.111.147", true },
		{ "fd.ip = 172.40.111.222", true },
		{ "fd.ip != 142.251.111.147", false },
		{ "fd.ip != 1.2.3.4", true },
		{ "fd.sip != 0:0:0:0:0:0:0:1", true },
		{ "fd.sip == '0:0:0:0:0:0:0:1'", false },
		{ "fd.ip in (1.1.1.1, 142.251.111.147)", true },
		{ "fd.net == 142.0.0.0/4", true },
		{ "fd.net == 142.251.0.0/8", true },
		{ "fd.net == 142.251.111.0/16", true },
		{ "fd.net != 10.0.0.0/8", true },
		{ "fd.net != 142.0.0.0/8", false },
		{ "fd.net != 2001:db8:abcd:0012::0/64", true },
		{ "fd.net == 10.0.0.0/8", false },
		{ "fd.snet in (10.0.0.0/8, \"142.251.111.144/29\")", true },
		{ "fd.snet in (\"142.251.111.144/31\")", false },
		{ "fd.cnet = 172.40.111.222", true },
		{ "fd.rnet = 172.40.0.0/16", true },
		{ "fd.net = 0.0.0.0/0", true },
		{ "fd.snet = ::/0", true },
		{ "fd.port = 443", true },
		{ "fd.port = 54321", true },
		{ "fd.port != 443", false },
		{ "fd.port in (80, 443)", true },
		{ "fd.port > 50000", true },
	};
	static const struct expectation of_six[] = {
		{ "fd.ip == 2001:4860:4860::8888", true },
		{ "fd.cip == ::1", true },
		{ "fd.ip != 2001:4860:4860::8888", false },
		{ "fd.sip != 127.0.0.1", true },
		{ "fd.net == 2001::0/16", true },
		{ "fd.net == 2001:4860:4860::8888/48", true },
		{ "fd.net != 10::0/16", true },
		{ "fd.net == 10.0.0.0/8", false },
		{ "fd.net == 0.0.0.0/0", false },
	};

	CHECK(four, of_four);
	CHECK(six, of_six);
}

static void test_transformers(void **state)
{
	static const char event[] = "{\"evt.type\": \"execve\", \"proc.name\": \"BaSh\", \"proc.pname\": \"bash\", "
				    "\"proc.exepath\": \"/usr/bin/cat\","
				    "\"proc.cwd\": \"/usr/bin/\", \"proc.args\": \"d29ybGQgIQ==\", \"proc.exe\": "
				    "\"!!!\", \"proc.pid\": 7, \"proc.vpid\": 7,"
				    "\"proc.aname\": [\"zsh\", \"bash\"], \"proc.env\": \"\"}";
	static const struct expectation rows[] = {
		{ "tolower(proc.name) = bash", true },
		{ "toupper(proc.name) = BASH", true },
		{ "tolower(proc.name) = BaSh", false },
		{ "b64(proc.args) = \"world !\"", true },
		{ "b64(proc.exe) exists", false }, /* none: no value */
		{ "b64(proc.env) = \"\"", true },
		{ "basename(proc.exepath) = cat", true },
		{ "basename(proc.cwd) = \"\"", true },
		{ "basename(proc.name) = BaSh", true },
		{ "len(proc.name) = 4", true },
		{ "len(proc.name) > 4", false },
		{ "len(proc.cmdline) = 0", false },
		{ "toupper(basename(proc.exepath)) = CAT", true },
		{ "len(b64(proc.args)) = 7", true },
		{ "proc.name = val(proc.pname)", false },
		{ "tolower(proc.name) = tolower(proc.pname)", true },
		{ "tolower(proc.name) = val(proc.pname)", true },
		{ "proc.pid = val(proc.vpid)", true },
		{ "proc.pid < val(proc.vpid)", false },
		{ "proc.pname in val(proc.pname)", true },
		{ "proc.exepath startswith val(proc.cwd)", true },
		{ "proc.aname = val(proc.pname)", true },
		{ "proc.exepath pmatch val(proc.cwd)", true },
		{ "tolower( proc.name )= bash", true },
	};

	CHECK(event, rows);
}

static void test_logic(void **state)
{
	static const char event[] = "{\"evt.type\": \"open\", \"proc.name\": \"a\"}";
	static const struct expectation rows[] = {
		{ "proc.name = a and proc.name = b or proc.name = a", true },
		{ "proc.name = a or proc.name = b and proc.name = b", true },
		{ "(proc.name = a or proc.name = b) and proc.name = b", false },
		{ "not proc.name = b and proc.name = a", true },
		{ "not (proc.name = a and proc.name = b)", true },
		{ "not not proc.name = a", true },
		{ "not(proc.name = b)and(proc.name = a)", true },
		{ "proc.name = a and(proc.name = a or(proc.name = b))", true },
		{ "evt.num = 0", false },
		{ "evt.num >= 0 and proc.name = a", true },
		{ "not evt.num = 0 and not evt.num < 1", true },
		{ "evt.type.is.open = 1", true },
		{ "evt.type.is.openat = 1", false },
		{ "evt.type.is.openat = 0", true },
	};

	CHECK(event, rows);
}

/* All conditions over three tests, against C's own operators: folding and reordering change nothing. */
static void test_every_combination(void **state)
{
	static const char *const tests[] = { "proc.name = a", "proc.name glob b", "evt.num = 0", "evt.num > 0",
					     "proc.pname exists" };
	static const bool truths[] = { true, false, false, true, false };
	struct rules *rules;

	for (unsigned n = 0; n < 125 * 64; n++) {
		unsigned t[3] = { n % 5, n / 5 % 5, n / 25 % 5 }, bits = n / 125;
		bool v[3], truth;
		char text[256];

		for (unsigned i = 0; i < 3; i++)
			v[i] = truths[t[i]] != (bits >> i & 1);
		snprintf(text, sizeof text, "%s(%s%s %s %s%s) %s %s%s", bits >> 5 & 1 ? "not " : "",
			 bits & 1 ? "not " : "", tests[t[0]], bits >> 3 & 1 ? "and" : "or", bits >> 1 & 1 ? "not " : "",
			 tests[t[1]], bits >> 4 & 1 ? "and" : "or", bits >> 2 & 1 ? "not " : "", tests[t[2]]);
		truth = bits >> 3 & 1 ? v[0] && v[1] : v[0] || v[1];
		truth = truth != (bits >> 5 & 1);
		truth = bits >> 4 & 1 ? truth && v[2] : truth || v[2];
		rules = load(rule_text(text));
		if (fires(rules, "{\"evt.type\": \"open\", \"proc.name\": \"a\"}") != truth)
			fail_msg("%s", text);
		rules_free(rules);
	}
}

/* --- files --- */

static const char base[] = "- list: shells\n  items: [sh, bash]\n"
			   "- macro: shell\n  condition: proc.name in (shells)\n"
			   "- rule: one\n  desc: d\n  condition: evt.type = execve and shell\n  output: o %proc.name\n "
			   " priority: INFO\n  tags: [a]\n";

static void check_two(const char *second, const char *event, bool fired)
{
	struct rules *rules = load_two(base, second);

	if (fires(rules, event) != fired)
		fail_msg("%s: expected %s", second, fired ? "it fires" : "it does not");
	rules_free(rules);
}

static void test_overriding(void **state)
{
	static const char sh[] = "{\"evt.type\": \"execve\", \"proc.name\": \"sh\"}",
			  zsh[] = "{\"evt.type\": \"execve\", \"proc.name\": \"zsh\"}";

	check_two("[]", sh, true);
	check_two("[]", zsh, false);
	check_two("- list: shells\n  items: [zsh]\n", sh, false);
	check_two("- list: shells\n  items: [zsh]\n", zsh, true);
	check_two("- list: shells\n  items: [zsh]\n  append: true\n", sh, true);
	check_two("- list: shells\n  items: [zsh]\n  append: true\n", zsh, true);
	check_two("- list: shells\n  items: [zsh]\n  override: {items: append}\n", zsh, true);
	check_two("- list: shells\n  items: [zsh]\n  override: {items: replace}\n", sh, false);
	check_two("- list: more\n  items: [zsh]\n- list: shells\n  items: [more]\n  append: true\n", zsh, true);
	check_two("- macro: shell\n  condition: or proc.name = zsh\n  append: true\n", zsh, true);
	check_two("- macro: shell\n  condition: or proc.name = zsh\n  override: {condition: append}\n", sh, true);
	check_two("- macro: shell\n  condition: proc.name = zsh\n", sh, false);
	check_two("- rule: one\n  enabled: false\n", sh, false);
	check_two("- rule: one\n  enabled: false\n  override: {enabled: replace}\n", sh, false);
	check_two("- rule: one\n  condition: and proc.pname = x\n  append: true\n", sh, false);
	check_two("- rule: one\n  condition: or proc.name = zsh\n  override: {condition: append}\n", zsh, true);
	check_two("- rule: one\n  condition: proc.name = zsh\n  override: {condition: replace}\n", sh, false);
	check_two("- rule: one\n  exceptions:\n    - {name: e, fields: [proc.name], values: [[sh]]}\n  append: true\n",
		  sh, false);
	check_two("- rule: one\n  exceptions:\n    - {name: e, fields: proc.name, values: [sh, x]}\n  override: "
		  "{exceptions: append}\n",
		  sh, false);
	check_two("- rule: one\n  exceptions:\n    - {name: e, fields: proc.name, comps: pmatch, values: [zsh]}\n  "
		  "override: {exceptions: append}\n",
		  sh, true);
	check_two("- rule: one\n  exceptions:\n    - {name: e, fields: [proc.name, proc.pname], comps: [in, =], "
		  "values: [[[shells], \"a b\"]]}\n"
		  "  append: true\n",
		  "{\"evt.type\": \"execve\", \"proc.name\": \"sh\", \"proc.pname\": \"a b\"}", false);
	check_two("- rule: one\n  desc: d\n  condition: evt.type = open\n  output: o\n  priority: INFO\n", sh, false);
}

static void test_what_is_known_of_a_rule(void **state)
{
	struct rules *rules = load_two(
		base, "- rule: one\n  tags: [b, a]\n  output: and %proc.pid\n  desc: more\n  priority: Critical\n"
		      "  override: {tags: append, output: append, desc: append, priority: replace}\n");
	const struct rule_info *info = rules_at(rules, 0);
	struct rule_line *line = read_event("{\"proc.name\": \"sh\"}");
	char room[64];

	assert_int_equal(rules_count(rules), 1);
	assert_int_equal(rules_find(rules, "one"), 0);
	assert_int_equal(rules_find(rules, "two"), -1);
	assert_string_equal(info->desc, "d more");
	assert_int_equal(info->priority, RULE_CRITICAL);
	assert_int_equal(info->n_tags, 2);
	assert_string_equal(info->tags[1], "b");
	assert_string_equal(info->label, "a.yaml");
	assert_int_equal(info->line, 5);
	assert_int_equal(event_types_count(&info->types), 1);
	rules_format(rules, 0, rule_line_event(line), room, sizeof room, NULL);
	assert_string_equal(room, "o sh and <NA>");
	rule_line_free(line);
	rules_free(rules);
}

static void test_event_types(void **state)
{
	static const struct {
		const char *condition;
		unsigned n; /* 0: all */
		const char *one;
	} rows[] = {
		{ "evt.type = open", 1, "open" },
		{ "evt.type in (open, openat) and proc.name = x", 2, "openat" },
		{ "evt.type = open or proc.name = x", 0, "close" },
		{ "evt.type = open and evt.type = close", 0xffff, NULL },
		{ "evt.type = open or (evt.type = close and proc.name = x)", 2, "close" },
		{ "not evt.type = open", 501, "close" },
		{ "not (not evt.type in (open, close))", 2, "close" },
		{ "not (evt.type != open or proc.name = x)", 1, "open" },
		{ "evt.type startswith open", 6, "open_by_handle_at" },
		{ "evt.type.is.mkdir = 1", 1, "mkdir" },
		{ "syscall.type != open and evt.type in (open, procexit, close)", 1, "close" },
		{ "evt.type glob 'exec*'", 2, "execveat" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct rules *rules = load(rule_text(rows[i].condition));
		const struct event_types *types = &rules_at(rules, 0)->types;
		unsigned n = rows[i].n == 0 ? event_types_known() : rows[i].n == 0xffff ? 0 : rows[i].n;

		if (event_types_count(types) != n)
			fail_msg("%s: %u types", rows[i].condition, event_types_count(types));
		if (rows[i].one)
			assert_true(event_types_have(types, (unsigned)event_type_of(rows[i].one, strlen(rows[i].one))));
		rules_free(rules);
	}
}

struct reads {
	char text[512];
};

static void take_read(void *context, uint32_t rule, const struct rule_path *path)
{
	struct reads *reads = context;
	size_t used = strlen(reads->text);

	if (path)
		snprintf(reads->text + used, sizeof reads->text - used, "%s%.*s%s", used ? " " : "", (int)path->length,
			 path->text, path->folder ? "/" : "");
	else
		snprintf(reads->text + used, sizeof reads->text - used, "%sany", used ? " " : "");
}

static void types_named(const char *names, struct event_types *ret)
{
	memset(ret, 0, sizeof *ret);
	for (const char *at = names; *at; at += strcspn(at, " "), at += *at == ' ')
		event_types_add(ret, (unsigned)event_type_of(at, strcspn(at, " ")));
}

/* Of which files conditions ask for reads. */
static void test_reads(void **state)
{
	static const struct {
		const char *condition, *paths;
	} rows[] = {
		{ "evt.type = openat and evt.is_open_read = true and fd.name = /etc/shadow", "/etc/shadow" },
		{ "evt.type in (open, openat) and fd.name in (/etc/a, '', /etc/b)", "/etc/a /etc/b" },
		{ "evt.type in (open, openat) and evt.is_open_write = true and fd.name = /etc/a", "" },
		{ "evt.type in (open, openat) and not evt.is_open_read = true and fd.name = /etc/a", "" },
		{ "evt.type in (open, openat) and evt.is_open_read = false and fd.name = /etc/a", "" },
		{ "evt.type in (open, openat) and evt.is_open_write != true and fd.name = /etc/a", "/etc/a" },
		{ "evt.type = unlink and fd.name = /etc/a", "" },
		{ "evt.type in (unlink, openat) and evt.category = file and fd.name = /etc/a", "/etc/a" },
		{ "evt.type = openat and evt.category = net and fd.name = /etc/a", "" },
		{ "(evt.type = openat and evt.is_open_write = true and fd.name = /etc/a) or (evt.type = rename and "
		  "fd.name = /etc/b)",
		  "" },
		{ "fd.name = /etc/a", "" },
		{ "evt.type = openat and fd.name startswith /etc/ssh/", "/etc/ssh/" },
		{ "evt.type = openat and fd.name startswith /etc/ssh/host", "/etc/ssh/" },
		{ "evt.type = openat and fd.name startswith /etc/sh", "any" },
		{ "evt.type = openat and fd.name startswith /root/.ssh", "/root/" },
		{ "evt.type = openat and fd.name startswith /", "any" },
		{ "evt.type = openat and fd.name startswith /boot/", "/boot/" },
		{ "evt.type = openat and fd.name pmatch (/usr)", "any" },
		{ "evt.type = openat and fd.name pmatch (/etc/ssh, /srv/keys/)",
		  "/etc/ssh /etc/ssh/ /srv/keys /srv/keys/" },
		{ "evt.type = openat and fd.name glob /srv/keys/*.pem", "/srv/keys/" },
		{ "evt.type = openat and fd.name glob '/home/*/.ssh/id'", "any" },
		{ "evt.type = openat and fd.name endswith .pem", "any" },
		{ "evt.type = openat and fd.name endswith .pem and fd.name startswith /srv/keys/", "/srv/keys/" },
		{ "evt.type = openat and (fd.name = /etc/a or fd.name contains ssh)", "any" },
		{ "evt.type = openat and fd.directory = /etc/ssl", "/etc/ssl/" },
		{ "evt.type = openat and fd.directory in (/etc, /etc/ssl)", "any" },
		{ "evt.type = openat and fs.path.name = /etc/a and proc.name = x", "/etc/a" },
		{ "evt.type = openat and (fd.name = /etc/a or fd.directory = /etc/ssl)", "/etc/a /etc/ssl/" },
		{ "evt.type = openat and (fd.name = /etc/a or fd.directory = /etc)", "any" },
		{ "evt.type = openat and (fd.name = /etc/a or proc.name = x)", "any" },
		{ "evt.type = openat and not fd.name = /etc/a", "any" },
		{ "evt.type = openat and fd.name = relative", "" },
		{ "evt.type = openat and proc.name = x", "any" },
	};
	struct event_types opens;

	types_named("open openat", &opens);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct rules *rules = load(rule_text(rows[i].condition));
		struct reads reads = { "" };

		assert_int_equal(rules_opens(rules, RULES_READS, &opens, "file", take_read, &reads), 0);
		if (strcmp(reads.text, rows[i].paths))
			fail_msg("%s: %s", rows[i].condition, reads.text);
		rules_free(rules);
	}
}

/* Of which files conditions ask for other opens. */
static void test_opens(void **state)
{
	static const struct {
		const char *condition, *paths;
	} rows[] = {
		{ "evt.type = openat and evt.is_open_write = true and fd.name = /etc/a", "/etc/a" },
		{ "evt.type = openat and fd.name = /etc/a", "/etc/a" },
		/* One that is for both is for writing too. */
		{ "evt.type = openat and evt.is_open_read = true and fd.name = /etc/a", "/etc/a" },
		{ "evt.type = openat and evt.is_open_write = true and fd.name startswith /etc/", "/etc/" },
		{ "evt.type = openat and evt.is_open_write = true and fd.name startswith /etc", "any" },
		{ "evt.type = openat and fd.directory in (/usr, /etc/ssl)", "/usr/ /etc/ssl/" },
		{ "evt.type = openat and fd.name pmatch (/usr, /etc)", "/usr /usr/ /etc /etc/" },
		{ "evt.type = openat and fd.name startswith /", "any" },
		{ "evt.type = openat and proc.name = x", "any" },
		{ "evt.type = openat and not fd.name = /etc/a", "any" },
		{ "evt.type = openat and fd.filename = shadow", "any" },
		{ "proc.name = x", "any" },
		{ "fd.name = /etc/a", "/etc/a" },
		{ "evt.type = unlink and proc.name = x", "" },
		{ "evt.category = net and proc.name = x", "" },
		{ "evt.type = openat and evt.category = net", "" },
		{ "(evt.type = openat and fd.name = /a) or (evt.type = rename and fd.name = /b)", "/a /b" },
	};
	struct event_types opens;

	types_named("open openat", &opens);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct rules *rules = load(rule_text(rows[i].condition));
		struct reads reads = { "" };

		assert_int_equal(rules_opens(rules, RULES_OPENS, &opens, "file", take_read, &reads), 0);
		if (strcmp(reads.text, rows[i].paths))
			fail_msg("%s: %s", rows[i].condition, reads.text);
		rules_free(rules);
	}
}

/* Rules are tried on the types that they can fire on, by evt.type and by evt.category. */
static void test_types_of_a_category(void **state)
{
	static const struct {
		const char *condition, *category;
		bool can;
	} rows[] = {
		{ "evt.type = unshare", "process", true },
		{ "evt.type = unshare", NULL, true },
		{ "evt.type = mount", "process", false },
		{ "evt.type = unshare and evt.category = user", "user", true },
		{ "evt.type = unshare and evt.category = user", "process", false },
		{ "evt.type = unshare and evt.category = user", NULL, true },
		{ "evt.category = user and proc.name = x", "process", false },
		{ "not evt.category = user and proc.name = x", "process", true },
		{ "not evt.category = user and proc.name = x", "user", false },
		{ "evt.category in (user, process)", "process", true },
		{ "(evt.type = setns and evt.category = user) or (evt.type = unshare and evt.category = file)", "user",
		  true },
		{ "(evt.type = mount and evt.category = user) or (evt.type = unshare and evt.category = file)", "user",
		  false },
		{ "proc.name = x", "process", true },
		{ "evt.category = val(proc.name)", "process", true },
	};
	struct event_types types;
	uint32_t room[1];

	types_named("unshare setns", &types);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct rules *rules = load(rule_text(rows[i].condition));

		if (rules_of_types(rules, &types, rows[i].category, room) != rows[i].can)
			fail_msg("%s, %s", rows[i].condition, rows[i].category);
		rules_free(rules);
	}
}

static void explain(const struct rules *rules, char *room, size_t size)
{
	FILE *out = fmemopen(room, size, "w");

	rules_explain(rules, 0, out);
	fclose(out);
}

static void test_explaining(void **state)
{
	static const struct {
		const char *condition, *says;
	} rows[] = {
		{ "evt.type=open and shell", "condition: evt.type = open and proc.name in (sh, \"a b\")" },
		{ "not (either) and evt.type=open",
		  "condition: not (proc.name = a or proc.name = b) and evt.type = open" },
		{ "evt.type=open and shell",
		  "proc.name (text) from the process; it must be one that is sh or is \"a b\"" },
		{ "evt.type=open and (fd.name startswith /etc or fd.name pmatch (/usr, /v*))",
		  "fd.name (text) from the event; it must be one that begins with /etc or is or lies below /usr or "
		  "begins with /v" },
		{ "evt.type=open and (fd.name startswith /etc or proc.name=x)", "fd.name (text) from the event\n" },
		{ "evt.type=open and not fd.name = /etc", "fd.name (text) from the event\n" },
		{ "tolower(fd.name) = val(proc.cwd)", "condition: tolower(fd.name) = val(proc.cwd)" },
		{ "fd.name = anyof (a, shells)", "condition: fd.name = anyof (a, sh, \"a b\")" },
		{ "either and (shell or either)", "(proc.name = a or proc.name = b) and (proc.name in (sh, \"a b\") or "
						  "proc.name = a or proc.name = b)" },
	};
	static char text[4096], room[16384];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct rules *rules;

		snprintf(text, sizeof text,
			 "- list: shells\n  items: [sh, a b]\n- macro: shell\n  condition: proc.name in (shells)\n"
			 "- macro: either\n  condition: proc.name = a or proc.name = b\n%s",
			 rule_text(rows[i].condition));
		rules = load(text);
		memset(room, 0, sizeof room);
		explain(rules, room, sizeof room);
		if (!strstr(room, rows[i].says))
			fail_msg("expected %s in\n%s", rows[i].says, room);
		rules_free(rules);
	}
}

/* --- mistakes --- */

static void check_mistake(const char *text, const char *sentence)
{
	struct rules *rules = NULL;
	struct reports reports;

	assert_int_equal(load_files(&rules, &text, 1, false, &reports), -EINVAL);
	assert_null(rules);
	if (!strstr(reports.text, sentence))
		fail_msg("expected %s\nfound %s\nin %s", sentence, reports.text, text);
}

static void test_mistakes_in_conditions(void **state)
{
	static const struct {
		const char *condition, *says;
	} rows[] = {
		{ "proc.nmae = x", "a.yaml:7:5: unknown field 'proc.nmae'; did you mean 'proc.name'?" },
		{ "evt.type = open and\n    proc.nmae = x", "a.yaml:8:5: unknown field" },
		{ "evt.type = opne", "a.yaml:7:16: unknown event type 'opne'; did you mean 'open'?" },
		{ "evt.type in (open, clsoe)", "a.yaml:7:24: unknown event type 'clsoe'" },
		{ "evt.type.is.opne = 1", "unknown event type 'opne'" },
		{ "nothing_of_this", "a.yaml:7:5: unknown macro 'nothing_of_this'" },
		{ "proc.pid = abc", "a.yaml:7:16: expected a number, found 'abc'" },
		{ "proc.pid contains 1", "a.yaml:7:14: 'proc.pid' is of type number, which 'contains' is not for" },
		{ "fd.ip = 10.0.0.0/8", "networks are compared with fd.net" },
		{ "fd.ip = example.org", "expected an address" },
		{ "fd.net = 10.0.0.0/33", "expected a network" },
		{ "fd.sport = 70000", "expected a port" },
		{ "evt.is_open_read = yes", "expected true or false" },
		{ "fd.types = file", "is a list" },
		{ "proc.aname[x] = a", "a.yaml:7:16: 'proc.aname' takes a number in brackets" },
		{ "proc.name[1] = a", "takes no argument" },
		{ "evt.arg = a", "needs an argument, as in 'evt.arg.name'" },
		{ "proc.name = 'a", "a.yaml:7:17: the text that begins here is never closed" },
		{ "proc.name regex 'a('", "a.yaml:7:21: in the regular expression, at its byte 2" },
		{ "proc.name glob val(proc.pname)", "takes a constant" },
		{ "proc.name = val(proc.pid)", "is compared with one of type" },
		{ "tolower(proc.pid) = 1", "takes text" },
		{ "evt.buffer bcontains abc", "hexadecimal" },
		{ "proc.name and", "expected" },
		{ "(proc.name = a", "never closed" },
		{ "proc.name in (a", "expected ',' or ')'" },
		{ "proc.name in shells_of_nobody", "or the name of a list" },
		{ "proc.name ~ a", "expected an operator" },
		{ "proc.name cotains a", "did you mean 'contains'?" },
		{ "proc.name = \"a\\qb\"", "means nothing" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		check_mistake(rule_text(rows[i].condition), rows[i].says);
}

#define RULE "- rule: r\n  desc: d\n  output: o\n  priority: INFO\n  condition: evt.type=open\n"

static void test_mistakes_in_files(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{ "- rule: [", "a.yaml:2:1: not valid YAML" },
		{ "rule: x", "a.yaml:1:1: a rule file is a list" },
		{ "- x", "a.yaml:1:3: expected a rule, a macro, a list" },
		{ "- rule: r\n", "has no condition, output, desc and priority" },
		{ "- rule: r\n  condition: evt.type=open\n  output: o\n  desc: d\n", "'priority' is missing here" },
		{ "- rule: r\n  condition: evt.type=open\n  output: o\n  desc: d\n  priority: URGENT\n",
		  "a.yaml:5:13: unknown priority 'URGENT'" },
		{ "- rule: r\n  condition:\n  output: o\n  desc: d\n  priority: INFO\n", "'condition' is empty" },
		{ "- rule: r\n  enabled: false\n", "there is no rule 'r' before this one" },
		{ "- list: l\n  items: [a]\n  append: true\n", "there is no list 'l' before" },
		{ "- list: l\n  items: a\n", "'items' of a list is a list" },
		{ "- list: l\n  items: [[a]]\n", "an item of a list is a text" },
		{ "- list: a b\n  items: []\n", "a list's name" },
		{ "- list: a\n  items: [x]\n- list: b\n  items: [a]\n- list: a\n  items: [b]\n  append: true\n",
		  "leads back to itself" },
		{ "- macro: 1a\n  condition: evt.num=0\n", "a macro's name" },
		{ "- macro: a\n  condition: b\n- macro: b\n  condition: a\n- rule: r\n  desc: d\n  output: o\n  "
		  "priority: INFO\n  condition: evt.type=open and a\n",
		  "macro 'a' leads back to itself" },
		{ "- macro: m\n  condition: proc.name =\n", "a.yaml:2:" },
		{ "- list: l\n  items: [a]\n  override: {items: prepend}\n", "is append or replace" },
		{ RULE "- rule: r\n  condition: or proc.name=x\n  override: {priority: append}\n",
		  "cannot be appended to" },
		{ RULE "- rule: r\n  condition: or proc.name=x\n  output: x\n  override: {condition: append}\n",
		  "'output' is given but 'override' does not say" },
		{ RULE "- rule: r\n  override: {condition: append}\n", "which is not given here" },
		{ RULE "- rule: r\n  append: true\n  condition: x\n  override: {condition: append}\n",
		  "exclude each other" },
		{ "- required_engine_version: 0.99.0\n", "this file needs engine version 0.99.0" },
		{ "- required_engine_version: 99\n", "this file needs engine version 99" },
		{ "- required_engine_version: x\n", "an engine version is" },
		{ "- required_plugin_versions:\n    - name: container\n", "'version' is missing" },
		{ RULE "  exceptions: [{fields: [proc.name]}]\n", "has a 'name'" },
		{ RULE "  exceptions: [{name: e}]\n", "an exception has 'fields'" },
		{ RULE "  exceptions: [{name: e, fields: [proc.name], comps: [=, =]}]\n", "as many comparisons" },
		{ RULE "  exceptions: [{name: e, fields: proc.name, comps: =}]\n", "in, pmatch or intersects" },
		{ RULE "  exceptions: [{name: e, fields: [proc.name], comps: [like]}]\n", "expected a comparison" },
		{ RULE "  exceptions: [{name: e, fields: [proc.name], values: [[a, b]]}]\n", "as many values" },
		{ RULE "  exceptions: [{name: e, fields: [proc.nmae], values: [[a]]}]\n",
		  "a.yaml:6:35: unknown field 'proc.nmae'" },
		{ RULE "  exceptions: [{name: e, fields: [proc.pid], values: [[\"abc\"]]}]\n",
		  "a.yaml:6:57: expected a number, found 'abc'" },
		{ RULE "  exceptions: [{name: e, fields: proc.name}, {name: e, fields: proc.name}]\n",
		  "two exceptions of this name" },
		{ "- rule: r\n  desc: d\n  output: 'x %proc.nmae'\n  priority: INFO\n  condition: evt.type=open\n",
		  "a.yaml:3:15: unknown field 'proc.nmae'" },
		{ "- rule: r\n  desc: d\n  output: 'x % y'\n  priority: INFO\n  condition: evt.type=open\n",
		  "expected a field behind '%'" },
		{ "- rule: r\n  desc: d\n  output: '%proc.aname'\n  priority: INFO\n  condition: evt.type=open\n",
		  "say which: proc.aname[1]" },
		{ "- a: &x [1]\n- b: *y\n", "no anchor" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		check_mistake(rows[i].text, rows[i].says);
}

/* Folded, quoted and plain values keep the places of what is in them. */
static void test_places(void **state)
{
	static const struct {
		const char *condition;
		unsigned line, column;
	} rows[] = {
		{ "  condition: evt.type=open and nope", 5, 32 },
		{ "  condition: \"evt.type=open and nope\"", 5, 33 },
		{ "  condition: 'evt.type=''open'' and nope'", 5, 37 },
		{ "  condition: \"evt.type=\\\"open\\\" and nope\"", 5, 37 },
		{ "  condition: >\n    evt.type=open\n    and\n      nope", 8, 7 },
		{ "  condition: |\n\n    evt.type=open\n    and nope", 8, 9 },
		{ "  condition: evt.type=open\n    and\n    nope", 7, 5 },
		{ "  condition: >-\n    evt.type=open and proc.name=\xc3\xa9\xc3\xa9 and nope", 6, 40 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[512], says[64];

		snprintf(text, sizeof text, "- rule: r\n  desc: d\n  output: o\n  priority: INFO\n%s\n",
			 rows[i].condition);
		snprintf(says, sizeof says, "a.yaml:%u:%u: unknown macro 'nope'", rows[i].line, rows[i].column);
		check_mistake(text, says);
	}
}

static void test_every_mistake_is_reported(void **state)
{
	static const char text[] = "- rule: a\n  desc: d\n  output: o\n  priority: INFO\n  condition: evt.type=opne\n"
				   "- list: l\n  items: 1\n"
				   "- rule: b\n  desc: d\n  output: o\n  priority: INFO\n  condition: proc.nmae=x\n";
	const char *const texts[] = { text };
	struct rules *rules = NULL;
	struct reports reports;

	assert_int_equal(load_files(&rules, texts, 1, false, &reports), -EINVAL);
	assert_int_equal(reports.errors, 3);
}

static void test_leniency(void **state)
{
	static const char text[] =
		"- rule: a\n  desc: d\n  output: o\n  priority: INFO\n  condition: evt.type=open and proc.nmae=x\n"
		"- rule: b\n  desc: d\n  output: o\n  priority: INFO\n  condition: evt.type=open\n"
		"- rule: c\n  desc: d\n  output: o\n  priority: INFO\n  condition: evt.type=open and proc.pid=x\n";
	const char *whole = text;
	char *good = strndup(text, (size_t)(strstr(text, "- rule: c") - text));
	struct rules *rules = NULL;
	struct reports reports;

	assert_int_equal(load_files(&rules, &whole, 1, true, &reports),
			 -EINVAL); /* a value that fits nothing stays a mistake */
	assert_int_equal(reports.errors, 1);
	assert_int_equal(load_files(&rules, (const char *const[]){ good }, 1, true, &reports), 0);
	assert_int_equal(reports.warnings, 1);
	assert_non_null(rules_at(rules, 0)->skipped);
	assert_null(rules_at(rules, 1)->skipped);
	assert_true(fires(rules, "{\"evt.type\": \"open\"}"));
	rules_free(rules);
	free(good);
}

/* --- bounds --- */

static void test_macros_cannot_multiply(void **state)
{
	char text[8192] = "- macro: m0\n  condition: proc.name = a\n", more[128];
	const char *whole = text;
	struct rules *rules = NULL;
	struct reports reports;
	uint64_t begin = now_boottime_ns();

	for (unsigned i = 1; i <= 40; i++) {
		snprintf(more, sizeof more, "- macro: m%u\n  condition: m%u and (m%u or m%u)\n", i, i - 1, i - 1,
			 i - 1);
		strcat(text, more);
	}
	strcat(text, "- rule: r\n  desc: d\n  output: o\n  priority: INFO\n  condition: evt.type=open and m40\n");
	assert_int_equal(load_files(&rules, &whole, 1, false, &reports), -EINVAL);
	assert_non_null(strstr(reports.text, "more than"));
	assert_true(now_boottime_ns() - begin < 10 * NS_PER_SEC);
}

static void test_lists_cannot_multiply(void **state)
{
	char text[8192] = "- list: l0\n  items: [a, b]\n", more[128];
	const char *whole = text;
	struct rules *rules = NULL;
	struct reports reports;

	for (unsigned i = 1; i <= 40; i++) {
		snprintf(more, sizeof more, "- list: l%u\n  items: [l%u, l%u]\n", i, i - 1, i - 1);
		strcat(text, more);
	}
	assert_int_equal(load_files(&rules, &whole, 1, false, &reports), -EINVAL);
	assert_non_null(strstr(reports.text, "values"));
}

static void test_long_rows_and_deep_nests(void **state)
{
	static char condition[200000], text[210000];
	const char *whole = text;
	struct rules *rules = NULL;
	struct reports reports;
	size_t used = 0;

	for (unsigned i = 0; i < 9000; i++)
		used += (size_t)sprintf(condition + used, "proc.name=n%u or ", i);
	snprintf(text, sizeof text,
		 "- rule: r\n  desc: d\n  output: o\n  priority: INFO\n  condition: evt.type=open and (%s "
		 "proc.name=z)\n",
		 condition);
	assert_int_equal(load_files(&rules, &whole, 1, false, &reports), 0);
	assert_int_equal(rules_at(rules, 0)->tests, 9002);
	assert_true(fires(rules, "{\"evt.type\": \"open\", \"proc.name\": \"n8999\"}"));
	rules_free(rules);
	strcpy(condition, "");
	for (unsigned i = 0; i < 70; i++)
		strcat(condition, "(");
	check_mistake(rule_text(condition), "nested deeper than 64 levels");
}

/* --- evaluation --- */

static void test_nothing_is_allocated(void **state)
{
	struct rules *rules =
		load("- rule: r\n  desc: d\n  priority: INFO\n  output: '%proc.name %toupper(fd.name) %fd.directory'\n"
		     "  condition: evt.type=open and tolower(fd.name) contains secret and fd.name regex '/.*' and "
		     "proc.name in (a,b,c,d,e,f,g,h)\n"
		     "    and fd.name pmatch (/a, /b*) and fd.net != 10.0.0.0/8 and proc.aname glob 's*'\n");
	struct rule_line *line = read_event(
		"{\"evt.type\": \"open\", \"fd.name\": \"/b/Secret\", \"proc.name\": \"h\", \"fd.cip\": \"1.2.3.4\","
		"\"fd.sip\": \"1.2.3.5\", \"proc.aname\": [\"x\", \"sh\"]}");
	size_t before = mallinfo2().uordblks;
	uint32_t matched[4];
	char room[256];

	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(rules_match(rules, rule_line_event(line), matched, 4), 1);
		rules_format(rules, 0, rule_line_event(line), room, sizeof room, NULL);
	}
	assert_int_equal(mallinfo2().uordblks, before);
	assert_string_equal(room, "h /B/SECRET /b");
	rule_line_free(line);
	rules_free(rules);
}

static void test_output(void **state)
{
	static const struct {
		const char *format, *written;
	} rows[] = {
		{ "plain", "plain" },
		{ "*%proc.name", "cat" },
		{ "%proc.name,%proc.pid.", "cat,42." },
		{ "100%% of %proc.name", "100% of cat" },
		{ "%proc.cwd", "<NA>" },
		{ "[%8proc.name|%2proc.name]", "[cat     |ca]" },
		{ "%fd.sip:%fd.sport %fd.ip", "2001:db8::1:443 2001:db8::1" },
		{ "%evt.is_open_read %proc.fdusage", "true 0.5" },
		{ "%evt.rawtime.s.%evt.rawtime.ns", "1700000000.5" },
		{ "%evt.time.iso8601", "2023-11-14T22:13:20.000000005+0000" },
		{ "%evt.datetime.s", "2023-11-14 22:13:20" },
		{ "%evt.time", "22:13:20.000000005" },
		{ "%proc.cmdline", "a\\x0Ab\\x1B[0m" },
		{ "%proc.aname[2]", "init" },
		{ "%proc.name %container.info", "cat container_id=host container_name=<NA>" },
		{ "%container.info.", "container_id=host container_name=<NA>." },
		{ "%evt.arg.flags %evt.arg[0]", "O_RDONLY zero" },
		{ "%tolower(proc.exe)", "/bin/cat" },
		{ "%len(proc.exe)", "8" },
		{ "%fd.directory %fd.filename", "/etc hosts" },
	};
	struct rule_line *line =
		read_event("{\"evt.type\": \"open\", \"proc.name\": \"cat\", \"proc.pid\": 42, \"fd.sip\": "
			   "\"2001:db8::1\", \"fd.sport\": 443, \"evt.is_open_read\": true,"
			   "\"proc.fdusage\": 0.5, \"evt.rawtime\": 1700000000000000005, \"proc.cmdline\": "
			   "\"a\\nb\\u001b[0m\", \"proc.aname\": [\"sh\", \"init\"],"
			   "\"container.id\": \"host\", \"evt.arg.flags\": \"O_RDONLY\", \"evt.arg[0]\": \"zero\", "
			   "\"proc.exe\": \"/BIN/cat\", "
			   "\"fd.name\": \"/etc/hosts\"}");

	setenv("TZ", "UTC", 1);
	tzset();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[512], room[512];
		struct rules *rules;
		bool cut;

		snprintf(text, sizeof text,
			 "- rule: r\n  desc: d\n  priority: INFO\n  condition: evt.type=open\n  output: '%s'\n",
			 rows[i].format);
		rules = load(text);
		rules_format(rules, 0, rule_line_event(line), room, sizeof room, &cut);
		if (strcmp(room, rows[i].written) != 0 || cut)
			fail_msg("%s: %s", rows[i].format, room);
		for (size_t size = 0; size <= strlen(rows[i].written); size++) {
			char *small = malloc(size + 1);
			bool cut = false;

			assert_true(rules_format(rules, 0, rule_line_event(line), small, size, &cut) <
				    MAX_OF(size, (size_t)1));
			assert_true(cut || !*rows[i].written);
			free(small);
		}
		rules_free(rules);
	}
	rule_line_free(line);
}

static void count_field(void *context, const char *name, const struct rule_value *value)
{
	unsigned *counts = context;

	counts[value->kind == RULE_ABSENT]++;
}

static void test_output_fields(void **state)
{
	struct rules *rules = load("- rule: r\n  desc: d\n  priority: INFO\n  condition: evt.type=open\n  output: "
				   "'%proc.name %proc.name %proc.pid'\n");
	struct rule_line *line = read_event("{\"proc.name\": \"x\"}");
	unsigned counts[2] = { 0 };

	rules_output_fields(rules, 0, rule_line_event(line), count_field, counts);
	assert_int_equal(counts[0], 1);
	assert_int_equal(counts[1], 1);
	rule_line_free(line);
	rules_free(rules);
}

static void test_fields_table(void **state)
{
	for (size_t i = 0; i < n_rule_fields; i++) {
		const struct rule_field *field = &rule_fields[i];

		if (i > 0)
			assert_true(strcmp(rule_fields[i - 1].name, field->name) < 0);
		assert_ptr_equal(rule_field_of(field->name), field);
		assert_true(field->doc && *field->doc);
		assert_true(field->base == NULL || rule_field_of(field->base));
		assert_true((field->derive == RULE_NOT_DERIVED) == (field->base == NULL));
	}
	for (unsigned i = 1; i < event_types_known(); i++)
		assert_true(strcmp(event_type_name(i - 1), event_type_name(i)) < 0);
	assert_int_equal(event_type_of("open", 4) >= 0, 1);
	assert_int_equal(event_type_of("ope", 3), -1);
	assert_int_equal(event_type_of("openx", 5), -1);
	assert_true(event_type_number((unsigned)event_type_of("openat", 6)) >= 0);
	assert_int_equal(event_type_number((unsigned)event_type_of("procexit", 8)), -1);
}

static void test_lines(void **state)
{
	static const char *const wrong[] = { "",           "[]",        "1",          "{\"a\": {}}", "{\"a\": [[1]]}",
					     "{\"a\": x}", "{\"a\": 1", "{\"a\": 1x}" };
	struct rule_line *line = NULL;
	struct fault fault;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		fault.text[0] = '\0';
		assert_int_equal(rule_line_read(&line, wrong[i], strlen(wrong[i]), "x", &fault), -EINVAL);
		assert_non_null(strstr(fault.text, "x:"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_comparisons),
		cmocka_unit_test(test_text_operators),
		cmocka_unit_test(test_sets),
		cmocka_unit_test(test_networks),
		cmocka_unit_test(test_transformers),
		cmocka_unit_test(test_logic),
		cmocka_unit_test(test_every_combination),
		cmocka_unit_test(test_overriding),
		cmocka_unit_test(test_what_is_known_of_a_rule),
		cmocka_unit_test(test_event_types),
		cmocka_unit_test(test_reads),
		cmocka_unit_test(test_opens),
		cmocka_unit_test(test_types_of_a_category),
		cmocka_unit_test(test_explaining),
		cmocka_unit_test(test_mistakes_in_conditions),
		cmocka_unit_test(test_mistakes_in_files),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_every_mistake_is_reported),
		cmocka_unit_test(test_leniency),
		cmocka_unit_test(test_macros_cannot_multiply),
		cmocka_unit_test(test_lists_cannot_multiply),
		cmocka_unit_test(test_long_rows_and_deep_nests),
		cmocka_unit_test(test_nothing_is_allocated),
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_output_fields),
		cmocka_unit_test(test_fields_table),
		cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

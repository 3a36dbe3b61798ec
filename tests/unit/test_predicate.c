/* SPDX-License-Identifier: Apache-2.0 */
/* Predicates: whatever has one is decided by it as by the rule itself, on every event of a small world; and what has none says why. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "rule_lines.h"
#include "rules/predicate.h"
#include "rules/program.h"
#include "rules/rules.h"

#define CONDITIONS 3000

static const char *const names[] = { "sh", "bash", "a-name-of-15-by", "x" };
static const char *const paths[] = { "/usr/bin/sh", "/tmp/x", "/tmp/a/x", "/tmpx/x", "/x" };
static const unsigned uids[] = { 0, 1000, 65534 };
static const char *const calls[] = { "execve", "execveat" };

static struct rules *load(const char *condition)
{
	static char text[40000];
	struct rules_file file = { "a.yaml", text, 0 };
	const struct rules_options options = { 0 };
	struct rules *rules = NULL;
	struct fault fault = { 0 };

	file.size = (size_t)snprintf(text, sizeof text,
				     "- rule: r\n  desc: d\n  priority: INFO\n  output: o\n  condition: >\n    %s\n",
				     condition);
	if (rules_load(&rules, &file, 1, &options, &fault) < 0)
		fail_msg("%s: %s", condition, fault.text);
	return rules;
}

/* ---- the predicate as the kernel side has it ---- */

struct program_begun {
	const char *name, *exe, *call;
	unsigned uid;
};

/* Whether it holds for a subject, by what says so of one value; of a test without values, `value` is NULL. */
static bool decides(const struct predicate *predicate,
		    bool (*fits)(const struct predicate_test *test, const struct literal *value, const void *subject),
		    const void *subject)
{
	bool clause = false;

	for (uint32_t i = 0; i < predicate->n; i++) {
		const struct predicate_test *test = &predicate->tests[i];
		bool holds = test->n_values == 0 && fits(test, NULL, subject);

		for (uint32_t v = 0; v < test->n_values; v++)
			holds |= fits(test, &test->values[v], subject);
		clause |= holds != test->negated;
		if (!test->ends)
			continue;
		if (!clause)
			return false;
		clause = false;
	}
	assert_true(predicate->n == 0 || predicate->tests[predicate->n - 1].ends);
	return true;
}

static bool is_text(const struct literal *value, const char *text)
{
	return strlen(text) == value->length && !memcmp(text, value->text, value->length);
}

static bool is_below(const struct literal *value, const char *path)
{
	return strlen(path) > value->length && !memcmp(path, value->text, value->length);
}

static bool program_fits(const struct predicate_test *test, const struct literal *value, const void *subject)
{
	const struct program_begun *p = subject;

	switch (test->field) {
	case PREDICATE_UID:
		return value->whole == p->uid;
	case PREDICATE_PATH_BELOW:
		return is_below(value, p->exe);
	default:
		return is_text(value, test->field == PREDICATE_NAME ? p->name : p->exe);
	}
}

/* ---- the rule itself ---- */

static bool fires(const struct rules *rules, const struct program_begun *p)
{
	char text[512];
	struct rule_line *line;
	struct fault fault;
	uint32_t matched[1];
	bool fired;

	snprintf(text, sizeof text,
		 "{\"evt.type\":\"%s\",\"evt.dir\":\"<\",\"proc.name\":\"%s\",\"proc.exepath\":\"%s\",\"user.uid\":%u,"
		 "\"proc.cmdline\":\"%s\"}",
		 p->call, p->name, p->exe, p->uid, p->name);
	assert_int_equal(rule_line_read(&line, text, strlen(text), "line", &fault), 0);
	fired = rules_match(rules, rule_line_event(line), matched, 1) == 1;
	rule_line_free(line);
	return fired;
}

/* How often they agree that it holds. */
static unsigned compare(const struct rules *rules, const struct predicate *predicate, const char *condition)
{
	unsigned held = 0;

	for (size_t n = 0; n < ARRAY_SIZE(names); n++)
		for (size_t x = 0; x < ARRAY_SIZE(paths); x++)
			for (size_t u = 0; u < ARRAY_SIZE(uids); u++)
				for (size_t c = 0; c < ARRAY_SIZE(calls); c++) {
					const struct program_begun p = { names[n], paths[x], calls[c], uids[u] };
					bool holds = predicate && decides(predicate, program_fits, &p);

					if (holds != fires(rules, &p))
						fail_msg("%s: %s %s %s %u: the predicate says %d", condition, p.call,
							 p.name, p.exe, p.uid, holds);
					held += holds;
				}
	return held;
}

/* ---- conditions by chance ---- */

static uint64_t state = 88172645463325252ull;

static unsigned chance(unsigned n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)(state % n);
}

static size_t add(char *room, size_t at, const char *format, ...) __attribute__((format(printf, 3, 4)));
static size_t add(char *room, size_t at, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(room + at, 2048 - at, format, args);
	va_end(args);
	return at + (size_t)n < 2048 ? at + (size_t)n : 2047;
}

static size_t add_test(char *room, size_t at)
{
	switch (chance(10)) {
	case 0:
		return add(room, at, "proc.name = %s", names[chance(4)]);
	case 1:
		return add(room, at, "proc.name in (%s, %s, longer-than-a-name-is)", names[chance(4)],
			   names[chance(4)]);
	case 2:
		return add(room, at, "proc.name != %s", names[chance(4)]);
	case 3:
		return add(room, at, "proc.exepath = %s", paths[chance(5)]);
	case 4:
		return add(room, at, "proc.exepath in (%s, %s)", paths[chance(5)], paths[chance(5)]);
	case 5:
		return add(room, at, "proc.exepath startswith %s", chance(2) ? "/tmp/" : "/usr/bin/");
	case 6:
		return add(room, at, "user.uid %s %u", chance(2) ? "=" : "!=", uids[chance(3)]);
	case 7:
		return add(room, at, "evt.type %s (execve, execveat)", chance(2) ? "in" : "in");
	case 8:
		return add(room, at, chance(2) ? "evt.dir = <" : "evt.type = open");
	default:
		return add(room, at, chance(2) ? "evt.type = execve" : "proc.cmdline contains sh");
	}
}

static size_t add_condition(char *room, size_t at, unsigned depth)
{
	unsigned parts = 1 + chance(3);

	if (!depth || !chance(3))
		return add_test(room, at);
	if (!chance(4))
		at = add(room, at, "not ");
	at = add(room, at, "(");
	const char *between = chance(2) ? " and " : " or ";

	for (unsigned i = 0; i < parts; i++) {
		at = add(room, at, "%s", i ? between : "");
		at = add_condition(room, at, depth - 1);
	}
	return add(room, at, ")");
}

static void test_predicates_agree_with_rules(void **unused)
{
	unsigned had = 0, held = 0, without = 0;

	for (unsigned i = 0; i < CONDITIONS; i++) {
		char condition[2048] = "evt.type in (execve, execveat) and ";
		struct predicate predicate;
		struct fault why = { 0 };
		struct rules *rules;
		int r;

		add_condition(condition, strlen(condition), 3);
		rules = load(condition);
		r = rules_predicate(rules, 0, PREDICATE_AT_EXEC, &predicate, &why);
		if (r == 0) {
			had++;
			held += compare(rules, &predicate, condition) > 0;
		} else {
			without++;
			assert_true(why.text[0]);
			if (r == -ENOENT)
				compare(rules, NULL, condition); /* never */
		}
		rules_free(rules);
	}
	assert_true(had > CONDITIONS / 5 && held > CONDITIONS / 10 && without > CONDITIONS / 10);
}

/* ---- opens ---- */

static const char *const files[] = { "/etc/passwd", "/etc/x/passwd", "/etcx/passwd", "/passwd", "/tmp/a/b" };
static const char *const folders[] = { "/etc", "/etc/x", "/etcx", "/", "/tmp/a" };
static const char *const kinds[] = { "file", "directory", "pipe" };

struct opened {
	const char *name, *file, *folder, *kind;
	unsigned uid;
	bool reads, writes, creates;
};

static bool open_fits(const struct predicate_test *test, const struct literal *value, const void *subject)
{
	const struct opened *o = subject;

	switch (test->field) {
	case PREDICATE_WRITES:
		return o->writes;
	case PREDICATE_READS:
		return o->reads;
	case PREDICATE_CREATES:
		return o->creates;
	case PREDICATE_UID:
		return value->whole == o->uid;
	case PREDICATE_KIND:
		return predicate_kind(value) == o->kind[0];
	case PREDICATE_PATH_BELOW:
		return is_below(value, o->file);
	default:
		return is_text(value, test->field == PREDICATE_NAME     ? o->name
				      : test->field == PREDICATE_FOLDER ? o->folder
									: o->file);
	}
}

static bool fires_on_open(const struct rules *rules, const struct opened *o)
{
	char text[768];
	struct rule_line *line;
	struct fault fault;
	uint32_t matched[1];
	bool fired;

	snprintf(text, sizeof text,
		 "{\"evt.type\":[\"openat\",\"open\",\"openat2\",\"creat\",\"open_by_handle_at\"],\"evt.dir\":\"<\","
		 "\"proc.name\":\"%s\",\"user.uid\":%u,\"fd.name\":\"%s\",\"fd.directory\":\"%s\",\"fd.type\":\"%s\","
		 "\"fd.typechar\":\"%c\",\"fd.num\":7,\"proc.cmdline\":\"%s\",\"evt.is_open_read\":%s,"
		 "\"evt.is_open_write\":%s,\"evt.is_open_create\":%s}",
		 o->name, o->uid, o->file, o->folder, o->kind, o->kind[0], o->name, o->reads ? "true" : "false",
		 o->writes ? "true" : "false", o->creates ? "true" : "false");
	if (rule_line_read(&line, text, strlen(text), "line", &fault) < 0)
		fail_msg("%s: %s", text, fault.text);
	fired = rules_match(rules, rule_line_event(line), matched, 1) == 1;
	rule_line_free(line);
	return fired;
}

/* How often they agree that it holds. */
static unsigned compare_opens(const struct rules *rules, const struct predicate *predicate, const char *condition)
{
	unsigned held = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(names) * ARRAY_SIZE(files) * ARRAY_SIZE(uids) * ARRAY_SIZE(kinds) * 6;
	     i++) {
		unsigned n = i, way;
		struct opened o;

		o.name = names[n % ARRAY_SIZE(names)], n /= ARRAY_SIZE(names);
		o.file = files[n % ARRAY_SIZE(files)], o.folder = folders[n % ARRAY_SIZE(files)],
		n /= ARRAY_SIZE(files);
		o.uid = uids[n % ARRAY_SIZE(uids)], n /= ARRAY_SIZE(uids);
		o.kind = kinds[n % ARRAY_SIZE(kinds)], way = n / ARRAY_SIZE(kinds);
		o.reads = way % 3 != 1, o.writes = way % 3 != 0, o.creates = way >= 3;
		bool holds = predicate && decides(predicate, open_fits, &o);

		if (holds != fires_on_open(rules, &o))
			fail_msg("%s: %s %s %s %u %d%d%d: the predicate says %d", condition, o.name, o.file, o.kind,
				 o.uid, o.reads, o.writes, o.creates, holds);
		held += holds;
	}
	return held;
}

static size_t add_open_test(char *room, size_t at)
{
	static const char *const truths[] = { "evt.is_open_write", "evt.is_open_read", "evt.is_open_create" };
	static const char *const more[] = { "evt.dir = <",        "evt.type in (open, openat, openat2)",
					    "evt.type = open",    "proc.cmdline contains sh",
					    "fd.num > 2",         "proc.exepath = /usr/bin/sh",
					    "evt.type = connect", "fd.num >= 0" };

	switch (chance(10)) {
	case 0:
		return add(room, at, "proc.name %s (%s, %s)", "in", names[chance(4)], names[chance(4)]);
	case 1:
		return add(room, at, "proc.name != %s", names[chance(4)]);
	case 2:
		return add(room, at, "fd.name %s %s", chance(2) ? "=" : "!=", files[chance(5)]);
	case 3:
		return add(room, at, "fd.name startswith %s", chance(2) ? "/etc/" : "/tmp/a/");
	case 4:
		return add(room, at, "fd.directory in (%s, %s)", folders[chance(3)], folders[chance(5)]);
	case 5:
		return add(room, at, "user.uid %s %u", chance(2) ? "=" : "!=", uids[chance(3)]);
	case 6:
	case 7:
		return add(room, at, "%s %s %s", truths[chance(3)],
			   chance(4) ? "=" : "!=", chance(3) ? "true" : "false");
	case 8:
		return chance(2) ? add(room, at, "fd.typechar = %c", kinds[chance(3)][0])
				 : add(room, at, "fd.type in (%s, %s)", kinds[chance(3)], kinds[chance(3)]);
	default:
		return add(room, at, "%s", more[chance(8)]);
	}
}

static size_t add_open_condition(char *room, size_t at)
{
	unsigned clauses = 1 + chance(4);

	for (unsigned c = 0; c < clauses; c++) {
		unsigned tests = 1 + chance(3);

		at = add(room, at, "%s%s(", c ? " and " : "", chance(4) ? "" : "not ");
		for (unsigned t = 0; t < tests; t++) {
			at = add(room, at, "%s%s", t ? " or " : "", chance(4) ? "" : "not ");
			at = add_open_test(room, at);
		}
		at = add(room, at, ")");
	}
	return at;
}

static void test_predicates_of_opens_agree_with_rules(void **unused)
{
	unsigned had = 0, held = 0, without = 0;

	for (unsigned i = 0; i < CONDITIONS / 10; i++) {
		char condition[2048] = "evt.type in (open, openat, openat2) and ";
		struct predicate predicate;
		struct fault why = { 0 };
		struct rules *rules;
		int r;

		add_open_condition(condition, strlen(condition));
		rules = load(condition);
		r = rules_predicate(rules, 0, PREDICATE_AT_OPEN, &predicate, &why);
		had += r == 0;
		without += r != 0;
		assert_true(r == 0 || why.text[0]);
		if (r == 0)
			held += compare_opens(rules, &predicate, condition) > 0;
		else if (r == -ENOENT)
			compare_opens(rules, NULL, condition); /* never */
		rules_free(rules);
	}
	assert_true(had > CONDITIONS / 50 && held > CONDITIONS / 100 && without > CONDITIONS / 100);
}

/* ---- connects ---- */

static const char *const addresses[] = { "127.0.0.1", "10.1.2.3", "10.2.0.1", "::1", "2001:db8::5" };
static const unsigned ports[] = { 22, 443, 4444 };

struct connected {
	const char *name, *address, *protocol;
	uint8_t bytes[16];
	unsigned uid, port;
};

static bool in_network(const struct literal *value, const uint8_t address[16])
{
	for (unsigned bit = 0; bit < value->network.bits; bit++)
		if ((value->network.address[bit / 8] ^ address[bit / 8]) & 0x80 >> bit % 8)
			return false;
	return true;
}

static bool connect_fits(const struct predicate_test *test, const struct literal *value, const void *subject)
{
	const struct connected *c = subject;
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	switch (test->field) {
	case PREDICATE_NAME:
		return is_text(value, c->name);
	case PREDICATE_UID:
		return value->whole == c->uid;
	case PREDICATE_PORT:
		return value->whole == c->port;
	case PREDICATE_PROTOCOL:
		return !memcmp(c->protocol, value->text, 3);
	case PREDICATE_KIND:
		return predicate_kind(value) == (memcmp(c->bytes, mapped, sizeof mapped) ? '6' : '4');
	default:
		assert_int_equal(test->field, PREDICATE_ADDRESS);
		return in_network(value, c->bytes);
	}
}

static bool fires_on_connect(const struct rules *rules, const struct connected *c)
{
	const bool six = strchr(c->address, ':');
	char text[640];
	struct rule_line *line;
	struct fault fault;
	uint32_t matched[1];
	bool fired;

	snprintf(text, sizeof text,
		 "{\"evt.type\":\"connect\",\"evt.dir\":\"<\",\"proc.name\":\"%s\",\"user.uid\":%u,\"fd.rip\":\"%s\","
		 "\"fd.sip\":\"%s\","
		 "\"fd.rport\":%u,\"fd.sport\":%u,\"fd.l4proto\":\"%s\",\"fd.typechar\":\"%c\",\"fd.type\":\"ipv%c\","
		 "\"fd.num\":3,"
		 "\"proc.cmdline\":\"x\"}",
		 c->name, c->uid, c->address, c->address, c->port, c->port, c->protocol, six ? '6' : '4',
		 six ? '6' : '4');
	if (rule_line_read(&line, text, strlen(text), "line", &fault) < 0)
		fail_msg("%s: %s", text, fault.text);
	fired = rules_match(rules, rule_line_event(line), matched, 1) == 1;
	rule_line_free(line);
	return fired;
}

static unsigned compare_connects(const struct rules *rules, const struct predicate *predicate, const char *condition)
{
	unsigned held = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(names) * ARRAY_SIZE(addresses) * ARRAY_SIZE(uids) * ARRAY_SIZE(ports) * 2;
	     i++) {
		struct connected c = { .protocol = i % 2 ? "tcp" : "udp" };
		unsigned n = i / 2;

		c.name = names[n % ARRAY_SIZE(names)], n /= ARRAY_SIZE(names);
		c.uid = uids[n % ARRAY_SIZE(uids)], n /= ARRAY_SIZE(uids);
		c.port = ports[n % ARRAY_SIZE(ports)], n /= ARRAY_SIZE(ports);
		c.address = addresses[n];
		c.bytes[10] = c.bytes[11] = 0xff;
		if (inet_pton(AF_INET, c.address, c.bytes + 12) != 1)
			assert_int_equal(inet_pton(AF_INET6, c.address, c.bytes), 1);
		bool holds = predicate && decides(predicate, connect_fits, &c);

		if (holds != fires_on_connect(rules, &c))
			fail_msg("%s: %s %s %u %u %s: the predicate says %d", condition, c.name, c.address, c.port,
				 c.uid, c.protocol, holds);
		held += holds;
	}
	return held;
}

static size_t add_connect_test(char *room, size_t at)
{
	static const char *const tests[] = {
		"fd.rip = 127.0.0.1",    "fd.sip in (10.1.2.3, \"::1\")",
		"fd.rip != 10.1.2.3",    "fd.snet in (10.0.0.0/8, 127.0.0.0/8)",
		"fd.rnet = 10.1.0.0/16", "fd.snet in (\"2001:db8::/32\")",
		"fd.rport = 443",        "fd.sport in (22, 4444)",
		"fd.rport != 22",        "fd.l4proto = tcp",
		"fd.l4proto in (udp)",   "fd.typechar = 4",
		"fd.type = ipv6",        "fd.type in (ipv4, ipv6)",
		"evt.dir = <",           "fd.num >= 0",
		"proc.cmdline = x",      "fd.cip = 127.0.0.1",
	};

	switch (chance(6)) {
	case 0:
		return add(room, at, "proc.name in (%s, %s)", names[chance(4)], names[chance(4)]);
	case 1:
		return add(room, at, "user.uid %s %u", chance(2) ? "=" : "!=", uids[chance(3)]);
	default:
		return add(room, at, "%s", tests[chance(ARRAY_SIZE(tests))]);
	}
}

static void test_predicates_of_connects_agree_with_rules(void **unused)
{
	unsigned had = 0, held = 0;

	for (unsigned i = 0; i < CONDITIONS / 10; i++) {
		char condition[2048] = "evt.type = connect";
		size_t at = strlen(condition);
		struct predicate predicate;
		struct fault why = { 0 };
		struct rules *rules;
		int r;

		for (unsigned clauses = 1 + chance(3); clauses; clauses--) {
			at = add(condition, at, " and %s(", chance(4) ? "" : "not ");
			at = add_connect_test(condition, at);
			if (chance(2)) {
				at = add(condition, at, " or %s", chance(4) ? "" : "not ");
				at = add_connect_test(condition, at);
			}
			at = add(condition, at, ")");
		}
		rules = load(condition);
		r = rules_predicate(rules, 0, PREDICATE_AT_CONNECT, &predicate, &why);
		had += r == 0;
		assert_true(r == 0 || why.text[0]);
		if (r == 0)
			held += compare_connects(rules, &predicate, condition) > 0;
		else if (r == -ENOENT)
			compare_connects(rules, NULL, condition); /* never */
		rules_free(rules);
	}
	assert_true(had > CONDITIONS / 40 && held > CONDITIONS / 60);
}

/* ---- what has none ---- */

static void refused(const char *condition, enum predicate_moment moment, int error, const char *why)
{
	struct rules *rules = load(condition);
	struct predicate predicate;
	struct fault fault = { 0 };

	assert_int_equal(rules_predicate(rules, 0, moment, &predicate, &fault), error);
	if (!strstr(fault.text, why))
		fail_msg("%s: '%s' has no '%s'", condition, fault.text, why);
	rules_free(rules);
}

#define EXEC    "evt.type in (execve, execveat) and "
#define CONNECT "evt.type = connect and "
#define OPEN    "evt.type in (open, openat, openat2) and "

static void test_what_has_none_says_why(void **unused)
{
	refused(EXEC "proc.cmdline contains x", PREDICATE_AT_EXEC, -EOPNOTSUPP, "proc.cmdline");
	refused(EXEC "proc.pname = x", PREDICATE_AT_EXEC, -EOPNOTSUPP, "proc.pname: only user space knows it");
	refused(EXEC "container.id != host", PREDICATE_AT_EXEC, -EOPNOTSUPP, "container.id");
	refused(EXEC "proc.name startswith x", PREDICATE_AT_EXEC, -EOPNOTSUPP, "compared by more than");
	refused(EXEC "proc.exepath startswith /tmp", PREDICATE_AT_EXEC, -EOPNOTSUPP, "whole folder");
	refused(EXEC "proc.exepath = relative", PREDICATE_AT_EXEC, -EOPNOTSUPP, "no whole path");
	refused(EXEC "proc.exepath = //x", PREDICATE_AT_EXEC, -EOPNOTSUPP, "no whole path");
	refused(EXEC "tolower(proc.name) = x", PREDICATE_AT_EXEC, -EOPNOTSUPP, "transformed");
	refused(EXEC "proc.name = val(proc.pname)", PREDICATE_AT_EXEC, -EOPNOTSUPP, "another field");
	refused(EXEC "(proc.name = x or (proc.name = y and user.uid = 0))", PREDICATE_AT_EXEC, -EOPNOTSUPP,
		"`and` within `or`");
	refused("evt.type = execve and proc.name = x", PREDICATE_AT_EXEC, -EOPNOTSUPP, "evt.type");
	refused("evt.type = connect and proc.name = x", PREDICATE_AT_EXEC, -ENOENT, "cannot fire");
	refused(EXEC "proc.name = x", PREDICATE_BEFORE_EXEC, -EOPNOTSUPP, "proc.name: not known before");
	refused(EXEC "user.uid = 0", PREDICATE_BEFORE_EXEC, -EOPNOTSUPP, "user.uid: not known before");
	refused(EXEC "fd.name = /x", PREDICATE_AT_EXEC, -EOPNOTSUPP,
		"fd.name: it is no field of a program that begins");
	refused(OPEN "proc.exepath = /x", PREDICATE_AT_OPEN, -EOPNOTSUPP, "as it was when the program began");
	refused(OPEN "fd.name contains x", PREDICATE_AT_OPEN, -EOPNOTSUPP, "compared by more than");
	refused(OPEN "fd.name startswith /etc", PREDICATE_AT_OPEN, -EOPNOTSUPP, "whole folder");
	refused(OPEN "fd.directory = /", PREDICATE_AT_OPEN, -EOPNOTSUPP, "no whole path");
	refused(OPEN "fd.typechar = 4", PREDICATE_AT_OPEN, -EOPNOTSUPP, "no kind of file");
	refused(OPEN "fd.num > 2", PREDICATE_AT_OPEN, -EOPNOTSUPP, "fd.num");
	refused(CONNECT "fd.cip = 127.0.0.1", PREDICATE_AT_CONNECT, -EOPNOTSUPP, "only user space knows it");
	refused(CONNECT "proc.exepath = /x", PREDICATE_AT_CONNECT, -EOPNOTSUPP,
		"only user space knows it, or only before");
	refused(CONNECT "fd.num >= 0", PREDICATE_BEFORE_CONNECT, -EOPNOTSUPP, "fd.num");
	refused(CONNECT "fd.rport > 1000", PREDICATE_BEFORE_CONNECT, -EOPNOTSUPP, "compared by more than");
	refused(CONNECT "fd.l4proto = icmp", PREDICATE_BEFORE_CONNECT, -EOPNOTSUPP, "neither tcp nor udp");
	refused(CONNECT "fd.type = file", PREDICATE_BEFORE_CONNECT, -EOPNOTSUPP, "neither ipv4 nor ipv6");
	refused(OPEN "fd.name = /x", PREDICATE_BEFORE_CONNECT, -ENOENT, "cannot fire on a connect");
	refused("evt.type = connect and fd.name = /x", PREDICATE_AT_OPEN, -ENOENT, "cannot fire on an open");
}

/* So many names, or one path of so many bytes. */
static void test_values(unsigned n, unsigned path_bytes, const char *why)
{
	static char condition[32768];
	struct predicate predicate;
	struct rules *rules;
	int at = snprintf(condition, sizeof condition, EXEC "%s in (%s", path_bytes ? "proc.exepath" : "proc.name",
			  path_bytes ? "/" : "x");

	for (unsigned i = 1; i < (path_bytes ? path_bytes : n); i++)
		at += snprintf(condition + at, sizeof condition - (size_t)at, path_bytes ? "p" : ", x%u", i);
	snprintf(condition + at, sizeof condition - (size_t)at, ")");
	if (why) {
		refused(condition, PREDICATE_AT_EXEC, -EOPNOTSUPP, why);
		return;
	}
	rules = load(condition);
	assert_int_equal(rules_predicate(rules, 0, PREDICATE_AT_EXEC, &predicate, NULL), 0);
	assert_int_equal(predicate.tests[0].n_values, n);
	rules_free(rules);
}

static void test_bounds(void **unused)
{
	char condition[8192] = EXEC "proc.name = x0";
	struct predicate predicate;
	struct rules *rules;

	for (unsigned i = 1; i < PREDICATE_TESTS_MAX; i++)
		snprintf(condition + strlen(condition), sizeof condition - strlen(condition), " and proc.name != x%u",
			 i);
	rules = load(condition);
	assert_int_equal(rules_predicate(rules, 0, PREDICATE_AT_EXEC, &predicate, NULL), 0);
	assert_int_equal(predicate.n, PREDICATE_TESTS_MAX);
	rules_free(rules);
	strcat(condition, " and user.uid = 0");
	refused(condition, PREDICATE_AT_EXEC, -EOPNOTSUPP, "more than 16 tests");
	test_values(PREDICATE_VALUES_MAX, 0, NULL);
	test_values(PREDICATE_VALUES_MAX + 1, 0, "more than 1024 values");
	test_values(1, PREDICATE_PATH_MAX, NULL);
	test_values(1, PREDICATE_PATH_MAX + 1, "at most 255 bytes");
	refused(EXEC "user.uid = 4294967296", PREDICATE_AT_EXEC, -EOPNOTSUPP, "no number");
	refused(EXEC "user.uid = -1", PREDICATE_AT_EXEC, -EOPNOTSUPP, "no number");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_predicates_agree_with_rules),
		cmocka_unit_test(test_predicates_of_opens_agree_with_rules),
		cmocka_unit_test(test_predicates_of_connects_agree_with_rules),
		cmocka_unit_test(test_what_has_none_says_why),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

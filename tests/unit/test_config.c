/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration as people write it: what is taken, and for each kind of mistake the exact sentence. */
#include "config.h"
#include "settings.h"
#include "sonde/module.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define SECRET "hunter2-do-not-print"

static const struct sonde_option vault_rows[] = {
	{ .type = SONDE_OPTION_SECRET, .key = "token", .value = "", .help = "a token" },
	{ .type = SONDE_OPTION_UINT, .key = "least", .value = "5", .min = 2, .help = "a number" },
	{ .type = SONDE_OPTION_TEXT, .key = "name", .value = "", .help = "a name" },
	{ 0 },
};
static const struct option_table vault = { "vault", "Only for these tests", vault_rows };

struct world {
	struct settings *settings;
	struct option_table tables[32];
	size_t n_tables;
	char folder[64], file[96];
};

extern const struct sonde_module sonde_module_cpu;

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	struct fault fault;
	const struct option_table cpu = { "cpu", sonde_module_cpu.summary, sonde_module_cpu.options };

	assert_int_equal(settings_make(&w->settings, &cpu, 1, &fault), 0);

	const struct option_table *tables = settings_tables(w->settings, &w->n_tables);

	memcpy(w->tables, tables, w->n_tables * sizeof *tables);
	w->tables[w->n_tables++] = vault;
	strcpy(w->folder, "/tmp/sonde-test-config-XXXXXX");
	assert_non_null(mkdtemp(w->folder));
	snprintf(w->file, sizeof w->file, "%s/sonde.yaml", w->folder);
	setenv("SONDE_TEST_RATE", "49", 1);
	setenv("SONDE_TEST_SECRET", SECRET, 1);
	unsetenv("SONDE_TEST_UNSET");
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	char path[128];

	settings_free(w->settings);
	snprintf(path, sizeof path, "%s/secret", w->folder);
	unlink(path);
	unlink(w->file);
	rmdir(w->folder);
	free(w);
	return 0;
}

static void write_file(const char *path, const char *bytes, size_t size)
{
	_cleanup_(close_file) FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, size, f), size);
}

static int load_bytes(struct world *w, struct config **ret, const char *yaml, size_t size, struct fault *fault)
{
	write_file(w->file, yaml, size);
	return config_load(ret, w->tables, w->n_tables, w->file, NULL, 0, fault);
}

static struct config *load(struct world *w, const char *yaml)
{
	struct config *config = NULL;
	struct fault fault = { 0 };

	if (load_bytes(w, &config, yaml, strlen(yaml), &fault) < 0)
		fail_msg("%s", fault.text);
	return config;
}

static struct config *load_set(struct world *w, const char *set)
{
	struct config *config = NULL;
	struct fault fault = { 0 };

	if (config_load(&config, w->tables, w->n_tables, NULL, &set, 1, &fault) < 0)
		fail_msg("%s", fault.text);
	return config;
}

/* `sentence` follows "FILE:". */
static void expect_file_fault(struct world *w, const char *yaml, const char *sentence)
{
	struct config *config = NULL;
	struct fault fault = { 0 };
	char whole[sizeof fault.text];

	assert_true(load_bytes(w, &config, yaml, strlen(yaml), &fault) < 0);
	assert_null(config);
	snprintf(whole, sizeof whole, "%s:%s", w->file, sentence);
	assert_string_equal(fault.text, whole);
	assert_null(strstr(fault.text, SECRET));
}

static void expect_set_fault(struct world *w, const char *set, const char *sentence)
{
	struct config *config = NULL;
	struct fault fault = { 0 };

	assert_int_equal(config_load(&config, w->tables, w->n_tables, NULL, &set, 1, &fault), -EINVAL);
	assert_null(config);
	assert_string_equal(fault.text, sentence);
	assert_null(strstr(fault.text, SECRET));
}

static void test_defaults(void **state)
{
	struct config *config = load(*state, "");
	const char *const *items;
	const char *const(*pairs)[2];

	assert_string_equal(config_text(config, "host"), "");
	assert_true(config_bool(config, "modules.exec.enabled"));
	assert_true(config_bool(config, "modules.cpu.enabled"));
	assert_true(config_bool(config, "modules.tcp.enabled"));
	assert_int_equal(config_number(config, "modules.cpu.rate"), 99);
	assert_string_equal(config_text(config, "modules.tcp.overflow"), "drop-oldest");
	assert_int_equal(config_list(config, "filter.cgroup", &items), 0);
	assert_int_equal(config_list(config, "filter.user", &items), 0);
	assert_int_equal(config_list(config, "filter.comm", &items), 0);
	assert_int_equal(config_list(config, "filter.pid", &items), 0);
	assert_int_equal(config_number(config, "rings.priority"), 4 << 20);
	assert_int_equal(config_number(config, "rings.bulk"), 8 << 20);
	assert_string_equal(config_text(config, "journal.path"), "/var/lib/sonde/journal");
	assert_int_equal(config_number(config, "journal.size"), 256 << 20);
	assert_false(config_bool(config, "sinks.kafka.enabled"));
	assert_string_equal(config_text(config, "sinks.kafka.brokers"), "127.0.0.1:9092");
	assert_string_equal(config_text(config, "sinks.kafka.topic"), "sonde");
	assert_string_equal(config_text(config, "sinks.kafka.key"), "host");
	assert_int_equal(config_map(config, "sinks.kafka.options", &pairs), 0);
	assert_string_equal(config_text(config, "agent.user"), "sonde");
	assert_int_equal(config_number(config, "agent.memory"), 64 << 20);
	assert_string_equal(config_text(config, "agent.control"), "/run/sonde.sock");
	assert_string_equal(config_text(config, "agent.listen"), "");
	assert_int_equal(config_number(config, "agent.ledger_interval"), 10 * NS_PER_SEC);
	assert_int_equal(config_number(config, "agent.window"), 10 * NS_PER_SEC);
	assert_string_equal(config_origin(config, "agent.window"), "the default of agent.window");
	assert_int_equal(settings_check(config, NULL), 0);
	config_free(config);
}

static void check_written(struct config *config)
{
	const char *const *items;
	const char *const(*pairs)[2];

	assert_false(config_bool(config, "modules.exec.enabled"));
	assert_int_equal(config_number(config, "modules.cpu.rate"), 49);
	assert_int_equal(config_number(config, "rings.priority"), 65536);
	assert_int_equal(config_number(config, "agent.ledger_interval"), 90 * NS_PER_SEC);
	assert_int_equal(config_list(config, "filter.comm", &items), 2);
	assert_string_equal(items[0], "nginx");
	assert_string_equal(items[1], "redis, too");
	assert_int_equal(config_map(config, "sinks.kafka.options", &pairs), 2);
	assert_string_equal(pairs[0][0], "linger.ms");
	assert_string_equal(pairs[0][1], "5");
	assert_string_equal(pairs[1][0], "security.protocol");
	assert_string_equal(pairs[1][1], "ssl");
	config_free(config);
}

static void test_block_and_flow(void **state)
{
	check_written(load(*state, "modules:\n"
				   "  exec:\n"
				   "    enabled: false\n"
				   "  cpu:\n"
				   "    rate: 49\n"
				   "rings: # a comment\n"
				   "  priority: 64KiB\n"
				   "agent:\n"
				   "  ledger_interval: 1m30s\n"
				   "filter:\n"
				   "  comm:\n"
				   "  - nginx\n"
				   "  - 'redis, too'\n"
				   "sinks:\n"
				   "  kafka:\n"
				   "    options:\n"
				   "      linger.ms: 5\n"
				   "      security.protocol: ssl\n"));
	check_written(load(*state, "{modules: {exec: {enabled: false}, cpu: {rate: '${env:SONDE_TEST_RATE}'}},\n"
				   " rings: {priority: 65536}, agent: {ledger_interval: 90s},\n"
				   " filter: {comm: [nginx, \"redis, too\"]},\n"
				   " sinks: {kafka: {options: {linger.ms: 5, security.protocol: ssl}}}}\n"));
	check_written(load(*state, "modules.exec.enabled: false\n"
				   "modules: {cpu.rate: 49}\n"
				   "rings: {priority: 64kib}\n"
				   "agent: {ledger_interval: 90000ms}\n"
				   "filter.comm: [nginx, \"redis, too\"]\n"
				   "sinks: &kafka {kafka.options: {linger.ms: \"5\", security.protocol: ssl}}\n"
				   "host:\n"
				   "journal: ~\n"));
}

static void test_alias(void **state)
{
	struct config *config = load(*state, "filter:\n  comm: &names [a, b]\n  user: *names\n");
	const char *const *items;

	assert_int_equal(config_list(config, "filter.user", &items), 2);
	assert_string_equal(items[1], "b");
	config_free(config);
}

static void test_unknown_key(void **state)
{
	expect_file_fault(*state, "sinks:\n  kafka:\n    brokres: a\n",
			  "3:5: unknown key 'brokres' in sinks.kafka; did you mean 'brokers'?");
	expect_file_fault(*state, "jurnal: {}\n", "1:1: unknown key 'jurnal'; did you mean 'journal'?");
	expect_file_fault(*state, "host: a\nledger_interval: 5s\n",
			  "2:1: unknown key 'ledger_interval'; did you mean 'agent.ledger_interval'?");
	expect_file_fault(*state, "rings: {fast: 4MiB}\n",
			  "1:9: unknown key 'fast' in rings; expected one of priority, bulk");
	expect_file_fault(*state, "modules: {tpc: {}}\n", "1:11: unknown key 'tpc' in modules; did you mean 'tcp'?");
	expect_file_fault(
		*state, "xxxxxxxxxxxx: 1\n",
		"1:1: unknown key 'xxxxxxxxxxxx'; expected one of host, modules, filter, rings, journal, rules, sinks, "
		"agent, vault");
	expect_file_fault(*state, "\"\": 1\n",
			  "1:1: unknown key ''; expected one of host, modules, filter, rings, journal, rules, sinks, "
			  "agent, vault");
	expect_file_fault(*state, "\"a\\n\\e[31m\": 1\n",
			  "1:1: unknown key 'a??[31m'; expected one of host, modules, filter, rings, journal, rules, "
			  "sinks, agent, "
			  "vault");
	expect_file_fault(*state, "<<: {host: a}\n",
			  "1:1: unknown key '<<'; expected one of host, modules, filter, rings, journal, rules, sinks, "
			  "agent, vault");
}

static void test_wrong_type(void **state)
{
	expect_file_fault(*state, "modules: {cpu: {rate: fast}}\n",
			  "1:23: modules.cpu.rate is 'fast', not a number; expected a whole number from 1 to 999 Hz");
	expect_file_fault(*state, "modules: {cpu: {rate: -5}}\n",
			  "1:23: modules.cpu.rate is '-5', not a number; expected a whole number from 1 to 999 Hz");
	expect_file_fault(
		*state, "modules: {cpu: {rate: 1.5}}\n",
		"1:23: modules.cpu.rate is '1.5', not a whole number; expected a whole number from 1 to 999 Hz");
	expect_file_fault(*state, "modules: {cpu: {rate: [9]}}\n",
			  "1:23: modules.cpu.rate is a list; expected a whole number from 1 to 999 Hz");
	expect_file_fault(*state, "modules:\n  cpu:\n    rate:\n",
			  "3:10: modules.cpu.rate has no value; expected a whole number from 1 to 999 Hz");
	expect_file_fault(*state, "modules: {cpu: {enabled: yes}}\n",
			  "1:26: modules.cpu.enabled is 'yes', neither; expected true or false");
	expect_file_fault(
		*state, "modules: {cpu: {overflow: wait}}\n",
		"1:27: modules.cpu.overflow is 'wait', none of these; expected drop-oldest, drop-newest or block");
	expect_file_fault(*state, "filter: {comm: nginx}\n",
			  "1:16: filter.comm is text; expected a list of text, such as [a, b]");
	expect_file_fault(*state, "filter: {comm: [a, [b]]}\n",
			  "1:20: an item of filter.comm is a list; expected text");
	expect_file_fault(*state, "sinks: {kafka: {options: [a]}}\n",
			  "1:26: sinks.kafka.options is a list; expected names and their texts, such as {name: text}");
	expect_file_fault(*state, "sinks: {kafka: {options: {a: {b: c}}}}\n",
			  "1:30: sinks.kafka.options.a is a section; expected text");
	expect_file_fault(*state, "journal: /tmp\n",
			  "1:10: journal is text; expected a section with path, size, segment");
	expect_file_fault(
		*state, "[a]\n",
		"1:1: the configuration is a list; expected a section with host, modules, filter, rings, journal, "
		"rules, sinks, agent, vault");
}

static void test_out_of_range(void **state)
{
	expect_file_fault(*state, "modules: {cpu: {rate: 5000}}\n",
			  "1:23: modules.cpu.rate is '5000', out of range; expected a whole number from 1 to 999 Hz");
	expect_file_fault(
		*state, "modules: {cpu: {rate: 99999999999999999999}}\n",
		"1:23: modules.cpu.rate is '99999999999999999999', out of range; expected a whole number from 1 to "
		"999 Hz");
	expect_file_fault(*state, "vault: {least: 1}\n",
			  "1:16: vault.least is '1', out of range; expected a whole number, at least 2");
	expect_file_fault(
		*state, "journal: {size: 1KiB}\n",
		"1:17: journal.size is '1KiB', out of range; expected a size from 256KiB to 1TiB (in B, KiB, MiB or "
		"GiB)");
	expect_file_fault(
		*state, "agent: {window: 1ms}\n",
		"1:17: agent.window is '1ms', out of range; expected a duration from 100ms to 1h (in ns, us, ms, s, "
		"m, h or d)");
	expect_file_fault(
		*state, "rings: {bulk: 3MiB}\n",
		"1:15: rings.bulk is '3MiB', not a power of two; expected a size from 4KiB to 1GiB (in B, KiB, MiB "
		"or GiB) that is a power of two");
}

static void test_bad_unit(void **state)
{
	expect_file_fault(
		*state, "agent: {window: 10parsec}\n",
		"1:17: agent.window is '10parsec', in no known unit; expected a duration from 100ms to 1h (in ns, us, "
		"ms, s, m, h or d)");
	expect_file_fault(
		*state, "agent: {window: 10}\n",
		"1:17: agent.window is '10', without a unit; expected a duration from 100ms to 1h (in ns, us, ms, s, "
		"m, h or d)");
	expect_file_fault(
		*state, "journal: {size: 1 PiB}\n",
		"1:17: journal.size is '1 PiB', in no known unit; expected a size from 256KiB to 1TiB (in B, KiB, "
		"MiB or GiB)");
}

static void test_duplicates(void **state)
{
	expect_file_fault(*state, "host: a\nhost: b\n", "2:1: duplicate key 'host', first given on line 1");
	expect_file_fault(*state, "filter: {}\nrings: {}\nfilter: {}\n",
			  "3:1: duplicate key 'filter', first given on line 1");
	expect_file_fault(*state, "sinks: {kafka: {options: {a: 1, a: 2}}}\n",
			  "1:33: duplicate key 'a', first given on line 1");

	struct world *w = *state;
	char sentence[256];

	snprintf(sentence, sizeof sentence, "2:11: duplicate key 'modules.cpu.rate', first given at %s:1:19", w->file);
	expect_file_fault(w, "modules.cpu.rate: 5\nmodules: {cpu.rate: 6}\n", sentence);
}

static void test_hostile_yaml(void **state)
{
	struct world *w = *state;
	char deep[128];

	expect_file_fault(w, "host: [a\n",
			  "2:1: not valid YAML: did not find expected ',' or ']' while parsing a flow sequence");
	expect_file_fault(w, "host: \"a\\0b\"\n", "1:7: a value must not hold a NUL character");
	expect_file_fault(w, "host: *nowhere\n", "1:7: this alias has no anchor before it");
	expect_file_fault(w, "filter: &self {comm: *self}\n", "1:22: this alias has no anchor before it");
	expect_file_fault(w, "host: !!str a\n", "1:7: tags are not used here; remove the '!'");
	expect_file_fault(w, "{a: 1}: b\n", "1:1: a key must be plain text");
	expect_file_fault(w, "host: a\n---\nhost: b\n", "2:1: a second document; a configuration is one");
	memset(deep, '[', 100);
	deep[100] = '\0';
	expect_file_fault(w, deep, "1:18: nested more than 16 deep");
	expect_file_fault(w, "host: a\nx\xff: b\n", "2:2: the file is not UTF-8 text");
	/* A billion laughs are ten lists of ten edges. */
	expect_file_fault(w,
			  "filter:\n  comm: &a [l, l, l, l, l, l, l, l, l, l]\n"
			  "  user: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n",
			  "2:9: an item of filter.user is a list; expected text");
}

static void test_bounds(void **state)
{
	struct world *w = *state;
	_cleanup_(free_pointer) char *big = malloc((1 << 20) + 2);
	struct config *config = NULL;
	struct fault fault;
	char sentence[256];

	memset(big, '#', (1 << 20) + 1);
	assert_int_equal(load_bytes(w, &config, big, (1 << 20) + 1, &fault), -EFBIG);
	snprintf(sentence, sizeof sentence, "%s: larger than 1MiB, which no configuration is", w->file);
	assert_string_equal(fault.text, sentence);

	size_t used = (size_t)sprintf(big, "filter: {comm: [a");

	for (int i = 0; i < 1024; i++)
		used += (size_t)sprintf(big + used, ",a");
	sprintf(big + used, "]}\n");
	expect_file_fault(w, big, "1:2065: filter.comm has more than 1024 entries");
	used = (size_t)sprintf(big, "filter: {comm: [a");
	for (int i = 0; i < 9000; i++)
		used += (size_t)sprintf(big + used, ",a");
	sprintf(big + used, "]}\n");
	expect_file_fault(w, big, "1:16395: more than 8192 values");
	unlink(w->file);
	assert_int_equal(config_load(&config, w->tables, w->n_tables, w->file, NULL, 0, &fault), -ENOENT);
	snprintf(sentence, sizeof sentence, "%s: cannot be read: No such file or directory", w->file);
	assert_string_equal(fault.text, sentence);
	assert_int_equal(config_load(&config, w->tables, w->n_tables, w->folder, NULL, 0, &fault), -EINVAL);
	snprintf(sentence, sizeof sentence, "%s: not a file; a configuration is one, since a reload reads it again",
		 w->folder);
	assert_string_equal(fault.text, sentence);
	assert_int_equal(mkfifo(w->file, 0600), 0);
	assert_int_equal(config_load(&config, w->tables, w->n_tables, w->file, NULL, 0, &fault), -EINVAL);
}

/* What a module that is not known yet will bring is passed over; what is known is read as strictly as ever. */
static void test_known_only(void **state)
{
	struct world *w = *state;
	const char *sets[] = { "modules.sample.depth=3", "agent.window=1s" };
	const char yaml[] = "modules: {sample: {depth: 2}}\nagent: {modules: /opt}\n";
	struct config *config = NULL;
	struct fault fault;

	write_file(w->file, yaml, strlen(yaml));
	assert_int_equal(config_load_known(&config, w->tables, w->n_tables, w->file, sets, 2, &fault), 0);
	assert_string_equal(config_text(config, "agent.modules"), "/opt");
	assert_int_equal(config_number(config, "agent.window"), NS_PER_SEC);
	config_free(config);
	sets[1] = "agent.window=1";
	assert_int_equal(config_load_known(&config, w->tables, w->n_tables, w->file, sets, 2, &fault), -EINVAL);
}

static void test_environment(void **state)
{
	struct config *config = load(*state, "host: a-${env:SONDE_TEST_RATE}-${env:SONDE_TEST_UNSET:-b}-$${c}-$d\n"
					     "modules: {cpu: {rate: \"${env:SONDE_TEST_RATE}\"}}\n"
					     "filter: {comm: [\"${env:SONDE_TEST_UNSET:-}\"]}\n");
	const char *const *items;

	assert_string_equal(config_text(config, "host"), "a-49-b-${c}-$d");
	assert_int_equal(config_number(config, "modules.cpu.rate"), 49);
	assert_int_equal(config_list(config, "filter.comm", &items), 1);
	assert_string_equal(items[0], "");
	config_free(config);
	expect_file_fault(
		*state, "host: x${env:SONDE_TEST_UNSET}\n",
		"1:7: host needs the environment variable SONDE_TEST_UNSET, which is not set; set it, or write "
		"${env:SONDE_TEST_UNSET:-default}");
	expect_file_fault(*state, "host: ${SONDE_TEST_RATE}\n",
			  "1:7: host holds '${' without env:; expected ${env:NAME}, or $${ for a plain ${");
	expect_file_fault(*state, "host: ${env:SONDE\n", "1:7: host holds '${' without its '}'");
	expect_file_fault(*state, "host: ${env:a b}\n",
			  "1:7: host holds ${env:} without a proper name; expected ${env:NAME}");
	expect_file_fault(
		*state, "modules: {cpu: {rate: \"${env:SONDE_TEST_SECRET}\"}}\n",
		"1:23: modules.cpu.rate is '${env:SONDE_TEST_SECRET}', not a number; expected a whole number from 1 "
		"to 999 Hz");
}

static void test_files(void **state)
{
	struct world *w = *state;
	char path[128], yaml[512], sentence[512];
	_cleanup_(free_pointer) char *big = calloc(1, 65537);

	snprintf(path, sizeof path, "%s/secret", w->folder);
	write_file(path, SECRET "\n\n", sizeof SECRET + 1);
	snprintf(yaml, sizeof yaml, "vault: {token: 'file:%s', name: 'file:${env:SONDE_TEST_UNSET:-%s}'}\n", path,
		 path);

	struct config *config = load(w, yaml);

	assert_string_equal(config_text(config, "vault.token"), SECRET "\n");
	assert_string_equal(config_text(config, "vault.name"), SECRET "\n");
	config_free(config);
	snprintf(yaml, sizeof yaml, "sinks: {kafka: {options: {sasl.password: 'file:%s'}}}\n", path);
	config = load(w, yaml);

	const char *const(*pairs)[2];

	assert_int_equal(config_map(config, "sinks.kafka.options", &pairs), 1);
	assert_string_equal(pairs[0][1], SECRET "\n");
	config_free(config);

	expect_file_fault(w, "vault: {token: file:relative}\n", "1:16: vault.token needs an absolute path after file:");
	expect_file_fault(w, "vault: {token: file:/nowhere/at/all}\n",
			  "1:16: vault.token cannot be read from /nowhere/at/all: No such file or directory");
	snprintf(yaml, sizeof yaml, "vault: {token: 'file:%s'}\n", path);
	write_file(path, SECRET "\0", sizeof SECRET);
	snprintf(sentence, sizeof sentence,
		 "1:16: vault.token is to be read from %s, which is not text: it holds a NUL", path);
	expect_file_fault(w, yaml, sentence);
	write_file(path, big, 65537);
	snprintf(sentence, sizeof sentence, "1:16: vault.token is to be read from %s, which is larger than 64KiB",
		 path);
	expect_file_fault(w, yaml, sentence);
}

static void test_secrets_stay_secret(void **state)
{
	expect_file_fault(*state, "vault: {token: [" SECRET "]}\n", "1:16: vault.token is a list; expected text");
	expect_file_fault(*state, "vault: {token: '" SECRET "${'}\n", "1:16: vault.token holds '${' without its '}'");
	expect_file_fault(*state, "vault: {token: '" SECRET "${" SECRET "}'}\n",
			  "1:16: vault.token holds '${' without env:; expected ${env:NAME}, or $${ for a plain ${");
	expect_file_fault(*state, "vault: {tokem: " SECRET "}\n",
			  "1:9: unknown key 'tokem' in vault; did you mean 'token'?");
	expect_set_fault(*state, "vault.token=" SECRET "${",
			 "--set vault.token: vault.token holds '${' without its '}'");
	expect_set_fault(*state, "vault.tokem=" SECRET, "--set vault.tokem: unknown key; did you mean 'vault.token'?");
	expect_set_fault(
		*state, "sinks.kafka.options.sasl.password=" SECRET "${",
		"--set sinks.kafka.options.sasl.password: sinks.kafka.options.sasl.password holds '${' without its "
		"'}'");
}

static void test_set(void **state)
{
	struct world *w = *state;
	const char *const sets[] = {
		"modules.exec.enabled=false",
		"modules.cpu={rate: 7}",
		"modules.cpu.rate=49",
		"rings.priority=64KiB",
		"agent.ledger_interval=90s",
		"filter.comm=[nginx, 'redis, too']",
		"sinks.kafka.options={linger.ms: 1}",
		"sinks.kafka.options.security.protocol=plaintext",
		"sinks.kafka.options.security.protocol=\"ssl\"",
		"sinks.kafka.options.linger.ms=5",
	};
	struct config *config = NULL;
	struct fault fault = { 0 };
	const char *const *items;

	write_file(w->file, "modules: {cpu: {rate: 11}}\n", 27);
	if (config_load(&config, w->tables, w->n_tables, w->file, sets, ARRAY_SIZE(sets), &fault) < 0)
		fail_msg("%s", fault.text);
	assert_string_equal(config_origin(config, "modules.cpu.rate"), "--set modules.cpu.rate=49");
	check_written(config);
	config = load_set(w, "filter.comm=a,b,c");
	assert_int_equal(config_list(config, "filter.comm", &items), 3);
	assert_string_equal(items[2], "c");
	config_free(config);
	config = load_set(w, "filter.comm=");
	assert_int_equal(config_list(config, "filter.comm", &items), 0);
	config_free(config);
	config = load_set(w, "sinks.kafka.brokers=[::1]:9092");
	assert_string_equal(config_text(config, "sinks.kafka.brokers"), "[::1]:9092");
	config_free(config);
	config = load_set(w, "host=a: b # c");
	assert_string_equal(config_text(config, "host"), "a: b # c");
	config_free(config);
	config = load_set(w, "host=");
	assert_string_equal(config_text(config, "host"), "");
	config_free(config);
}

static void test_set_faults(void **state)
{
	expect_set_fault(*state, "modules.cpu.rate",
			 "--set modules.cpu.rate: expected key=value, such as modules.cpu.rate=49");
	expect_set_fault(*state, "=5", "--set =: expected key=value, such as modules.cpu.rate=49");
	expect_set_fault(
		*state, "modules.cpu.rate=5000",
		"--set modules.cpu.rate=5000: modules.cpu.rate is '5000', out of range; expected a whole number from 1 "
		"to 999 Hz");
	expect_set_fault(
		*state, "modules.cpu.rate=",
		"--set modules.cpu.rate=: modules.cpu.rate has no value; expected a whole number from 1 to 999 Hz");
	expect_set_fault(*state, "modules.cpu.rat=5",
			 "--set modules.cpu.rat: unknown key; did you mean 'modules.cpu.rate'?");
	expect_set_fault(*state, "brokers=a", "--set brokers: unknown key; did you mean 'sinks.kafka.brokers'?");
	expect_set_fault(*state, "modules.cpx.enabled=true",
			 "--set modules.cpx.enabled: unknown key; did you mean 'modules.cpu.enabled'?");
	expect_set_fault(*state, "rings.zzzzzzzzzzz=1",
			 "--set rings.zzzzzzzzzzz: unknown key; expected one of priority, bulk below rings");
	expect_set_fault(*state, "rings=4MiB",
			 "--set rings: is a section; expected the key of an option below it, or {key: value}");
	expect_set_fault(
		*state, "filter.comm=[a",
		"--set filter.comm=[a:2:1: not valid YAML: did not find expected ',' or ']' while parsing a flow "
		"sequence");
}

static void test_cross_checks(void **state)
{
	static const char *const rows[][2] = {
		{ "journal.segment=1KiB", "--set journal.segment=1KiB: journal.segment must be 0B or at least 64KiB" },
		{ "journal.segment=128MiB",
		  "--set journal.segment=128MiB: journal.segment must be at most a quarter of journal.size" },
		{ "agent.listen=localhost", "--set agent.listen=localhost: agent.listen must be address:port, such as "
					    "127.0.0.1:9435 or [::1]:9435" },
		{ "agent.listen=1.2.3.4:99999",
		  "--set agent.listen=1.2.3.4:99999: agent.listen must be address:port, such as 127.0.0.1:9435 or "
		  "[::1]:9435" },
		{ "filter.pid=1,0",
		  "--set filter.pid=1,0: filter.pid holds '0'; expected whole numbers from 1 to 4194304" },
		{ "filter.comm=sixteen-bytes-xx", "--set filter.comm=sixteen-bytes-xx: filter.comm holds "
						  "'sixteen-bytes-xx'; the kernel keeps 15 bytes of a "
						  "name: 'sixteen-bytes-x'" },
		{ "sinks.kafka={enabled: true, topic: ''}",
		  "--set sinks.kafka: sinks.kafka.topic must not be empty while sinks.kafka.enabled is true" },
	};
	char address[64];
	uint16_t port;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct config *config = load_set(*state, rows[i][0]);
		struct fault fault;

		assert_int_equal(settings_check(config, &fault), -EINVAL);
		assert_string_equal(fault.text, rows[i][1]);
		config_free(config);
	}
	assert_int_equal(parse_listen("[::1]:9435", address, &port), 0);
	assert_string_equal(address, "::1");
	assert_int_equal(port, 9435);
	assert_int_equal(parse_listen(":80", address, &port), 0);
	assert_string_equal(address, "");
}

static void count_change(void *context, const char *key, const struct sonde_option *row)
{
	char *seen = context;

	strcat(strcat(seen, key), row->live ? "! " : " ");
}

static void test_diff_and_digest(void **state)
{
	struct config *a = load(*state, "agent: {window: 60s}\nvault: {token: a}\n");
	struct config *b =
		load(*state, "agent: {window: 1m, drain_timeout: 1s}\nvault: {token: b}\nfilter: {comm: [x]}\n");
	struct config *c = load(*state, "vault: {token: a}\nagent: {window: 1m}\n");
	char seen[256] = "", one[17], two[17], three[17];

	config_diff(a, b, count_change, seen);
	assert_string_equal(seen, "filter.comm! agent.drain_timeout! vault.token ");
	config_digest(a, one);
	config_digest(b, two);
	config_digest(c, three);
	assert_int_equal(strlen(one), 16);
	assert_string_not_equal(one, two);
	assert_string_equal(one, three);
	config_free(a);
	config_free(b);
	config_free(c);
}

static void test_module_tables(void **state)
{
	static const struct sonde_option rows[] = {
		{ .type = SONDE_OPTION_UINT, .key = "depth", .value = "3", .max = 9, .help = "how deep" },
		{ .type = SONDE_OPTION_BOOL, .key = "enabled", .value = "false", .help = "off unless asked for" },
		{ 0 },
	};
	const struct option_table modules[] = { { "sample", "A sample", rows }, { "other", NULL, NULL } };
	const struct option_table bad = { "Bad.Name", NULL, NULL };
	struct settings *settings = NULL;
	struct config *config;
	struct fault fault;
	size_t n;

	assert_int_equal(settings_make(&settings, modules, 2, &fault), 0);

	const struct option_table *tables = settings_tables(settings, &n);

	assert_int_equal(config_load(&config, tables, n, NULL, NULL, 0, &fault), 0);
	assert_int_equal(config_number(config, "modules.sample.depth"), 3);
	assert_false(config_bool(config, "modules.sample.enabled"));
	assert_true(config_bool(config, "modules.other.enabled"));
	assert_string_equal(config_text(config, "modules.other.overflow"), "drop-oldest");
	config_free(config);
	settings_free(settings);
	assert_int_equal(settings_make(&settings, &bad, 1, &fault), -EINVAL);
	assert_string_equal(fault.text, "'Bad.Name' is no name for a module; expected at most 32 of a-z, 0-9, _ and -");
}

static void test_bad_tables(void **state)
{
	static const struct sonde_option twice[] = {
		{ .type = SONDE_OPTION_UINT, .key = "a", .value = "1" },
		{ .type = SONDE_OPTION_UINT, .key = "a.b", .value = "1" },
		{ 0 },
	};
	static const struct sonde_option wrong[] = {
		{ .type = SONDE_OPTION_UINT, .key = "a", .value = "10", .max = 9 },
		{ 0 },
	};
	const struct option_table tables[] = { { "m", NULL, twice }, { "m", NULL, wrong } };
	struct config *config = NULL;
	struct fault fault;

	assert_int_equal(config_load(&config, &tables[0], 1, NULL, NULL, 0, &fault), -EEXIST);
	assert_string_equal(fault.text, "the option 'm.a.b' is declared twice");
	assert_int_equal(config_load(&config, &tables[1], 1, NULL, NULL, 0, &fault), -EINVAL);
	assert_string_equal(fault.text,
			    "the default of m.a: m.a is '10', out of range; expected a whole number from 0 to 9");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_defaults),
		T(test_block_and_flow),
		T(test_alias),
		T(test_unknown_key),
		T(test_wrong_type),
		T(test_out_of_range),
		T(test_bad_unit),
		T(test_duplicates),
		T(test_hostile_yaml),
		T(test_bounds),
		T(test_environment),
		T(test_files),
		T(test_secrets_stay_secret),
		T(test_set),
		T(test_set_faults),
		T(test_cross_checks),
		T(test_diff_and_digest),
		T(test_module_tables),
		T(test_bad_tables),
		T(test_known_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

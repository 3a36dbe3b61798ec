/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a rule file: it loads or its mistakes have a place, and what loads can be matched, written and explained. */
#include "rule_lines.h"
#include "rules/rules.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void on_report(void *context, enum rules_level level, const char *sentence)
{
	unsigned *errors = context;

	*errors += level == RULES_ERROR;
	check(sentence[0]);
}

static const char event[] = "{\"evt.type\": \"openat\", \"fd.name\": \"/etc/shadow\", \"proc.name\": \"cat\", "
			    "\"proc.aname\": [\"sh\", \"sshd\"], \"fd.sip\": \"10.0.0.1\","
			    "\"evt.rawtime\": 1700000000000000000, \"fd.num\": 3, \"evt.is_open_read\": true, "
			    "\"proc.cmdline\": \"cat /etc/shadow\"}";

static void use(const struct rules *rules, FILE *sink)
{
	struct rule_line *line = NULL;
	uint32_t matched[64], n;
	char room[512];

	check(rule_line_read(&line, event, sizeof event - 1, "event", NULL) == 0);
	n = rules_match(rules, rule_line_event(line), matched, 64);
	for (uint32_t i = 0; i < n; i++) {
		check(matched[i] < rules_count(rules));
		check(rules_format(rules, matched[i], rule_line_event(line), room, sizeof room, NULL) < sizeof room);
	}
	for (uint32_t i = 0; i < rules_count(rules) && i < 16; i++)
		rules_explain(rules, i, sink);
	rule_line_free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static FILE *sink;
	const char *text = (const char *)data;
	const char *cut = memmem(data, size, "\n%%\n", 4);
	size_t first = cut ? (size_t)(cut - text) : size;
	const struct rules_file files[] = { { "a", text, first },
					    { "b", cut ? cut + 4 : "", cut ? size - first - 4 : 0 } };
	unsigned errors = 0;
	const struct rules_options options = { .lenient = size & 1, .report = on_report, .context = &errors };
	struct rules *rules = NULL;
	struct fault fault = { 0 };

	if (!sink)
		sink = fopen("/dev/null", "w");
	if (rules_load(&rules, files, 2, &options, &fault) == 0) {
		check(errors == 0);
		use(rules, sink);
	} else {
		check(!rules && errors > 0 && fault.text[0]);
	}
	rules_free(rules);
	return 0;
}

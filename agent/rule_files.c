/* SPDX-License-Identifier: Apache-2.0 */
#include "rule_files.h"

#include "alerts/live.h"
#include "setup.h"

#include <errno.h>
#include <string.h>

struct reading {
	struct rules_file files[RULE_FILES_MAX];
	size_t n;
	void (*report)(void *context, enum rules_level level, const char *sentence);
	void *context;
	struct fault *fault;
	bool told; /* the fault is set */
};

static void free_files(struct reading *reading)
{
	for (size_t i = 0; i < reading->n; i++)
		free((char *)reading->files[i].text);
}

static void on_report(void *context, enum rules_level level, const char *sentence)
{
	struct reading *reading = context;

	if (level == RULES_ERROR && !reading->told)
		fault_set(reading->fault, -EINVAL, "%s", sentence);
	reading->told |= level == RULES_ERROR;
	reading->report(reading->context, level, sentence);
}

static int read_file(struct reading *reading, const char *path)
{
	struct rules_file *file = &reading->files[reading->n];
	char *text;
	int r = read_small_file(path, RULE_FILE_BYTES, &text, &file->size);

	if (r < 0)
		return fault_set(reading->fault, r, "%s: cannot be read: %s", path,
				 r == -EFBIG ? "larger than 8 MiB" : strerror(-r));
	file->label = path;
	file->text = text;
	reading->n++;
	return 0;
}

int rule_files_load(struct rules **ret, const char *const *paths, size_t n, bool lenient,
		    void (*report)(void *context, enum rules_level level, const char *sentence), void *context,
		    struct fault *fault)
{
	_cleanup_(free_files) struct reading reading = { .report = report, .context = context, .fault = fault };
	const struct rules_options options = { .lenient = lenient, .report = on_report, .context = &reading };
	struct fault own = { 0 };
	int r = 0;

	if (n > RULE_FILES_MAX)
		return fault_set(fault, -E2BIG, "more than %u rule files", RULE_FILES_MAX);
	for (size_t i = 0; i < n && r == 0; i++)
		r = read_file(&reading, paths[i]);
	if (r == 0) {
		r = rules_load(ret, reading.files, reading.n, &options, &own);
		if (r < 0 && !reading.told)
			fault_set(fault, r, "%s", own.text);
	}
	return r;
}

/* Why a rule that is matched never fires, in `room`; false: it may. */
static bool never_fires(const struct live_setup *live, uint32_t rule, char *room, size_t size)
{
	const char *lacks = rules_lack(live->rules, rule), *module;

	if (lacks)
		snprintf(room, size, "can never fire: it needs %.100s, which nothing gives yet", lacks);
	else if (live_is_served(live, rule, &module))
		return false;
	else if (module)
		snprintf(room, size, "needs module '%s', which is off", module);
	else
		snprintf(room, size, "can never fire: no module makes the events that it is about");
	return true;
}

void rule_files_unserved(const struct rules *rules, const struct setup *setup,
			 void (*say)(void *context, const char *sentence), void *context)
{
	const struct live_setup live = {
		.rules = rules, .schema = setup->schema, .runs = setup_enables, .context = (void *)setup
	};
	char sentence[512], why[160];

	for (uint32_t i = 0; i < rules_count(rules); i++) {
		const struct rule_info *info = rules_at(rules, i);

		if (!info->enabled || info->skipped || !never_fires(&live, i, why, sizeof why))
			continue;
		snprintf(sentence, sizeof sentence, "%s:%u:%u: rule '%.200s' %s", info->label, info->line, info->column,
			 info->name, why);
		say(context, sentence);
	}
}

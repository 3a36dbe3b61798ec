/* SPDX-License-Identifier: Apache-2.0 */
#include "alerts.h"

#include "probes/identity/identity.h"
#include "rule_files.h"

#include <errno.h>
#include <string.h>

#define OUTPUT_MAX 16384u /* bytes of an output; longer ones are cut, and say so */

struct alerts {
	struct alerts_setup setup;
	struct rules *rules;
	struct live *live;
	struct fold *fold;
	struct responses *responses; /* NULL: none */
	uint32_t *matched;           /* room for all rules */
	char output[OUTPUT_MAX];
};

static void on_report(void *context, enum rules_level level, const char *sentence)
{
	struct alerts *alerts = context;

	char text[600];

	snprintf(text, sizeof text, "%s%s", level == RULES_ERROR ? "" : "warning: ", sentence);
	alerts->setup.say(alerts->setup.context, text);
}

static void write_alert(void *context, const struct fold_alert *alert)
{
	struct alerts *alerts = context;
	const struct alert_row row = { .rule = rules_at(alerts->rules, alert->rule),
				       .event = alert->event,
				       .seq = alert->seq,
				       .count = alert->count,
				       .output = alert->output,
				       .output_size = alert->output_size,
				       .cut = alert->cut };

	alerts->setup.write(alerts->setup.context, &row);
}

static int prepare(struct alerts *alerts, const struct config *config)
{
	const struct alerts_setup *s = &alerts->setup;
	const struct live_setup live = { .rules = alerts->rules,
					 .schema = s->setup->schema,
					 .processes = s->processes,
					 .users = s->users,
					 .cgroups = s->cgroups,
					 .runtimes = s->runtimes,
					 .host = s->host,
					 .began = s->began,
					 .runs = setup_enables,
					 .context = (void *)s->setup };
	int r = live_open(&alerts->live, &live);

	alerts->matched = calloc(MAX_OF(rules_count(alerts->rules), 1u), sizeof *alerts->matched);
	if (r == 0 && !alerts->matched)
		r = -ENOMEM;
	return r == 0 ? fold_open(&alerts->fold, config_number(config, "rules.fold"), write_alert, alerts) : r;
}

int alerts_open(struct alerts **ret, const struct alerts_setup *setup, const struct config *config, struct fault *fault)
{
	const char *const *paths;
	size_t n = config_list(config, "rules.files", &paths);
	struct alerts *alerts;
	int r;

	*ret = NULL;
	if (n == 0 && config_bool(config, "rules.only"))
		return fault_set(fault, -EINVAL, "%s: rules.only is on, and rules.files names no file of rules",
				 config_origin(config, "rules.only"));
	if (n == 0) {
		struct responses *none;

		return responses_read(&none, config, NULL, fault); /* there is no rule that one could be of */
	}
	alerts = calloc(1, sizeof *alerts);
	if (!alerts)
		return fault_set(fault, -ENOMEM, "out of memory");
	alerts->setup = *setup;
	r = rule_files_load(&alerts->rules, paths, n, config_bool(config, "rules.lenient"), on_report, alerts, fault);
	if (r == 0 && prepare(alerts, config) < 0)
		r = fault_set(fault, -ENOMEM, "out of memory");
	if (r == 0)
		r = responses_read(&alerts->responses, config, alerts->rules, fault);
	if (r < 0) {
		alerts_close(alerts);
		return r;
	}
	rule_files_unserved(alerts->rules, setup->setup, setup->say, setup->context);
	*ret = alerts;
	return 0;
}

void alerts_close(struct alerts *alerts)
{
	if (!alerts)
		return;
	fold_close(alerts->fold);
	live_close(alerts->live);
	responses_free(alerts->responses);
	rules_free(alerts->rules);
	free(alerts->matched);
	free(alerts);
}

bool alerts_wants(const struct alerts *alerts, uint16_t type)
{
	return alerts && live_wants(alerts->live, type);
}

static void fire(struct alerts *alerts, uint32_t rule, const struct sonde_event *event, uint64_t seq)
{
	struct fold_alert alert = { .rule = rule, .event = event, .seq = seq, .output = alerts->output };
	struct response_order order = { .rule = rules_at(alerts->rules, rule),
					.number = rule,
					.actions = responses_of(alerts->responses, rule),
					.event = event,
					.seq = seq,
					.in_kernel = responses_in_kernel(alerts->responses, rule) };

	alert.output_size = live_format(alerts->live, rule, alerts->output, sizeof alerts->output, &alert.cut);
	order.repeated = !fold_take(alerts->fold, &alert, now_boottime_ns());
	if (!order.repeated)
		write_alert(alerts, &alert);
	if (order.actions)
		alerts->setup.respond(alerts->setup.context, &order);
}

const struct rules *alerts_rules(const struct alerts *alerts)
{
	return alerts->rules;
}

unsigned alerts_actions(const struct alerts *alerts, uint32_t rule)
{
	return responses_of(alerts->responses, rule);
}

void alerts_set_in_kernel(struct alerts *alerts, uint32_t rule, unsigned moment)
{
	responses_set_in_kernel(alerts->responses, rule, moment);
}

/* What of a rule's responses is left to the agent. A program is begun so often, and a wake-up is so dear, that it counts. */
static unsigned left_to_agent(const struct alerts *alerts, uint32_t rule, unsigned moments)
{
	unsigned actions = responses_of(alerts->responses, rule) & ~RESPONSE_BIT(RESPONSE_BLOCK);

	if (moments & responses_in_kernel(alerts->responses, rule))
		actions &= ~(RESPONSE_BIT(RESPONSE_KILL) | RESPONSE_BIT(RESPONSE_DENY));
	return actions;
}

bool alerts_are_urgent(const struct alerts *alerts, uint16_t type, unsigned moments)
{
	for (uint32_t i = 0; alerts && alerts->responses && i < rules_count(alerts->rules); i++)
		if (left_to_agent(alerts, i, moments) && live_can_fire(alerts->live, type, i))
			return true;
	return false;
}

void alerts_judge(struct alerts *alerts, const struct sonde_event *event, uint64_t seq, int64_t boot_to_epoch)
{
	uint32_t n = live_match(alerts->live, event, seq, boot_to_epoch, alerts->matched, rules_count(alerts->rules));

	for (uint32_t i = 0; i < n; i++)
		fire(alerts, alerts->matched[i], event, seq);
}

void alerts_tick(struct alerts *alerts, uint64_t now)
{
	fold_tick(alerts->fold, now);
}

void alerts_flush(struct alerts *alerts)
{
	fold_flush(alerts->fold);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "responses.h"

#include <errno.h>
#include <string.h>

#include "privilege.h"
#include "probes/identity/identity.h"
#include "rules/predicate.h"

struct responses {
	uint32_t n_rules;
	struct {
		uint8_t actions, in_kernel; /* as bits; of the moments at which the kernel side takes them */
	} rules[];
};

static const char *const names[RESPONSES] = { "kill", "capture", "burst", "deny", "block" };

const char *response_name(unsigned action)
{
	return names[action];
}

/* The first of the names that `text` holds, and what is behind it; NULL: there is none. */
static const char *next_action(const char *text, char room[32], const char **ret_rest)
{
	size_t n;

	text += strspn(text, ", \t");
	n = strcspn(text, ", \t");
	if (!n)
		return NULL;
	snprintf(room, 32, "%.*s", (int)MIN_OF(n, (size_t)31), text);
	*ret_rest = text + n;
	return room;
}

static int action_of(const char *name)
{
	for (int i = 0; i < RESPONSES; i++)
		if (!strcmp(names[i], name))
			return i;
	return -1;
}

unsigned responses_wanted(const struct config *config)
{
	const char *const(*pairs)[2], *rest;
	size_t n = config_map(config, "rules.responses", &pairs);
	unsigned bits = 0;
	char room[32];

	for (size_t i = 0; i < n; i++)
		for (const char *at = pairs[i][1]; next_action(at, room, &rest); at = rest)
			if (action_of(room) >= 0)
				bits |= RESPONSE_BIT(action_of(room));
	return bits;
}

uint64_t responses_capabilities(const struct config *config)
{
	return PRIVILEGE_BASE | (responses_wanted(config) & RESPONSE_BIT(RESPONSE_KILL) ? PRIVILEGE_BIT(CAP_KILL) : 0);
}

bool responses_want(const struct config *config, const char *name)
{
	int action = action_of(name);

	return action >= 0 && responses_wanted(config) & RESPONSE_BIT(action);
}

static int read_actions(const struct config *config, const char *const pair[2], uint8_t *ret, struct fault *fault)
{
	const char *rest, *near;
	char room[32];

	for (const char *at = pair[1]; next_action(at, room, &rest); at = rest) {
		if (action_of(room) >= 0) {
			*ret |= (uint8_t)RESPONSE_BIT(action_of(room));
			continue;
		}
		near = nearest_name(room, names, RESPONSES);
		return fault_set(
			fault, -EINVAL,
			"%s: rules.responses: unknown action '%s' of rule '%.100s'%s%s%s; it is one of kill, capture, "
			"burst, deny, block",
			config_origin(config, "rules.responses"), room, pair[0], near ? "; did you mean '" : "",
			near ? near : "", near ? "'?" : "");
	}
	if (*ret)
		return 0;
	return fault_set(fault, -EINVAL,
			 "%s: rules.responses: rule '%.100s' has no action; say kill, capture, burst, deny or block",
			 config_origin(config, "rules.responses"), pair[0]);
}

static int unknown_rule(const struct config *config, const struct rules *rules, const char *name, struct fault *fault)
{
	uint32_t n = rules ? rules_count(rules) : 0;
	_cleanup_(free_pointer) const char **all = calloc(n + 1, sizeof *all);
	const char *near;

	if (!all)
		return fault_set(fault, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < n; i++)
		all[i] = rules_at(rules, i)->name;
	near = nearest_name(name, all, n);
	return fault_set(fault, -EINVAL, "%s: rules.responses: there is no rule '%.100s'%s%.100s%s",
			 config_origin(config, "rules.responses"), name,
			 near ? "; did you mean '"
			 : n  ? ""
			      : ": rules.files is empty",
			 near ? near : "", near ? "'?" : "");
}

/* Whether each begin of a program and each connect that it can fire on can be refused, and there is such a one. */
static bool can_block(const struct rules *rules, uint32_t rule, struct fault *why)
{
	static const enum predicate_moment moments[] = { PREDICATE_BEFORE_EXEC, PREDICATE_BEFORE_CONNECT };
	unsigned fires = 0;

	for (size_t i = 0; i < ARRAY_SIZE(moments); i++) {
		struct predicate predicate;
		int r = rules_predicate(rules, rule, moments[i], &predicate, why);

		if (r < 0 && r != -ENOENT)
			return false;
		fires += r == 0;
	}
	if (!fires)
		fault_set(why, -ENOENT, "it can fire on neither the begin of a program nor a connect");
	return fires;
}

static int read_pair(const struct config *config, const struct rules *rules, const char *const pair[2],
		     struct responses *responses, struct fault *fault)
{
	int64_t rule = rules ? rules_find(rules, pair[0]) : -1;
	const struct rule_info *info;
	struct fault why = { 0 };
	int r;

	if (rule < 0)
		return unknown_rule(config, rules, pair[0], fault);
	info = rules_at(rules, (uint32_t)rule);
	if (!info->enabled || info->skipped)
		return fault_set(fault, -EINVAL, "%s: rules.responses: rule '%.100s' %s, so it cannot fire",
				 config_origin(config, "rules.responses"), pair[0],
				 info->enabled ? "is left out" : "is not enabled");
	r = read_actions(config, pair, &responses->rules[rule].actions, fault);
	if (r == 0 && responses->rules[rule].actions & RESPONSE_BIT(RESPONSE_BLOCK) &&
	    !can_block(rules, (uint32_t)rule, &why))
		r = fault_set(fault, -EINVAL, "%s: rules.responses: rule '%.100s' cannot block: %s; give it kill",
			      config_origin(config, "rules.responses"), pair[0], why.text);
	return r;
}

int responses_read(struct responses **ret, const struct config *config, const struct rules *rules, struct fault *fault)
{
	const char *const(*pairs)[2];
	size_t n = config_map(config, "rules.responses", &pairs);
	uint32_t n_rules = rules ? rules_count(rules) : 0;
	struct responses *responses;
	int r = 0;

	*ret = NULL;
	if (!n)
		return 0;
	responses = calloc(1, sizeof *responses + n_rules * sizeof responses->rules[0]);
	if (!responses)
		return fault_set(fault, -ENOMEM, "out of memory");
	responses->n_rules = n_rules;
	for (size_t i = 0; i < n && r == 0; i++)
		r = read_pair(config, rules, pairs[i], responses, fault);
	if (r < 0) {
		responses_free(responses);
		return r;
	}
	*ret = responses;
	return 0;
}

void responses_free(struct responses *responses)
{
	free(responses);
}

void responses_set_in_kernel(struct responses *responses, uint32_t rule, unsigned moment)
{
	if (rule < responses->n_rules)
		responses->rules[rule].in_kernel |= (uint8_t)(1u << moment);
}

unsigned responses_in_kernel(const struct responses *responses, uint32_t rule)
{
	return responses && rule < responses->n_rules ? responses->rules[rule].in_kernel : 0;
}

unsigned responses_of(const struct responses *responses, uint32_t rule)
{
	return responses && rule < responses->n_rules ? responses->rules[rule].actions : 0;
}

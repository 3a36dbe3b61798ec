/* SPDX-License-Identifier: Apache-2.0 */
/* SIGHUP: a new configuration, checked whole, then only what changed is restarted, and taken back if it cannot start. */
#include "agent_state.h"

#include "filter.h"

#define RELOAD_FLUSH_NS (300 * NS_PER_MS) /* the rings fill meanwhile */

struct changes {
	bool modules[MODULES_MAX], kafka, filter;
	struct agent *agent;
	const struct config *fresh;
	const char *fixed;   /* a key that only a restart can change */
	const char *staying; /* the module that is why; NULL: it is so always */
	const char *why;     /* it may not be stopped for a moment */
	bool back;           /* to what was before */
};

/* Why a module that is to go on may not be stopped for a moment; NULL: it may. */
static const char *why_it_stays(const struct changes *c, const struct module *m)
{
	if (module_must_stay(m))
		return "its programs of cgroups take CAP_NET_ADMIN, which the agent has given up";
	if (m == agent_guard(c->agent) && agent_wants_guard(c->fresh))
		return "meanwhile nothing would be guarded";
	return NULL;
}

/* A module is to be started with another value, or not at all. */
static void note_module(struct changes *c, size_t i, const char *key)
{
	struct module *m = loader_module(c->agent->setup.loader, i);
	const char *why = agent_is_enabled(c->fresh, m) ? why_it_stays(c, m) : NULL;

	if (why) {
		c->fixed = key;
		c->staying = module_name(m);
		c->why = why;
	}
	c->modules[i] = true;
}

static void note_change(void *context, const char *key, const struct sonde_option *row)
{
	struct changes *c = context;
	struct loader *loader = c->agent->setup.loader;

	if (!strcmp(key, "filter.socket")) { /* it is in the programs themselves */
		for (size_t i = 1; i < loader_count(loader) && i < MODULES_MAX; i++)
			if (module_filters_sockets(loader_module(loader, i)))
				note_module(c, i, key);
		return;
	}
	if (!strncmp(key, "filter.", 7)) {
		c->filter = true;
		return;
	}
	if (!strncmp(key, "sinks.kafka.", 12)) {
		c->kafka |= !row->live;
		return;
	}
	for (size_t i = 1; i < loader_count(loader) && i < MODULES_MAX; i++) {
		size_t n = strlen(module_name(loader_module(loader, i)));

		if (!strncmp(key, "modules.", 8) && !strncmp(key + 8, module_name(loader_module(loader, i)), n) &&
		    key[8 + n] == '.') {
			if (!row->live)
				note_module(c, i, key);
			return;
		}
	}
	if (!row->live) {
		c->fixed = key;
		c->staying = NULL;
	}
}

static int refuse_fixed(const struct changes *c, struct fault *fault)
{
	if (!c->staying)
		return fault_set(fault, -EBUSY, "%s cannot change while the agent runs: restart it", c->fixed);
	return fault_set(fault, -EBUSY, "%s cannot change while module '%s' runs: %s; restart the agent", c->fixed,
			 c->staying, c->why);
}

/* Files of rules may have changed where the configuration did not; and with them what modules are asked for. */
static int load_rules(struct agent *a, struct changes *c, struct fault *fault)
{
	size_t n = MIN_OF(loader_count(a->setup.loader), (size_t)MODULES_MAX);
	uint64_t before[MODULES_MAX];
	int r;

	for (size_t i = 1; i < n; i++)
		before[i] = module_asked(loader_module(a->setup.loader, i));
	r = agent_load_rules(a, fault);
	for (size_t i = 1; r == 0 && i < n; i++)
		c->modules[i] |= module_asked(loader_module(a->setup.loader, i)) != before[i];
	return r;
}

static int restart(struct agent *a, struct module *m, struct fault *fault)
{
	struct module_hold *hold = module_running(m) ? module_hold(m) : NULL;
	int r = 0;

	agent_stop_module(a, m, RELOAD_FLUSH_NS / NS_PER_MS);
	if (agent_wants_module(a, m))
		r = agent_start_module(a, m, fault);
	module_let_go(hold);
	return r;
}

static int restart_changed(struct agent *a, struct changes *c, struct fault *fault)
{
	int r = load_rules(a, c, fault);

	if (r < 0 && c->back)
		r = 0; /* those in force stay, and the modules with them */
	for (size_t i = 1; i < loader_count(a->setup.loader) && i < MODULES_MAX && r == 0; i++) {
		struct module *m = loader_module(a->setup.loader, i);

		if (c->modules[i])
			r = restart(a, m, fault);
		if (r == 0 && module_running(m))
			intake_set_overflow(a->intake, module_name(m), agent_overflow_of(a->setup.config, m));
	}
	if (r == 0 && c->kafka) {
		agent_stop_kafka(a, RELOAD_FLUSH_NS); /* the next one goes on at the cursor */
		r = agent_start_kafka(a, fault);
	}
	if (r == 0 && c->filter)
		r = filter_apply(a->setup.loader, a->setup.config, fault);
	if (r == 0) { /* modules that were restarted have missed some processes */
		agent_list_processes(a);
		agent_tell_guard(a);
		agent_tell_urgent(a);
		agent_tell_opens(a);
	}
	return r;
}

/* The new configuration is read and checked whole before anything changes; what then cannot be started is taken back. */
void agent_reload(struct agent *a)
{
	struct config *fresh, *old = a->setup.config;
	struct changes changes = { .agent = a };
	struct fault fault = { 0 };
	int r = setup_reload(&a->setup, a->options->sets, a->options->n_sets, &fresh, &fault);

	if (r == 0) {
		changes.fresh = fresh;
		config_diff(old, fresh, note_change, &changes);
		if (changes.fixed)
			r = refuse_fixed(&changes, &fault);
		if (r < 0)
			config_free(fresh);
	}
	if (r == 0) {
		a->setup.config = fresh;
		r = restart_changed(a, &changes, &fault);
		if (r < 0) {
			struct fault again;

			a->setup.config = old;
			changes.back = true;
			restart_changed(a, &changes, &again);
			config_free(fresh);
		} else {
			config_free(old);
		}
	}
	if (r < 0)
		fprintf(stderr, "sonde: reload: %s%s; the configuration stays as it was\n", fault.text,
			r == -EPERM || r == -EACCES ? " (the agent kept too few privileges for that: restart it)" : "");
	else
		agent_say(a, "configuration reloaded");
}

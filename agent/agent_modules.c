/* SPDX-License-Identifier: Apache-2.0 */
/* Starting and stopping modules, one by one or all. */
#include "agent_state.h"

#define SECOND_NS NS_PER_SEC

bool agent_is_enabled(const struct config *config, const struct module *module)
{
	char key[128];

	if (!strcmp(module_name(module), "guard") && agent_wants_guard(config))
		return true;
	snprintf(key, sizeof key, "modules.%s.enabled", module_name(module));
	return config_bool(config, key);
}

/* An event that no type is declared for is the module's own business. */
static bool asks(void *context, const char *name)
{
	const struct agent *a = context;
	const struct event_type *type = schema_find(a->setup.schema, name, strlen(name));

	return !type || alerts_wants(a->alerts, type->id);
}

void agent_tell_asked(struct agent *a)
{
	loader_set_asks(a->setup.loader, config_bool(a->setup.config, "rules.only") ? asks : NULL, a);
	loader_set_decides(a->setup.loader, agent_decides, a);
}

/* Whether it is to run: it is enabled, and somebody asks for what it tells. */
static bool is_wanted(void *context, const struct module *module)
{
	const struct agent *a = context;

	return agent_is_enabled(a->setup.config, module) && module_is_asked(module);
}

bool agent_wants_module(struct agent *a, const struct module *module)
{
	char text[160];
	bool wanted = is_wanted(a, module);

	if (!wanted && agent_is_enabled(a->setup.config, module)) {
		snprintf(text, sizeof text, "module '%s' stays out: no rule can fire on its events (rules.only)",
			 module_name(module));
		agent_say(a, text);
	}
	return wanted;
}

enum overflow agent_overflow_of(const struct config *config, const struct module *module)
{
	const char *text;
	char key[128];

	snprintf(key, sizeof key, "modules.%s.overflow", module_name(module));
	text = config_text(config, key);
	return !strcmp(text, "drop-newest") ? OVERFLOW_DROP_NEWEST
	       : !strcmp(text, "block")     ? OVERFLOW_BLOCK
					    : OVERFLOW_DROP_OLDEST;
}

int agent_start_module(struct agent *a, struct module *module, struct fault *fault)
{
	struct guest *guest = agent_guest_make(a, module);
	int r;

	if (!guest)
		return fault_set(fault, -E2BIG, "more than %d modules", MODULES_MAX);
	r = module_start(module, a->setup.config, &guest->host, fault);
	if (r < 0)
		guest->module = NULL;
	agent_note_watches(a);
	if (r == 0)
		intake_set_overflow(a->intake, module_name(module), agent_overflow_of(a->setup.config, module));
	return r;
}

/* Records of the module that are still in the rings: its companion must see them before it goes. */
uint64_t agent_in_rings_of(struct agent *a, const struct module *module)
{
	uint64_t sum = 0;

	ledger_refresh(a->ledger, false);
	for (uint16_t i = 0; i < schema_count(a->setup.schema); i++)
		if (!strcmp(schema_type(a->setup.schema, i)->module, module_name(module)))
			sum += ledger_in_ring(a->ledger, i);
	return sum;
}

static void drain(void *context)
{
	agent_drain(context);
}

void agent_detach_module(struct agent *a, struct module *module)
{
	module_detach(module, drain, a);
}

void agent_stop_module(struct agent *a, struct module *module, int flush_ms)
{
	struct guest *guest = agent_guest(a, module_name(module));
	const struct sonde_module *companion = module_companion(module);
	uint64_t until = now_boottime_ns() + SECOND_NS;

	if (!guest)
		return;
	agent_detach_module(a, module);
	if (companion && companion->stop)
		companion->stop(&guest->host);
	do {
		agent_drain(a);
	} while (agent_in_rings_of(a, module) && now_boottime_ns() < until);
	if (companion && companion->flush)
		companion->flush(&guest->host, flush_ms);
	module_unload(module);
	guest->module = NULL;
	agent_note_watches(a);
}

/* A module that cannot start is said and left out; it stops no other. Without privileges nothing can, so that ends it. All are loaded before the
 * first is attached: what takes long is over when the first event comes, as the rings are not read before all are there. */
int agent_start_modules(struct agent *a, struct fault *fault)
{
	loader_load_ahead(a->setup.loader, a->setup.config, is_wanted, a);
	for (size_t i = 1; i < loader_count(a->setup.loader); i++) {
		struct module *m = loader_module(a->setup.loader, i);
		int r = agent_wants_module(a, m) ? agent_start_module(a, m, fault) : 0;

		if (r == -EPERM)
			return r;
		if (r < 0)
			agent_say(a, fault->text);
	}
	return 0;
}

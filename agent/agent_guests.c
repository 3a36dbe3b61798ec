/* SPDX-License-Identifier: Apache-2.0 */
/* struct sonde_host: what a module may ask of the agent, and nothing more. */
#include "agent_state.h"

static struct guest *guest_from(const struct sonde_host *host)
{
	return (struct guest *)host;
}

static const char *option_key(const struct sonde_host *host, const char *key, char room[128])
{
	snprintf(room, 128, "modules.%s.%s", module_name(guest_from(host)->module), key);
	return room;
}

static uint64_t host_number(const struct sonde_host *host, const char *key)
{
	char room[128];

	return config_number(guest_from(host)->agent->setup.config, option_key(host, key, room));
}

static const char *host_text(const struct sonde_host *host, const char *key)
{
	char room[128];

	return config_text(guest_from(host)->agent->setup.config, option_key(host, key, room));
}

static int host_program(const struct sonde_host *host, const char *name)
{
	return module_program(guest_from(host)->module, name);
}

static int host_map(const struct sonde_host *host, const char *name)
{
	return module_map(guest_from(host)->module, name);
}

static const struct event_type *guest_type(const struct guest *guest, const char *record)
{
	return schema_find_record(guest->agent->setup.schema, module_name(guest->module), record);
}

static int host_emit(struct sonde_host *host, const char *record, void *row)
{
	struct guest *guest = guest_from(host);
	const struct event_type *type = guest_type(guest, record);
	struct sonde_event *e = row;

	if (!type || type->internal || e->size < type->size)
		return -EINVAL;
	e->type = type->id;
	ledger_made(guest->agent->ledger, type->id, 1);
	return agent_write(guest->agent, e, NULL, NULL);
}

static void host_settled(struct sonde_host *host, const char *record, uint64_t count, const char *reason)
{
	struct guest *guest = guest_from(host);
	const struct event_type *type = guest_type(guest, record);
	enum ledger_reason why = LEDGER_TABLE_FULL;

	if (!type)
		return;
	if (!type->internal)
		ledger_made(guest->agent->ledger, type->id, count);
	if (!reason) {
		ledger_journaled(guest->agent->ledger, type->id, count);
		return;
	}
	for (int i = 0; i < LEDGER_REASONS; i++)
		if (!strcmp(ledger_reason_names[i], reason))
			why = (enum ledger_reason)i;
	ledger_dropped(guest->agent->ledger, type->id, why, count);
}

static void host_notice(struct sonde_host *host, const char *text)
{
	fprintf(stderr, "sonde: module %s: %s\n", module_name(guest_from(host)->module), text);
}

struct guest *agent_guest_make(struct agent *a, struct module *module)
{
	for (size_t i = 0; i < ARRAY_SIZE(a->guests); i++) {
		struct guest *g = &a->guests[i];

		if (g->module)
			continue;
		*g = (struct guest){ .agent = a, .module = module };
		g->host = (struct sonde_host){ .abi = SONDE_MODULE_ABI,
					       .symbols = a->symbols,
					       .window_ns = config_number(a->setup.config, "agent.window"),
					       .number = host_number,
					       .text = host_text,
					       .program = host_program,
					       .map = host_map,
					       .emit = host_emit,
					       .settled = host_settled,
					       .notice = host_notice };
		return g;
	}
	return NULL;
}

static bool is_module(struct agent *a, const char *name)
{
	for (size_t i = 0; i < loader_count(a->setup.loader); i++)
		if (!strcmp(module_name(loader_module(a->setup.loader, i)), name))
			return true;
	return false;
}

/* "cpu burst 123 ...": words for the module that they begin with. */
int agent_ask_module(struct agent *a, const char *request, FILE *out)
{
	size_t n = strcspn(request, " ");
	char name[64];
	struct guest *guest;
	const struct sonde_module *companion;

	if (!request[n] || n >= sizeof name)
		return -EINVAL;
	memcpy(name, request, n);
	name[n] = '\0';
	guest = agent_guest(a, name);
	companion = guest ? module_companion(guest->module) : NULL;
	if (companion && companion->request)
		return companion->request(&guest->host, request + n + 1, out);
	if (!is_module(a, name))
		return -EINVAL;
	fprintf(out, "{\"error\":\"the module %s %s\"}", name, guest ? "takes no requests" : "does not run");
	return 0;
}

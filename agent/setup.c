/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables need the modules, the modules' folder is an option: so the configuration is read twice, first for what the
 * agent's own tables hold, and again, strictly, once every module has brought its rows.
 */
#include "setup.h"
#include "socket_filter.h"

#include <errno.h>
#include <string.h>

const char *setup_default_file(void)
{
	static const char file[] = "/etc/sonde/sonde.yaml";

	return access(file, F_OK) == 0 ? file : NULL;
}

static int open_loader(struct setup *s, const char *const *sets, size_t n_sets,
		       void (*notice)(void *context, const char *text), void *context, struct fault *fault)
{
	struct settings *own = NULL;
	struct config *config = NULL;
	size_t n;
	int r = settings_make(&own, NULL, 0, fault);

	if (r < 0)
		return r;

	const struct option_table *tables = settings_tables(own, &n);

	r = config_load_known(&config, tables, n, s->file, sets, n_sets, fault);
	if (r == 0) {
		const struct loader_options options = {
			.priority_bytes = (uint32_t)config_number(config, "rings.priority"),
			.bulk_bytes = (uint32_t)config_number(config, "rings.bulk"),
			.folder = config_text(config, "agent.modules"),
		};

		r = loader_open(&s->loader, &options, s->schema, notice, context, fault);
	}
	config_free(config);
	settings_free(own);
	return r;
}

static int make_settings(struct setup *s, struct fault *fault)
{
	size_t n = loader_count(s->loader), n_tables = 0;
	_cleanup_(free_pointer) struct option_table *tables = calloc(2 * n, sizeof *tables);

	if (!tables)
		return fault_set(fault, -ENOMEM, "out of memory");
	for (size_t i = 1; i < n; i++) { /* 0 is identity, which has no switch */
		const struct module *m = loader_module(s->loader, i);

		tables[n_tables++] = (struct option_table){ module_name(m), module_summary(m), module_options(m) };
		if (module_filters_sockets(m))
			tables[n_tables++] = (struct option_table){ module_name(m), NULL, socket_filter_rows };
	}
	return settings_make(&s->settings, tables, n_tables, fault);
}

int setup_reload(const struct setup *setup, const char *const *sets, size_t n_sets, struct config **ret,
		 struct fault *fault)
{
	struct config *config = NULL;
	size_t n;
	const struct option_table *tables = settings_tables(setup->settings, &n);
	int r = config_load(&config, tables, n, setup->file, sets, n_sets, fault);

	if (r == 0)
		r = settings_check(config, fault);
	if (r == 0)
		r = socket_filter_check(config, setup->loader, fault);
	if (r < 0) {
		config_free(config);
		return r;
	}
	*ret = config;
	return 0;
}

int setup_make(struct setup *ret, const char *file, const char *const *sets, size_t n_sets,
	       void (*notice)(void *context, const char *text), void *context, struct fault *fault)
{
	struct setup s = { .file = file ? file : setup_default_file() };
	int r = schema_new(&s.schema);

	if (r < 0)
		return fault_set(fault, r, "out of memory");
	r = open_loader(&s, sets, n_sets, notice, context, fault);
	if (r == 0)
		r = make_settings(&s, fault);
	if (r == 0)
		r = setup_reload(&s, sets, n_sets, &s.config, fault);
	if (r < 0) {
		setup_free(&s);
		return r;
	}
	*ret = s;
	return 0;
}

void setup_free(struct setup *setup)
{
	config_free(setup->config);
	settings_free(setup->settings);
	loader_close(setup->loader);
	schema_free(setup->schema);
	*setup = (struct setup){ 0 };
}

void setup_kafka(const struct config *config, struct kafka_options *ret)
{
	const char *const(*properties)[2];

	ret->brokers = config_text(config, "sinks.kafka.brokers");
	ret->topic = config_text(config, "sinks.kafka.topic");
	ret->key = strcmp(config_text(config, "sinks.kafka.key"), "host") ? KAFKA_KEY_HOST_MODULE : KAFKA_KEY_HOST;
	ret->n_properties = config_map(config, "sinks.kafka.options", &properties);
	ret->properties = properties;
}

bool setup_enables(void *context, const char *module)
{
	const struct setup *setup = context;
	char key[128];

	for (size_t i = 1; i < loader_count(setup->loader); i++)
		if (!strcmp(module_name(loader_module(setup->loader, i)), module)) {
			snprintf(key, sizeof key, "modules.%s.enabled", module);
			return config_bool(setup->config, key);
		}
	return false;
}

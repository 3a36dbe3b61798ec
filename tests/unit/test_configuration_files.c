/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is generated from the option tables and the events' declarations, and checked in: it must be what they say, and it must
 * load. After a change of one, SONDE_UPDATE=1 before this program writes the files anew.
 */
#include "setup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* No module folder: what is installed on the machine is not the project's. */
static const char *const sets[] = { "agent.modules=" };

static void ignore_notice(void *context, const char *text)
{
}

static int set_up(void **state)
{
	static struct setup setup;
	struct fault fault = { 0 };

	if (setup_make(&setup, "/dev/null", sets, 1, ignore_notice, NULL, &fault) < 0)
		fail_msg("%s", fault.text);
	*state = &setup;
	return 0;
}

static int tear_down(void **state)
{
	setup_free(*state);
	return 0;
}

/* `name` is below the project's folder, two above this file's. */
static void project_path(const char *name, char *ret, size_t room)
{
	char here[512];

	snprintf(here, sizeof here, "%s", __FILE__);
	for (int i = 0; i < 3; i++)
		*strrchr(here, '/') = '\0';
	snprintf(ret, room, "%s/%s", here, name);
}

static char *generate(const struct setup *setup, void (*write)(FILE *, const struct option_table *, size_t))
{
	char *text = NULL;
	size_t size, n;
	const struct option_table *tables = settings_tables(setup->settings, &n);
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	write(out, tables, n);
	fclose(out);
	assert_true(size > 100);
	return text;
}

static void hold_text(const char *name, const char *text)
{
	_cleanup_(free_pointer) char *held = NULL;
	char path[600];

	project_path(name, path, sizeof path);
	if (getenv("SONDE_UPDATE")) {
		_cleanup_(close_file) FILE *f = fopen(path, "w");

		assert_non_null(f);
		assert_true(fputs(text, f) >= 0);
		return;
	}
	assert_int_equal(read_small_file(path, 1 << 20, &held, NULL), 0);
	if (strcmp(text, held))
		fail_msg("%s is not what the code says; SONDE_UPDATE=1 before this program writes it anew", name);
}

static void hold_against(const struct setup *setup, const char *name,
			 void (*write)(FILE *, const struct option_table *, size_t))
{
	_cleanup_(free_pointer) char *text = generate(setup, write);

	hold_text(name, text);
}

static void test_yaml(void **state)
{
	hold_against(*state, "config/sonde.yaml", options_write_yaml);
}

static void test_markdown(void **state)
{
	hold_against(*state, "docs/configuration.md", options_write_markdown);
}

static void test_events(void **state)
{
	const struct setup *setup = *state;
	_cleanup_(free_pointer) char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	assert_true(schema_write(out, setup->schema, SCHEMA_MARKDOWN, NULL) > 5);
	fclose(out);
	hold_text("docs/events.md", text);
}

static void test_yaml_is_the_defaults(void **state)
{
	const struct setup *setup = *state;
	struct config *config = NULL, *defaults = NULL;
	struct fault fault = { 0 };
	char path[600], one[17], two[17];
	size_t n;
	const struct option_table *tables = settings_tables(setup->settings, &n);

	project_path("config/sonde.yaml", path, sizeof path);
	if (config_load(&config, tables, n, path, NULL, 0, &fault) < 0 || settings_check(config, &fault) < 0)
		fail_msg("%s", fault.text);
	assert_int_equal(config_load(&defaults, tables, n, NULL, NULL, 0, &fault), 0);
	config_digest(config, one);
	config_digest(defaults, two);
	assert_string_equal(one, two);
	/* Each option stands in the file, not only in the tables. */
	for (size_t i = 0; i < n; i++) {
		for (const struct sonde_option *row = tables[i].rows; row->key; row++) {
			char key[256];

			snprintf(key, sizeof key, "%s%s%s", tables[i].prefix, *tables[i].prefix ? "." : "", row->key);
			if (strncmp(config_origin(config, key), path, strlen(path)))
				fail_msg("%s does not hold %s", path, key);
		}
	}
	config_free(config);
	config_free(defaults);
}

static void test_help_fits(void **state)
{
	_cleanup_(free_pointer) char *text = generate(*state, options_write_help);

	for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
		if (strcspn(line, "\n") > 80)
			fail_msg("wider than 80: %.100s", line);
	}
}

/* Well formed as far as quotes and brackets go, and it holds what the rows say. */
static void test_json_schema(void **state)
{
	_cleanup_(free_pointer) char *text = generate(*state, options_write_json_schema);
	int depth = 0;

	for (const char *c = text; *c; c++) {
		if (*c == '"') {
			for (c++; *c != '"'; c++) {
				assert_true(*c && *c != '\n');
				c += *c == '\\';
			}
		}
		depth += (*c == '{' || *c == '[') - (*c == '}' || *c == ']');
		assert_true(depth >= 0);
	}
	assert_int_equal(depth, 0);
	assert_non_null(strstr(text, "\"rate\": {\"type\": [\"integer\", \"string\"]"));
	assert_non_null(strstr(text, "\"maximum\": 999"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_yaml),      cmocka_unit_test(test_markdown),
		cmocka_unit_test(test_events),    cmocka_unit_test(test_yaml_is_the_defaults),
		cmocka_unit_test(test_help_fits), cmocka_unit_test(test_json_schema),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}

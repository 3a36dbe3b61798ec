/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "command.h"
#include "command_setup.h"

static void write_configuration(const char *format, const struct setup *setup)
{
	size_t n;
	const struct option_table *tables = settings_tables(setup->settings, &n);

	if (!strcmp(format, "yaml"))
		options_write_yaml(stdout, tables, n);
	else if (!strcmp(format, "json"))
		options_write_json_schema(stdout, tables, n);
	else
		options_write_markdown(stdout, tables, n);
}

static int run(int argc, char **argv)
{
	const char *format = "text", *options = NULL, *type = NULL, *file = NULL;
	struct argument_texts sets = { 0 };
	const struct argument rows[] = {
		{ 0, "format", "FORMAT", "how to print it; json is JSON Schema", .text = &format,
		  .choices = "text|json|markdown|sql" },
		{ 0, "options", "FORMAT", "print the options of the configuration instead; json is JSON Schema",
		  .text = &options, .choices = "yaml|json|markdown" },
		{ 'c', "config", "FILE", "the configuration whose folder of modules counts", .text = &file },
		{ 0, "set", "KEY=VALUE", "change one option; may be repeated", .texts = &sets },
		{ 0, NULL, "TYPE", "only this event type, or those that fit a glob such as tcp.*", .text = &type },
		{ 0 },
	};
	const struct usage usage = {
		"schema",
		"Prints every event type with its keys, as the modules (those in the module folder too) declare them.",
		rows, NULL
	};
	static const char *const formats[] = { "text", "json", "markdown", "sql" };
	struct setup setup;
	size_t chosen = 0, n;
	int r = arguments_take(&usage, argc, argv);

	if (r >= 0)
		return r;
	r = command_setup(&setup, file, &sets);
	if (r >= 0)
		return r;
	while (strcmp(formats[chosen], format))
		chosen++;
	if (options) {
		write_configuration(options, &setup);
		n = 1;
	} else {
		n = schema_write(stdout, setup.schema, (enum schema_format)chosen, type);
	}
	setup_free(&setup);
	if (!n)
		fprintf(stderr, "sonde: no event type is called '%s'; 'sonde schema' prints them all\n", type);
	return n ? EXIT_OK : EXIT_FAULT;
}

const struct command command_schema = { "schema", "print every event type with its keys", run };

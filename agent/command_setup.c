/* SPDX-License-Identifier: Apache-2.0 */
#include "command_setup.h"

#include "command.h"

static void say(void *context, const char *text)
{
	fprintf(stderr, "sonde: %s\n", text);
}

int command_setup(struct setup *ret, const char *file, const struct argument_texts *sets)
{
	struct fault fault = { 0 };

	if (setup_make(ret, file, sets->items, sets->n, say, NULL, &fault) == 0)
		return -1;
	fprintf(stderr, "sonde: %s\n", fault.text);
	return EXIT_CONFIG;
}

static void say_nothing(void *context, const char *text)
{
}

void command_write_options(FILE *out)
{
	struct setup setup;
	size_t n;

	if (setup_make(&setup, "/dev/null", NULL, 0, say_nothing, NULL, NULL) < 0)
		return;
	const struct option_table *tables = settings_tables(setup.settings, &n);

	options_write_help(out, tables, n);
	setup_free(&setup);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The first word of the command line: which command, or what was meant. */
#include "command.h"

#include "base/base.h"
#include "paragraph.h"

#include <string.h>

const struct command *const commands[] = {
	&command_run,      &command_check,  &command_probes, &command_schema,
	&command_tap,      &command_cat,    &command_flame,  &command_map,
	&command_incident, &command_top,    &command_burst,  &command_capture,
	&command_stats,    &command_replay, &command_rules,  NULL,
};

#define COMMANDS_MAX ARRAY_SIZE(commands)
#define NAME_COLUMN  12

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; commands[i]; i++) {
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	}
	return NULL;
}

static void write_overview(FILE *out)
{
	fputs("Usage: sonde COMMAND [ARGUMENT]...\n\n", out);
	write_paragraph(out, "", 0, 80,
			"One agent for what happens on this host: processes, CPU time and TCP connections as one "
			"stream, from the "
			"kernel into a journal, and from there to Kafka.");
	fputs("\nCommands:\n", out);
	for (size_t i = 0; commands[i]; i++) {
		fprintf(out, "  %-*s", NAME_COLUMN - 2, commands[i]->name);
		write_paragraph(out, "            ", NAME_COLUMN, 80, commands[i]->summary);
	}
	fputc('\n', out);
	write_paragraph(out, "", 0, 80, "'sonde help COMMAND' says more of one; 'sonde --version' says the version.");
}

static int refuse_command(const char *name)
{
	const char *names[COMMANDS_MAX + 1] = { "help" };
	size_t n = 1;

	for (size_t i = 0; commands[i]; i++)
		names[n++] = commands[i]->name;

	const char *near = nearest_name(name, names, n);

	if (near)
		fprintf(stderr, "sonde: unknown command '%.64s'; did you mean '%s'?\n", name, near);
	else
		fprintf(stderr, "sonde: unknown command '%.64s'\n", name);
	fputs("See 'sonde --help'.\n", stderr);
	return EXIT_USAGE;
}

static int run_help(int argc, char **argv)
{
	if (argc == 1) {
		write_overview(stdout);
		return EXIT_OK;
	}

	const struct command *command = find_command(argv[1]);

	if (!command)
		return refuse_command(argv[1]);
	return command->run(2, (char *[]){ argv[1], (char[]){ "--help" }, NULL });
}

int command_dispatch(int argc, char **argv)
{
	if (argc < 2) {
		write_overview(stderr);
		return EXIT_USAGE;
	}

	const char *name = argv[1];
	const struct command *command = find_command(name);

	if (command)
		return command->run(argc - 1, argv + 1);
	if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
		puts("sonde " SONDE_VERSION);
		return EXIT_OK;
	}
	if (!strcmp(name, "help") || !strcmp(name, "--help") || !strcmp(name, "-h"))
		return run_help(argc - 1, argv + 1);
	return refuse_command(name);
}

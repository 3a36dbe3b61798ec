/* SPDX-License-Identifier: Apache-2.0 */
/* One subcommand is one row and one file, agent/cmd_NAME.c. Exit codes are those of the command line's contract. */
#ifndef SONDE_COMMAND_H
#define SONDE_COMMAND_H

#include <stdio.h>

enum exit_code { EXIT_OK = 0, EXIT_FAULT = 1, EXIT_USAGE = 2, EXIT_CONFIG = 78 };

struct command {
	const char *name;
	const char *summary;               /* one line of `sonde --help` */
	int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns an exit code */
};

extern const struct command command_run, command_check, command_probes, command_schema, command_tap, command_cat,
	command_flame, command_map, command_top, command_burst, command_capture, command_stats, command_replay,
	command_incident, command_rules;

/* All that this program has, in the order of `sonde --help`; ends with NULL. Each new agent/cmd_NAME.c adds its row in commands.c. */
extern const struct command *const commands[];

/* `sonde ARGV...`: finds the command and runs it; answers --help, --version, help and mistakes. Returns the exit code. */
int command_dispatch(int argc, char **argv);

#endif

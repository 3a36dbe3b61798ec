/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of one subcommand, from rows: a row drives parsing, errors and --help.
 *
 *	const struct argument rows[] = {
 *		{ 'c', "config", "FILE", "read this configuration", .text = &file },
 *		{ 0, "set", "KEY=VALUE", "change one option", .texts = &sets },
 *		{ 'n', NULL, "N", "end after N events", .number = &n, .min = 1 },
 *		{ 0, NULL, "JOURNAL", "the folder to read", .text = &journal },	(neither name: a word by its place)
 *		{ 0 },
 *	};
 */
#ifndef SONDE_ARGUMENTS_H
#define SONDE_ARGUMENTS_H

#include "base/base.h"

#define ARGUMENT_TEXTS_MAX 256u

struct argument_texts {
	const char *items[ARGUMENT_TEXTS_MAX];
	size_t n;
};

/* Exactly one of the targets is set; it keeps its value, the default, where the argument is not given. */
struct argument {
	char short_name;
	const char *long_name;
	const char *value_name; /* "FILE"; NULL where the argument is a flag */
	const char *help;       /* one sentence, no full stop */
	bool *flag;
	const char **text;
	const char *choices;          /* of the text, separated by |; NULL: any text */
	struct argument_texts *texts; /* may be repeated */
	uint64_t *number, *duration, *size;
	uint64_t min, max; /* of number, duration and size; max 0: no bound */
	bool required;
};

struct usage {
	const char *command;              /* "run" */
	const char *about;                /* a paragraph or two, separated by \n */
	const struct argument *arguments; /* ends with a row of zeros */
	void (*more)(FILE *out);          /* what --help shows behind the arguments; may be NULL */
};

/* Reads argv[1] and on into the targets. 0, 1 when --help was asked for, -EINVAL with the sentence in `fault`. */
int arguments_read(const struct usage *usage, int argc, char **argv, struct fault *fault);
void arguments_help(const struct usage *usage, FILE *out);

/* For a command's first line: reads, and answers --help and mistakes. -1: go on; else the exit code to return with. */
int arguments_take(const struct usage *usage, int argc, char **argv);

#endif

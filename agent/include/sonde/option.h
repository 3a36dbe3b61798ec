/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An option is one row of a table: the row drives parsing, --help, the JSON schema, config/sonde.yaml and docs.
 * A module exports its rows; the agent puts them under modules.NAME.
 */
#ifndef SONDE_OPTION_H
#define SONDE_OPTION_H

#include <stdint.h>

enum sonde_option_type {
	SONDE_OPTION_BOOL,     /* true, false */
	SONDE_OPTION_UINT,     /* a whole number within min..max */
	SONDE_OPTION_SIZE,     /* bytes: 64MiB */
	SONDE_OPTION_DURATION, /* nanoseconds: 10s */
	SONDE_OPTION_TEXT,     /* ${env:NAME} and file:PATH are resolved */
	SONDE_OPTION_SECRET,   /* as text; never printed */
	SONDE_OPTION_CHOICE,   /* one of `choices`, separated by | */
	SONDE_OPTION_LIST,     /* of text */
	SONDE_OPTION_MAP,      /* of text to text, any key */
	SONDE_OPTION_POWER,    /* bytes as SIZE, and a power of two: what a ring takes */
};

struct sonde_option {
	enum sonde_option_type type;
	const char *key;   /* dotted, below its table's prefix: "rate", "kafka.brokers" */
	const char *value; /* the default as it would be written in YAML */
	uint64_t min, max; /* numbers, sizes and durations; max 0: no bound */
	const char *choices;
	const char *unit; /* as people say it: "Hz", "bytes", "" */
	const char *help; /* one sentence, no full stop */
	int live; /* 1: SIGHUP applies a change without restarting what uses it; 0: its module or sink is restarted */
};

/* The last row of each table has a NULL key. */

#endif

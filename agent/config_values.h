/* SPDX-License-Identifier: Apache-2.0 */
/* What a loaded configuration is made of. Private to config.c, which fills it, and config_read.c, which reads it. */
#ifndef SONDE_CONFIG_VALUES_H
#define SONDE_CONFIG_VALUES_H

#include "options.h"

struct value {
	uint64_t number;    /* a number, size or duration; a bool as 0 or 1 */
	char *text;         /* of every scalar, resolved */
	char *(*pairs)[2];  /* a map's names and texts; a list's items are the texts, its names NULL */
	const char **items; /* a list as its reader takes it: borrowed from `pairs` */
	size_t n;           /* of pairs */
	char *origin;
	bool given; /* by the text that is being read: to find what is given twice */
};

struct config {
	struct option_index index;
	struct value *values; /* values[i] belongs to index.entries[i] */
	bool known_only;      /* pass over keys that are not in the index */
};

#endif

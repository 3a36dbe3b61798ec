/* SPDX-License-Identifier: Apache-2.0 */
/* What the reader of options (config.c) and their writers (options_write.c) share: the rows by full key, and a row in
 * words. */
#ifndef SONDE_OPTIONS_H
#define SONDE_OPTIONS_H

#include "config.h"

#define OPTION_KEY_MAX 192u /* bytes of a full key */

struct option_entry {
	char *key; /* "modules.cpu.rate" */
	const struct sonde_option *row;
	const struct option_table *table;
};

/* Every row of the tables, in their order. */
struct option_index {
	struct option_entry *entries;
	size_t n;
};

/* -EEXIST or -EINVAL with the key in `fault` where two rows have one key, or a key is malformed: a fault of a module.
 */
int option_index_make(struct option_index *ret, const struct option_table *tables, size_t n_tables,
		      struct fault *fault);
void option_index_free(struct option_index *index);
const struct option_entry *option_find(const struct option_index *index, const char *key);

/* The part of `key` that comes next below `section` ("" is the top): for "sinks" and "sinks.kafka.topic" it is "kafka",
 * with its length. NULL when `key` is not below `section`. */
const char *option_below(const char *key, const char *section, size_t *ret_length);

/* The i-th name directly below `section`, each once, in the tables' order, in `ret`. False when there are no more.
 * `ret_leaf` is the entry when the name is an option, NULL when it is a section. */
bool option_child(const struct option_index *index, const char *section, size_t i, char ret[OPTION_KEY_MAX],
		  const struct option_entry **ret_leaf);

/* "64KiB", "10s": the shortest notation that loses nothing. */
void format_size(char *text, size_t room, uint64_t bytes);
void format_duration(char *text, size_t room, uint64_t ns);

/* Reads one scalar by its row; numbers, sizes, durations and bools go to `ret_number`. NULL, or what is wrong with it, as it reads after
 * "is 'text', ": "out of range". */
const char *option_read(const struct sonde_option *row, const char *text, uint64_t *ret_number);

/* "a whole number from 1 to 999 Hz": what an error says is expected. */
void option_expected(const struct sonde_option *row, char *text, size_t room);
/* "1 to 999 Hz", "drop-oldest, drop-newest or block", or "". */
void option_range(const struct sonde_option *row, char *text, size_t room);
const char *option_type_name(enum sonde_option_type type);

/* Whether the value of a free key ("sasl.password") is to be kept from every eye. */
bool name_is_secret(const char *name);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration: option tables in, one checked set of values out. A file holds only what differs from the defaults;
 * --set changes one value over it. Every error names file:line:column and, for an unknown key, the nearest right name.
 */
#ifndef SONDE_CONFIG_H
#define SONDE_CONFIG_H

#include "base/base.h"
#include "sonde/option.h"

/* Rows below one prefix: { "journal", rows }, { "modules.cpu", rows }, { "", rows of the top level }. */
struct option_table {
	const char *prefix;
	const char *title; /* one sentence above the section in sonde.yaml and docs */
	const struct sonde_option *rows;
};

struct config; /* opaque, immutable once loaded */

/* Loads `file` (NULL: none) and then each "key=value" of `sets` over the defaults of `tables` (which must outlive it).
 * -EINVAL and friends with a sentence in `fault`: "sonde.yaml:12:5: unknown key 'brokres' ...; did you mean 'brokers'?"
 */
int config_load(struct config **ret, const struct option_table *tables, size_t n_tables, const char *file,
		const char *const *sets, size_t n_sets, struct fault *fault);
/* The same, but keys that the tables do not hold are passed over: to learn where the modules are, before they bring their tables. */
int config_load_known(struct config **ret, const struct option_table *tables, size_t n_tables, const char *file,
		      const char *const *sets, size_t n_sets, struct fault *fault);
void config_free(struct config *config);

/* Values by full key ("modules.cpu.rate"). The key must be in the tables with that type: anything else aborts. */
bool config_bool(const struct config *config, const char *key);
uint64_t config_number(const struct config *config, const char *key);  /* uint, size and power (bytes), duration (ns) */
const char *config_text(const struct config *config, const char *key); /* text, secret, choice */
size_t config_list(const struct config *config, const char *key, const char *const **ret_items);
/* Name and value pairs, in the order written. */
size_t config_map(const struct config *config, const char *key, const char *const (**ret_pairs)[2]);

/* Where the value was given: "sonde.yaml:12:5", "--set journal.size", or "the default": what an error about it begins
 * with. */
const char *config_origin(const struct config *config, const char *key);

/* Calls `changed` for each key whose value differs between the two; secrets included, values not given. */
void config_diff(const struct config *before, const struct config *after,
		 void (*changed)(void *context, const char *key, const struct sonde_option *row), void *context);

/* 16 hex digits over all values (secrets by a salted hash), for agent.start. */
void config_digest(const struct config *config, char ret_digest[17]);

/* Writers, all from the tables: the commented config/sonde.yaml, the rows of --help, JSON Schema, the table in docs/.
 */
void options_write_yaml(FILE *out, const struct option_table *tables, size_t n_tables);
void options_write_help(FILE *out, const struct option_table *tables, size_t n_tables);
void options_write_json_schema(FILE *out, const struct option_table *tables, size_t n_tables);
void options_write_markdown(FILE *out, const struct option_table *tables, size_t n_tables);

#endif

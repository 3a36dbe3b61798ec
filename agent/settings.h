/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every option of the agent: its own tables, and below modules.NAME those of each module, built in or dropped in.
 * Keys and defaults are the contract of docs/configuration.md.
 */
#ifndef SONDE_SETTINGS_H
#define SONDE_SETTINGS_H

#include "config.h"

struct settings; /* opaque: owns the tables that it makes, not the rows of modules */

/* All tables. exec, cpu and tcp are always there; `modules` brings more, or more about these: `prefix` is the module's
 * name
 * ("tcp"), `title` one sentence, `rows` its own options (NULL: none; they must outlive the settings). `enabled` and
 * `overflow` are made for every module; a row of a module wins over a row that the agent has for it. -EINVAL for a name
 * that no key can hold. */
int settings_make(struct settings **ret, const struct option_table *modules, size_t n_modules, struct fault *fault);
void settings_free(struct settings *settings);

/* For config_load() and the option writers; valid as long as the settings. */
const struct option_table *settings_tables(const struct settings *settings, size_t *ret_n);

/* What no single row can say: values that must fit each other. -EINVAL with a sentence that begins with where the value
 * was given. */
int settings_check(const struct config *config, struct fault *fault);

/* "127.0.0.1:9090", "[::1]:9090" or ":9090" in its parts. -EINVAL for another form. */
int parse_listen(const char *text, char ret_address[64], uint16_t *ret_port);

#endif

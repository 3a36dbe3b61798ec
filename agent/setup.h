/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a command line to a checked configuration: the modules there are, built in and dropped in, the options that they
 * bring, and the values of all of them. What run, check, probes and schema begin with.
 */
#ifndef SONDE_SETUP_H
#define SONDE_SETUP_H

#include "config.h"
#include "decode/schema.h"
#include "loader.h"
#include "settings.h"
#include "sinks/kafka.h"

struct setup {
	struct schema *schema;
	struct loader *loader; /* opened, nothing loaded */
	struct settings *settings;
	struct config *config;
	const char *file; /* that was read; NULL: none */
};

/* The file that is read where none is named: /etc/sonde/sonde.yaml if there is one, else NULL. */
const char *setup_default_file(void);

/* `file` (NULL: the default file) and `sets` must outlive it. -EINVAL and others of the configuration with the sentence
 * in `fault`; `notice` gets what is said of modules that are left out. Frees what it made when it fails. */
int setup_make(struct setup *ret, const char *file, const char *const *sets, size_t n_sets,
	       void (*notice)(void *context, const char *text), void *context, struct fault *fault);
void setup_free(struct setup *setup);

/* For SIGHUP: the same file and `sets` read again over the same tables, and checked. */
int setup_reload(const struct setup *setup, const char *const *sets, size_t n_sets, struct config **ret,
		 struct fault *fault);

/* Whether the configuration switches the module on. `setup` is a struct setup: it is the callback of who asks. */
bool setup_enables(void *setup, const char *module);

/* What the configuration says of Kafka; `version` and `context` stay the caller's. Borrows from `config`. */
void setup_kafka(const struct config *config, struct kafka_options *ret);

#endif

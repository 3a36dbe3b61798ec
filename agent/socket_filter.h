/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filter.socket and modules.NAME.filter: which sockets are meant, as expressions of pcap-filter(7). A module whose object leaves
 * room for them (SONDE_SOCKET_FILTER of sonde/filter.bpf.h) has both in it, as one: what does not fulfil both is not seen.
 */
#ifndef SONDE_SOCKET_FILTER_H
#define SONDE_SOCKET_FILTER_H

#include "config.h"
#include "loader.h"

/* The row `filter` of a module that has the room, and the end of its table. */
extern const struct sonde_option socket_filter_rows[];

/* Whether every expression compiles and sockets can answer it, each by itself and those of one module together. -EINVAL and others, with
 * the place in the configuration, the column of the expression and a way out. */
int socket_filter_check(const struct config *config, struct loader *loader, struct fault *fault);

/* Whether the module's sockets are held against anything. */
bool socket_filter_wanted(const struct config *config, const char *module);

/* Writes the module's filter into the image of its object. `config` NULL: everything matches. */
int socket_filter_place(const struct config *config, const char *module, void *image, size_t size, struct fault *fault);

#endif

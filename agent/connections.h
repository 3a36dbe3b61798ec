/* SPDX-License-Identifier: Apache-2.0 */
/* The TCP connection that an event is about, and those that a process has open. */
#ifndef SONDE_CONNECTIONS_H
#define SONDE_CONNECTIONS_H

#include <arpa/inet.h>

#include "decode/schema.h"

#define CONNECTIONS_MAX 64u /* of one process */

struct connection_ends {
	char laddr[INET6_ADDRSTRLEN], raddr[INET6_ADDRSTRLEN];
	unsigned lport, rport;
};

/* By the keys laddr, lport, raddr and rport of the event; false: it has not all of them. */
bool connection_of_event(const struct event_type *type, const struct sonde_event *event, struct connection_ends *ret);

/* Calls `take` for each established connection whose socket the process has as a descriptor, for CONNECTIONS_MAX at most. -ENOENT, -EACCES and others of
 * /proc. Returns whether there was more than could be looked at. */
int connections_of_process(uint32_t pid, void (*take)(void *context, const struct connection_ends *ends),
			   void *context);

#endif

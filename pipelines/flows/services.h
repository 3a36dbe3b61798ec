/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turnaround times by service, an address and port that answers, over one window. Memory is taken once; past its bound services are
 * summed as one, whose address is all zeros and whose port is 0.
 */
#ifndef SONDE_SERVICES_H
#define SONDE_SERVICES_H

#include "flows/histogram.h"
#include "packets/packet.h"

struct services; /* opaque */

struct service {
	union packet_ip ip;
	uint16_t port;
	uint64_t errors;
	struct histogram times;
};

int services_new(struct services **ret, uint32_t most); /* 0 or a negative errno */
void services_free(struct services *services);

void services_add(struct services *services, const union packet_ip *ip, uint16_t port, uint64_t ns);
void services_add_error(struct services *services, const union packet_ip *ip, uint16_t port);

/* Calls for every service that had an answer or error, in order of its first, and begins anew. */
void services_flush(struct services *services, void (*each)(void *context, const struct service *service),
		    void *context);

/* Answers and errors so far that were summed as one for want of room. */
uint64_t services_beyond(const struct services *services);

#endif

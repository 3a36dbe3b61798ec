/* SPDX-License-Identifier: Apache-2.0 */
/* DNS over TCP, live or out of a capture: what pipelines/flows has put in order goes to pipelines/dns. */
#ifndef SONDE_DNS_OVER_TCP_H
#define SONDE_DNS_OVER_TCP_H

#include "dns/dns.h"
#include "flows/flows.h"

/* As flow_events.data and flow_events.data_end have them. */
void dns_over_tcp(struct dns *dns, const struct flow_ends *ends, enum flow_side from, uint64_t time,
		  const uint8_t *bytes, uint32_t size);
void dns_over_tcp_end(struct dns *dns, const struct flow_ends *ends);

#endif

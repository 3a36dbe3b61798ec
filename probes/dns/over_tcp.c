/* SPDX-License-Identifier: Apache-2.0 */
#include "probes/dns/over_tcp.h"

#include <string.h>

static struct dns_ends way_of(const struct flow_ends *ends, enum flow_side from)
{
	struct dns_ends ret = { .source_port = ends->port[from], .target_port = ends->port[!from] };

	memcpy(ret.source, ends->ip[from].bytes, sizeof ret.source);
	memcpy(ret.target, ends->ip[!from].bytes, sizeof ret.target);
	return ret;
}

void dns_over_tcp(struct dns *dns, const struct flow_ends *ends, enum flow_side from, uint64_t time,
		  const uint8_t *bytes, uint32_t size)
{
	struct dns_ends way = way_of(ends, from);

	dns_stream(dns, time, &way, bytes, size);
}

void dns_over_tcp_end(struct dns *dns, const struct flow_ends *ends)
{
	struct dns_ends way = way_of(ends, FLOW_CLIENT);

	dns_stream_end(dns, &way);
}

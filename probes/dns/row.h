/* SPDX-License-Identifier: Apache-2.0 */
/* The row of one query, live or out of a capture. */
#ifndef SONDE_DNS_ROW_H
#define SONDE_DNS_ROW_H

#include "dns/dns.h"
#include "probes/dns/dns.h"

#define DNS_FLAGS_TEXT_MAX 18u /* six flags of two letters, each with its NUL */

struct dns_row {
	struct dns_query_event row;
	char texts[DNS_NAME_TEXT_MAX + 2 * DNS_CODE_TEXT_MAX + DNS_FLAGS_TEXT_MAX];
};

/* Fills all but the header, of which it sets time and size. */
void dns_row_fill(struct dns_row *row, const struct dns_query *query);

#endif

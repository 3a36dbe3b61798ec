/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a sequence of DNS messages and pieces of streams. Each begins with a byte of flags and one of length; texts keep to their bound,
 * and every query is answered, given up, timed out or open.
 */
#include <stdlib.h>
#include <string.h>

#include "dns/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint64_t OWNER = 0x1122334455667788;

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void on_query(void *context, const struct dns_query *q)
{
	char text[DNS_NAME_TEXT_MAX], room[DNS_CODE_TEXT_MAX];

	check(dns_name_text(q->name, text) == strlen(text) && strlen(text) < sizeof text);
	check(strlen(dns_type_text(q->qtype, room)) && strlen(dns_rcode_text(q->rcode, room)));
	check(*(const uint64_t *)q->owner == OWNER);
	++*(uint64_t *)context;
}

static void feed(struct dns *d, uint64_t time, uint8_t flags, const uint8_t *bytes, size_t size)
{
	struct dns_ends ends = { { 1 }, { 2 }, 40000, 53 }, back = { { 2 }, { 1 }, 53, 40000 };
	const struct dns_ends *way = flags & 1 ? &back : &ends;

	ends.source_port = back.target_port = (uint16_t)(40000 + (flags >> 6));
	if (flags & 2)
		dns_stream(d, time, way, flags & 4 ? NULL : bytes, size);
	else
		dns_datagram(d, time, way, bytes, size);
	if (flags & 8)
		dns_tick(d, time);
	if (flags & 16)
		dns_stream_end(d, way);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t seen = 0, time = 0;
	const struct dns_options options = { 16, 1024, 100, on_query, &seen, sizeof(uint64_t) };
	struct dns_counts counts;
	struct dns *d;

	check(dns_new(&d, &options) == 0);
	dns_set_owner(d, &OWNER);
	while (size >= 2) {
		size_t n = MIN_OF((size_t)data[1], size - 2);
		uint8_t *exact = malloc(n + 1);

		memcpy(exact, data + 2, n);
		feed(d, time += 7, data[0], exact, n);
		free(exact);
		data += 2 + n;
		size -= 2 + n;
	}
	dns_count(d, &counts);
	check(counts.open <= 16 && seen == counts.answered + counts.timed_out);
	dns_tick(d, UINT64_MAX);
	dns_count(d, &counts);
	check(counts.open == 0);
	dns_free(d);
	return 0;
}

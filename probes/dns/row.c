/* SPDX-License-Identifier: Apache-2.0 */
#include "probes/dns/row.h"

#include <string.h>

/* Onto the end of the row; what is put to one text in parts comes one behind the other. */
static void put(struct dns_row *to, struct sonde_text *text, const char *bytes, size_t size)
{
	if (!text->length)
		text->offset = (uint16_t)to->row.event.size;
	memcpy((char *)to + to->row.event.size, bytes, size);
	text->length = (uint16_t)(text->length + size);
	to->row.event.size += (uint32_t)size;
}

static void put_flags(struct dns_row *to, uint16_t flags)
{
	static const struct {
		uint16_t flag;
		const char *name;
	} names[] = { { DNS_FLAG_AUTHORITATIVE, "aa" }, { DNS_FLAG_TRUNCATED, "tc" }, { DNS_FLAG_WANTED, "rd" },
		      { DNS_FLAG_AVAILABLE, "ra" },     { DNS_FLAG_AUTHENTIC, "ad" }, { DNS_FLAG_UNCHECKED, "cd" } };

	_Static_assert(ARRAY_SIZE(names) * 3 == DNS_FLAGS_TEXT_MAX, "room for all");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (flags & names[i].flag)
			put(to, &to->row.flags, names[i].name, 3);
}

static void put_texts(struct dns_row *to, const struct dns_query *q)
{
	char name[DNS_NAME_TEXT_MAX], room[DNS_CODE_TEXT_MAX];
	const char *text;

	put(to, &to->row.name, name, dns_name_text(q->name, name));
	text = dns_type_text(q->qtype, room);
	put(to, &to->row.qtype, text, strlen(text));
	if (!q->answered)
		return;
	text = dns_rcode_text(q->rcode, room);
	put(to, &to->row.rcode, text, strlen(text));
	put_flags(to, q->flags);
}

void dns_row_fill(struct dns_row *to, const struct dns_query *q)
{
	struct sonde_event event = to->row.event;

	event.time = q->time;
	event.size = sizeof to->row;
	to->row = (struct dns_query_event){
		.event = event,
		.latency_ns = q->latency_ns,
		.client_port = q->ends.source_port,
		.server_port = q->ends.target_port,
		.transport = q->tcp ? DNS_TRANSPORT_TCP : DNS_TRANSPORT_UDP,
		.answers = q->n_answers,
		.repeats = q->repeats,
		.error = q->answered ? DNS_ERROR_NONE : DNS_ERROR_TIMEOUT,
	};
	memcpy(to->row.client.bytes, q->ends.source, sizeof to->row.client.bytes);
	memcpy(to->row.server.bytes, q->ends.target, sizeof to->row.server.bytes);
	put_texts(to, q);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/message.h"

#include <errno.h>
#include <string.h>

#define HEADER_BYTES  12u
#define QUESTION_TAIL 4u  /* type and class */
#define RECORD_TAIL   10u /* type, class, time to live, length */
#define RECORDS_MAX   512u
#define TYPE_OPT      41u

/* `at` goes on through the message; -EBADMSG ends everything. */
struct cursor {
	const uint8_t *begin, *at, *end;
};

static uint16_t be16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

/* One label onto the name. */
static int add_label(struct dns_name *name, const uint8_t *label, unsigned length)
{
	if (name->size + 1u + length >= DNS_NAME_MAX) /* the root needs its byte too */
		return -EBADMSG;
	name->bytes[name->size++] = (uint8_t)length;
	for (unsigned i = 0; i < length; i++)
		name->bytes[name->size++] = lower(label[i]);
	return 0;
}

/* A pointer must lead to before where its name's part began: every jump goes back, so it ends. */
static int read_name(struct cursor *c, struct dns_name *ret)
{
	const uint8_t *at = c->at, *part = c->at;
	bool jumped = false;

	ret->size = 0;
	for (;;) {
		if (at >= c->end)
			return -EBADMSG;
		if (*at == 0)
			break;
		if ((*at & 0xc0) == 0xc0) {
			if (c->end - at < 2)
				return -EBADMSG;
			const uint8_t *to = c->begin + (be16(at) & 0x3fff);

			if (to >= part)
				return -EBADMSG;
			if (!jumped)
				c->at = at + 2;
			jumped = true;
			at = part = to;
		} else if (*at & 0xc0 || c->end - at < 1 + *at || add_label(ret, at + 1, *at) < 0) {
			return -EBADMSG;
		} else {
			at += 1 + *at;
		}
	}
	ret->bytes[ret->size++] = 0;
	if (!jumped)
		c->at = at + 1;
	return 0;
}

/* Names that nobody asks for are passed over: a pointer ends them. */
static int skip_name(struct cursor *c)
{
	while (c->at < c->end) {
		uint8_t length = *c->at;

		if ((length & 0xc0) == 0xc0) {
			c->at += 2;
			return c->at <= c->end ? 0 : -EBADMSG;
		}
		if (length & 0xc0 || c->end - c->at < 1 + length)
			return -EBADMSG;
		c->at += 1 + length;
		if (!length)
			return 0;
	}
	return -EBADMSG;
}

/* The upper eight bits of the response code, of the OPT record if there is one. What is cut off has none. */
static uint16_t extended_rcode(struct cursor *c, unsigned n_records)
{
	for (unsigned i = 0; i < n_records && i < RECORDS_MAX; i++) {
		if (skip_name(c) < 0 || c->end - c->at < (ptrdiff_t)RECORD_TAIL)
			return 0;
		if (be16(c->at) == TYPE_OPT)
			return (uint16_t)(c->at[4] << 4);
		uint16_t length = be16(c->at + 8);

		c->at += RECORD_TAIL;
		if (c->end - c->at < length)
			return 0;
		c->at += length;
	}
	return 0;
}

int dns_parse(const uint8_t *bytes, size_t size, struct dns_message *ret)
{
	struct cursor c = { bytes, bytes + HEADER_BYTES, bytes + size };
	unsigned questions, records;

	if (size < HEADER_BYTES)
		return -EBADMSG;
	questions = be16(bytes + 4);
	records = be16(bytes + 6) + be16(bytes + 8) + be16(bytes + 10);
	ret->id = be16(bytes);
	ret->flags = be16(bytes + 2);
	ret->n_answers = be16(bytes + 6);
	ret->rcode = ret->flags & 15;
	ret->asked = questions > 0;
	ret->name.size = 0;
	ret->qtype = ret->qclass = 0;
	if (questions > 1) /* no server answers these, and no resolver asks so */
		return -EBADMSG;
	if (questions) {
		if (read_name(&c, &ret->name) < 0 || c.end - c.at < (ptrdiff_t)QUESTION_TAIL)
			return -EBADMSG;
		ret->qtype = be16(c.at);
		ret->qclass = be16(c.at + 2);
		c.at += QUESTION_TAIL;
	}
	if (ret->flags & DNS_FLAG_RESPONSE)
		ret->rcode |= extended_rcode(&c, records);
	return 0;
}

size_t dns_name_text(const struct dns_name *name, char ret[DNS_NAME_TEXT_MAX])
{
	char *to = ret;

	for (unsigned at = 0; at < name->size && name->bytes[at]; at += 1u + name->bytes[at]) {
		if (at)
			*to++ = '.';
		for (unsigned i = 1; i <= name->bytes[at]; i++) {
			uint8_t c = name->bytes[at + i];

			if (c <= ' ' || c >= 0x7f) {
				*to++ = '\\';
				*to++ = (char)('0' + c / 100);
				*to++ = (char)('0' + c / 10 % 10);
				c = (uint8_t)('0' + c % 10);
			} else if (c == '.' || c == '\\') {
				*to++ = '\\';
			}
			*to++ = (char)c;
		}
	}
	if (to == ret)
		*to++ = '.';
	*to = '\0';
	return (size_t)(to - ret);
}

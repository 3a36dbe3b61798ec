/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One DNS message: its header, its first question and its response code. Pure, bounded, and nothing is read past `size`.
 * Sources: RFC 1035 section 4, RFC 6891 section 6 (the code's upper bits); names of numbers from IANA's registry of DNS parameters.
 */
#ifndef SONDE_DNS_MESSAGE_H
#define SONDE_DNS_MESSAGE_H

#include "base/base.h"

#define DNS_NAME_MAX      255u               /* bytes on the wire, the root's included */
#define DNS_NAME_TEXT_MAX (DNS_NAME_MAX * 4) /* as text, with its NUL */
#define DNS_CODE_TEXT_MAX 16u

#define DNS_FLAG_RESPONSE      0x8000u
#define DNS_FLAG_AUTHORITATIVE 0x0400u
#define DNS_FLAG_TRUNCATED     0x0200u
#define DNS_FLAG_WANTED        0x0100u /* recursion desired */
#define DNS_FLAG_AVAILABLE     0x0080u /* recursion available */
#define DNS_FLAG_AUTHENTIC     0x0020u
#define DNS_FLAG_UNCHECKED     0x0010u

/* Labels with their lengths, without pointers, in lower case; 0 bytes: no question. */
struct dns_name {
	uint8_t size;
	uint8_t bytes[DNS_NAME_MAX];
};

struct dns_message {
	uint16_t id, flags, rcode, n_answers, qtype, qclass;
	bool asked; /* there is a question */
	struct dns_name name;
};

/* 0 or -EBADMSG. */
int dns_parse(const uint8_t *bytes, size_t size, struct dns_message *ret);

/* "example.org", "." for the root: a dot or backslash within a label is written \. and \\, other bytes that are no visible ASCII \DDD. Returns
 * the length. */
size_t dns_name_text(const struct dns_name *name, char ret[DNS_NAME_TEXT_MAX]);

/* "AAAA", "TYPE1234"; "NXDOMAIN", "RCODE3841": a constant, or written into `room`. */
const char *dns_type_text(uint16_t type, char room[DNS_CODE_TEXT_MAX]);
const char *dns_rcode_text(uint16_t rcode, char room[DNS_CODE_TEXT_MAX]);

#endif

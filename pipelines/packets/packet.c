/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layer by layer, each taking its header off the front of what is left. `span.size` is what was captured, `span.wire` what was there: every
 * read asks the first, every length that is reported comes from the second.
 */
#include "packets/packet.h"

#include <errno.h>
#include <string.h>

#include "packets/capture.h"
#include "packets/link.h"

#define TAGS_MAX       4
#define EXTENSIONS_MAX 8

enum { ETHER_IPV4 = 0x0800, ETHER_IPV6 = 0x86dd, ETHER_VLAN = 0x8100, ETHER_QINQ = 0x88a8, ETHER_QINQ_OLD = 0x9100 };
enum {
	IP_HOP = 0,
	IP_ICMP = 1,
	IP_TCP = 6,
	IP_UDP = 17,
	IP_ROUTING = 43,
	IP_FRAGMENT = 44,
	IP_AUTH = 51,
	IP_ICMPV6 = 58,
	IP_OPTIONS = 60,
	IP_MOBILITY = 135
};
enum {
	TCP_OPTION_END = 0,
	TCP_OPTION_NOP,
	TCP_OPTION_MSS,
	TCP_OPTION_SCALE,
	TCP_OPTION_SACK_OK,
	TCP_OPTION_SACK,
	TCP_OPTION_TIME = 8
};

struct span {
	const uint8_t *at;
	uint32_t size, wire;
};

static inline uint16_t be16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t be32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline void take(struct span *s, uint32_t size)
{
	s->at += size;
	s->size -= size;
	s->wire -= size;
}

/* What is behind the packet's own end, such as the padding of a short frame, is none of it. */
static inline void limit(struct span *s, uint32_t wire)
{
	s->wire = MIN_OF(s->wire, wire);
	s->size = MIN_OF(s->size, s->wire);
}

/* ---- TCP and UDP ---- */

static void read_option(struct packet_tcp *t, uint8_t kind, const uint8_t *value, uint8_t length)
{
	switch (kind) {
	case TCP_OPTION_MSS:
		if (length == 2)
			t->mss = be16(value);
		break;
	case TCP_OPTION_SCALE:
		if (length == 1)
			t->scale = (int8_t)MIN_OF(*value, 14); /* RFC 7323, 2.3 */
		break;
	case TCP_OPTION_SACK_OK:
		t->sack_permitted = length == 0;
		break;
	case TCP_OPTION_SACK:
		for (t->n_sacks = 0; t->n_sacks < PACKET_SACKS_MAX && length >= 8; length -= 8, value += 8) {
			t->sacks[t->n_sacks][0] = be32(value);
			t->sacks[t->n_sacks++][1] = be32(value + 4);
		}
		break;
	case TCP_OPTION_TIME:
		t->timestamps = length == 8;
		if (t->timestamps) {
			t->time_value = be32(value);
			t->time_echo = be32(value + 4);
		}
		break;
	default:
		break;
	}
}

/* An option that cannot be ends the list, as in every stack. */
static void read_options(struct packet_tcp *t, const uint8_t *at, const uint8_t *end)
{
	while (at < end && *at != TCP_OPTION_END) {
		if (*at == TCP_OPTION_NOP) {
			at++;
			continue;
		}
		if (end - at < 2 || at[1] < 2 || at[1] > end - at)
			return;
		read_option(t, at[0], at + 2, (uint8_t)(at[1] - 2));
		at += at[1];
	}
}

static void set_payload(struct packet *ret, const struct span *s)
{
	ret->payload = s->at;
	ret->captured = s->size;
	ret->length = s->wire;
}

static enum packet_kind decode_tcp(struct span s, struct packet *ret)
{
	uint32_t header;

	if (s.size < 20)
		return s.wire < 20 ? PACKET_MALFORMED : PACKET_CUT;
	header = (uint32_t)(s.at[12] >> 4) * 4;
	if (header < 20 || header > s.wire)
		return PACKET_MALFORMED;
	ret->source_port = be16(s.at);
	ret->target_port = be16(s.at + 2);
	ret->tcp = (struct packet_tcp){
		.seq = be32(s.at + 4), .ack = be32(s.at + 8), .flags = s.at[13], .window = be16(s.at + 14), .scale = -1
	};
	if (header > 20)
		read_options(&ret->tcp, s.at + 20, s.at + MIN_OF(header, s.size));
	if (header > s.size) { /* options cut off: the payload's length is known nonetheless */
		s.wire -= header - s.size;
		header = s.size;
	}
	take(&s, header);
	set_payload(ret, &s);
	return PACKET_TCP;
}

static enum packet_kind decode_udp(struct span s, struct packet *ret)
{
	uint16_t length;

	if (s.size < 8)
		return s.wire < 8 ? PACKET_MALFORMED : PACKET_CUT;
	length = be16(s.at + 4);
	if (length && length < 8)
		return PACKET_MALFORMED;
	if (length)
		limit(&s, length);
	ret->source_port = be16(s.at);
	ret->target_port = be16(s.at + 2);
	take(&s, 8);
	set_payload(ret, &s);
	return PACKET_UDP;
}

/* ---- ICMP ---- */

static void map_ipv4(union packet_ip *ip, const uint8_t *at)
{
	ip->words[0] = ip->words[1] = 0;
	memset(ip->bytes + 8, 0, 2);
	memset(ip->bytes + 10, 0xff, 2);
	memcpy(ip->bytes + 12, at, 4);
}

/* The error of a connection that is being made; 0: it is none. Source: the tables icmp_err_convert (net/ipv4/icmp.c) and icmpv6_err_convert of Linux. */
static int unreachable_error(bool six, uint8_t type, uint8_t code)
{
	static const int four_errors[16] = { ENETUNREACH,  EHOSTUNREACH, ENOPROTOOPT,  ECONNREFUSED, 0,
					     EOPNOTSUPP,   ENETUNREACH,  EHOSTDOWN,    ENONET,       ENETUNREACH,
					     EHOSTUNREACH, ENETUNREACH,  EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH,
					     EHOSTUNREACH };
	static const int six_errors[7] = {
		ENETUNREACH, EACCES, EHOSTUNREACH, EHOSTUNREACH, ECONNREFUSED, EACCES, EACCES
	};

	if (six)
		return type == 1 && code < ARRAY_SIZE(six_errors) ? six_errors[code] : 0;
	return type == 3 && code < ARRAY_SIZE(four_errors) ? four_errors[code] : 0;
}

/* The begin of the packet that it is about: at least its IP header and eight bytes more. */
static bool read_quoted(struct span s, bool six, struct packet *ret)
{
	uint32_t header = six ? 40 : s.size ? (uint32_t)(s.at[0] & 15) * 4 : 0;

	if (header < 20 || s.size < header + 8 || s.at[0] >> 4 != (six ? 6 : 4) || s.at[six ? 6 : 9] != IP_TCP)
		return false;
	if (six) {
		memcpy(ret->source.bytes, s.at + 8, 16);
		memcpy(ret->target.bytes, s.at + 24, 16);
	} else {
		map_ipv4(&ret->source, s.at + 12);
		map_ipv4(&ret->target, s.at + 16);
	}
	take(&s, header);
	ret->source_port = be16(s.at);
	ret->target_port = be16(s.at + 2);
	ret->tcp = (struct packet_tcp){ .seq = be32(s.at + 4), .scale = -1 };
	take(&s, 8);
	set_payload(ret, &s);
	return true;
}

static enum packet_kind decode_icmp(struct span s, bool six, struct packet *ret)
{
	if (s.size < 8)
		return s.wire < 8 ? PACKET_MALFORMED : PACKET_CUT;
	ret->error = unreachable_error(six, s.at[0], s.at[1]);
	take(&s, 8);
	return ret->error && read_quoted(s, six, ret) ? PACKET_UNREACHABLE : PACKET_OTHER;
}

static enum packet_kind decode_transport(uint8_t protocol, struct span s, struct packet *ret)
{
	switch (protocol) {
	case IP_TCP:
		return decode_tcp(s, ret);
	case IP_UDP:
		return decode_udp(s, ret);
	case IP_ICMP:
	case IP_ICMPV6:
		return decode_icmp(s, protocol == IP_ICMPV6, ret);
	default:
		return PACKET_OTHER;
	}
}

/* ---- IP ---- */

static enum packet_kind decode_ipv4(struct span s, struct packet *ret)
{
	uint32_t header, total;

	if (s.size < 20)
		return s.wire < 20 ? PACKET_MALFORMED : PACKET_CUT;
	header = (uint32_t)(s.at[0] & 15) * 4;
	total = be16(s.at + 2);
	if (header < 20 || header > s.wire || (total && total < header))
		return PACKET_MALFORMED;
	if (total) /* 0: more than it can say, of a segment that the device cuts */
		limit(&s, total);
	if (be16(s.at + 6) & 0x3fff)
		return PACKET_FRAGMENT;
	if (header > s.size)
		return PACKET_CUT;
	map_ipv4(&ret->source, s.at + 12);
	map_ipv4(&ret->target, s.at + 16);
	uint8_t protocol = s.at[9];

	take(&s, header);
	return decode_transport(protocol, s, ret);
}

/* Takes one extension header off: PACKET_TCP where the next may follow. */
static enum packet_kind take_extension(struct span *s, uint8_t *protocol)
{
	uint32_t size = 8;

	if (s->size < 8)
		return s->wire < 8 ? PACKET_MALFORMED : PACKET_CUT;
	if (*protocol == IP_FRAGMENT && be16(s->at + 2) & 0xfff9)
		return PACKET_FRAGMENT;
	if (*protocol == IP_AUTH)
		size = (s->at[1] + 2u) * 4;
	else if (*protocol != IP_FRAGMENT)
		size = (s->at[1] + 1u) * 8;
	if (size > s->wire)
		return PACKET_MALFORMED;
	if (size > s->size)
		return PACKET_CUT;
	*protocol = s->at[0];
	take(s, size);
	return PACKET_TCP;
}

static bool is_extension(uint8_t protocol)
{
	return protocol == IP_HOP || protocol == IP_ROUTING || protocol == IP_FRAGMENT || protocol == IP_AUTH ||
	       protocol == IP_OPTIONS || protocol == IP_MOBILITY;
}

static enum packet_kind decode_ipv6(struct span s, struct packet *ret)
{
	uint8_t protocol;
	uint16_t length;

	if (s.size < 40)
		return s.wire < 40 ? PACKET_MALFORMED : PACKET_CUT;
	memcpy(ret->source.bytes, s.at + 8, 16);
	memcpy(ret->target.bytes, s.at + 24, 16);
	protocol = s.at[6];
	length = be16(s.at + 4);
	take(&s, 40);
	if (length) /* 0: a jumbogram, or a segment that the device cuts */
		limit(&s, length);
	for (int i = 0; is_extension(protocol); i++) {
		enum packet_kind kind = i < EXTENSIONS_MAX ? take_extension(&s, &protocol) : PACKET_MALFORMED;

		if (kind != PACKET_TCP)
			return kind;
	}
	return decode_transport(protocol, s, ret);
}

static enum packet_kind decode_ip(struct span s, struct packet *ret)
{
	if (!s.size)
		return s.wire ? PACKET_CUT : PACKET_MALFORMED;
	switch (s.at[0] >> 4) {
	case 4:
		return decode_ipv4(s, ret);
	case 6:
		return decode_ipv6(s, ret);
	default:
		return PACKET_MALFORMED;
	}
}

/* ---- links ---- */

static enum packet_kind decode_ether_type(uint16_t type, struct span s, struct packet *ret)
{
	for (int i = 0; type == ETHER_VLAN || type == ETHER_QINQ || type == ETHER_QINQ_OLD; i++) {
		if (i == TAGS_MAX)
			return PACKET_MALFORMED;
		if (s.size < 4)
			return s.wire < 4 ? PACKET_MALFORMED : PACKET_CUT;
		type = be16(s.at + 2);
		take(&s, 4);
	}
	if (type == ETHER_IPV4 || type == ETHER_IPV6)
		return decode_ip(s, ret);
	return PACKET_NOT_IP;
}

/* A link header of `size` bytes whose EtherType is at `type`. */
static enum packet_kind decode_typed(struct span s, uint32_t size, uint32_t type, struct packet *ret)
{
	uint16_t ether;

	if (s.size < size)
		return s.wire < size ? PACKET_MALFORMED : PACKET_CUT;
	ether = be16(s.at + type);
	take(&s, size);
	return decode_ether_type(ether, s, ret);
}

/* The family in front says less than the version that follows, and differs by system. */
static enum packet_kind decode_family(struct span s, struct packet *ret)
{
	if (s.size < 5)
		return s.wire < 5 ? PACKET_MALFORMED : PACKET_CUT;
	take(&s, 4);
	return s.at[0] >> 4 == 4 || s.at[0] >> 4 == 6 ? decode_ip(s, ret) : PACKET_NOT_IP;
}

uint32_t packet_link_bytes(uint32_t link)
{
	switch (link) {
	case LINK_ETHERNET:
		return 14;
	case LINK_LINUX_SLL:
		return 16;
	case LINK_LINUX_SLL2:
		return 20;
	case LINK_NULL:
	case LINK_LOOP:
		return 4;
	default:
		return 0;
	}
}

enum packet_kind packet_decode(const struct frame *frame, struct packet *ret)
{
	struct span s = { frame->bytes, frame->captured, MAX_OF(frame->length, frame->captured) };

	switch (frame->link) {
	case LINK_ETHERNET:
		return decode_typed(s, packet_link_bytes(frame->link), 12, ret);
	case LINK_LINUX_SLL:
		return decode_typed(s, packet_link_bytes(frame->link), 14, ret);
	case LINK_LINUX_SLL2:
		return decode_typed(s, packet_link_bytes(frame->link), 0, ret);
	case LINK_RAW:
	case LINK_RAW_12:
	case LINK_RAW_14:
	case LINK_IPV4:
	case LINK_IPV6:
		return decode_ip(s, ret);
	case LINK_NULL:
	case LINK_LOOP:
		return decode_family(s, ret);
	default:
		return PACKET_LINK;
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a frame to the TCP segment or UDP datagram in it. Pure: bytes in, numbers out; nothing is read past what was captured.
 * Lengths are those on the wire, so that captures of headers alone tell as much as whole ones.
 */
#ifndef SONDE_PACKET_H
#define SONDE_PACKET_H

#include "base/base.h"

/* IPv4 as ::ffff:a.b.c.d, as in events. */
union packet_ip {
	uint8_t bytes[16];
	uint32_t words[4];
	uint64_t halves[2];
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10

#define PACKET_SACKS_MAX 4

struct packet_tcp {
	uint32_t seq, ack;
	uint16_t window;
	uint8_t flags;
	uint16_t mss; /* 0: not said, as below */
	int8_t scale; /* of later windows; -1 */
	bool sack_permitted;
	bool timestamps;
	uint32_t time_value, time_echo;
	uint8_t n_sacks;
	uint32_t sacks[PACKET_SACKS_MAX][2]; /* left and right edge */
};

enum packet_kind {
	PACKET_TCP,
	PACKET_UDP,
	PACKET_UNREACHABLE, /* ICMP: a TCP segment did not get to its target */
	PACKET_OTHER,       /* IP, with another protocol in it */
	PACKET_NOT_IP,      /* ARP and the like */
	PACKET_FRAGMENT,    /* of an IP packet: they are not put together */
	PACKET_CUT,         /* less was captured than its headers */
	PACKET_MALFORMED,   /* its headers cannot be */
	PACKET_LINK,        /* of a link type that is not known */
	PACKET_KINDS,
};

struct packet {
	union packet_ip source, target;
	uint16_t source_port, target_port;
	const uint8_t *payload;
	uint32_t captured; /* of the payload */
	uint32_t length;   /* of the payload, on the wire */
	struct packet_tcp tcp;
	int error; /* of PACKET_UNREACHABLE */
};

struct frame;

/* Fills `ret` for PACKET_TCP (all of it) and PACKET_UDP (but `tcp`). For PACKET_UNREACHABLE it is the segment that is quoted: ends and
 * tcp.seq, with what its sender's connect() fails with. */
enum packet_kind packet_decode(const struct frame *frame, struct packet *ret);

/* Length of a link type's header, VLAN tags not counted. */
uint32_t packet_link_bytes(uint32_t link);

#endif

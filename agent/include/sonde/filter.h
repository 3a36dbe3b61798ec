/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What filter expressions need on both sides: the packet that stands for a socket.
 *
 * A socket has no packet, but a filter asks packets. So one is made up from the socket's addresses, ports and protocol: a
 * header as the socket itself would send it, the local end as its source, unfragmented, without options, beginning
 * with IPv4 or IPv6. What a socket does not tell (lengths, flags, TTL, checksums) is 0, and filters that ask for it are
 * refused beforehand (filter_check_tuple()).
 */
#ifndef SONDE_FILTER_H
#define SONDE_FILTER_H

#include "sonde/event.h"

#define SONDE_FILTER_ROOM  4096 /* instructions of a filter in a program */
#define SONDE_FILTER_BYTES 64   /* of a packet in a program's own memory */

struct sonde_filter_packet {
	union {
		__u8 bytes[SONDE_FILTER_BYTES];
		__u64 words[SONDE_FILTER_BYTES / 8];
	};
};

/* A socket's ends. Addresses are IPv6 or IPv4 as a mapped one (::ffff:a.b.c.d), ports as numbers. */
struct sonde_filter_tuple {
	struct sonde_ip laddr, raddr;
	__u16 lport, rport;
	__u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	__u8 _pad[3];
} __attribute__((aligned(8))); /* so that addresses are copied by words, not by bytes */

#define SONDE_FILTER_IP4_BYTES 24u /* IPv4 header and ports */
#define SONDE_FILTER_IP6_BYTES 44u

/* 0: IPv6; 1: an IPv4 address as a mapped one; 2: all zeros, which is either. */
static inline __attribute__((always_inline)) int sonde_filter_ip_kind(const struct sonde_ip *ip)
{
	static const __u8 mapped[4] = { 0, 0, 0xff, 0xff };
	__u32 words[4], prefix;

	__builtin_memcpy(words, __builtin_assume_aligned(ip, 8), sizeof words);
	__builtin_memcpy(&prefix, mapped, sizeof prefix);
	if (words[0] | words[1])
		return 0;
	return words[2] == prefix ? 1 : words[2] | words[3] ? 0 : 2;
}

static inline __attribute__((always_inline)) void sonde_filter_put_ports(__u8 *at, const struct sonde_filter_tuple *t)
{
	at[0] = (__u8)(t->lport >> 8);
	at[1] = (__u8)t->lport;
	at[2] = (__u8)(t->rport >> 8);
	at[3] = (__u8)t->rport;
}

/* Makes the packet of a socket; returns how many of its bytes are meant. An end that is not bound (::) is of the other end's
 * family. */
static inline __attribute__((always_inline)) __u32 sonde_filter_packet_of(struct sonde_filter_packet *p,
									  const struct sonde_filter_tuple *t)
{
	int local = sonde_filter_ip_kind(&t->laddr), remote = sonde_filter_ip_kind(&t->raddr);

	for (int i = 0; i < SONDE_FILTER_BYTES / 8; i++)
		p->words[i] = 0;
	if (local && remote && (local == 1 || remote == 1)) {
		p->bytes[0] = 0x45;
		p->bytes[9] = t->protocol;
		__builtin_memcpy(p->bytes + 12, t->laddr.bytes + 12, 4);
		__builtin_memcpy(p->bytes + 16, t->raddr.bytes + 12, 4);
		sonde_filter_put_ports(p->bytes + 20, t);
		return SONDE_FILTER_IP4_BYTES;
	}
	p->bytes[0] = 0x60;
	p->bytes[6] = t->protocol;
	__builtin_memcpy(p->bytes + 8, t->laddr.bytes, 16);
	__builtin_memcpy(p->bytes + 24, t->raddr.bytes, 16);
	sonde_filter_put_ports(p->bytes + 40, t);
	return SONDE_FILTER_IP6_BYTES;
}

#endif

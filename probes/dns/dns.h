/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * DNS queries: each once, when it was answered or when it was clear that it is not. And what the kernel side hands to user space, where queries
 * and answers are put together.
 */
#ifndef SONDE_DNS_EVENTS_H
#define SONDE_DNS_EVENTS_H

#include "sonde/event.h"

enum dns_transport { DNS_TRANSPORT_UDP, DNS_TRANSPORT_TCP };
enum dns_error { DNS_ERROR_NONE, DNS_ERROR_TIMEOUT };

struct dns_query_event {
	struct sonde_event event;
	struct sonde_text name SONDE_DOC("name asked for, in lower case; bytes that are no visible ASCII as \\DDD")
		SONDE_OTEL("dns.question.name") SONDE_ECS("dns.question.name");
	struct sonde_text qtype SONDE_DOC("type asked for: A, AAAA, TYPE65280") SONDE_ECS("dns.question.type");
	struct sonde_text rcode SONDE_DOC("code of the answer: NOERROR, NXDOMAIN; absent where there was none")
		SONDE_OPTIONAL SONDE_ECS("dns.response_code");
	struct sonde_text flags SONDE_AS("list") SONDE_DOC("flags of the answer: aa, tc (cut off), rd, ra, ad, cd")
		SONDE_OPTIONAL SONDE_ECS("dns.header_flags");
	__u64 latency_ns SONDE_DOC("from the query, the first time it was sent, to its answer, or to giving up")
		SONDE_ECS("event.duration");
	struct sonde_ip server SONDE_DOC("address that was asked") SONDE_OTEL("server.address") SONDE_ECS("server.ip");
	struct sonde_ip client SONDE_DOC("address that asked") SONDE_OTEL("client.address") SONDE_ECS("client.ip");
	__u16 server_port SONDE_DOC("port that was asked") SONDE_OTEL("server.port") SONDE_ECS("server.port");
	__u16 client_port SONDE_DOC("port that asked") SONDE_OTEL("client.port") SONDE_ECS("client.port");
	__u32 transport SONDE_AS("names=udp|tcp") SONDE_DOC("what carried it") SONDE_OTEL("network.transport")
		SONDE_ECS("network.transport");
	__u32 answers SONDE_DOC("records in the answer") SONDE_OPTIONAL;
	__u32 repeats SONDE_DOC("times that it was sent again, unchanged, before its end") SONDE_OPTIONAL;
	__u32 error SONDE_AS("names=none|timeout")
		SONDE_DOC("timeout: no answer within modules.dns.timeout; of a replay, within 5 s")
			SONDE_OPTIONAL SONDE_OTEL("error.type") SONDE_ECS("error.code");
	__u32 _pad;
};

SONDE_EVENT(dns_query_event, "dns.query", 1, bulk, "A DNS query was answered, or was not.");

#define DNS_PACKET_BYTES 512u /* of its payload, at most */
#define DNS_PORTS_MAX    8u

/* A message over UDP; or a segment of a connection, or a piece of one, of which each has its own number. `captured` bytes lie behind it. */
struct dns_packet {
	struct sonde_event event; /* of an answer: whose socket it is */
	struct sonde_ip laddr, raddr;
	__u16 lport, rport;
	__u32 transport; /* enum dns_transport */
	__u32 length;    /* of the payload, as it was sent */
	__u32 captured;
	__u32 seq, ack;
	__u8 incoming;
	__u8 tcp_flags;
	__u16 _pad;
	__u32 _pad2;
};

SONDE_INTERNAL_EVENT(dns_packet, "dns.packet", bulk,
		     "A message to or from a DNS server, or a piece of a connection to one: its first bytes.");

#ifndef __bpf__
_Static_assert(sizeof(struct dns_packet) == 128, "written by the kernel side");
#endif

#endif

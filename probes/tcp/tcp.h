/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The life of TCP connections, seen from each end that is on this host. `l` is always the local end of the socket. */
#ifndef SONDE_TCP_H
#define SONDE_TCP_H

#include "probes/tcp/ends.h"

struct tcp_connect {
	struct sonde_event event;
	TCP_ENDS(SONDE_ECS("source.ip"), SONDE_ECS("source.port"), SONDE_ECS("destination.ip"),
		 SONDE_ECS("destination.port"));
	__s32 error SONDE_AS("errno")
		SONDE_DOC("why no connection was made; ECANCELED: the socket was closed before an answer")
			SONDE_OTEL("error.type") SONDE_ECS("error.code");
	__u64 latency_ns SONDE_DOC("from the first SYN to established, or to the failure") SONDE_ECS("event.duration");
};

struct tcp_accept {
	struct sonde_event event;
	TCP_ENDS(SONDE_ECS("destination.ip"), SONDE_ECS("destination.port"), SONDE_ECS("source.ip"),
		 SONDE_ECS("source.port"));
	__u32 _pad;
	__u64 latency_ns SONDE_DOC("from the SYN to the return of accept(): handshake and wait in the accept queue")
		SONDE_OPTIONAL SONDE_ECS("event.duration");
};

struct tcp_close {
	struct sonde_event event;
	TCP_ENDS(, , , );
	__u32 side SONDE_AS("names=unknown|client|server") SONDE_DOC("client: this end sent the SYN") SONDE_OPTIONAL;
	__u64 sent_bytes SONDE_DOC("payload put on the wire, each byte once however often it was sent");
	__u64 received_bytes SONDE_DOC("payload that arrived, each byte once, in order");
	__u64 life_ns SONDE_DOC("from established to the end of the connection")
		SONDE_OPTIONAL SONDE_ECS("event.duration");
	__u64 srtt_ns SONDE_DOC("smoothed round-trip time at the end") SONDE_OPTIONAL;
	__u64 min_rtt_ns SONDE_DOC("least round-trip time of the kernel's last window") SONDE_OPTIONAL;
	__u32 retransmits SONDE_DOC("segments sent again, SYN included");
	__s32 error SONDE_AS("errno") SONDE_DOC("what the connection died of: ECONNRESET, ETIMEDOUT ...")
		SONDE_OTEL("error.type") SONDE_ECS("error.code");
};

SONDE_EVENT(tcp_connect, "tcp.connect", 1, bulk, "An outgoing connection was made, or could not be made.");
SONDE_EVENT(tcp_accept, "tcp.accept", 1, bulk, "An incoming connection was handed to a process.");
SONDE_EVENT(tcp_close, "tcp.close", 1, bulk, "A connection ended: what it carried and how it was.");

#endif

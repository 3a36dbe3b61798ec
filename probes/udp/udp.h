/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What UDP sockets carried and lost. `l` is always the local end of the socket. */
#ifndef SONDE_UDP_H
#define SONDE_UDP_H

#include "probes/tcp/ends.h"

struct udp_socket {
	struct sonde_event event;
	TCP_ENDS(, , SONDE_OPTIONAL, SONDE_OPTIONAL);
	__u32 net_ns SONDE_DOC("inode number of its network namespace");
	__u64 sent SONDE_DOC("datagrams sent since its row before: calls that sent one");
	__u64 received SONDE_DOC("datagrams read since then: calls that returned one");
	__u64 sent_bytes SONDE_DOC("payload of those that were sent");
	__u64 received_bytes SONDE_DOC("payload of those that were read, as much of it as the program took");
	__u64 errors SONDE_DOC("calls that could not send, and ICMP errors that came for it, since then");
	__u64 drops SONDE_DOC("datagrams that came for it since then and were dropped, mostly as its receive buffer "
			      "was full");
	bool closed SONDE_DOC("it was closed: this is its last row");
	__u8 _pad[7];
	__u64 life_ns SONDE_DOC("how old it is; absent where it is older than the agent")
		SONDE_OPTIONAL SONDE_ECS("event.duration");
	__u64 window_ns SONDE_DOC("how long ago its row before was, or it was made, or the agent began");
};

SONDE_EVENT(udp_socket, "udp.socket", 1, bulk, "What a UDP socket carried and lost: as it is closed, and meanwhile.");

#ifndef __bpf__
_Static_assert(sizeof(struct udp_socket) == 64 + 40 + 6 * 8 + 8 + 2 * 8, "written by the kernel side");
#endif

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the kernel threw away, why, and where. */
#ifndef SONDE_DROPS_H
#define SONDE_DROPS_H

#include "sonde/event.h"

struct net_drop {
	struct sonde_event event;
	char reason[48] SONDE_DOC(
		"the kernel's own word for why: NO_SOCKET, SOCKET_RCVBUFF, NETFILTER_DROP ...; absent in "
		"the row of what found no room in the table") SONDE_OPTIONAL;
	char location[64] SONDE_DOC("function of the kernel that dropped them") SONDE_OPTIONAL;
	__u32 offset SONDE_DOC("how far into that function, in bytes") SONDE_OPTIONAL;
	char proto[16] SONDE_DOC("udp, tcp, icmp, arp ...; a protocol without a name as ip-NUMBER or eth-0xTYPE; "
				 "absent for what is no packet, as the messages of local sockets are")
		SONDE_OPTIONAL SONDE_OTEL("network.transport") SONDE_ECS("network.transport");
	__u32 net_ns SONDE_DOC("inode number of the network namespace, where it is known") SONDE_OPTIONAL;
	__u16 port SONDE_DOC("whose packets they are: the port that they went to, or came from where that looks more "
			     "like a service's") SONDE_OPTIONAL;
	__u16 lport SONDE_DOC("local port of the first of them") SONDE_OPTIONAL SONDE_OTEL("network.local.port");
	__u16 rport SONDE_DOC("remote port of the first of them") SONDE_OPTIONAL SONDE_OTEL("network.peer.port");
	__u16 _pad;
	struct sonde_ip laddr SONDE_DOC("local address of the first of them; of what is only passed on, where it went")
		SONDE_OPTIONAL SONDE_OTEL("network.local.address");
	struct sonde_ip raddr SONDE_DOC("remote address of the first of them")
		SONDE_OPTIONAL SONDE_OTEL("network.peer.address");
	__u64 count SONDE_DOC("packets dropped");
	__u64 bytes SONDE_DOC("their bytes, as the kernel counts them at that place: with headers or without");
	__u64 window_ns SONDE_DOC("how long the window was that ends at ts");
};

SONDE_EVENT(net_drop, "net.drop", 1, bulk,
	    "Packets that the kernel dropped for one reason at one place, over one window.");

/* ---- what the kernel side sums, and the module reads at the end of each window ---- */

#define DROPS_KEYS 2048u /* of two windows */

/* `protocol`: an EtherType, or one of these and IP's protocol; 0: no packet. */
#define DROPS_IP4 0x100u
#define DROPS_IP6 0x200u

/* All zeros but `window`: what found no room. */
struct drops_key {
	__u64 location; /* kernel address */
	__u32 reason;   /* enum skb_drop_reason of this kernel */
	__u32 net_ns;
	__u16 protocol, port;
	__u32 window; /* 0 and 1, by turns */
};

struct drops_sums {
	/* Of the socket that the first was meant for, or came from: struct sonde_owner, without what is the filters'. */
	__u64 proc, parent, cgroup;
	__u32 pid, tid;
	char comm[16];
	__u32 flags;
	__u16 lport, rport; /* of the first packet */
	struct sonde_ip laddr, raddr;
	__u64 count, bytes;
};

#ifndef __bpf__
_Static_assert(sizeof(struct net_drop) == 64 + 48 + 64 + 4 + 16 + 4 + 8 + 32 + 3 * 8, "no holes");
_Static_assert(sizeof(struct drops_key) == 24 && sizeof(struct drops_sums) == 104, "written by the kernel side");
#endif

#endif

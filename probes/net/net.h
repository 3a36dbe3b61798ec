/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Sockets as security sees them: who made, bound, offered, connected, took, or put one in the place of a terminal. */
#ifndef SONDE_NET_H
#define SONDE_NET_H

#include "sonde/security.h"

#define NET_FAMILIES                                                                                                   \
	"names=unspec|unix|inet|ax25|ipx|appletalk|netrom|bridge|atmpvc|x25|inet6|rose|decnet|netbeui|security|key|"   \
	"netlink|packet|ash|econet|atmsvc|rds|sna|irda|pppox|wanpipe|llc|ib|mpls|can|tipc|bluetooth|iucv|rxrpc|isdn|"  \
	"phonet|ieee802154|caif|alg|nfc|vsock|kcm|qipcrtr|smc|xdp|mctp"
#define NET_TYPES "names=unspec|stream|dgram|raw|rdm|seqpacket|dccp"

/* What names a socket, all of it out of the kernel's own struct sock once the call has returned. */
#define NET_KEYS                                                                                                       \
	struct sonde_text path SONDE_AS("path")                                                                        \
		SONDE_DOC("unix: file that is its address, resolved: the peer's of net.connect and net.dup, else its " \
			  "own") SONDE_OPTIONAL SONDE_OTEL("file.path") SONDE_ECS("file.path");                        \
	struct sonde_text abstract SONDE_DOC("unix: the same, of an abstract address: the name behind its first NUL")  \
		SONDE_OPTIONAL;                                                                                        \
	struct sonde_ip laddr SONDE_DOC("local address; absent: ::, or it has none")                                   \
		SONDE_OPTIONAL SONDE_OTEL("network.local.address");                                                    \
	struct sonde_ip raddr SONDE_DOC("remote address; absent: it has none")                                         \
		SONDE_OPTIONAL SONDE_OTEL("network.peer.address");                                                     \
	__u32 lport SONDE_DOC("local port; of netlink its port number")                                                \
		SONDE_OPTIONAL SONDE_OTEL("network.local.port");                                                       \
	__u32 rport SONDE_DOC("remote port") SONDE_OPTIONAL SONDE_OTEL("network.peer.port");                           \
	__u32 lcid SONDE_DOC("vsock: local context id; 4294967295: any") SONDE_OPTIONAL;                               \
	__u32 rcid SONDE_DOC("vsock: remote context id; 2 is the host") SONDE_OPTIONAL;                                \
	__u32 family SONDE_AS(NET_FAMILIES) SONDE_DOC("address family");                                               \
	__u32 sock_type SONDE_AS(NET_TYPES) SONDE_DOC("type of the socket");                                           \
	__u32 protocol SONDE_DOC("protocol within the family; of packet sockets the EtherType, 3: all")                \
		SONDE_OPTIONAL;                                                                                        \
	__u32 ifindex SONDE_DOC("packet: number of the interface that it is bound to") SONDE_OPTIONAL;                 \
	__u32 net_ns SONDE_DOC("inode number of its network namespace");                                               \
	__u32 peer_pid SONDE_DOC("unix: process at the other end, as it connected or listened") SONDE_OPTIONAL;        \
	__u32 peer_uid SONDE_DOC("unix: its effective user; absent: root, or not known") SONDE_OPTIONAL;               \
	__s32 fd SONDE_DOC("descriptor of the socket")

/* Of a call that failed, what only the program's memory has. */
#define NET_GIVEN                                                                                                      \
	__u32 port_given SONDE_DOC("of a call that failed: the port, as the program gave it; it can have been "        \
				   "changed meanwhile") SONDE_OPTIONAL;                                                \
	struct sonde_ip addr_given SONDE_DOC("of a call that failed: the address, likewise") SONDE_OPTIONAL;           \
	char path_given[112] SONDE_DOC("of a call that failed: a unix address, likewise; @: abstract") SONDE_OPTIONAL

struct net_socket {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	__u32 family SONDE_AS(NET_FAMILIES) SONDE_DOC("address family");
	__u32 sock_type SONDE_AS(NET_TYPES) SONDE_DOC("type of the socket");
	__u32 protocol SONDE_DOC("protocol within the family; of packet sockets the EtherType, 3: all") SONDE_OPTIONAL;
	__s32 fd SONDE_DOC("its descriptor; -1: the call failed");
};

struct net_bind {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	NET_KEYS;
	NET_GIVEN;
	__u32 _pad;
};

struct net_connect {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	NET_KEYS;
	NET_GIVEN;
	__u32 _pad;
};

struct net_listen {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	NET_KEYS;
	__s32 backlog SONDE_DOC("connections that may wait, as asked for") SONDE_OPTIONAL;
	__u32 _pad;
};

struct net_accept {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	NET_KEYS;
};

struct net_dup {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	NET_KEYS;
	__s32 old_fd SONDE_DOC("descriptor that was duplicated");
	__u32 _pad;
};

SONDE_SECURITY_EVENT(
	net_socket, "net.socket", 1, priority,
	"A raw, packet, vsock, crypto or key socket was made, or one to the kernel's audit, packet filter or process "
	"events; or could not be.");
SONDE_SECURITY_EVENT(net_bind, "net.bind", 1, priority, "A socket was given an address, or could not be.");
SONDE_SECURITY_EVENT(net_listen, "net.listen", 1, priority, "A socket began to take connections, or could not.");
SONDE_SECURITY_EVENT(net_connect, "net.connect", 1, bulk,
		     "A socket was connected, also of datagrams, or could not be.");
SONDE_SECURITY_EVENT(net_accept, "net.accept", 1, bulk, "A connection was taken, or could not be.");
SONDE_SECURITY_EVENT(net_dup, "net.dup", 1, priority,
		     "A socket was made a standard input, output or error: descriptor 0, 1 or 2.");

#ifndef __bpf__
_Static_assert(sizeof(struct net_accept) == 64 + 24 + 16 + 8 + 32 + 12 * 4 && sizeof(struct net_listen) == 200 &&
		       sizeof(struct net_bind) == 328,
	       "written by the kernel side");
#endif

#endif

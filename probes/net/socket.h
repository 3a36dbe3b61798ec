/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What names a socket, in the events of every module that tells of sockets. */
#ifndef SONDE_NET_SOCKET_H
#define SONDE_NET_SOCKET_H

#include "sonde/security.h"

#define NET_FAMILIES                                                                                                   \
	"names=unspec|unix|inet|ax25|ipx|appletalk|netrom|bridge|atmpvc|x25|inet6|rose|decnet|netbeui|security|key|"   \
	"netlink|packet|ash|econet|atmsvc|rds|sna|irda|pppox|wanpipe|llc|ib|mpls|can|tipc|bluetooth|iucv|rxrpc|isdn|"  \
	"phonet|ieee802154|caif|alg|nfc|vsock|kcm|qipcrtr|smc|xdp|mctp|other"
#define NET_TYPES "names=unspec|stream|dgram|raw|rdm|seqpacket|dccp|packet|other"

enum { NET_FAMILY_OTHER = 46, NET_TYPE_PACKET = 7, NET_TYPE_OTHER };

/* What names a socket, all of it out of the kernel's own struct sock once the call has returned. */
#define NET_KEYS_OF(path_doc, family_optional)                                                                         \
	struct sonde_text path SONDE_AS("path") SONDE_DOC(path_doc) SONDE_OPTIONAL SONDE_OTEL("file.path")             \
		SONDE_ECS("file.path");                                                                                \
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
	__u32 family SONDE_AS(NET_FAMILIES) SONDE_DOC("address family") family_optional;                               \
	__u32 sock_type SONDE_AS(NET_TYPES) SONDE_DOC("type of the socket") family_optional;                           \
	__u32 protocol SONDE_DOC("protocol within the family; of packet sockets the EtherType, 3: all")                \
		SONDE_OPTIONAL;                                                                                        \
	__u32 ifindex SONDE_DOC("packet: number of the interface that it is bound to") SONDE_OPTIONAL;                 \
	__u32 net_ns SONDE_DOC("inode number of its network namespace") family_optional;                               \
	__u32 peer_pid SONDE_DOC("unix: process at the other end, as it connected or listened") SONDE_OPTIONAL;        \
	__u32 peer_uid SONDE_DOC("unix: its effective user; absent: root, or not known") SONDE_OPTIONAL;               \
	__s32 fd SONDE_DOC("its descriptor; -1: none")

#define NET_KEYS                                                                                                       \
	NET_KEYS_OF("unix: file that is its address, resolved: the peer's of net.connect and net.dup, else its own", )

/* What the events begin with that have these keys. */
struct net_named {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	NET_KEYS;
};

#endif

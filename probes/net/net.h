/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Sockets as security sees them: who made, bound, offered, connected, took, or put one in the place of a terminal. */
#ifndef SONDE_NET_H
#define SONDE_NET_H

#include "probes/net/socket.h"

/* Of a call that failed, what only the program's memory has. */
#define NET_GIVEN                                                                                                      \
	__u32 port_given SONDE_DOC("of a call that failed, or whose descriptor is no socket any more: the port, as "   \
				   "the program gave it; it can have been changed meanwhile") SONDE_OPTIONAL;          \
	struct sonde_ip addr_given SONDE_DOC("of such a call the address, likewise") SONDE_OPTIONAL;                   \
	char path_given[112] SONDE_DOC("of such a call a unix address, likewise; @: abstract") SONDE_OPTIONAL

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

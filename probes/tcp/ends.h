/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What names a TCP connection and its sides, in the events of every module. */
#ifndef SONDE_TCP_ENDS_H
#define SONDE_TCP_ENDS_H

#include "sonde/event.h"

/* The four that name a connection. ECS calls whoever began it the source, so its names depend on the side. */
#define TCP_ENDS(local_ip, local_port, remote_ip, remote_port)                                                         \
	struct sonde_ip laddr SONDE_DOC("local address") SONDE_OTEL("network.local.address") local_ip;                 \
	struct sonde_ip raddr SONDE_DOC("remote address") SONDE_OTEL("network.peer.address") remote_ip;                \
	__u16 lport SONDE_DOC("local port") SONDE_OTEL("network.local.port") local_port;                               \
	__u16 rport SONDE_DOC("remote port") SONDE_OTEL("network.peer.port") remote_port

enum tcp_side { TCP_SIDE_UNKNOWN, TCP_SIDE_CLIENT, TCP_SIDE_SERVER };

#endif

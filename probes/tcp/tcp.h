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
	__u64 handshake_ns SONDE_DOC("of it, from the SYN-ACK sent to the ACK that made the connection") SONDE_OPTIONAL;
	__u64 accept_wait_ns SONDE_DOC("of it, from then to the return of accept()") SONDE_OPTIONAL;
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
	__u64 rttvar_ns SONDE_DOC("how much the round-trip time varied at the end: mean deviation") SONDE_OPTIONAL;
	__u64 busy_ns SONDE_DOC("how long there was something to send, or not acknowledged yet; in ticks of the kernel")
		SONDE_OPTIONAL;
	__u64 rwnd_limited_ns SONDE_DOC("of busy_ns, how long the peer's receive window held up what was to be sent")
		SONDE_OPTIONAL;
	__u64 sndbuf_limited_ns SONDE_DOC("of busy_ns, how long the own send buffer did") SONDE_OPTIONAL;
	__u32 cwnd SONDE_DOC("congestion window at the end, segments") SONDE_OPTIONAL;
	__u32 reordering SONDE_DOC("how often segments sent were found to arrive out of order") SONDE_OPTIONAL;
	char congestion[16] SONDE_DOC("name of the congestion control algorithm at the end") SONDE_OPTIONAL;
};

#define TCP_STATES                                                                                                     \
	"unknown|established|syn_sent|syn_recv|fin_wait1|fin_wait2|time_wait|close|close_wait|last_ack|listen|closing"

enum tcp_direction { TCP_DIRECTION_SENT = 1, TCP_DIRECTION_RECEIVED };

/* In the order of their names in the event. */
enum tcp_reset_reason {
	TCP_RESET_NO_SOCKET = 1,
	TCP_RESET_INVALID_ACK,
	TCP_RESET_PAWS,
	TCP_RESET_TOO_OLD_ACK,
	TCP_RESET_ACK_UNSENT_DATA,
	TCP_RESET_FLAGS,
	TCP_RESET_OLD_ACK,
	TCP_RESET_ABORT_ON_DATA,
	TCP_RESET_TIME_WAIT,
	TCP_RESET_INVALID_SYN,
	TCP_RESET_ABORT_ON_CLOSE,
	TCP_RESET_ABORT_ON_LINGER,
	TCP_RESET_ABORT_ON_MEMORY,
	TCP_RESET_DISCONNECT,
	TCP_RESET_KEEPALIVE_TIMEOUT,
	TCP_RESET_DISCONNECT_WITH_DATA,
};

struct tcp_reset {
	struct sonde_event event;
	TCP_ENDS(, , , );
	__u32 side SONDE_AS("names=unknown|client|server")
		SONDE_DOC("client: this end sent the SYN; absent where no connection was reset") SONDE_OPTIONAL;
	__u32 direction SONDE_AS("names=unknown|sent|received") SONDE_DOC("sent: this end sent the reset");
	__u32 state SONDE_AS("names=" TCP_STATES) SONDE_DOC(
		"of the local socket as the reset came, or before it was closed with one; absent: there is none")
		SONDE_OPTIONAL;
	__u32 reason SONDE_AS("names=unknown|no_socket|invalid_ack|paws|too_old_ack|ack_unsent_data|flags|old_ack|"
			      "abort_on_data|time_wait|invalid_syn|abort_on_close|abort_on_linger|abort_on_memory|"
			      "disconnect|keepalive_timeout|disconnect_with_data")
		SONDE_DOC("why the kernel sent it, from Linux 6.12 on: abort_on_close: closed with unread data; "
			  "abort_on_data: "
			  "data came after the close; disconnect: closed with SO_LINGER 0, or connected anew")
			SONDE_OPTIONAL;
};

enum tcp_queue { TCP_QUEUE_ACCEPT = 1, TCP_QUEUE_SYN };

struct tcp_listen_drop {
	struct sonde_event event;
	struct sonde_ip laddr SONDE_DOC("address that is listened at") SONDE_OTEL("network.local.address")
		SONDE_ECS("destination.ip");
	__u16 lport SONDE_DOC("port that is listened at") SONDE_OTEL("network.local.port")
		SONDE_ECS("destination.port");
	__u16 _pad;
	__u32 reason SONDE_AS("names=unknown|accept_queue|syn_queue")
		SONDE_DOC("accept_queue: the program does not accept fast enough; syn_queue: too many handshakes are "
			  "open; absent: "
			  "neither queue was full as they were looked at") SONDE_OPTIONAL;
	__u32 count SONDE_DOC("SYNs and last ACKs of handshakes that were dropped");
	__u32 backlog SONDE_DOC(
		"connections that the accept queue takes: the less of listen()'s and net.core.somaxconn");
	__u32 accept_queue SONDE_DOC("connections that waited for accept() as it was looked at");
	__u32 syn_queue SONDE_DOC("handshakes that were open then");
	__u64 window_ns SONDE_DOC("how long the window was that ends at ts");
};

struct tcp_stats {
	struct sonde_event event;
	TCP_ENDS(, , , );
	__u32 side SONDE_AS("names=unknown|client|server") SONDE_DOC("client: this end sent the SYN") SONDE_OPTIONAL;
	__u64 sent_bytes SONDE_DOC("payload put on the wire since the last report, each byte once");
	__u64 received_bytes SONDE_DOC("payload that arrived since the last report, each byte once, in order");
	__u64 window_ns SONDE_DOC("since the last report, or since the connection was made") SONDE_OPTIONAL;
	__u64 life_ns SONDE_DOC("since the connection was made; absent where that was before the agent began")
		SONDE_OPTIONAL;
	__u64 srtt_ns SONDE_DOC("smoothed round-trip time") SONDE_OPTIONAL;
	__u64 rttvar_ns SONDE_DOC("how much the round-trip time varies: mean deviation") SONDE_OPTIONAL;
	__u64 min_rtt_ns SONDE_DOC("least round-trip time of the kernel's last window") SONDE_OPTIONAL;
	__u32 retransmits SONDE_DOC("segments sent again since the last report");
	__u32 cwnd SONDE_DOC("congestion window, segments");
	__u32 state SONDE_AS("names=" TCP_STATES) SONDE_DOC("of the local socket");
	__u32 _pad;
};

SONDE_EVENT(tcp_connect, "tcp.connect", 1, bulk, "An outgoing connection was made, or could not be made.");
SONDE_EVENT(tcp_accept, "tcp.accept", 1, bulk, "An incoming connection was handed to a process.");
SONDE_EVENT(tcp_close, "tcp.close", 1, bulk, "A connection ended: what it carried and how it was.");
SONDE_EVENT(tcp_reset, "tcp.reset", 1, bulk,
	    "A reset was sent or received, for a connection or for a port where there is none.");
SONDE_EVENT(tcp_listen_drop, "tcp.listen_drop", 1, bulk,
	    "A listening socket dropped connections that were to be made, over one window.");
SONDE_EVENT(tcp_stats, "tcp.stats", 1, bulk, "What a connection that goes on has carried since the last report.");

#endif

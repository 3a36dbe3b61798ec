/* SPDX-License-Identifier: GPL-2.0-only */
/* The ends of a TCP socket that the verifier knows, and whether filter.socket and modules.NAME.filter mean it: a module that includes this
 * has the latter. */
#ifndef SONDE_TCP_ENDS_BPF_H
#define SONDE_TCP_ENDS_BPF_H

#include "sonde/probe.bpf.h"
#include "sonde/filter.bpf.h"
#include <bpf/bpf_endian.h>
#include "probes/tcp/ends.h"
#include "probes/tcp/ip4.bpf.h"

#define AF_INET     2
#define AF_INET6    10
#define IPPROTO_TCP 6

/* Source: include/net/tcp_states.h, include/net/sock.h. */
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT,
	TCP_SYN_RECV,
	TCP_FIN_WAIT1,
	TCP_FIN_WAIT2,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
	TCP_LISTEN,
	TCP_CLOSING
};
#define SOCK_DONE (1ul << 1) /* enum sock_flags: the peer's FIN was taken in, and is among bytes_received */

sonde_inline void fill_ip6(struct sonde_ip *ip, const struct in6_addr *address)
{
	__u32 words[4] = { address->in6_u.u6_addr32[0], address->in6_u.u6_addr32[1], address->in6_u.u6_addr32[2],
			   address->in6_u.u6_addr32[3] };

	__builtin_memcpy(ip->bytes, words, sizeof words);
}

sonde_inline void fill_addresses(const struct sock_common *c, struct sonde_ip *laddr, struct sonde_ip *raddr)
{
	if (c->skc_family == AF_INET) {
		fill_ip4(laddr, c->skc_rcv_saddr);
		fill_ip4(raddr, c->skc_daddr);
	} else if (bpf_core_field_exists(c->skc_v6_daddr)) {
		fill_ip6(laddr, &c->skc_v6_rcv_saddr);
		fill_ip6(raddr, &c->skc_v6_daddr);
	}
}

#define fill_ends(e, tp) fill_ends_of((tp), &(e)->laddr, &(e)->raddr, &(e)->lport, &(e)->rport)
sonde_inline void fill_ends_of(struct tcp_sock *tp, struct sonde_ip *laddr, struct sonde_ip *raddr, __u16 *lport,
			       __u16 *rport)
{
	struct sock_common *c = &tp->inet_conn.icsk_inet.sk.__sk_common;

	/* skc_num is cleared before the state becomes CLOSE; inet_sport stays. Source: net/ipv4/tcp.c tcp_set_state(). */
	*lport = bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport);
	*rport = bpf_ntohs(c->skc_dport);
	fill_addresses(c, laddr, raddr);
}

SONDE_SOCKET_FILTER();

/* By itself: the packet that stands for the socket shall not lie on its callers' stacks. */
static __noinline bool tcp_filter_matches(struct tcp_sock *tp)
{
	struct sonde_filter_tuple t = { .protocol = IPPROTO_TCP };

	fill_ends(&t, tp);
	return sonde_socket_matches(&t);
}

/* The socket's own port must be known: a client has none yet as it becomes TCP_SYN_SENT, unless it bound one. */
sonde_inline bool tcp_socket_matches(struct tcp_sock *tp)
{
	return !sonde_socket_filtered || tcp_filter_matches(tp);
}

/* ---- what a connection carried, and which end it is ---- */

/* Sequence numbers are exact where byte counters are not: bytes_sent counts what the device refused and was sent again. The
 * client's SYN is among bytes_acked (tcp_ack() takes it in), the server's is not (the child begins behind it); a FIN is
 * the last number before write_seq. */
sonde_inline __u64 sequence_sent(__u64 acked, __u32 una, __u32 next, __u32 written, int state)
{
	bool fin = state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING || state == TCP_LAST_ACK;

	return acked + (__u32)(next - una) - (fin && next == written);
}

/* Where nothing was seen of how it began: the client has a SYN among what it sent. `bytes`: of payload, by the kernel's count. */
sonde_inline __u32 side_by_sequence(__u64 sequence, __u64 bytes)
{
	if (sequence == bytes)
		return TCP_SIDE_SERVER;
	return sequence == bytes + 1 ? TCP_SIDE_CLIENT : TCP_SIDE_UNKNOWN;
}

#endif

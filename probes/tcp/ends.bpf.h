/* SPDX-License-Identifier: GPL-2.0-only */
/* The ends of a TCP socket that the verifier knows, and whether filter.socket and modules.NAME.filter mean it: a module that includes this
 * has the latter. */
#ifndef SONDE_TCP_ENDS_BPF_H
#define SONDE_TCP_ENDS_BPF_H

#include "sonde/probe.bpf.h"
#include "sonde/filter.bpf.h"
#include <bpf/bpf_endian.h>
#include "probes/tcp/ends.h"

#define AF_INET     2
#define AF_INET6    10
#define IPPROTO_TCP 6

sonde_inline void fill_ip4(struct sonde_ip *ip, __be32 address)
{
	__u32 words[4] = { 0, 0, bpf_htonl(0xffff), address };

	__builtin_memcpy(ip->bytes, words, sizeof words);
}

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

#endif

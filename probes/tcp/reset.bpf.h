/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tcp.reset. A reset that this end sends as it closes comes after the state became CLOSE, so the connection is still kept then
 * (connection.ended). One that answers a packet for which there is no socket has its ends from that packet.
 */
#ifndef SONDE_TCP_RESET_BPF_H
#define SONDE_TCP_RESET_BPF_H

#include "connection.bpf.h"
#include "listen.bpf.h"

#define IP4_ADDRESSES 12 /* where in the header the source is; the destination comes behind it */
#define IP6_ADDRESSES 8

/* Numbers of the kernel's to those of the event. */
sonde_inline __u32 reset_reason(__u32 number)
{
#define NAMED(kernel, ours)                                                                                            \
	if (bpf_core_enum_value_exists(enum sk_rst_reason, SK_RST_REASON_##kernel) &&                                  \
	    number == bpf_core_enum_value(enum sk_rst_reason, SK_RST_REASON_##kernel))                                 \
		return TCP_RESET_##ours;
	NAMED(NO_SOCKET, NO_SOCKET)
	NAMED(TCP_INVALID_ACK_SEQUENCE, INVALID_ACK)
	NAMED(TCP_RFC7323_PAWS, PAWS)
	NAMED(TCP_TOO_OLD_ACK, TOO_OLD_ACK)
	NAMED(TCP_ACK_UNSENT_DATA, ACK_UNSENT_DATA)
	NAMED(TCP_FLAGS, FLAGS)
	NAMED(TCP_OLD_ACK, OLD_ACK)
	NAMED(TCP_ABORT_ON_DATA, ABORT_ON_DATA)
	NAMED(TCP_TIMEWAIT_SOCKET, TIME_WAIT)
	NAMED(INVALID_SYN, INVALID_SYN)
	NAMED(TCP_ABORT_ON_CLOSE, ABORT_ON_CLOSE)
	NAMED(TCP_ABORT_ON_LINGER, ABORT_ON_LINGER)
	NAMED(TCP_ABORT_ON_MEMORY, ABORT_ON_MEMORY)
	NAMED(TCP_STATE, DISCONNECT)
	NAMED(TCP_KEEPALIVE_TIMEOUT, KEEPALIVE_TIMEOUT)
	NAMED(TCP_DISCONNECT_WITH_DATA, DISCONNECT_WITH_DATA)
#undef NAMED
	return 0;
}

sonde_inline __u32 reset_side(struct tcp_sock *tp, const struct connection *c, int state)
{
	__u32 side = side_known(c);

	if (side || state == TCP_SYN_SENT)
		return side ? side : TCP_SIDE_CLIENT;
	return side_by_sequence(sequence_sent(tp->bytes_acked, tp->snd_una, tp->snd_nxt, tp->write_seq, state),
				tp->bytes_sent - tp->bytes_retrans);
}

/* Of a socket that has, or had, a connection. */
sonde_inline int reset_of_socket(struct tcp_sock *tp, __u64 key, __u32 direction, __u32 reason)
{
	struct connection *c = connection_kept(tp, key);
	struct sonde_owner none;
	struct tcp_reset *e;

	if (!c)
		owner_none(&none);
	e = sonde_reserve_owned(tcp_reset, sizeof *e, c ? &c->owner : &none);
	if (!e)
		return 0;
	fill_ends(e, tp);
	e->state = c && c->ended ? c->ended : tp->inet_conn.icsk_inet.sk.__sk_common.skc_state;
	e->side = reset_side(tp, c, e->state);
	e->direction = direction;
	e->reason = reason;
	sonde_submit(tcp_reset, e, sizeof *e);
	return 0;
}

/* What is left of a connection in TIME_WAIT: it has no owner any more. */
sonde_inline int reset_of_rest(const struct sock *sk, __u32 reason)
{
	const struct sock_common *rest = &sk->__sk_common;
	struct sonde_owner none;
	struct tcp_reset *e;

	owner_none(&none);
	e = sonde_reserve_owned(tcp_reset, sizeof *e, &none);
	if (!e)
		return 0;
	fill_addresses(rest, &e->laddr, &e->raddr);
	e->lport = rest->skc_num;
	e->rport = bpf_ntohs(rest->skc_dport);
	e->side = TCP_SIDE_UNKNOWN;
	e->state = rest->skc_state;
	e->direction = TCP_DIRECTION_SENT;
	e->reason = reason;
	sonde_submit(tcp_reset, e, sizeof *e);
	return 0;
}

sonde_inline void fill_ends_of_packet(struct tcp_reset *e, const struct sk_buff *skb)
{
	__u64 head = (__u64)BPF_CORE_READ(skb, head), ip = head + skb->network_header;
	__be16 ports[2] = {};
	__be32 ip4[2] = {};
	__u8 version = 0;

	bpf_probe_read_kernel(&version, sizeof version, (void *)ip);
	if (version >> 4 == 4) {
		bpf_probe_read_kernel(ip4, sizeof ip4, (void *)(ip + IP4_ADDRESSES));
		fill_ip4(&e->raddr, ip4[0]);
		fill_ip4(&e->laddr, ip4[1]);
	} else {
		bpf_probe_read_kernel(&e->raddr, sizeof e->raddr, (void *)(ip + IP6_ADDRESSES));
		bpf_probe_read_kernel(&e->laddr, sizeof e->laddr, (void *)(ip + IP6_ADDRESSES + sizeof e->raddr));
	}
	bpf_probe_read_kernel(ports, sizeof ports, (void *)(head + skb->transport_header));
	e->rport = bpf_ntohs(ports[0]);
	e->lport = bpf_ntohs(ports[1]);
}

/* An answer to a packet that belongs to no connection: nobody listens, or (`l`) who listens has nothing to do with it. */
sonde_inline int reset_of_packet(const struct sk_buff *skb, const struct listener *l, __u32 reason)
{
	struct sonde_owner none;
	struct tcp_reset *e;

	if (!l)
		owner_none(&none);
	e = sonde_reserve_owned(tcp_reset, sizeof *e, l ? &l->owner : &none);
	if (!e)
		return 0;
	fill_ends_of_packet(e, skb);
	e->side = TCP_SIDE_UNKNOWN;
	e->state = l ? TCP_LISTEN : 0;
	e->direction = TCP_DIRECTION_SENT;
	e->reason = reason;
	sonde_submit(tcp_reset, e, sizeof *e);
	return 0;
}

/* Either pointer may be NULL. Verifiers before Linux 6.13 do not know that, take a comparison with NULL for decided and leave it out;
 * there what lies behind NULL reads as 0, and a socket's family and a packet's end are never 0. */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(reset_sent__tp_btf, const struct sock *sk, const struct sk_buff *skb)
{
	__u32 reason = 0;
	struct tcp_sock *tp;
	__u64 key = (__u64)sk;

	/* The tracepoint has had its third argument for longer than this one of its values, but not for as long as it has been there. */
	if (bpf_core_enum_value_exists(enum sk_rst_reason, SK_RST_REASON_TCP_ABORT_ON_CLOSE))
		reason = reset_reason((__u32)ctx[2]);
	if (sk && sk->__sk_common.skc_family && sk->__sk_common.skc_state != TCP_LISTEN) {
		tp = bpf_skc_to_tcp_sock((void *)sk);
		return tp ? reset_of_socket(tp, key, TCP_DIRECTION_SENT, reason) : reset_of_rest(sk, reason);
	}
	if (skb && skb->tail)
		return reset_of_packet(skb, bpf_map_lookup_elem(&tcp_listeners, &key), reason);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(reset_received__tp_btf, struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	return tp ? reset_of_socket(tp, (__u64)sk, TCP_DIRECTION_RECEIVED, 0) : 0;
}

#endif

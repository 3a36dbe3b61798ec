/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tcp.reset. A reset that this end sends comes late: as it closes, after the state became CLOSE, so the connection is still kept then
 * (connection.ended); upon data for a program that closed already, after the socket went, so the last one that went is kept
 * (tcp_gone). One that answers a packet for which there is no socket has its ends from that packet.
 *
 * That data is also why a reset "received" is not always one: the kernel takes the same way for its own abort as for a reset that comes
 * in, before it sends one. So where it may be either (tcp_doubts) it is said as one sent, if one is sent, or else at the next tick.
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

/* The connection whose socket went last, on this CPU. */
struct gone {
	__u64 key;
	__u32 busy; /* is being written */
	__u32 _pad;
	struct connection c;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gone);
} tcp_gone SEC(".maps");

sonde_inline void gone_keep(const struct connection *c, __u64 key)
{
	__u32 zero = 0;
	struct gone *g = bpf_map_lookup_elem(&tcp_gone, &zero);

	if (!g || __sync_val_compare_and_swap(&g->busy, 0, 1))
		return;
	g->key = key;
	g->c = *c;
	g->busy = 0;
}

sonde_inline struct connection *gone_of(__u64 key, __be16 rport)
{
	__u32 zero = 0;
	struct gone *g = bpf_map_lookup_elem(&tcp_gone, &zero);

	return g && !g->busy && g->key == key && g->c.rport == rport ? &g->c : NULL;
}

/* A reset that may be one received or one sent. */
struct doubt {
	struct connection c; /* `ended` is the state that it was in */
	__u64 at;            /* boot clock */
	struct sonde_ip laddr, raddr;
	__u16 lport, rport;
	__u32 side;
};

#define DOUBTS_MAX 4096 /* of one tick */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, DOUBTS_MAX);
	__type(key, __u64);
	__type(value, struct doubt);
} tcp_doubts SEC(".maps");

sonde_inline __u32 reset_side(struct tcp_sock *tp, const struct connection *c, int state)
{
	__u32 side = side_known(c);

	if (side || state == TCP_CLOSE) /* then nothing says whether a FIN is among what was sent */
		return side;
	if (state == TCP_SYN_SENT)
		return TCP_SIDE_CLIENT;
	return side_by_sequence(sequence_sent(tp->bytes_acked, tp->snd_una, tp->snd_nxt, tp->write_seq, state),
				tp->bytes_sent - tp->bytes_retrans);
}

/* Of a socket that has, or had, a connection. */
sonde_inline int reset_write(struct tcp_sock *tp, const struct connection *c, __u32 direction, __u32 reason)
{
	struct sonde_owner none;
	struct tcp_reset *e;

	if (!c)
		owner_unseen(&none, tp);
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

sonde_inline int reset_sent(struct tcp_sock *tp, __u64 key, __u32 reason)
{
	struct doubt *d = bpf_map_lookup_elem(&tcp_doubts, &key);
	__be16 rport = tp->inet_conn.icsk_inet.sk.__sk_common.skc_dport;
	struct connection *c;

	if (d && d->c.rport == rport) {
		reset_write(tp, &d->c, TCP_DIRECTION_SENT, reason);
		bpf_map_delete_elem(&tcp_doubts, &key);
		return 0;
	}
	c = connection_kept(tp, key);
	if (c)
		decide(tp, c);
	return reset_write(tp, c ? c : gone_of(key, rport), TCP_DIRECTION_SENT, reason);
}

/* Whether the kernel may itself abort a connection: nobody reads it any more, and the peer is not done. Source: net/ipv4/tcp_input.c
 * tcp_rcv_state_process(). */
sonde_inline bool is_doubtful(struct tcp_sock *tp)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	__u8 state = sk->__sk_common.skc_state;

	return sk->sk_shutdown & RCV_SHUTDOWN && (state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2);
}

sonde_inline long doubt_keep(struct tcp_sock *tp, const struct connection *c, __u64 key)
{
	struct doubt d = { .c = *c, .at = bpf_ktime_get_boot_ns() };
	long error;

	d.c.ended = tp->inet_conn.icsk_inet.sk.__sk_common.skc_state;
	d.side = reset_side(tp, c, d.c.ended);
	fill_ends(&d, tp);
	error = bpf_map_update_elem(&tcp_doubts, &key, &d, BPF_ANY);
	if (error)
		sonde_failed(error);
	return error;
}

/* Of what is no connection: who listens, if anybody, where the filter of sockets means these ends. */
sonde_inline void owner_of_tuple(struct sonde_owner *owner, const struct listener *l,
				 const struct sonde_filter_tuple *t)
{
	if (!sonde_socket_matches(t))
		owner_unmatched(owner);
	else if (l)
		*owner = l->owner;
	else
		sonde_owner_none(owner);
}

sonde_inline void reset_ends(struct tcp_reset *e, const struct sonde_filter_tuple *t)
{
	e->laddr = t->laddr;
	e->raddr = t->raddr;
	e->lport = t->lport;
	e->rport = t->rport;
}

/* What is left of a connection in TIME_WAIT: it has no owner any more. */
sonde_inline int reset_of_rest(const struct sock *sk, __u32 reason)
{
	const struct sock_common *rest = &sk->__sk_common;
	struct sonde_filter_tuple t = { .protocol = IPPROTO_TCP,
					.lport = rest->skc_num,
					.rport = bpf_ntohs(rest->skc_dport) };
	struct sonde_owner none;
	struct tcp_reset *e;

	fill_addresses(rest, &t.laddr, &t.raddr);
	owner_of_tuple(&none, NULL, &t);
	e = sonde_reserve_owned(tcp_reset, sizeof *e, &none);
	if (!e)
		return 0;
	reset_ends(e, &t);
	e->side = TCP_SIDE_UNKNOWN;
	e->state = rest->skc_state;
	e->direction = TCP_DIRECTION_SENT;
	e->reason = reason;
	sonde_submit(tcp_reset, e, sizeof *e);
	return 0;
}

sonde_inline void fill_ends_of_packet(struct sonde_filter_tuple *e, const struct sk_buff *skb)
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
	struct sonde_filter_tuple t = { .protocol = IPPROTO_TCP };
	struct sonde_owner owner;
	struct tcp_reset *e;

	fill_ends_of_packet(&t, skb);
	owner_of_tuple(&owner, l, &t);
	e = sonde_reserve_owned(tcp_reset, sizeof *e, &owner);
	if (!e)
		return 0;
	reset_ends(e, &t);
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
		return tp ? reset_sent(tp, key, reason) : reset_of_rest(sk, reason);
	}
	if (skb && skb->tail)
		return reset_of_packet(skb, bpf_map_lookup_elem(&tcp_listeners, &key), reason);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(reset_received__tp_btf, struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct connection *c;
	__u64 key = (__u64)sk;

	if (!tp)
		return 0;
	c = connection_kept(tp, key);
	if (c)
		decide(tp, c);
	if (c && is_doubtful(tp) && !doubt_keep(tp, c, key))
		return 0;
	return reset_write(tp, c, TCP_DIRECTION_RECEIVED, 0);
}

/* None was sent since: it was received. */
sonde_inline void doubt_ends(const struct doubt *d)
{
	struct tcp_reset *e = sonde_reserve_owned(tcp_reset, sizeof *e, &d->c.owner);

	if (!e)
		return;
	e->event.time = d->at;
	e->laddr = d->laddr;
	e->raddr = d->raddr;
	e->lport = d->lport;
	e->rport = d->rport;
	e->side = d->side;
	e->state = d->c.ended;
	e->direction = TCP_DIRECTION_RECEIVED;
	e->reason = 0;
	sonde_submit(tcp_reset, e, sizeof *e);
}

#define DOUBT_NS 10000000ull /* the answer, if there is one, comes from the same packet */

SEC("iter/bpf_map_elem")
int doubt__iter(struct bpf_iter__bpf_map_elem *ctx)
{
	struct doubt *d = ctx->value;
	__u64 *address = ctx->key, key;

	if (!address || !d || (bpf_ktime_get_boot_ns() - d->at < DOUBT_NS && !tcp_ending))
		return 0;
	key = *address;
	doubt_ends(d);
	bpf_map_delete_elem(&tcp_doubts, &key);
	return 0;
}

#endif

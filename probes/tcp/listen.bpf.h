/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tcp.listen_drop. A SYN that finds no room is not dropped where a tracepoint would see it: the kernel consumes the packet as if it had been
 * served. But each socket counts what it dropped. So who listens is known (by its address, in whatever network namespace), and these
 * few sockets are looked at by the agent's clock: nothing runs per packet, however large the flood is.
 */
#ifndef SONDE_TCP_LISTEN_BPF_H
#define SONDE_TCP_LISTEN_BPF_H

#include "connection.bpf.h"

#define EEXIST        17
#define LISTENERS_MAX 8192
#define LISTEN_WINDOW 1000000000ull /* ns between two events of one socket */

struct listener {
	struct sonde_owner owner; /* who called listen() */
	__u64 said;               /* boot clock */
	__u32 drops;              /* of the kernel's count, what was said */
	__u16 port;
	__u8 full; /* 1 << enum tcp_queue: was full since then, as it was looked at */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, LISTENERS_MAX);
	__type(key, __u64);
	__type(value, struct listener);
} tcp_listeners SEC(".maps");

__u32 tcp_ending SEC(".data") = 0; /* set by the module: what has not been said is said now */

sonde_inline void listener_keep(__u64 key, const struct listener *l, __u64 how)
{
	long error = bpf_map_update_elem(&tcp_listeners, &key, l, how);

	if (error && error != -EEXIST)
		sonde_failed(error);
}

sonde_inline void listener_begins(struct tcp_sock *tp, __u64 key)
{
	struct listener l = { .said = bpf_ktime_get_boot_ns(),
			      .drops = tp->inet_conn.icsk_inet.sk.sk_drops.counter,
			      .port = tp->inet_conn.icsk_inet.sk.__sk_common.skc_num };

	if (tcp_socket_matches(tp))
		sonde_owner_called(&l.owner);
	else
		owner_unmatched(&l.owner);
	listener_keep(key, &l, BPF_ANY);
}

sonde_inline void listener_ends(__u64 key)
{
	bpf_map_delete_elem(&tcp_listeners, &key);
}

/* ---- looking at them ---- */

struct queues {
	__u32 backlog, accept, syn;
};

sonde_inline void read_queues(struct queues *q, struct sock *sk)
{
	q->backlog = BPF_CORE_READ(sk, sk_max_ack_backlog);
	q->accept = BPF_CORE_READ(sk, sk_ack_backlog);
	q->syn = BPF_CORE_READ((struct inet_connection_sock *)sk, icsk_accept_queue.qlen.counter);
}

/* The accept queue takes one more than its bound. With SYN cookies, handshakes need no queue. Source: include/net/sock.h
 * sk_acceptq_is_full(), net/ipv4/tcp_input.c tcp_conn_request(). */
sonde_inline __u8 queues_full(const struct queues *q, struct sock *sk)
{
	if (q->accept > q->backlog)
		return 1 << TCP_QUEUE_ACCEPT;
	if (q->syn >= q->backlog && !BPF_CORE_READ(sk, __sk_common.skc_net.net, ipv4.sysctl_tcp_syncookies))
		return 1 << TCP_QUEUE_SYN;
	return 0;
}

sonde_inline void listener_says(struct listener *l, struct sock *sk, const struct ends *ends, const struct queues *q,
				__u32 count)
{
	struct tcp_listen_drop *e = sonde_reserve_owned(tcp_listen_drop, sizeof *e, &l->owner);
	struct sonde_ip unused;

	if (!e)
		return;
	fill_ends_read(sk, ends, &e->laddr, &unused);
	e->lport = ends->port;
	e->reason = l->full & 1 << TCP_QUEUE_ACCEPT ? TCP_QUEUE_ACCEPT : l->full ? TCP_QUEUE_SYN : 0;
	e->count = count;
	e->backlog = q->backlog;
	e->accept_queue = q->accept;
	e->syn_queue = q->syn;
	e->window_ns = e->event.time - l->said;
	sonde_submit(tcp_listen_drop, e, sizeof *e);
}

sonde_inline void listener_look(struct listener *l, struct sock *sk, const struct ends *ends)
{
	__u32 drops = BPF_CORE_READ(sk, sk_drops.counter);
	__u64 now = bpf_ktime_get_boot_ns();
	struct queues q;

	read_queues(&q, sk);
	l->full |= queues_full(&q, sk);
	if (now - l->said < LISTEN_WINDOW && !tcp_ending)
		return;
	if (drops != l->drops)
		listener_says(l, sk, ends, &q, drops - l->drops);
	l->drops = drops;
	l->said = now;
	l->full = 0;
}

/* An entry whose socket listens no more: its end was missed. */
SEC("iter/bpf_map_elem")
int listen__iter(struct bpf_iter__bpf_map_elem *ctx)
{
	struct listener *l = ctx->value;
	__u64 *address = ctx->key, key;
	struct ends ends;

	if (!address || !l)
		return 0;
	key = *address;
	if (read_ends((struct sock *)key, &ends))
		return 0;
	if (ends.state == TCP_LISTEN && ends.port == l->port)
		listener_look(l, (struct sock *)key, &ends);
	else
		bpf_map_delete_elem(&tcp_listeners, &key);
	return 0;
}

#endif

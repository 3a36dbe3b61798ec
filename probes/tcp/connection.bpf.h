/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is known of each connection, and the ends of a socket, however it is come by.
 */
#ifndef SONDE_TCP_CONNECTION_BPF_H
#define SONDE_TCP_CONNECTION_BPF_H

#include "ends.bpf.h"
#include "tcp.h"

#define RCV_SHUTDOWN  1
#define SHUTDOWN_MASK 3     /* both ways */
#define RTT_NONE      (~0u) /* rtt_min before the first sample */

#define CONNECTIONS_MAX 131072

struct connection {
	struct sonde_owner owner;
	__u64 stack;        /* number of the stack that began a connect; 0: none was asked for */
	__u64 since;        /* boot clock: SYN sent, then established; 0: not known */
	__u32 handshake_us; /* server: SYN-ACK sent to ACK taken in */
	__be16 rport; /* of another connection: the entry is a leftover of the socket that had this address before */
	bool client, established, accepted;
	bool decided, unmatched; /* by the filter of sockets; all events of an unmatched one are filtered */
	bool older;              /* than the agent: its side shows in its sequence numbers */
	bool reported;           /* tcp_reports has an entry */
	__u8 ended;              /* the state that it was closed from, while a reset may still be sent; 0: it lives */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, CONNECTIONS_MAX);
	__type(key, __u64);
	__type(value, struct connection);
} tcp_connections SEC(".maps");

/* The one that has ended too, until its socket goes. */
sonde_inline struct connection *connection_kept(struct tcp_sock *tp, __u64 key)
{
	struct connection *c = bpf_map_lookup_elem(&tcp_connections, &key);

	return c && c->rport == tp->inet_conn.icsk_inet.sk.__sk_common.skc_dport ? c : NULL;
}

sonde_inline struct connection *connection_of(struct tcp_sock *tp, __u64 key)
{
	struct connection *c = connection_kept(tp, key);

	return c && !c->ended ? c : NULL;
}

/* Asks the filter of sockets, once for each connection. */
sonde_inline void decide(struct tcp_sock *tp, struct connection *c)
{
	if (c->decided)
		return;
	c->decided = true;
	if (tcp_socket_matches(tp))
		return;
	c->unmatched = true;
	c->owner.filtered = 1;
}

/* For what the filter of sockets does not mean. */
sonde_inline void owner_unmatched(struct sonde_owner *owner)
{
	__builtin_memset(owner, 0, sizeof *owner);
	owner->filtered = 1;
}

/* Whose a connection is of which nothing was seen before its end. */
sonde_inline void owner_unseen(struct sonde_owner *owner, struct tcp_sock *tp)
{
	sonde_owner_none(owner);
	if (!owner->filtered)
		owner->filtered = !tcp_socket_matches(tp);
}

/* ---- sockets that the verifier does not trust: all is copied, as little as will do ---- */

struct ends {
	__be32 daddr, saddr;
	__be16 dport;
	__u16 port, family;
	__u8 state;
};

/* Reads the first bytes of struct sock_common in one go. */
sonde_inline long read_ends(struct sock *sk, struct ends *ret)
{
	char c[32] = {};

	if (bpf_probe_read_kernel(c, sizeof c, sk))
		return -1;
#define AT(type, member) (*(type *)(c + bpf_core_field_offset(struct sock_common, member)))
	ret->daddr = AT(__be32, skc_daddr);
	ret->saddr = AT(__be32, skc_rcv_saddr);
	ret->dport = AT(__be16, skc_dport);
	ret->port = AT(__u16, skc_num);
	ret->family = AT(__u16, skc_family);
	ret->state = AT(__u8, skc_state);
#undef AT
	return 0;
}

/* What lies behind a descriptor, a socket or not; NULL: nothing does. */
sonde_inline struct socket *socket_of(struct task_struct *task, __u32 fd)
{
	struct file *file = NULL;

	bpf_probe_read_kernel(&file, sizeof file, task->files->fdt->fd + fd);
	return BPF_CORE_READ(file, private_data);
}

/* Whether `sk` is a living TCP socket, and `socket` its own: meanwhile another thread may have put another file behind the
 * descriptor, which need not be a socket at all. */
sonde_inline bool is_tcp(struct sock *sk, struct socket *socket, const struct ends *ends)
{
	return (ends->family == AF_INET || ends->family == AF_INET6) && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP &&
	       BPF_CORE_READ(sk, sk_socket) == socket;
}

sonde_inline void fill_ends_read(struct sock *sk, const struct ends *ends, struct sonde_ip *laddr,
				 struct sonde_ip *raddr)
{
	struct in6_addr address = {};

	if (ends->family == AF_INET) {
		fill_ip4(laddr, ends->saddr);
		fill_ip4(raddr, ends->daddr);
	} else if (bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
		bpf_probe_read_kernel(&address, sizeof address, &sk->__sk_common.skc_v6_rcv_saddr);
		__builtin_memcpy(laddr, &address, sizeof address);
		bpf_probe_read_kernel(&address, sizeof address, &sk->__sk_common.skc_v6_daddr);
		__builtin_memcpy(raddr, &address, sizeof address);
	}
}

/* decide(), for a socket that is only an address. */
sonde_inline bool unmatched_read(struct sock *sk, const struct ends *ends)
{
	struct sonde_filter_tuple t = { .protocol = IPPROTO_TCP };

	if (!sonde_socket_filtered)
		return false;
	fill_ends_read(sk, ends, &t.laddr, &t.raddr);
	t.lport = ends->port;
	t.rport = bpf_ntohs(ends->dport);
	return !sonde_socket_matches(&t);
}

/* ---- what a connection carried ---- */

sonde_inline __u32 side_known(const struct connection *c)
{
	if (!c || c->older)
		return TCP_SIDE_UNKNOWN;
	return c->client ? TCP_SIDE_CLIENT : TCP_SIDE_SERVER;
}

sonde_inline __u64 rtt_ns(__u32 min_rtt_us)
{
	return min_rtt_us == RTT_NONE ? 0 : (__u64)min_rtt_us * 1000;
}

#endif

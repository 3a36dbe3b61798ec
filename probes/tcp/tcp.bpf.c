// SPDX-License-Identifier: GPL-2.0-only
/*
 * tcp.connect, tcp.accept and tcp.close from the socket's own state changes: nothing runs per packet.
 *
 * Most of a connection's life passes in interrupts or in other tasks, so who connected or accepted is kept in
 * `tcp_connections` by the socket's address, from SYN sent (client) or established (server) to CLOSE. Not in socket
 * storage: accept() can be seen only where it returns, and what a tracepoint finds behind a descriptor is no pointer that
 * the verifier would take for a socket. A socket's changes are serialised by its lock, so entries need none.
 *
 * The figures of tcp.close are taken as the state becomes CLOSE, not at tcp_destroy_sock: by then tcp_disconnect() may
 * have wiped them, and a socket whose peer is gone may stay open for days.
 *
 * The kernel skips a tracing program that already runs on the same CPU (bpf_trace_run(), prog->active), and state changes
 * nest: a packet's interrupt comes upon the program as it serves connect() or close(). With receive steering on, up to one
 * change in a hundred was not seen. Two things are done about it. A second copy, state_nested, works where the first is
 * interrupted on this CPU. And what is still missed is made good by the next change that is seen: close() and
 * tcp_destroy_sock come from the task or run another program.
 */
#include "ends.bpf.h"
#include "tcp.h"

#define ECANCELED     125
#define EADDRNOTAVAIL 99

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
#define SOCK_DONE     (1ul << 1) /* enum sock_flags: the peer's FIN was taken in */
#define SHUTDOWN_MASK 3          /* both ways */
#define RTT_NONE      (~0u)      /* rtt_min before the first sample */

#define CONNECTIONS_MAX 65536

struct connection {
	struct sonde_owner owner;
	__u64 stack;        /* number of the stack that began a connect; 0: none was asked for */
	__u64 since;        /* boot clock: SYN sent, then established; 0: not known */
	__u32 handshake_us; /* server: SYN-ACK sent to ACK taken in */
	__be16 rport; /* of another connection: the entry is a leftover of the socket that had this address before */
	bool client, established, accepted;
	bool decided, unmatched; /* by the filter of sockets; all events of an unmatched one are filtered */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CONNECTIONS_MAX);
	__type(key, __u64);
	__type(value, struct connection);
} tcp_connections SEC(".maps");

/* Whether `state` runs on this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} tcp_running SEC(".maps");

sonde_inline struct connection *connection_of(struct tcp_sock *tp, __u64 key)
{
	struct connection *c = bpf_map_lookup_elem(&tcp_connections, &key);

	return c && c->rport == tp->inet_conn.icsk_inet.sk.__sk_common.skc_dport ? c : NULL;
}

/* For what cannot be said to be any task's doing. Where filters are set, it is not what they ask for. */
sonde_inline void owner_none(struct sonde_owner *owner)
{
	__u32 zero = 0;
	struct sonde_settings *s = bpf_map_lookup_elem(&sonde_settings, &zero);

	__builtin_memset(owner, 0, sizeof *owner);
	owner->flags = SONDE_FLAG_NO_TASK;
	owner->filtered = s && s->filters;
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

/* Whose a connection is of which nothing was seen before its end. */
sonde_inline void owner_unseen(struct sonde_owner *owner, struct tcp_sock *tp)
{
	owner_none(owner);
	if (!owner->filtered)
		owner->filtered = !tcp_socket_matches(tp);
}

/* ---- the client's side: SYN sent, established or failed ---- */

/* A client that did not bind its port has none yet: with a filter, it is asked when the answer comes. */
sonde_inline void decide_early(struct tcp_sock *tp, struct connection *c)
{
	if (!sonde_socket_filtered || tp->inet_conn.icsk_inet.inet_sport)
		decide(tp, c);
}

sonde_inline void connect_begins(struct tcp_sock *tp, __u64 key)
{
	struct connection c = { .client = true, .rport = tp->inet_conn.icsk_inet.sk.__sk_common.skc_dport };
	long error;

	decide_early(tp, &c);
	if (!c.unmatched) {
		sonde_owner_current(&c.owner);
		c.stack = sonde_take_stack(&sonde_bulk, &c.owner);
	}
	c.since = bpf_ktime_get_boot_ns();
	error = bpf_map_update_elem(&tcp_connections, &key, &c, BPF_ANY);
	if (error) {
		sonde_failed(error);
		sonde_lost(tcp_connect, SONDE_DROP_MAP_FULL);
	}
}

/* Returns when it ended. */
sonde_inline __u64 connect_ends(struct tcp_sock *tp, struct connection *c, __s32 error)
{
	struct tcp_connect *e;
	__u64 now;

	decide(tp, c);
	e = sonde_reserve_with(tcp_connect, sizeof *e, &c->owner, c->stack);
	now = e ? e->event.time : bpf_ktime_get_boot_ns();
	if (!e)
		return now;
	fill_ends(e, tp);
	e->error = error;
	e->latency_ns = now - c->since;
	sonde_submit(tcp_connect, e, sizeof *e);
	return now;
}

/* For a client that was established unseen. The handshake took a round trip: the first one measured. */
sonde_inline void connect_late(struct tcp_sock *tp, struct connection *c)
{
	__u32 min_rtt = tp->rtt_min.s[0].v;
	__u64 latency = min_rtt == RTT_NONE ? 0 : (__u64)min_rtt * 1000;
	struct tcp_connect *e;

	decide(tp, c);
	e = sonde_reserve_with(tcp_connect, sizeof *e, &c->owner, c->stack);
	c->established = true;
	c->since += latency;
	if (!e)
		return;
	e->event.time = c->since;
	fill_ends(e, tp);
	e->error = 0;
	e->latency_ns = latency;
	sonde_submit(tcp_connect, e, sizeof *e);
}

/* A connect that failed without an error on the socket: no port was left, or nobody waited for the answer any more. */
sonde_inline __s32 connect_error(struct tcp_sock *tp)
{
	__s32 error = tp->inet_conn.icsk_inet.sk.sk_err;

	if (error)
		return error;
	return tp->segs_out ? ECANCELED : EADDRNOTAVAIL;
}

/* ---- the server's side: established, accepted ---- */

/* The child socket keeps nothing of when its SYN came, but its first round-trip sample is the time from the SYN-ACK, sent as the
 * SYN was taken in, to the ACK that establishes it now. Source: net/ipv4/tcp_input.c tcp_synack_rtt_meas(). */
sonde_inline void server_established(struct tcp_sock *tp, __u64 key)
{
	struct connection c = { .since = bpf_ktime_get_boot_ns(),
				.handshake_us = tp->srtt_us >> 3,
				.rport = tp->inet_conn.icsk_inet.sk.__sk_common.skc_dport };
	long error;

	owner_none(&c.owner);
	decide(tp, &c);
	error = bpf_map_update_elem(&tcp_connections, &key, &c, BPF_ANY);
	if (error)
		sonde_failed(error);
}

sonde_inline void established(struct tcp_sock *tp, __u64 key, int from)
{
	struct connection *c = connection_of(tp, key);

	if (c && c->client) {
		c->established = true;
		c->since = connect_ends(tp, c, 0);
	} else if (c) /* fast open: accepted already */
		c->since = bpf_ktime_get_boot_ns();
	else if (from == TCP_SYN_RECV)
		server_established(tp, key);
}

/* What accept() has of a socket is an address that the verifier does not trust: all is copied, as little as will do. */
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

#define fill_ends_read(e, sk, ends) fill_ends_read_of((sk), (ends), &(e)->laddr, &(e)->raddr, &(e)->lport, &(e)->rport)
sonde_inline void fill_ends_read_of(struct sock *sk, const struct ends *ends, struct sonde_ip *laddr,
				    struct sonde_ip *raddr, __u16 *lport, __u16 *rport)
{
	struct in6_addr address = {};

	*lport = ends->port;
	*rport = bpf_ntohs(ends->dport);
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
	fill_ends_read(&t, sk, ends);
	return !sonde_socket_matches(&t);
}

/* Whether `sk` is a living TCP socket, and `socket` its own: meanwhile another thread may have put another file behind the
 * descriptor, which need not be a socket at all. */
sonde_inline bool is_tcp(struct sock *sk, struct socket *socket, const struct ends *ends)
{
	return (ends->family == AF_INET || ends->family == AF_INET6) && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP &&
	       BPF_CORE_READ(sk, sk_socket) == socket;
}

/* An entry for a socket that accept() returned while none was known: it was established before the agent began, or is yet to
 * be (fast open). */
sonde_inline struct connection *late_entry(struct sock *sk, const struct ends *ends, __u64 key)
{
	struct connection fresh = { .rport = ends->dport, .decided = true };
	long error;

	fresh.unmatched = unmatched_read(sk, ends);
	error = bpf_map_update_elem(&tcp_connections, &key, &fresh, BPF_ANY);

	if (error)
		sonde_failed(error);
	return bpf_map_lookup_elem(&tcp_connections, &key);
}

/* Whom an accepted connection belongs to; `c` NULL: it was reset already. */
sonde_inline void accept_owner(struct sonde_owner *owner, const struct connection *c, struct sock *sk,
			       const struct ends *ends)
{
	if (c ? !c->unmatched : !unmatched_read(sk, ends)) {
		sonde_owner_current(owner);
		return;
	}
	__builtin_memset(owner, 0, sizeof *owner);
	owner->filtered = 1;
}

sonde_inline int accepted(struct sock *sk, struct socket *socket)
{
	__u64 key = (__u64)sk, since = 0;
	struct connection *c = bpf_map_lookup_elem(&tcp_connections, &key);
	struct sonde_owner owner;
	struct tcp_accept *e;
	struct ends ends;

	if (read_ends(sk, &ends))
		return 0;
	if (!c || c->rport != ends.dport) {
		if (!is_tcp(sk, socket, &ends))
			return 0;
		c = ends.state == TCP_CLOSE ? NULL : late_entry(sk, &ends, key);
	} else if (c->client || c->accepted) {
		return 0;
	}
	accept_owner(&owner, c, sk, &ends);
	if (c) {
		c->owner = owner;
		c->accepted = true;
		since = c->since ? c->since - (__u64)c->handshake_us * 1000 : 0;
	}
	e = sonde_reserve_owned(tcp_accept, sizeof *e, &owner);
	if (!e)
		return 0;
	fill_ends_read(e, sk, &ends);
	e->latency_ns = since ? e->event.time - since : 0;
	sonde_submit(tcp_accept, e, sizeof *e);
	return 0;
}

sonde_inline int accept_returns(long fd)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct file *file = NULL;
	struct socket *socket;

	if (fd < 0 || bpf_probe_read_kernel(&file, sizeof file, task->files->fdt->fd + fd))
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	return accepted(BPF_CORE_READ(socket, sk), socket);
}

SONDE_COVERED_BY("accept__fexit")
SEC("tracepoint/syscalls/sys_exit_accept4")
int accept4__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	return accept_returns(ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_accept")
int accept__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	return accept_returns(ctx->ret);
}

/* Preferred: tracing one system call's exit takes every system call of every task on the kernel's slow way. Sees io_uring
 * and 32-bit programs too. `newsock` has its sock only when a connection was accepted. */
SONDE_PREFERRED
SEC("fexit/inet_accept")
int BPF_PROG(accept__fexit, struct socket *sock, struct socket *newsock)
{
	struct sock *sk = newsock->sk;

	return sk ? accepted(sk, newsock) : 0;
}

/* ---- the end ---- */

/* Sequence numbers are exact where byte counters are not: bytes_sent counts what the device refused and was sent again. The
 * client's SYN is among bytes_acked (tcp_ack() takes it in), the server's is not (the child begins behind it); a FIN is
 * the last number before write_seq. */
sonde_inline __u64 sent_sequence(struct tcp_sock *tp, int from)
{
	bool fin = from == TCP_FIN_WAIT1 || from == TCP_FIN_WAIT2 || from == TCP_CLOSING || from == TCP_LAST_ACK;

	return tp->bytes_acked + (__u32)(tp->snd_nxt - tp->snd_una) - (fin && tp->snd_nxt == tp->write_seq);
}

/* Whose end of a connection this is that began before the agent: by the SYN among what was sent. */
sonde_inline void fill_sent(struct tcp_close *e, struct tcp_sock *tp, const struct connection *c, int from)
{
	__u64 sequence = sent_sequence(tp, from), bytes = tp->bytes_sent - tp->bytes_retrans;

	if (c && c->client)
		e->side = TCP_SIDE_CLIENT;
	else if (c || sequence == bytes)
		e->side = TCP_SIDE_SERVER;
	else
		e->side = sequence == bytes + 1 ? TCP_SIDE_CLIENT : TCP_SIDE_UNKNOWN;
	e->sent_bytes = e->side == TCP_SIDE_UNKNOWN ? bytes : sequence - (e->side == TCP_SIDE_CLIENT);
}

sonde_inline void connection_ends(struct tcp_sock *tp, const struct connection *c, int from)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	struct sonde_owner none;
	struct tcp_close *e;
	__u32 min_rtt;

	if (!c)
		owner_unseen(&none, tp);
	e = sonde_reserve_owned(tcp_close, sizeof *e, c ? &c->owner : &none);
	if (!e)
		return;
	fill_ends(e, tp);
	fill_sent(e, tp, c, from);
	e->received_bytes = tp->bytes_received - !!(sk->__sk_common.skc_flags & SOCK_DONE);
	e->life_ns = c && c->since ? e->event.time - c->since : 0;
	e->srtt_ns = (__u64)(tp->srtt_us >> 3) * 1000;
	min_rtt = tp->rtt_min.s[0].v;
	e->min_rtt_ns = min_rtt == RTT_NONE ? 0 : (__u64)min_rtt * 1000;
	e->retransmits = tp->total_retrans;
	e->error = sk->sk_err;
	sonde_submit(tcp_close, e, sizeof *e);
}

/* What should have been seen before a connection ends, made good. `here`: it is the current task that ends it. An accept that no
 * hook saw (io_uring, 32-bit programs): who closes it must have had it. */
sonde_inline void catch_up(struct tcp_sock *tp, struct connection *c, bool here)
{
	if (!c)
		return;
	if (c->client && !c->established)
		connect_late(tp, c);
	if (here && !c->client && !c->accepted) {
		if (!c->unmatched)
			sonde_owner_current(&c->owner);
		c->accepted = true;
	}
}

/* Whether it is the current task that ends it at once, by close() with unread data; a reset from the peer leaves one way open, or an
 * error. */
sonde_inline bool closed_here(struct tcp_sock *tp, int from)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;

	return (from == TCP_ESTABLISHED || from == TCP_CLOSE_WAIT) && sk->sk_shutdown == SHUTDOWN_MASK && !sk->sk_err;
}

sonde_inline void closed(struct tcp_sock *tp, __u64 key, int from)
{
	struct connection *c = connection_of(tp, key);

	if (from != TCP_SYN_SENT && from != TCP_SYN_RECV) {
		catch_up(tp, c, closed_here(tp, from));
		connection_ends(tp, c, from);
	} else if (c && c->client) {
		connect_ends(tp, c, connect_error(tp));
	} else if (c) { /* fast open: accepted, and dead before the handshake was done */
		connection_ends(tp, c, from);
	}
	if (c)
		bpf_map_delete_elem(&tcp_connections, &key);
}

sonde_inline int state_changes(struct sock *sk, int from, int to)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u64 key = (__u64)sk;

	if (!tp)
		return 0;
	if (to == TCP_SYN_SENT)
		connect_begins(tp, key);
	else if (to == TCP_ESTABLISHED)
		established(tp, key, from);
	else if (to == TCP_FIN_WAIT1 || to == TCP_LAST_ACK)
		catch_up(tp, connection_of(tp, key), true);
	else if (to == TCP_CLOSE && from != TCP_CLOSE && from != TCP_LISTEN)
		closed(tp, key, from);
	return 0;
}

/* Half of all changes say nothing. */
sonde_inline bool tells(int to)
{
	return to == TCP_SYN_SENT || to == TCP_ESTABLISHED || to == TCP_FIN_WAIT1 || to == TCP_LAST_ACK ||
	       to == TCP_CLOSE;
}

sonde_inline volatile __u32 *state_runs(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tcp_running, &zero);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(state__tp_btf, struct sock *sk, int from, int to)
{
	volatile __u32 *runs;

	if (!tells(to) || !(runs = state_runs()))
		return 0;
	*runs = 1;
	state_changes(sk, from, to);
	*runs = 0;
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(state_nested__tp_btf, struct sock *sk, int from, int to)
{
	volatile __u32 *runs;

	if (!tells(to) || !(runs = state_runs()) || !*runs)
		return 0;
	return state_changes(sk, from, to);
}

/* An entry that is still there: the end was not seen. The client's SYN was answered if something of it was acknowledged. */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(destroy__tp_btf, struct sock *sk)
{
	__u64 key = (__u64)sk;
	struct connection *c = bpf_map_lookup_elem(&tcp_connections, &key);
	struct tcp_sock *tp;

	if (!c)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp && c->rport == sk->__sk_common.skc_dport)
		closed(tp, key,
		       c->client && !tp->bytes_acked ? TCP_SYN_SENT
		       : sk->sk_err                  ? TCP_ESTABLISHED
						     : TCP_LAST_ACK);
	bpf_map_delete_elem(&tcp_connections, &key);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

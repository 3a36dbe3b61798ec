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
#include "connection.bpf.h"
#include "listen.bpf.h"
#include "reset.bpf.h"
#include "stats.bpf.h"

/* Arguments of the system call that a task is in; on arm64 its result comes over the first. */
#if defined(__TARGET_ARCH_arm64)
#define SYSCALL_FIRST(regs)  BPF_CORE_READ(regs, orig_x0)
#define SYSCALL_SECOND(regs) BPF_CORE_READ(regs, user_regs.regs[1])
#else
#define SYSCALL_FIRST(regs)  BPF_CORE_READ(regs, di)
#define SYSCALL_SECOND(regs) BPF_CORE_READ(regs, si)
#endif

#define EPERM         1
#define EACCES        13
#define EADDRNOTAVAIL 99
#define ENETUNREACH   101
#define EHOSTUNREACH  113
#define ECANCELED     125

/* Whether `state` runs on this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} tcp_running SEC(".maps");

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
		sonde_owner_called(&c.owner);
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
	__u64 latency = rtt_ns(tp->rtt_min.s[0].v);
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

/* ---- refused before there was anything to send: no route, or a rule against it ---- */

/* Such a socket never has a SYN to send. It is told from one whose SYN was answered that way by the sequence number that
 * a SYN is given, and that stays. Source: net/ipv4/tcp_ipv4.c tcp_v4_connect(). */
sonde_inline bool never_began(struct sock *sk, struct socket *socket, const struct ends *ends)
{
	return ends->state == TCP_CLOSE && is_tcp(sk, socket, ends) && !BPF_CORE_READ((struct tcp_sock *)sk, write_seq);
}

/* The first bytes of sockaddr_in and sockaddr_in6. */
struct destination {
	__u16 family;
	__be16 port;
	__be32 ip4;
	struct in6_addr ip6;
};

sonde_inline bool tells_refusal(long error)
{
	return error == ENETUNREACH || error == EHOSTUNREACH || error == EACCES || error == EPERM;
}

sonde_inline int refused(struct sock *sk, const struct ends *ends, const struct destination *to, __s32 error)
{
	struct sonde_filter_tuple t = { .protocol = IPPROTO_TCP, .lport = ends->port, .rport = bpf_ntohs(to->port) };
	struct sonde_owner owner = {};
	struct tcp_connect *e;

	fill_ends_read(sk, ends, &t.laddr, &t.raddr);
	if (to->family == AF_INET)
		fill_ip4(&t.raddr, to->ip4);
	else
		fill_ip6(&t.raddr, &to->ip6);
	if (sonde_socket_matches(&t))
		sonde_owner_called(&owner);
	else
		owner.filtered = 1;
	e = sonde_reserve_owned(tcp_connect, sizeof *e, &owner);
	if (!e)
		return 0;
	e->laddr = t.laddr;
	e->raddr = t.raddr;
	e->lport = t.lport;
	e->rport = t.rport;
	e->error = error;
	e->latency_ns = 0;
	sonde_submit(tcp_connect, e, sizeof *e);
	return 0;
}

/* By the program's own copy of the address: another thread may have changed it meanwhile, and has then deceived nobody but itself. */
SONDE_COVERED_BY("refused__fexit")
SEC("tracepoint/syscalls/sys_exit_connect")
int refused__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct destination to = {};
	struct pt_regs *saved;
	struct socket *socket;
	struct ends ends;
	struct sock *sk;

	if (!tells_refusal(-ctx->ret))
		return 0;
	saved = (struct pt_regs *)bpf_task_pt_regs(task);
	socket = socket_of(task, (__u32)SYSCALL_FIRST(saved));
	sk = BPF_CORE_READ(socket, sk);
	if (read_ends(sk, &ends) || !never_began(sk, socket, &ends))
		return 0;
	if (bpf_probe_read_user(&to, ends.family == AF_INET ? 8 : sizeof to, (void *)SYSCALL_SECOND(saved)))
		return 0;
	return refused(sk, &ends, &to, -ctx->ret);
}

SONDE_PREFERRED
SEC("fexit/inet_stream_connect")
int BPF_PROG(refused__fexit, struct socket *socket, void *address, int length, int flags, int result)
{
	struct destination to = {};
	struct sock *sk = socket->sk;
	struct ends ends;

	if (!tells_refusal(-result) || read_ends(sk, &ends) || !never_began(sk, socket, &ends))
		return 0;
	if (bpf_probe_read_kernel(&to, ends.family == AF_INET ? 8 : sizeof to, address))
		return 0;
	return refused(sk, &ends, &to, -result);
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

	sonde_owner_none(&c.owner);
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

/* An entry for a socket that accept() returned while none was known: it was established before the agent began, or is yet to
 * be (fast open). */
sonde_inline struct connection *late_entry(struct sock *sk, const struct ends *ends, __u64 key)
{
	struct connection fresh = { .rport = ends->dport, .older = ends->state != TCP_SYN_RECV, .decided = true };
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
	if (c ? !c->unmatched : !unmatched_read(sk, ends))
		sonde_owner_called(owner);
	else
		owner_unmatched(owner);
}

sonde_inline int accepted(struct sock *sk, struct socket *socket)
{
	__u64 key = (__u64)sk, since = 0, handshake_ns = 0;
	struct connection *c = bpf_map_lookup_elem(&tcp_connections, &key);
	struct sonde_owner owner = {};
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
		since = c->since;
		handshake_ns = (__u64)c->handshake_us * 1000;
	}
	e = sonde_reserve_owned(tcp_accept, sizeof *e, &owner);
	if (!e)
		return 0;
	fill_ends_read(sk, &ends, &e->laddr, &e->raddr);
	e->lport = ends.port;
	e->rport = bpf_ntohs(ends.dport);
	e->accept_wait_ns = since ? e->event.time - since : 0;
	e->handshake_ns = since ? handshake_ns : 0;
	e->latency_ns = e->accept_wait_ns + e->handshake_ns;
	sonde_submit(tcp_accept, e, sizeof *e);
	return 0;
}

sonde_inline int accept_returns(long fd)
{
	struct socket *socket;

	if (fd < 0)
		return 0;
	socket = socket_of(bpf_get_current_task_btf(), (__u32)fd);
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

sonde_inline void fill_sent(struct tcp_close *e, struct tcp_sock *tp, const struct connection *c, int from)
{
	__u64 sequence = sequence_sent(tp->bytes_acked, tp->snd_una, tp->snd_nxt, tp->write_seq, from),
	      bytes = tp->bytes_sent - tp->bytes_retrans;

	e->side = side_known(c);
	if (!e->side)
		e->side = side_by_sequence(sequence, bytes);
	e->sent_bytes = e->side == TCP_SIDE_UNKNOWN ? bytes : sequence - (e->side == TCP_SIDE_CLIENT);
}

sonde_inline void fill_path(struct tcp_close *e, struct tcp_sock *tp)
{
	e->srtt_ns = (__u64)(tp->srtt_us >> 3) * 1000;
	e->rttvar_ns = (__u64)(tp->mdev_us >> 2) * 1000;
	e->min_rtt_ns = rtt_ns(tp->rtt_min.s[0].v);
	e->retransmits = tp->total_retrans;
	e->reordering = tp->reord_seen;
	e->cwnd = tp->snd_cwnd;
	BPF_CORE_READ_INTO(&e->congestion, tp, inet_conn.icsk_ca_ops, name);
}

/* What the kernel itself keeps of what held up the sender, one account at a time. Source: net/ipv4/tcp.c
 * tcp_get_info_chrono_stats(). */
enum { CHRONO_BUSY = 1, CHRONO_RWND_LIMITED, CHRONO_SNDBUF_LIMITED };

sonde_inline void fill_limits(struct tcp_close *e, struct tcp_sock *tp)
{
	__u8 runs = BPF_CORE_READ_BITFIELD(tp, chrono_type);
	__u32 so_far = runs ? (__u32)bpf_jiffies64() - tp->chrono_start : 0;
	__u32 rwnd = tp->chrono_stat[CHRONO_RWND_LIMITED - 1] + (runs == CHRONO_RWND_LIMITED ? so_far : 0);
	__u32 sndbuf = tp->chrono_stat[CHRONO_SNDBUF_LIMITED - 1] + (runs == CHRONO_SNDBUF_LIMITED ? so_far : 0);
	__u32 rest = tp->chrono_stat[CHRONO_BUSY - 1] + (runs == CHRONO_BUSY ? so_far : 0);

	e->rwnd_limited_ns = (__u64)rwnd * sonde_tick_ns;
	e->sndbuf_limited_ns = (__u64)sndbuf * sonde_tick_ns;
	e->busy_ns = (__u64)rest * sonde_tick_ns + e->rwnd_limited_ns + e->sndbuf_limited_ns;
}

sonde_inline void connection_ends(struct tcp_sock *tp, const struct connection *c, int from)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;
	struct sonde_owner none;
	struct tcp_close *e;

	if (!c)
		owner_unseen(&none, tp);
	e = sonde_reserve_owned(tcp_close, sizeof *e, c ? &c->owner : &none);
	if (!e)
		return;
	fill_ends(e, tp);
	fill_sent(e, tp, c, from);
	fill_path(e, tp);
	fill_limits(e, tp);
	e->received_bytes = tp->bytes_received - !!(sk->__sk_common.skc_flags & SOCK_DONE);
	e->life_ns = c && c->since ? e->event.time - c->since : 0;
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
			sonde_owner_called(&c->owner);
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

/* Whether this end gives the connection up, so that a reset may follow. Nobody but a task of this end does that with an open connection
 * and leaves no error; where both ways were shut, the socket goes soon. */
sonde_inline bool may_reset(struct tcp_sock *tp, int from)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;

	return !sk->sk_err && (from == TCP_ESTABLISHED || from == TCP_CLOSE_WAIT || sk->sk_shutdown == SHUTDOWN_MASK);
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
	if (c && may_reset(tp, from))
		c->ended = (__u8)from;
	else if (c)
		forget(key, c->reported);
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
	else if (to == TCP_LISTEN)
		listener_begins(tp, key);
	else if (to == TCP_CLOSE && from == TCP_LISTEN)
		listener_ends(key);
	else if (to == TCP_CLOSE && from != TCP_CLOSE)
		closed(tp, key, from);
	return 0;
}

/* Half of all changes say nothing. */
sonde_inline bool tells(int to)
{
	return to == TCP_SYN_SENT || to == TCP_ESTABLISHED || to == TCP_FIN_WAIT1 || to == TCP_LAST_ACK ||
	       to == TCP_CLOSE || to == TCP_LISTEN;
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

/* An entry that is still there: a reset may follow yet, or the end was not seen. The client's SYN was answered if something of
 * it was acknowledged. */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(destroy__tp_btf, struct sock *sk)
{
	__u64 key = (__u64)sk;
	struct connection *c = bpf_map_lookup_elem(&tcp_connections, &key);
	struct tcp_sock *tp;
	bool reported;

	if (!c)
		return 0;
	reported = c->reported;
	tp = bpf_skc_to_tcp_sock(sk);
	if (c->ended)
		gone_keep(c, key);
	else if (tp && c->rport == sk->__sk_common.skc_dport)
		closed(tp, key,
		       c->client && !tp->bytes_acked ? TCP_SYN_SENT
		       : sk->sk_err                  ? TCP_ESTABLISHED
						     : TCP_LAST_ACK);
	forget(key, reported);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

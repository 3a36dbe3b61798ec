/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tcp.stats, and the sockets that are older than the agent. The agent walks through the table of connections, a piece at a time, and not through
 * the kernel's own: an iterator over that one sees the network namespace of who opens it, and joining the others takes privileges that
 * the agent has given up by then. Here are the connections of all namespaces, with their owners. What is behind an address of the table
 * may be going meanwhile: it is copied, never followed.
 */
#ifndef SONDE_TCP_STATS_BPF_H
#define SONDE_TCP_STATS_BPF_H

#include "connection.bpf.h"
#include "listen.bpf.h"

#define STATES_LIVE                                                                                                    \
	(1u << TCP_ESTABLISHED | 1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 | 1u << TCP_CLOSE_WAIT |                    \
	 1u << TCP_LAST_ACK | 1u << TCP_CLOSING)

SONDE_SETTING(__u64, interval, 60000000000ull, 0, 0, "ns",
	      "how often a connection that lives longer is a tcp.stats; 0s: never");

/* What a connection had carried as of the last report. Sequence numbers as they are, SYN included. */
struct report {
	__u64 at; /* boot clock */
	__u64 sequence, received;
	__u32 retransmits;
	__u32 _pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, CONNECTIONS_MAX);
	__type(key, __u64);
	__type(value, struct report);
} tcp_reports SEC(".maps");

sonde_inline void forget(__u64 key, bool reported)
{
	if (reported)
		bpf_map_delete_elem(&tcp_reports, &key);
	bpf_map_delete_elem(&tcp_connections, &key);
}

sonde_inline bool is_live(const struct ends *ends)
{
	return ends->state < 32 && 1u << ends->state & STATES_LIVE;
}

sonde_inline void read_report(struct report *r, struct sock *sk, const struct ends *ends)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;

	r->sequence = sequence_sent(BPF_CORE_READ(tp, bytes_acked), BPF_CORE_READ(tp, snd_una),
				    BPF_CORE_READ(tp, snd_nxt), BPF_CORE_READ(tp, write_seq), ends->state);
	r->received = BPF_CORE_READ(tp, bytes_received) - !!(BPF_CORE_READ(sk, __sk_common.skc_flags) & SOCK_DONE);
	r->retransmits = BPF_CORE_READ(tp, total_retrans);
	r->_pad = 0;
}

sonde_inline long report_keep(struct connection *c, __u64 key, const struct report *r)
{
	long error = bpf_map_update_elem(&tcp_reports, &key, r, BPF_ANY);

	if (error)
		sonde_failed(error);
	else
		c->reported = true;
	return error;
}

sonde_inline void report_write(struct sock *sk, const struct ends *ends, const struct connection *c,
			       const struct report *before, const struct report *now)
{
	struct tcp_stats *e = sonde_reserve_owned(tcp_stats, sizeof *e, &c->owner);
	struct tcp_sock *tp = (struct tcp_sock *)sk;

	if (!e)
		return;
	fill_ends_read(sk, ends, &e->laddr, &e->raddr);
	e->lport = ends->port;
	e->rport = bpf_ntohs(ends->dport);
	e->side = side_known(c);
	if (!e->side)
		e->side = side_by_sequence(now->sequence,
					   BPF_CORE_READ(tp, bytes_sent) - BPF_CORE_READ(tp, bytes_retrans));
	e->sent_bytes = now->sequence - before->sequence;
	e->received_bytes = now->received - before->received;
	e->window_ns = before->at ? now->at - before->at : 0;
	e->life_ns = c->since ? now->at - c->since : 0;
	e->srtt_ns = (__u64)(BPF_CORE_READ(tp, srtt_us) >> 3) * 1000;
	e->rttvar_ns = (__u64)(BPF_CORE_READ(tp, mdev_us) >> 2) * 1000;
	e->min_rtt_ns = rtt_ns(BPF_CORE_READ(tp, rtt_min.s[0].v));
	e->retransmits = now->retransmits - before->retransmits;
	e->cwnd = BPF_CORE_READ(tp, snd_cwnd);
	e->state = ends->state;
	sonde_submit(tcp_stats, e, sizeof *e);
}

/* The first report is due once the connection is an interval old; later ones as often as the table is walked through. */
sonde_inline void report(struct connection *c, __u64 key, const struct ends *ends)
{
	struct report now, before = { .at = c->since, .sequence = c->client }, *last = NULL;

	now.at = bpf_ktime_get_boot_ns();
	if (c->reported)
		last = bpf_map_lookup_elem(&tcp_reports, &key);
	if (last)
		before = *last;
	else if (now.at - c->since < interval)
		return;
	read_report(&now, (struct sock *)key, ends);
	if (now.sequence == before.sequence && now.received == before.received && now.retransmits == before.retransmits)
		return;
	if (report_keep(c, key, &now))
		sonde_lost(tcp_stats, SONDE_DROP_MAP_FULL);
	else
		report_write((struct sock *)key, ends, c, &before, &now);
}

/* Each entry puts out a byte, so that a read of as many bytes is a piece of the walk. Entries that were left over go. */
SEC("iter/bpf_map_elem")
int stats__iter(struct bpf_iter__bpf_map_elem *ctx)
{
	struct connection *c = ctx->value;
	__u64 *address = ctx->key, key;
	struct ends ends;
	char one = 0;

	if (!address || !c)
		return 0;
	key = *address;
	bpf_seq_write(ctx->meta->seq, &one, sizeof one);
	if (read_ends((struct sock *)key, &ends))
		return 0;
	if (c->ended || c->rport != ends.dport)
		forget(key, c->reported);
	else if (is_live(&ends))
		report(c, key, &ends);
	return 0;
}

/* ---- sockets that are older than the agent: whose descriptor it is, owns it ---- */

sonde_inline void older_listener(const struct sonde_owner *owner, struct sock *sk, const struct ends *ends)
{
	struct listener l = { .owner = *owner,
			      .said = bpf_ktime_get_boot_ns(),
			      .drops = BPF_CORE_READ(sk, sk_drops.counter),
			      .port = ends->port };

	listener_keep((__u64)sk, &l, BPF_NOEXIST);
}

sonde_inline void older_connection(const struct sonde_owner *owner, struct sock *sk, const struct ends *ends)
{
	struct connection c = { .owner = *owner,
				.rport = ends->dport,
				.established = true,
				.accepted = true,
				.older = true,
				.decided = true };
	struct connection *kept;
	__u64 key = (__u64)sk;
	struct report r;
	long error = bpf_map_update_elem(&tcp_connections, &key, &c, BPF_NOEXIST);

	if (error == -EEXIST)
		return;
	if (error)
		sonde_failed(error);
	kept = interval ? bpf_map_lookup_elem(&tcp_connections, &key) : NULL;
	if (!kept)
		return;
	r.at = bpf_ktime_get_boot_ns();
	read_report(&r, sk, ends);
	report_keep(kept, key, &r);
}

/* The first that has it: of several, who has the least pid. */
SEC("iter/task_file")
int older__iter(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct sonde_owner owner;
	struct socket *socket;
	struct ends ends;
	struct sock *sk;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	sk = socket ? socket->sk : NULL;
	if (!sk || read_ends(sk, &ends) || !is_tcp(sk, socket, &ends))
		return 0;
	if (unmatched_read(sk, &ends))
		owner_unmatched(&owner);
	else
		sonde_owner_of(&owner, task);
	if (ends.state == TCP_LISTEN)
		older_listener(&owner, sk, &ends);
	else if (is_live(&ends))
		older_connection(&owner, sk, &ends);
	return 0;
}

#endif

// SPDX-License-Identifier: GPL-2.0-only
/*
 * udp.socket: what each socket carried is added up with the socket, in its storage, and said as it is closed and once an interval. Nothing
 * is sent for a datagram.
 *
 * The counters hold what was not said yet. Whoever makes a row, the socket's close or the reading of all sockets, takes it out of
 * them by exchange, so that two at once say nothing twice and what comes meanwhile is in the next row. Drops are the kernel's own
 * count: the storage has how many of them were said.
 *
 * Filters of sockets are asked when there is a row, of the ends that it says: a socket has them long after it is made, and may change them.
 */
#include "sonde/probe.bpf.h"
#include "sonde/filter.bpf.h"
#include <bpf/bpf_endian.h>
#include "probes/tcp/ip4.bpf.h"
#include "udp.h"

#define AF_INET      2
#define AF_INET6     10
#define SOCK_DGRAM   2
#define IPPROTO_UDP  17
#define RCV_SHUTDOWN 1
#define MSG_PEEK     2
#define MSG_ERRQUEUE 0x2000

#define EINTR       4
#define EAGAIN      11
#define ERESTARTSYS 512

/* Source: include/uapi/linux/errqueue.h. */
#define SO_EE_ORIGIN_ICMP  2
#define SO_EE_ORIGIN_ICMP6 3

struct use {
	struct sonde_owner owner; /* who used it last; before that, who made it */
	__u64 execs;              /* of that task: it is another program's after an exec */
	__u64 sent, sent_bytes, received, received_bytes, errors;
	__u64 begin;  /* boot clock: it was made; 0: before the agent */
	__u64 since;  /* boot clock: of what the counters hold */
	__u64 drops;  /* of the kernel's count, what was said */
	__u32 queued; /* how many errors its queue held, as it was looked at last */
	__s32 error;  /* of an ICMP message: what a call will return for it, or has */
	bool said;    /* it has a row */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct use);
} udp_uses SEC(".maps");

/* ---- sockets ---- */

/* Other families have protocols 17 of their own, and raw sockets UDP's. */
sonde_inline bool is_udp(const struct sock *sk)
{
	return sk->sk_protocol == IPPROTO_UDP && sk->sk_type == SOCK_DGRAM &&
	       (sk->__sk_common.skc_family == AF_INET || sk->__sk_common.skc_family == AF_INET6);
}

/* Linux 6.18 counts by NUMA node, in two counters. Source: include/net/sock.h sk_drops_read(). */
sonde_inline __u64 drops_of(struct sock *sk)
{
	struct numa_drop_counters *counters = NULL;

	if (bpf_core_field_exists(sk->sk_drop_counters))
		counters = BPF_CORE_READ(sk, sk_drop_counters);
	if (!counters)
		return (__u32)BPF_CORE_READ(sk, sk_drops.counter);
	return (__u32)BPF_CORE_READ(counters, drops0.counter) + (__u32)BPF_CORE_READ(counters, drops1.counter);
}

/* The kernel's own sockets (tunnels, file systems) are nobody's, and no hook tells their end. */
sonde_inline struct use *use_begin(struct sock *sk)
{
	struct use *u;

	if (BPF_CORE_READ_BITFIELD(sk, sk_kern_sock))
		return NULL;
	u = bpf_sk_storage_get(&udp_uses, sk, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!u) {
		sonde_failed(-12);
		return NULL;
	}
	sonde_owner_none(&u->owner);
	u->since = bpf_ktime_get_boot_ns();
	u->drops = drops_of(sk);
	return u;
}

sonde_inline struct use *use_of(struct sock *sk)
{
	struct use *u = bpf_sk_storage_get(&udp_uses, sk, NULL, 0);

	return u ? u : use_begin(sk);
}

sonde_inline void take_owner(struct use *u)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct sonde_owner owner;

	if (u->owner.pid == (__u32)task->tgid && u->execs == task->self_exec_id)
		return;
	sonde_owner_current(&owner);
	u->owner = owner;
	u->execs = task->self_exec_id;
}

/* ---- what it carries ---- */

/* Not what only asks to try again, and not what an ICMP error, which was counted as it came, makes of the next call. */
sonde_inline void send_fails(struct use *u, __s32 error)
{
	if (error == EAGAIN || error == EINTR || error == ERESTARTSYS)
		return;
	if (error == u->error)
		u->error = 0;
	else
		__sync_fetch_and_add(&u->errors, 1);
}

sonde_inline int sends(struct sock *sk, int ret)
{
	struct use *u = use_of(sk);

	if (!u)
		return 0;
	take_owner(u);
	if (ret < 0) {
		send_fails(u, -ret);
		return 0;
	}
	__sync_fetch_and_add(&u->sent, 1);
	__sync_fetch_and_add(&u->sent_bytes, (__u32)ret);
	return 0;
}

sonde_inline int receive_fails(struct use *u, __s32 error)
{
	if (error == u->error)
		u->error = 0;
	return 0;
}

/* A socket that was shut down returns 0 without a datagram. */
sonde_inline int receives(struct sock *sk, int ret, int flags)
{
	struct use *u;

	if (flags & MSG_PEEK)
		return 0;
	u = use_of(sk);
	if (!u)
		return 0;
	if (flags & MSG_ERRQUEUE) {
		u->queued = sk->sk_error_queue.qlen;
		return 0;
	}
	if (ret < 0)
		return receive_fails(u, -ret);
	if (!ret && sk->sk_shutdown & RCV_SHUTDOWN)
		return 0;
	take_owner(u);
	__sync_fetch_and_add(&u->received, 1);
	__sync_fetch_and_add(&u->received_bytes, (__u32)ret);
	return 0;
}

/* Linux 6.3, where fexit is refused: for every socket of whatever kind, TCP's too. */
SEC("tp_btf/sock_send_length")
int BPF_PROG(send__tp_btf, struct sock *sk, int ret, int flags)
{
	return is_udp(sk) ? sends(sk, ret) : 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(receive__tp_btf, struct sock *sk, int ret, int flags)
{
	return is_udp(sk) ? receives(sk, ret, flags) : 0;
}

/* Of UDP alone. What an IPv6 socket sends over IPv4 passes both. */
SONDE_PREFERRED
SEC("fexit/udp_sendmsg")
int BPF_PROG(send__fexit, struct sock *sk, void *message, unsigned long bytes, int ret)
{
	return is_udp(sk) && sk->__sk_common.skc_family == AF_INET ? sends(sk, ret) : 0;
}

SONDE_COVERED_BY("send__tp_btf")
SEC("fexit/udpv6_sendmsg")
int BPF_PROG(send6__fexit, struct sock *sk, void *message, unsigned long bytes, int ret)
{
	return is_udp(sk) ? sends(sk, ret) : 0;
}

/* Before Linux 5.19 there was one argument more, ahead of the flags. */
sonde_inline int receive_returns(struct sock *sk, volatile unsigned long long *arguments)
{
	if (!is_udp(sk))
		return 0;
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_dynptr_from_mem))
		return receives(sk, (int)arguments[5], (int)arguments[3]);
	return receives(sk, (int)arguments[6], (int)arguments[4]);
}

SONDE_PREFERRED
SEC("fexit/udp_recvmsg")
int receive__fexit(unsigned long long *arguments)
{
	return receive_returns((struct sock *)arguments[0], arguments);
}

SONDE_COVERED_BY("receive__tp_btf")
SEC("fexit/udpv6_recvmsg")
int receive6__fexit(unsigned long long *arguments)
{
	return receive_returns((struct sock *)arguments[0], arguments);
}

/* ---- ICMP errors ---- */

sonde_inline bool icmp_is_last(struct sock *sk, __u32 queued)
{
	const __u32 origin = bpf_core_field_offset(struct sk_buff, cb) +
			     bpf_core_field_offset(struct sock_exterr_skb, ee) +
			     bpf_core_field_offset(struct sock_extended_err, ee_origin);
	void *last = BPF_CORE_READ(sk, sk_error_queue.prev);
	__u8 value = 0;

	if (!queued || bpf_probe_read_kernel(&value, sizeof value, last + origin) < 0)
		return false;
	return value == SO_EE_ORIGIN_ICMP || value == SO_EE_ORIGIN_ICMP6;
}

/* Also called for time stamps; and where the program asked for the queue of errors (IP_RECVERR), a second time for an error that was just
 * queued, and again as the queue is read. Source: net/core/skbuff.c sock_queue_err_skb(), sock_dequeue_err_skb(), net/ipv4/udp.c
 * __udp4_lib_err(). */
SEC("tp_btf/inet_sk_error_report")
int BPF_PROG(error__tp_btf, struct sock *sk)
{
	struct use *u = is_udp(sk) ? use_of(sk) : NULL;
	__u32 queued;
	bool icmp;

	if (!u)
		return 0;
	queued = sk->sk_error_queue.qlen;
	icmp = icmp_is_last(sk, queued);
	if (queued > u->queued ? icmp : sk->sk_err && !icmp)
		__sync_fetch_and_add(&u->errors, 1);
	u->queued = queued;
	if (sk->sk_err)
		u->error = sk->sk_err;
	return 0;
}

/* ---- rows ---- */

sonde_inline __u64 take(__u64 *value)
{
	return __sync_lock_test_and_set(value, 0);
}

/* By copies: of a socket that a cgroup's program is given, no member can be loaded. */
sonde_inline void read_ends(struct sonde_filter_tuple *t, struct sock *sk)
{
	struct in6_addr address = {};
	__be32 remote;

	t->protocol = IPPROTO_UDP;
	t->lport = BPF_CORE_READ(sk, __sk_common.skc_num);
	t->rport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET) {
		remote = BPF_CORE_READ(sk, __sk_common.skc_daddr);
		fill_ip4(&t->laddr, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		if (remote)
			fill_ip4(&t->raddr, remote);
		return;
	}
	if (bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
		BPF_CORE_READ_INTO(&address, sk, __sk_common.skc_v6_rcv_saddr);
		__builtin_memcpy(&t->laddr, &address, sizeof address);
		BPF_CORE_READ_INTO(&address, sk, __sk_common.skc_v6_daddr);
		__builtin_memcpy(&t->raddr, &address, sizeof address);
	}
}

/* `t` was read once: a row says what the filter was asked, also where the socket is connected anew meanwhile. */
sonde_inline void fill_ends(struct udp_socket *e, const struct sonde_filter_tuple *t)
{
	e->laddr = t->laddr;
	e->raddr = t->raddr;
	e->lport = t->lport;
	e->rport = t->rport;
}

SONDE_SOCKET_FILTER();

/* By itself: the packet that stands for the socket shall not lie on its callers' stacks. */
static __noinline bool filter_matches(const struct sonde_filter_tuple *t)
{
	return sonde_socket_matches(t);
}

sonde_inline bool is_meant(const struct sonde_filter_tuple *t)
{
	return !sonde_socket_filtered || filter_matches(t);
}

/* What was dropped since the last row. Of two readings at once the older may come later, and has nothing. */
sonde_inline __u64 take_drops(struct use *u, __u64 drops)
{
	__s32 more = (__s32)(drops - __sync_lock_test_and_set(&u->drops, drops));

	return more > 0 ? more : 0;
}

sonde_inline void fill(struct udp_socket *e, struct sock *sk, struct use *u, __u64 now)
{
	e->net_ns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	e->sent = take(&u->sent);
	e->received = take(&u->received);
	e->sent_bytes = take(&u->sent_bytes);
	e->received_bytes = take(&u->received_bytes);
	e->errors = take(&u->errors);
	e->drops = take_drops(u, drops_of(sk));
	e->life_ns = u->begin ? now - u->begin : 0;
	e->window_ns = now - __sync_lock_test_and_set(&u->since, now);
	u->said = true;
}

sonde_inline bool has_news(struct sock *sk, const struct use *u)
{
	return u->sent || u->received || u->errors || u->drops != drops_of(sk);
}

sonde_inline void ends(struct sock *sk, struct use *u)
{
	struct sonde_filter_tuple t = {};
	struct udp_socket *e;

	if (!u->said && !has_news(sk, u))
		return;
	read_ends(&t, sk);
	if (!is_meant(&t)) {
		sonde_left_out(udp_socket);
		return;
	}
	e = sonde_reserve_with(udp_socket, sizeof *e, &u->owner, 0);
	if (!e)
		return;
	fill_ends(e, &t);
	fill(e, sk, u, e->event.time);
	e->closed = true;
	sonde_submit(udp_socket, e, sizeof *e);
}

SEC("fentry/inet_release")
int BPF_PROG(end__fentry, struct socket *socket)
{
	struct sock *sk = socket->sk;
	struct use *u = sk && is_udp(sk) ? bpf_sk_storage_get(&udp_uses, sk, NULL, 0) : NULL;

	if (u)
		ends(sk, u);
	return 0;
}

/* Where programs cannot hang on functions. What the program is given is the socket itself. Source: kernel/bpf/cgroup.c
 * __cgroup_bpf_run_filter_sk(). */
SONDE_PREFERRED
SEC("cgroup/sock_release")
int end__cgroup(struct bpf_sock *ctx)
{
	struct use *u = NULL;

	if (ctx->protocol == IPPROTO_UDP && ctx->type == SOCK_DGRAM)
		u = bpf_sk_storage_get(&udp_uses, ctx, NULL, 0);
	if (u)
		ends((struct sock *)ctx, u);
	return 1;
}

/* Those that live, once an interval: a row of each that has something to say. Of one that is filtered, what the row would have
 * said is taken out of the counters too: it is not said later, when the socket has another peer or owner. */
SEC("iter/bpf_sk_storage_map")
int living__iter(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct use *u = sk ? bpf_sk_storage_get(&udp_uses, sk, NULL, 0) : NULL;
	struct sonde_filter_tuple t = {};
	struct udp_socket e = {};

	if (!u || !has_news(sk, u))
		return 0;
	read_ends(&t, sk);
	sonde_fill_header(&e.event, udp_socket_type.id, &u->owner);
	e.event.size = sizeof e;
	fill_ends(&e, &t);
	fill(&e, sk, u, e.event.time);
	if (u->owner.filtered || !is_meant(&t)) {
		sonde_left_out(udp_socket);
		return 0;
	}
	bpf_seq_write(ctx->meta->seq, &e, sizeof e);
	return 0;
}

/* ---- how it begins ---- */

/* Nobody else knows the socket yet. */
sonde_inline void made(struct use *u)
{
	u->begin = u->since = bpf_ktime_get_boot_ns();
	take_owner(u);
}

SEC("fentry/security_socket_post_create")
int BPF_PROG(create__fentry, struct socket *socket, int family, int type, int protocol, int kernel)
{
	struct sock *sk = socket->sk;
	struct use *u = sk && is_udp(sk) ? use_begin(sk) : NULL;

	if (u)
		made(u);
	return 0;
}

SONDE_PREFERRED
SEC("cgroup/sock_create")
int create__cgroup(struct bpf_sock *ctx)
{
	struct use *u;

	if (ctx->protocol != IPPROTO_UDP || ctx->type != SOCK_DGRAM)
		return 1;
	u = bpf_sk_storage_get(&udp_uses, ctx, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (u)
		made(u);
	else
		sonde_failed(-12);
	return 1;
}

/* Once, as the agent begins: sockets of whatever network namespace, and who has them. */
SEC("iter/task_file")
int older__iter(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct sonde_owner owner;
	struct socket *socket;
	struct sock *sk;
	struct use *u;

	socket = task && file ? bpf_sock_from_file(file) : NULL;
	sk = socket ? socket->sk : NULL;
	if (!sk || !is_udp(sk))
		return 0;
	u = use_of(sk);
	if (!u || u->owner.pid)
		return 0;
	sonde_owner_of(&owner, task);
	u->owner = owner;
	u->execs = task->self_exec_id;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

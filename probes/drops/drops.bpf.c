// SPDX-License-Identifier: GPL-2.0-only
/*
 * net.drop: what passes kfree_skb is summed here, by reason, place, protocol, service and network namespace; a drop costs no record and no
 * wake-up. A window's sums are read when the next one is some time old, so that no program still adds to them. What a row tells beside
 * its sums is of the first packet: written once, before others can see it, and so never mixed.
 *
 * A packet does not say whose it is, but its socket may: who made a socket is kept in its storage, and passed on to what a listener accepts.
 */
#include "sonde/probe.bpf.h"
#include "sonde/filter.bpf.h"
#include <bpf/bpf_endian.h>
#include "probes/tcp/ip4.bpf.h"
#include "drops.h"

#define AF_INET           2
#define AF_INET6          10
#define ETH_P_IP          0x0800
#define ETH_P_IPV6        0x86dd
#define IPPROTO_TCP       6
#define IPPROTO_UDP       17
#define IPPROTO_DCCP      33
#define IPPROTO_SCTP      132
#define IPPROTO_UDPLITE   136
#define TCP_TIME_WAIT     6
#define TCP_NEW_SYN_RECV  12
#define NO_NETWORK_HEADER 0xffff
#define CLIENT_PORTS      32768 /* the first that kernels give to who asks for any */

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct sonde_owner);
} drops_owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DROPS_KEYS);
	__type(key, struct drops_key);
	__type(value, struct drops_sums);
} drops_table SEC(".maps");

__u32 drops_window SEC(".data") = 0; /* set by the module */

/* ---- the packet ---- */

struct packet {
	struct sonde_ip source, destination;
	__u16 source_port, destination_port;
	__u16 protocol; /* as in the key */
	bool has_addresses;
};

/* The beginning of an IP header, either version, and of what follows an IPv4 header without options. */
union header {
	__u8 bytes[44];
	__u16 halves[22];
	__u32 words[11];
};

sonde_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_UDP || protocol == IPPROTO_TCP || protocol == IPPROTO_SCTP ||
	       protocol == IPPROTO_UDPLITE || protocol == IPPROTO_DCCP;
}

sonde_inline void read_ports(struct packet *p, const void *at)
{
	__be16 ports[2] = {};

	if (!has_ports((__u8)p->protocol))
		return;
	bpf_probe_read_kernel(ports, sizeof ports, at);
	p->source_port = bpf_ntohs(ports[0]);
	p->destination_port = bpf_ntohs(ports[1]);
}

/* A later fragment has no ports. */
sonde_inline void read_ip4(struct packet *p, const union header *h, const void *at)
{
	p->protocol = DROPS_IP4 | h->bytes[9];
	p->has_addresses = true;
	fill_ip4(&p->source, h->words[3]);
	fill_ip4(&p->destination, h->words[4]);
	if (!(h->halves[3] & bpf_htons(0x1fff)))
		read_ports(p, at + (h->bytes[0] & 15) * 4);
}

/* Extension headers are not followed: their number is the protocol. */
sonde_inline void read_ip6(struct packet *p, const union header *h, const void *at)
{
	p->protocol = DROPS_IP6 | h->bytes[6];
	p->has_addresses = true;
	__builtin_memcpy(&p->source, h->words + 2, sizeof p->source);
	__builtin_memcpy(&p->destination, h->words + 6, sizeof p->destination);
	read_ports(p, at + 40);
}

/* The network header may not be set yet, or not lie in the linear part: then there is the EtherType alone. Between a packet's
 * end and its buffer's lies the kernel's own, so that reading too far does no harm. */
sonde_inline void read_packet(struct packet *p, struct sk_buff *skb)
{
	__u32 network = skb->network_header, tail = skb->tail;
	void *at = (void *)BPF_CORE_READ(skb, head) + network;
	__u16 type = bpf_ntohs(skb->protocol);
	union header h = {};

	p->protocol = type;
	if ((type != ETH_P_IP && type != ETH_P_IPV6) || network == NO_NETWORK_HEADER || network + 20 > tail ||
	    bpf_probe_read_kernel(&h, sizeof h, at) < 0)
		return;
	if (type == ETH_P_IP && h.bytes[0] >> 4 == 4)
		read_ip4(p, &h, at);
	else if (type == ETH_P_IPV6 && h.bytes[0] >> 4 == 6 && network + 40 <= tail)
		read_ip6(p, &h, at);
}

/* ---- whose ---- */

/* Requests and what is left of closed connections are less than a socket. */
sonde_inline bool is_whole(const struct sock *sk)
{
	__u8 state = sk->__sk_common.skc_state;

	return state != TCP_TIME_WAIT && state != TCP_NEW_SYN_RECV;
}

/* A datagram that waits for its reader has something else in the place of its device: no kernel address. */
sonde_inline __u32 net_ns_of(struct sk_buff *skb, struct sock *sk)
{
	struct net_device *dev;

	if (sk)
		return sk->__sk_common.skc_net.net->ns.inum;
	dev = BPF_CORE_READ(skb, dev);
	return (__s64)dev < 0 ? BPF_CORE_READ(dev, nd_net.net, ns.inum) : 0;
}

/* What is nobody's is not what filters ask for. */
sonde_inline bool is_wanted(const struct sonde_owner *owner)
{
	return owner ? !owner->filtered : !sonde_filters_set();
}

/* ---- its ends ---- */

/* `received`: the destination is this end. */
sonde_inline void read_ends(struct sonde_filter_tuple *t, const struct packet *p, bool received)
{
	t->laddr = received ? p->destination : p->source;
	t->raddr = received ? p->source : p->destination;
	t->lport = received ? p->destination_port : p->source_port;
	t->rport = received ? p->source_port : p->destination_port;
}

SONDE_SOCKET_FILTER();

/* Asked of the ends that the packet has as a row would say them, and so as the filter is of the socket. By itself: the packet that stands for
 * it shall not lie on its callers' stacks. */
static __noinline bool filter_matches(const struct packet *p, bool received)
{
	struct sonde_filter_tuple t = { .protocol = (__u8)p->protocol };

	read_ends(&t, p, received);
	return sonde_socket_matches(&t);
}

/* What has no addresses is not what a filter of sockets asks for. */
sonde_inline bool is_meant(const struct packet *p, bool received)
{
	return !sonde_socket_filtered || (p->has_addresses && filter_matches(p, received));
}

/* ---- sums ---- */

/* The port that the service has, as far as two numbers tell. */
sonde_inline __u16 service_of(const struct packet *p)
{
	return p->destination_port >= CLIENT_PORTS && p->source_port && p->source_port < CLIENT_PORTS
		       ? p->source_port
		       : p->destination_port;
}

sonde_inline void fill_owner(struct drops_sums *sums, const struct sonde_owner *owner)
{
	if (!owner) {
		sums->flags = SONDE_FLAG_NO_TASK;
		return;
	}
	sums->proc = owner->proc;
	sums->parent = owner->parent;
	sums->cgroup = owner->cgroup;
	sums->pid = owner->pid;
	sums->tid = owner->tid;
	sums->flags = owner->flags;
	__builtin_memcpy(sums->comm, owner->comm, sizeof sums->comm);
}

sonde_inline void fill_ends(struct drops_sums *sums, const struct packet *p, bool received)
{
	struct sonde_filter_tuple t;

	read_ends(&t, p, received);
	sums->laddr = t.laddr;
	sums->raddr = t.raddr;
	sums->lport = t.lport;
	sums->rport = t.rport;
}

/* What finds no room is summed in a place that was made for it. */
sonde_inline struct drops_sums *sums_begin(const struct drops_key *key, const struct drops_sums *first)
{
	struct drops_key rest = { .window = key->window };
	struct drops_sums *sums;

	bpf_map_update_elem(&drops_table, key, first, BPF_NOEXIST);
	sums = bpf_map_lookup_elem(&drops_table, key);
	return sums ? sums : bpf_map_lookup_elem(&drops_table, &rest);
}

sonde_inline struct drops_sums *sums_of(const struct drops_key *key, const struct packet *p, bool received,
					const struct sonde_owner *owner)
{
	struct drops_sums *sums = bpf_map_lookup_elem(&drops_table, key), first = {};

	if (sums)
		return sums;
	fill_owner(&first, owner);
	fill_ends(&first, p, received);
	return sums_begin(key, &first);
}

/* Not what was taken in; nor what is empty, as the FIN that a socket still has in its queue as it is closed. */
sonde_inline bool is_drop(const struct sk_buff *skb, __u32 reason)
{
	if (bpf_core_enum_value_exists(enum skb_drop_reason, SKB_CONSUMED) &&
	    reason == bpf_core_enum_value(enum skb_drop_reason, SKB_CONSUMED))
		return false;
	return reason && skb->len;
}

/* Counted by packets: a row that nobody asked for is never begun. */
sonde_inline int left_out(void)
{
	sonde_left_out(net_drop);
	return 0;
}

sonde_inline int dropped(struct sk_buff *skb, __u64 location, __u32 reason, struct sock *receiver)
{
	struct drops_key key = { .location = location, .reason = reason, .window = drops_window & 1 };
	bool received = receiver || skb->skb_iif;
	struct sock *sk = receiver ? receiver : skb->sk;
	struct sonde_owner *owner = NULL;
	struct drops_sums *sums;
	struct packet p = {};

	if (sk && !is_whole(sk))
		sk = NULL;
	if (sk)
		owner = bpf_sk_storage_get(&drops_owners, sk, NULL, 0);
	if (!is_wanted(owner))
		return left_out();
	read_packet(&p, skb);
	if (!is_meant(&p, received))
		return left_out();
	key.protocol = p.protocol;
	key.port = service_of(&p);
	key.net_ns = net_ns_of(skb, sk);
	sums = sums_of(&key, &p, received, owner);
	if (!sums) {
		sonde_lost(net_drop, SONDE_DROP_MAP_FULL);
		return 0;
	}
	__sync_fetch_and_add(&sums->count, 1);
	__sync_fetch_and_add(&sums->bytes, skb->len);
	return 0;
}

/* What the tracepoint gives: before Linux 5.17 no reason, from 6.11 on also the socket that was to receive it. What an older kernel does
 * not give must not be touched. */
SEC("tp_btf/kfree_skb")
int drop__tp_btf(unsigned long long *ctx)
{
	volatile unsigned long long *given = ctx;
	struct sock *receiver = NULL;
	__u32 reason = 1;

	if (bpf_core_field_exists(((struct trace_event_raw_kfree_skb *)0)->reason))
		reason = (__u32)given[2];
	if (bpf_core_field_exists(((struct trace_event_raw_kfree_skb *)0)->rx_sk))
		receiver = (struct sock *)given[3];
	return is_drop((struct sk_buff *)ctx[0], reason) ? dropped((struct sk_buff *)ctx[0], ctx[1], reason, receiver)
							 : 0;
}

/* ---- who made a socket ---- */

sonde_inline bool is_ip(const struct sock *sk)
{
	return sk->__sk_common.skc_family == AF_INET || sk->__sk_common.skc_family == AF_INET6;
}

sonde_inline void set_owner(struct sonde_owner *to, struct task_struct *task)
{
	struct sonde_owner owner;

	sonde_owner_of(&owner, task);
	*to = owner;
}

SEC("fentry/security_socket_post_create")
int BPF_PROG(create__fentry, struct socket *socket, int family, int type, int protocol, int kernel)
{
	struct sock *sk = socket->sk;
	struct sonde_owner *owner;

	if (!sk || !is_ip(sk) || kernel)
		return 0;
	owner = bpf_sk_storage_get(&drops_owners, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (owner)
		set_owner(owner, bpf_get_current_task_btf());
	else
		sonde_failed(-12);
	return 0;
}

SONDE_PREFERRED
SEC("cgroup/sock_create")
int create__cgroup(struct bpf_sock *ctx)
{
	struct sonde_owner *owner = bpf_sk_storage_get(&drops_owners, ctx, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (owner)
		set_owner(owner, bpf_get_current_task_btf());
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
	struct sonde_owner *owner;
	struct socket *socket;
	struct sock *sk;

	socket = task && file ? bpf_sock_from_file(file) : NULL;
	sk = socket ? socket->sk : NULL;
	if (!sk || !is_ip(sk))
		return 0;
	owner = bpf_sk_storage_get(&drops_owners, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		sonde_failed(-12);
	else if (!owner->pid)
		set_owner(owner, task);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

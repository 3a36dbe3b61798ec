// SPDX-License-Identifier: GPL-2.0-only
/*
 * What goes to and comes from DNS servers, at the sockets of the tasks that ask: the first bytes of each message, for pipelines/dns to put together.
 *
 * The programs hang on the top cgroup of v2, so they see the IP packets of every socket in whatever network namespace, each once, and nothing that is only
 * forwarded. They run for every packet, and nearly all are none of theirs. Which ones are, the socket says where it is connected: one port to
 * compare, and the packet is not looked at. That also holds where addresses are translated on the way: egress comes behind that, and
 * Docker's own server has another port by then. Only sockets that are not connected, UDP's all, have their packets read.
 *
 * Whose query it is: over UDP the task that runs, since a message goes out within its send. Over TCP segments go out when acknowledgements come
 * in, but a SYN goes out within connect(): its task is kept with the socket. An answer is taken where the socket has asked; so what others
 * send to this host unasked makes no records.
 *
 * Filters of sockets are asked of the ends that the record has, and so of a query and its answer alike, before any of its bytes is copied.
 *
 * A task's own storage, where identity and the marks of filter.pid lie, is open to these programs from Linux 6.16 on. Before, other programs are put at
 * the begin of a send and of a connect, to which it is, and leave the asker with the socket. Where the kernel has no place for these either, the
 * execution's name is computed, the marks are not known, and nothing passes filter.pid.
 */
#include "sonde/probe.bpf.h"
#include "sonde/filter.bpf.h"
#include <bpf/bpf_endian.h>
#include "probes/tcp/ip4.bpf.h"
#include "dns.h"

#define AF_INET6    10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define TCP_FIN     1
#define TCP_SYN     2
#define TCP_RST     4
#define TCP_ACK     16
#define SMALL_BYTES 128
#define PIECES_MAX  16 /* of one segment, each of DNS_PACKET_BYTES */
#define IP4_BYTES   20
#define IP6_BYTES   40
#define UDP_BYTES   8
#define TCP_BYTES   20
#define PASS        1 /* the packet goes its way, whatever happens here */

/* Set by the module: in network order, 0 ends them. */
__be16 dns_ports[DNS_PORTS_MAX] SEC(".data") = { bpf_htons(53) };

/* Who asks with a socket: who first did, or, `is_now`, who is about to. */
struct asker {
	struct sonde_owner owner;
	__u64 is_now;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct asker);
} dns_askers SEC(".maps");

/* What there is to know of a packet. */
struct found {
	struct sonde_ip laddr, raddr;
	__u16 lport, rport;
	__u32 payload, length; /* payload: where it begins */
	__u32 seq, ack;
	__u8 protocol, tcp_flags;
	__u8 incoming;
};

/* ---- is it one ---- */

sonde_inline bool is_wanted(__be16 port)
{
	for (int i = 0; i < (int)DNS_PORTS_MAX; i++) {
		if (!dns_ports[i])
			return false;
		if (port == dns_ports[i])
			return true;
	}
	return false;
}

/* The far port of a packet over UDP; 0: it is none. */
sonde_inline __be16 far_port(struct __sk_buff *skb, bool incoming)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u8 *ip = data;
	__be16 *ports;

	if (data + IP4_BYTES + UDP_BYTES > end)
		return 0;
	if (ip[0] == 0x45 && ip[9] == IPPROTO_UDP) {
		ports = data + IP4_BYTES;
	} else if (ip[0] >> 4 == 6 && ip[6] == IPPROTO_UDP && data + IP6_BYTES + UDP_BYTES <= end) {
		ports = data + IP6_BYTES;
	} else {
		return 0;
	}
	return ports[!incoming];
}

sonde_inline bool concerns(struct __sk_buff *skb, struct bpf_sock *sk, bool incoming)
{
	__be16 port = sk->dst_port;

	return is_wanted(port ? port : far_port(skb, incoming));
}

/* ---- what is it ---- */

sonde_inline void put_ends(struct found *f, bool incoming, const struct sonde_ip *source, const struct sonde_ip *target)
{
	f->laddr = incoming ? *target : *source;
	f->raddr = incoming ? *source : *target;
}

/* Addresses, and where the IP header ends; 0: it is none of ours. What is ahead of TCP or UDP in IPv6 is not looked through. */
sonde_inline __u32 read_ip(struct __sk_buff *skb, struct found *f, bool incoming)
{
	struct sonde_ip source, target;
	__u8 head[IP6_BYTES] __attribute__((aligned(8)));

	if (bpf_skb_load_bytes(skb, 0, head, IP4_BYTES))
		return 0;
	if (head[0] >> 4 == 4) {
		fill_ip4(&source, *(__be32 *)(head + 12));
		fill_ip4(&target, *(__be32 *)(head + 16));
		put_ends(f, incoming, &source, &target);
		f->protocol = head[9];
		return (head[0] & 15) * 4;
	}
	if (head[0] >> 4 != 6 || bpf_skb_load_bytes(skb, 0, head, IP6_BYTES))
		return 0;
	__builtin_memcpy(&source, head + 8, sizeof source);
	__builtin_memcpy(&target, head + 24, sizeof target);
	put_ends(f, incoming, &source, &target);
	f->protocol = head[6];
	return IP6_BYTES;
}

sonde_inline void put_ports(struct found *f, bool incoming, const void *head)
{
	const __be16 *ports = head;

	f->lport = bpf_ntohs(ports[incoming]);
	f->rport = bpf_ntohs(ports[!incoming]);
}

sonde_inline bool read_udp(struct __sk_buff *skb, struct found *f, bool incoming, __u32 at)
{
	__u32 head[UDP_BYTES / 4];
	__u32 length;

	if (bpf_skb_load_bytes(skb, at, head, UDP_BYTES))
		return false;
	put_ports(f, incoming, head);
	length = bpf_ntohs((__be16)head[1]);
	f->payload = at + UDP_BYTES;
	f->length = length > UDP_BYTES ? length - UDP_BYTES : 0;
	return true;
}

sonde_inline bool read_tcp(struct __sk_buff *skb, struct found *f, bool incoming, __u32 at)
{
	__u32 head[TCP_BYTES / 4];

	if (bpf_skb_load_bytes(skb, at, head, TCP_BYTES))
		return false;
	put_ports(f, incoming, head);
	f->seq = bpf_ntohl(head[1]);
	f->ack = bpf_ntohl(head[2]);
	f->tcp_flags = (__u8)(head[3] >> 8);
	f->payload = at + ((head[3] >> 4) & 15) * 4;
	f->length = skb->len > f->payload ? skb->len - f->payload : 0;
	return f->length || f->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST);
}

/* A connected socket's own ends: its packets may have others by now. All is loaded before anything is chosen: of a socket the verifier takes
 * loads at constant places only, and the compiler would make one load of two. */
sonde_inline void put_own_ends(struct found *f, struct bpf_sock *sk)
{
	const volatile struct bpf_sock *s = sk;
	__u32 ip4[2] = { s->src_ip4, s->dst_ip4 };
	__u32 ip6[8] = { s->src_ip6[0], s->src_ip6[1], s->src_ip6[2], s->src_ip6[3],
			 s->dst_ip6[0], s->dst_ip6[1], s->dst_ip6[2], s->dst_ip6[3] };

	if (!s->dst_port)
		return;
	f->lport = (__u16)s->src_port;
	f->rport = bpf_ntohs(s->dst_port);
	if (s->family == AF_INET6) {
		__builtin_memcpy(&f->laddr, ip6, sizeof f->laddr);
		__builtin_memcpy(&f->raddr, ip6 + 4, sizeof f->raddr);
	} else {
		fill_ip4(&f->laddr, ip4[0]);
		fill_ip4(&f->raddr, ip4[1]);
	}
}

/* `incoming`, here and above, is a constant. */
sonde_inline bool find(struct __sk_buff *skb, struct bpf_sock *sk, struct found *f, bool incoming)
{
	__u32 at = read_ip(skb, f, incoming);
	bool is_udp = f->protocol == IPPROTO_UDP;

	if (!at || !(is_udp || f->protocol == IPPROTO_TCP))
		return false;
	if (is_udp ? !read_udp(skb, f, incoming, at) : !read_tcp(skb, f, incoming, at))
		return false;
	f->incoming = incoming;
	put_own_ends(f, sk);
	return true;
}

/* ---- is it meant ---- */

SONDE_SOCKET_FILTER();

/* By itself: the packet that stands for the socket shall not lie on its callers' stacks. */
static __noinline bool filter_matches(const struct found *f)
{
	struct sonde_filter_tuple t = {
		.laddr = f->laddr,
		.raddr = f->raddr,
		.lport = f->lport,
		.rport = f->rport,
		.protocol = f->protocol,
	};

	return sonde_socket_matches(&t);
}

/* What is not is counted. */
sonde_inline bool is_meant(const struct found *f)
{
	if (!sonde_socket_filtered || filter_matches(f))
		return true;
	sonde_left_out(dns_packet);
	return false;
}

/* ---- the record ---- */

sonde_inline void fill(struct dns_packet *e, const struct found *f)
{
	e->laddr = f->laddr;
	e->raddr = f->raddr;
	e->lport = f->lport;
	e->rport = f->rport;
	e->transport = f->protocol == IPPROTO_TCP ? DNS_TRANSPORT_TCP : DNS_TRANSPORT_UDP;
	e->ack = f->ack;
	e->incoming = f->incoming;
	e->tcp_flags = f->tcp_flags;
	e->captured = 0;
}

/* At most `room`, a constant and a power of two: of a number that is masked every verifier knows that it is none that is too large, and of one that
 * has 1 added then, that it is not 0. Returns how many. */
sonde_inline __u32 copy_bytes(struct __sk_buff *skb, __u32 at, void *to, __u32 length, const __u32 room)
{
	__u32 last = (length < room ? length : room) - 1;

	barrier_var(last);
	last &= room - 1;
	return bpf_skb_load_bytes(skb, at, to, last + 1) ? 0 : last + 1;
}

sonde_inline void send_room(struct __sk_buff *skb, const struct found *f, const struct sonde_owner *owner, __u32 skip,
			    __u32 length, const __u32 room)
{
	struct dns_packet *e = sonde_reserve_with(dns_packet, sizeof *e + room, owner, 0);

	if (!e)
		return;
	fill(e, f);
	/* A SYN takes the number ahead of its payload. */
	e->seq = f->seq + skip + (skip && f->tcp_flags & TCP_SYN);
	if (skip)
		e->tcp_flags &= (__u8)~TCP_SYN;
	e->length = length;
	if (length)
		e->captured = copy_bytes(skb, f->payload + skip, e + 1, length, room);
	sonde_submit(dns_packet, e, sizeof *e + e->captured);
}

/* `length` bytes of the payload, behind `skip` others, as one record. A function of its own: the verifier looks at it once, not once for each way
 * that leads here. */
__noinline int dns_send_piece(struct __sk_buff *skb, const struct found *f, const struct sonde_owner *owner, __u32 skip,
			      __u32 length)
{
	if (!f || !owner)
		return 0;
	if (length <= SMALL_BYTES)
		send_room(skb, f, owner, skip, length, SMALL_BYTES);
	else
		send_room(skb, f, owner, skip, length, DNS_PACKET_BYTES);
	return 0;
}

/* What the kernel holds as one segment may be many on the wire, with a message in each. */
sonde_inline void send_segment(struct __sk_buff *skb, struct found *f, const struct sonde_owner *owner)
{
	__u8 flags = f->tcp_flags;
	__u32 skip = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < PIECES_MAX - 1 && f->length - skip > DNS_PACKET_BYTES; i++) {
		f->tcp_flags = flags & (__u8)~TCP_FIN;
		dns_send_piece(skb, f, owner, skip, DNS_PACKET_BYTES);
		skip += DNS_PACKET_BYTES;
	}
	f->tcp_flags = flags;
	dns_send_piece(skb, f, owner, skip, f->length - skip);
}

sonde_inline void send(struct __sk_buff *skb, struct found *f, const struct sonde_owner *owner)
{
	if (f->protocol == IPPROTO_TCP)
		send_segment(skb, f, owner);
	else
		dns_send_piece(skb, f, owner, 0, f->length);
}

/* The one who runs. `tasks_known` is a constant: whether the storage of tasks is open to this program. */
sonde_inline void take_runner(struct asker *asker, bool tasks_known)
{
	struct task_struct *task = bpf_get_current_task_btf();

	sonde_owner_known(&asker->owner, task, tasks_known ? bpf_task_storage_get(&sonde_tasks, task, NULL, 0) : NULL);
	asker->is_now = 0;
}

/* Only a socket whose queries are wanted has its answers taken. */
sonde_inline void keep_asker(struct bpf_sock *sk, struct asker *asker)
{
	if (!asker->owner.filtered && !bpf_sk_storage_get(&dns_askers, sk, asker, BPF_SK_STORAGE_GET_F_CREATE))
		sonde_failed(-12);
}

sonde_inline void ask(struct __sk_buff *skb, struct bpf_sock *sk, bool tasks_known)
{
	struct asker *asker, runner;
	struct found f = {};

	if (!find(skb, sk, &f, false))
		return;
	asker = bpf_sk_storage_get(&dns_askers, sk, NULL, 0);
	/* A connection whose SYN was not seen, or was not wanted. */
	if (!asker && f.protocol == IPPROTO_TCP && !(f.tcp_flags & TCP_SYN))
		return;
	if (!is_meant(&f))
		return;
	if (asker && (f.protocol == IPPROTO_TCP || asker->is_now)) {
		send(skb, &f, &asker->owner);
	} else {
		take_runner(&runner, tasks_known);
		keep_asker(sk, &runner);
		send(skb, &f, &runner.owner);
	}
}

SEC("cgroup_skb/egress")
int query__cgroup_skb(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (sk && concerns(skb, sk, false))
		ask(skb, sk, true);
	return PASS;
}

/* The same where the storage of tasks is closed to it. */
SEC("cgroup_skb/egress")
int query__cgroup_skb_computed(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (sk && concerns(skb, sk, false))
		ask(skb, sk, false);
	return PASS;
}

SEC("cgroup_skb/ingress")
int answer__cgroup_skb(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct found f = {};
	struct asker *asker;

	if (!sk || !concerns(skb, sk, true))
		return PASS;
	asker = bpf_sk_storage_get(&dns_askers, sk, NULL, 0);
	if (!asker || !find(skb, sk, &f, true) || !is_meant(&f))
		return PASS;
	send(skb, &f, &asker->owner);
	return PASS;
}

/* ---- before Linux 6.16: who is about to ask ---- */

sonde_inline int asks_now(struct sock *sk)
{
	struct asker *asker = bpf_sk_storage_get(&dns_askers, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	struct sonde_owner owner;

	if (!asker) {
		sonde_failed(-12);
		return 0;
	}
	sonde_owner_current(&owner);
	if (owner.filtered) {
		bpf_sk_storage_delete(&dns_askers, sk);
		return 0;
	}
	asker->owner = owner;
	asker->is_now = 1;
	return 0;
}

/* The port is at the same place in either family's address. */
sonde_inline int sends(struct sock *sk, struct msghdr *msg)
{
	__be16 port = sk->__sk_common.skc_dport;
	void *address = msg->msg_name;

	if (address)
		bpf_probe_read_kernel(&port, sizeof port, address + 2);
	return is_wanted(port) ? asks_now(sk) : 0;
}

SONDE_COVERED_BY("query__cgroup_skb")
SEC("fentry/udp_sendmsg")
int BPF_PROG(send4__fentry, struct sock *sk, struct msghdr *msg)
{
	return sends(sk, msg);
}

SONDE_COVERED_BY("query__cgroup_skb")
SEC("fentry/udpv6_sendmsg")
int BPF_PROG(send6__fentry, struct sock *sk, struct msghdr *msg)
{
	return sends(sk, msg);
}

/* Ahead of the SYN. */
SONDE_COVERED_BY("query__cgroup_skb")
SEC("fentry/tcp_connect")
int BPF_PROG(connect__fentry, struct sock *sk)
{
	return is_wanted(sk->__sk_common.skc_dport) ? asks_now(sk) : 0;
}

char LICENSE[] SEC("license") = "GPL";

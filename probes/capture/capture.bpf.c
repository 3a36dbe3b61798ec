// SPDX-License-Identifier: GPL-2.0-only
/*
 * The last packets of each flow, kept in the kernel until there is a reason to read them.
 *
 *	cgroup_skb ──► slot of the flow: number % packets          (every packet; nothing leaves the kernel)
 *	reset, retransmits ──► stop after some more, tell the module ──► it reads the flow's slots, and takes the flow away
 *
 * Programs on packets hang on the root of cgroup2: there, each packet passes once for each socket of this host, as IP, with its
 * socket, whichever network namespace, device or tunnel it goes by. net_dev_queue and netif_receive_skb would see it on each
 * device, before and behind address translation, and on the way in without its socket.
 *
 * Flows are keyed by the ends as the socket has them. The table is one that forgets the flow that was longest without a packet, and its
 * memory is made at load: what is kept is bounded, and nothing is allocated for a packet. Packets of one flow may come on two CPUs at once:
 * each takes a number, and so a slot, by itself. A reader tells a slot that is being written by its two numbers, of which the writer writes
 * the back one first.
 */
#include "probes/tcp/ends.bpf.h"
#include "capture.h"

#define IPPROTO_UDP   17
#define SOCK_STREAM   1
#define NS_PER_SECOND 1000000000ull
#define HEADER_MOST   64u           /* of a packet, copied to learn whose it is */
#define HALT_MOST     NS_PER_SECOND /* a flow that nobody came to read goes on after that */

SONDE_SETTING(__u32, packets, 32, 4, 256, "", "the last packets of each flow that are kept");
SONDE_SETTING(__u32, snaplen, 96, 80, 256, "bytes", "the most of a packet's headers, from the IP header on");
SONDE_SETTING(__u32, payload, 0, 0, 1500, "bytes", "of what is behind a packet's headers");
SONDE_SETTING(__u32, after, 4, 1, 255, "", "packets kept behind the reason, among the last ones");
SONDE_SETTING(__u32, retransmits, 5, 0, 1000, "", "segments sent again within a second that are a reason");
SONDE_SETTING(__u32, resets, 1, 0, 1, "", "whether a reset is a reason");
SONDE_SETTING(__u32, rate, 10, 1, 1000, "", "reasons in a second");

/* Sizes are set before load. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, CAPTURE_FLOWS);
	__uint(key_size, sizeof(CAPTURE_KEY));
	__uint(value_size,
	       sizeof(struct capture_flow) + CAPTURE_PACKETS * (sizeof(struct capture_slot) + CAPTURE_SNAPLEN + 8));
} capture_flows SEC(".maps");

/* All zeros, to begin a flow with. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size,
	       sizeof(struct capture_flow) + CAPTURE_PACKETS * (sizeof(struct capture_slot) + CAPTURE_SNAPLEN + 8));
} capture_blank SEC(".maps");

/* What is known of a connected socket. */
struct capture_socket {
	CAPTURE_KEY key;
	struct sonde_owner owner;
	__u64 burst; /* when the first of some segments was sent again */
	__u32 again; /* how many since */
	bool decided, unmatched, owned;
	__u8 _pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct capture_socket);
} capture_sockets SEC(".maps");

__u32 capture_requests SEC(".data") = 0; /* that are open; set by the module */
struct sonde_rate capture_said = {};

/* ---- slots ---- */

sonde_inline __u32 slot_bytes(void)
{
	return capture_slot_bytes(snaplen + payload);
}

/* Headers of IP and, in the first fragment, of TCP and UDP. */
sonde_inline __u32 header_bytes(const __u8 *p, __u32 there)
{
	__u32 ip = p[0] >> 4 == 4 ? (p[0] & 15) * 4 : 40;
	__u8 protocol = p[0] >> 4 == 4 ? p[9] : p[6];

	if (protocol == IPPROTO_UDP)
		return ip + 8;
	if (protocol != IPPROTO_TCP || ip + 12 >= there)
		return ip;
	barrier_var(ip);
	if (ip > 64)
		return ip;
	return ip + (p[ip + 12] >> 4) * 4;
}

/* What is kept of a packet, to where there is room for snaplen and payload. How many bytes that is; 0: it cannot be read. */
sonde_inline __u32 copy_packet(struct __sk_buff *skb, __u8 *to)
{
	__u32 room = snaplen + payload, there = skb->len, headers;

	if (there > room)
		there = room;
	if (there < 20 || bpf_skb_load_bytes(skb, 0, to, there))
		return 0;
	headers = header_bytes(to, there);
	if (headers > snaplen)
		headers = snaplen;
	return headers + payload < there ? headers + payload : there;
}

/* What cannot be read leaves its slot unfinished, and is missed by the reader. */
sonde_inline void fill_slot(void *at, struct __sk_buff *skb, __u64 number, bool sent)
{
	struct capture_slot *slot = at;

	*(volatile __u64 *)(at + slot_bytes() - 8) = number + 1;
	barrier();
	slot->time = bpf_ktime_get_boot_ns();
	slot->length = skb->len;
	slot->sent = sent;
	slot->captured = (__u16)copy_packet(skb, at + sizeof *slot);
	if (!slot->captured)
		return;
	barrier();
	*(volatile __u64 *)&slot->number = number + 1;
}

/* Whether the packet of that number is still to be kept. */
sonde_inline bool goes_on(struct capture_flow *flow, __u64 number)
{
	__u64 now;

	if (!flow->stop || number < flow->stop)
		return true;
	now = bpf_ktime_get_boot_ns();
	if (!flow->halted)
		flow->halted = now;
	if (now - flow->halted < HALT_MOST)
		return false;
	flow->stop = flow->halted = 0;
	return true;
}

sonde_inline struct capture_flow *flow_of(CAPTURE_KEY *key)
{
	struct capture_flow *flow = bpf_map_lookup_elem(&capture_flows, key);
	__u32 zero = 0;
	void *blank;
	long error;

	if (flow)
		return flow;
	blank = bpf_map_lookup_elem(&capture_blank, &zero);
	if (!blank)
		return NULL;
	error = bpf_map_update_elem(&capture_flows, key, blank, BPF_NOEXIST);
	flow = bpf_map_lookup_elem(&capture_flows, key);
	if (!flow)
		sonde_failed(error);
	return flow;
}

sonde_inline void keep(struct __sk_buff *skb, CAPTURE_KEY *key, bool sent)
{
	struct capture_flow *flow = flow_of(key);
	__u64 number, index;

	if (!flow)
		return;
	number = __sync_fetch_and_add(&flow->count, 1);
	if (!goes_on(flow, number))
		return;
	/* In 64 bits: Linux 6.1 does not follow the bounds of a product of 32. */
	index = number % packets;
	barrier_var(index);
	if (index < packets)
		fill_slot((void *)(flow + 1) + index * (__u64)slot_bytes(), skb, number, sent);
}

/* ---- requests ---- */

/* `owner` NULL: whose the packet is cannot be said. */
sonde_inline void tell(struct __sk_buff *skb, const CAPTURE_KEY *key, const struct sonde_owner *owner, bool sent)
{
	__u32 room = snaplen + payload;
	struct sonde_owner none;
	struct capture_note *e;

	if (!owner)
		sonde_owner_none(&none);
	e = sonde_reserve_with(capture_note, sizeof *e + (room + 7) / 8 * 8, owner ? owner : &none, 0);
	if (!e)
		return;
	__builtin_memcpy(&e->key, key, sizeof e->key);
	e->reason = CAPTURE_REQUEST;
	e->length = skb->len;
	e->sent = sent;
	e->captured = (__u16)copy_packet(skb, e->bytes);
	sonde_submit(capture_note, e, sizeof *e + room);
}

/* ---- packets ---- */

sonde_inline void take_ends(CAPTURE_KEY *key, struct bpf_sock *sk)
{
	key->protocol = IPPROTO_TCP;
	key->lport = (__u16)sk->src_port;
	key->rport = bpf_ntohs(sk->dst_port);
	if (sk->family == AF_INET) {
		fill_ip4(&key->laddr, sk->src_ip4);
		fill_ip4(&key->raddr, sk->dst_ip4);
	} else {
		__u32 local[4] = { sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2], sk->src_ip6[3] };
		__u32 remote[4] = { sk->dst_ip6[0], sk->dst_ip6[1], sk->dst_ip6[2], sk->dst_ip6[3] };

		__builtin_memcpy(&key->laddr, local, sizeof local);
		__builtin_memcpy(&key->raddr, remote, sizeof remote);
	}
}

sonde_inline void connected(struct __sk_buff *skb, struct bpf_sock *sk, bool sent)
{
	struct capture_socket *s = bpf_sk_storage_get(&capture_sockets, sk, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!s) {
		sonde_failed(-12);
		return;
	}
	if (!s->decided) {
		take_ends(&s->key, sk);
		s->unmatched = !sonde_socket_matches(&s->key);
		s->decided = true;
	}
	if (s->unmatched)
		return;
	keep(skb, &s->key, sent);
	if (capture_requests)
		tell(skb, &s->key, s->owned ? &s->owner : NULL, sent);
}

/* The ends by the packet itself, where the socket does not tell them: UDP, a handshake at the listening socket, a reset of the kernel's
 * own. Nothing is said of fragments behind the first, and of IPv6 with further headers. */
sonde_inline bool read_ends(CAPTURE_KEY *key, struct __sk_buff *skb, bool sent)
{
	__u8 head[HEADER_MOST] = {};
	__u32 there = skb->len < HEADER_MOST ? skb->len : HEADER_MOST, at;
	__be32 from4, to4;
	__be16 ports[2];

	if (there < 28 || bpf_skb_load_bytes(skb, 0, head, there))
		return false;
	if (head[0] >> 4 == 4) {
		at = (head[0] & 15) * 4;
		key->protocol = head[9];
		if ((head[6] & 0x1f) | head[7])
			return false;
		__builtin_memcpy(&from4, head + 12, sizeof from4);
		__builtin_memcpy(&to4, head + 16, sizeof to4);
		fill_ip4(sent ? &key->laddr : &key->raddr, from4);
		fill_ip4(sent ? &key->raddr : &key->laddr, to4);
	} else {
		at = 40;
		key->protocol = head[6];
		__builtin_memcpy(sent ? &key->laddr : &key->raddr, head + 8, 16);
		__builtin_memcpy(sent ? &key->raddr : &key->laddr, head + 24, 16);
	}
	if ((key->protocol != IPPROTO_TCP && key->protocol != IPPROTO_UDP) || at < 20)
		return false;
	if (bpf_skb_load_bytes(skb, at, ports, sizeof ports))
		return false;
	key->lport = bpf_ntohs(ports[!sent]);
	key->rport = bpf_ntohs(ports[sent]);
	return true;
}

sonde_inline void unconnected(struct __sk_buff *skb, bool sent)
{
	CAPTURE_KEY key = {};

	if (!read_ends(&key, skb, sent) || !sonde_socket_matches(&key))
		return;
	keep(skb, &key, sent);
	if (capture_requests)
		tell(skb, &key, NULL, sent);
}

sonde_inline int packet(struct __sk_buff *skb, bool sent)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	if (sk->protocol == IPPROTO_TCP && sk->type == SOCK_STREAM && sk->state != TCP_LISTEN && sk->state != TCP_CLOSE)
		connected(skb, sk, sent);
	else
		unconnected(skb, sent);
	return 1; /* it goes its way, whatever happened here */
}

SEC("cgroup_skb/egress")
int out__cgroup_skb(struct __sk_buff *skb)
{
	return packet(skb, true);
}

SEC("cgroup_skb/ingress")
int in__cgroup_skb(struct __sk_buff *skb)
{
	return packet(skb, false);
}

/* ---- whose ---- */

sonde_inline void own(struct capture_socket *s)
{
	sonde_owner_current(&s->owner);
	s->owned = true;
}

/* A socket may be connected anew: what was found of it before does not hold. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(connect__tp_btf, struct sock *sk, int from, int to)
{
	struct capture_socket *s;

	if (to != TCP_SYN_SENT || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	s = bpf_sk_storage_get(&capture_sockets, sk, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s) {
		sonde_failed(-12);
		return 0;
	}
	s->decided = s->unmatched = false;
	own(s);
	return 0;
}

/* Of a server: who reads first. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(read__tp_btf, struct sock *sk)
{
	struct capture_socket *s = bpf_sk_storage_get(&capture_sockets, sk, NULL, 0);

	if (s && !s->owned && !s->unmatched)
		own(s);
	return 0;
}

/* ---- reasons ---- */

/* Nothing but the container is known of a socket that nobody has read from. */
sonde_inline void owner_of_socket(struct sonde_owner *owner, struct sock *sk)
{
	sonde_owner_none(owner);
	if (bpf_core_field_exists(sk->sk_cgrp_data.cgroup))
		owner->cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup, kn, id);
}

static __noinline int because(struct sock *sk, struct capture_socket *s, __u32 reason)
{
	struct capture_flow *flow;
	struct capture_note *e;
	struct sonde_owner owner;

	if (!s->decided || s->unmatched)
		return 0;
	flow = bpf_map_lookup_elem(&capture_flows, &s->key);
	if (!flow || flow->stop)
		return 0;
	if (!s->owned)
		owner_of_socket(&owner, sk);
	if (!sonde_rate_allows(&capture_said, bpf_ktime_get_boot_ns(), rate)) {
		if (!(s->owned ? s->owner.filtered : owner.filtered))
			sonde_lost(packet_capture, SONDE_DROP_RATE);
		return 0;
	}
	e = sonde_reserve_with(capture_note, sizeof *e, s->owned ? &s->owner : &owner, 0);
	if (!e)
		return 0;
	flow->halted = 0;
	flow->stop = flow->count + (after < packets ? after : packets - 1);
	__builtin_memcpy(&e->key, &s->key, sizeof e->key);
	e->reason = reason;
	sonde_submit(capture_note, e, sizeof *e);
	return 0;
}

sonde_inline int reset(struct sock *sk)
{
	struct capture_socket *s = sk ? bpf_sk_storage_get(&capture_sockets, sk, NULL, 0) : NULL;

	return s && resets ? because(sk, s, CAPTURE_RESET) : 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(reset_comes__tp_btf, struct sock *sk)
{
	return reset(sk);
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(reset_goes__tp_btf, struct sock *sk)
{
	return reset(sk);
}

/* So many within a second: it begins with the first of them. */
SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(retransmit__tp_btf, struct sock *sk)
{
	struct capture_socket *s = bpf_sk_storage_get(&capture_sockets, sk, NULL, 0);
	__u64 now;

	if (!s || !retransmits)
		return 0;
	now = bpf_ktime_get_boot_ns();
	if (now - s->burst > NS_PER_SECOND) {
		s->burst = now;
		s->again = 0;
	}
	if (++s->again != retransmits)
		return 0;
	s->burst = 0;
	return because(sk, s, CAPTURE_RETRANSMIT);
}

char LICENSE[] SEC("license") = "GPL";

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What names a socket, for events that have NET_KEYS: read by copies, as the socket comes from a descriptor. A record is of
 * RECORD_SMALL or RECORD_LARGE bytes; an abstract name lies behind its fixed part, a path behind that.
 */
#ifndef SONDE_NET_SOCKET_BPF_H
#define SONDE_NET_SOCKET_BPF_H

#include <bpf/bpf_endian.h>
#include "probes/kernel/path.bpf.h"
#include "probes/net/socket.h"

#define AF_UNIX     1
#define AF_INET     2
#define AF_INET6    10
#define AF_KEY      15
#define AF_NETLINK  16
#define AF_PACKET   17
#define AF_ALG      38
#define AF_VSOCK    40
#define AF_XDP      44
#define SOCK_RAW    3
#define SOCK_PACKET 10

/* Of netlink. Source: include/uapi/linux/netlink.h. */
#define NETLINK_SOCK_DIAG 4
#define NETLINK_XFRM      6
#define NETLINK_AUDIT     9
#define NETLINK_CONNECTOR 11
#define NETLINK_NETFILTER 12

#define ABSTRACT_ROOM 112u /* behind the fixed part of an event */
#define ABSTRACT_MOST 107u

sonde_inline __u32 family_of(struct sock *sk)
{
	return sk ? BPF_CORE_READ(sk, __sk_common.skc_family) : 0;
}

/* As the events' names number them. */
sonde_inline __u32 family_named(__u32 family)
{
	return family < NET_FAMILY_OTHER ? family : NET_FAMILY_OTHER;
}

sonde_inline __u32 type_named(__u32 type)
{
	if (type < NET_TYPE_PACKET)
		return type;
	return type == SOCK_PACKET ? NET_TYPE_PACKET : NET_TYPE_OTHER;
}

/* Netlink that changes or watches what security is made of. */
sonde_inline bool netlink_matters(__u32 protocol)
{
	return protocol == NETLINK_AUDIT || protocol == NETLINK_CONNECTOR || protocol == NETLINK_NETFILTER ||
	       protocol == NETLINK_XFRM || protocol == NETLINK_SOCK_DIAG;
}

sonde_inline void fill_address4(struct sonde_ip *ip, __be32 address)
{
	__u32 words[4] = { 0, 0, bpf_htonl(0xffff), address };

	__builtin_memcpy(ip->bytes, words, sizeof words);
}

sonde_inline void fill_inet(struct net_named *e, struct sock *sk)
{
	__be32 remote;

	if (e->sock_type != SOCK_RAW) { /* there the protocol stands for the port */
		e->lport = BPF_CORE_READ(sk, __sk_common.skc_num);
		e->rport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	}
	if (e->family == AF_INET) {
		fill_address4(&e->laddr, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		remote = BPF_CORE_READ(sk, __sk_common.skc_daddr);
		if (remote && (e->rport || e->sock_type == SOCK_RAW))
			fill_address4(&e->raddr, remote);
	} else if (bpf_core_field_exists(struct sock_common, skc_v6_daddr)) {
		BPF_CORE_READ_INTO(&e->laddr, sk, __sk_common.skc_v6_rcv_saddr);
		if (e->rport || e->sock_type == SOCK_RAW)
			BPF_CORE_READ_INTO(&e->raddr, sk, __sk_common.skc_v6_daddr);
	}
}

sonde_inline void fill_packet(struct net_named *e, struct sock *sk)
{
	struct packet_sock *po = (void *)sk;

	if (!bpf_core_field_exists(struct packet_sock, num))
		return;
	e->ifindex = (__u32)BPF_CORE_READ(po, ifindex);
	e->protocol = bpf_ntohs(BPF_CORE_READ(po, num));
}

sonde_inline void fill_vsock(struct net_named *e, struct sock *sk)
{
	struct vsock_sock *vsk = (void *)sk;

	if (!bpf_core_field_exists(struct vsock_sock, local_addr))
		return;
	e->lport = BPF_CORE_READ(vsk, local_addr.svm_port);
	e->lcid = BPF_CORE_READ(vsk, local_addr.svm_cid);
	e->rport = BPF_CORE_READ(vsk, remote_addr.svm_port);
	e->rcid = BPF_CORE_READ(vsk, remote_addr.svm_cid);
}

/* The name of an abstract address, of a socket whose address is no file. */
sonde_inline void fill_abstract(struct net_named *e, __u32 at, struct sock *named)
{
	struct unix_address *address = named ? BPF_CORE_READ((struct unix_sock *)named, addr) : NULL;
	__u32 length;

	e->abstract.offset = (__u16)at;
	e->abstract.length = 0;
	if (!address)
		return;
	length = (__u32)BPF_CORE_READ(address, len) - 3; /* the family and the first NUL */
	if (length - 1 >= ABSTRACT_MOST)
		return;
	barrier_var(length);
	if (length > ABSTRACT_MOST)
		return;
	if (bpf_probe_read_kernel((void *)e + at, length,
				  (void *)address + bpf_core_field_offset(struct unix_address, name) + 3) == 0)
		e->abstract.length = (__u16)length;
}

sonde_inline void fill_unix(struct net_named *e, struct sock *sk)
{
	struct pid *peer = BPF_CORE_READ(sk, sk_peer_pid);
	const struct cred *cred = BPF_CORE_READ(sk, sk_peer_cred);

	if (peer)
		e->peer_pid = (__u32)BPF_CORE_READ(peer, numbers[0].nr);
	if (cred)
		e->peer_uid = BPF_CORE_READ(cred, euid.val);
}

/* A socket of an event, and whose address names it. */
struct told {
	struct sock *sk, *named;
	struct place place;
};

/* `peer`: the other end of a unix socket names it. */
sonde_inline void tell(struct told *t, struct sock *sk, bool peer)
{
	t->sk = t->named = sk;
	t->place.dentry = t->place.mnt = 0;
	if (family_of(sk) != AF_UNIX) {
		t->named = NULL;
		return;
	}
	if (peer)
		t->named = BPF_CORE_READ((struct unix_sock *)sk, peer);
	if (t->named)
		t->place = place_at((void *)t->named + bpf_core_field_offset(struct unix_sock, path));
}

/* The NET_KEYS of an event but `fd`, all of which lie as in struct net_named; `fixed` is the event's size. Returns how much of the record is used. */
sonde_inline __u32 fill_socket(struct net_named *e, const __u32 fixed, const __u32 room, const struct told *t)
{
	__u32 used = fixed + ABSTRACT_ROOM;
	struct sock *sk = t->sk;

	__builtin_memset(&e->path, 0,
			 __builtin_offsetof(struct net_named, fd) - __builtin_offsetof(struct net_named, path));
	if (!sk)
		return fixed;
	e->family = family_named(family_of(sk));
	e->sock_type = type_named(BPF_CORE_READ(sk, sk_type));
	e->protocol = BPF_CORE_READ(sk, sk_protocol);
	e->net_ns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (e->family == AF_UNIX) {
		fill_unix(e, sk);
		if (!t->place.dentry)
			fill_abstract(e, fixed, t->named);
		fill_place(e, room, &used, &e->path, &t->place);
		return used;
	}
	if (e->family == AF_INET || e->family == AF_INET6)
		fill_inet(e, sk);
	else if (e->family == AF_PACKET)
		fill_packet(e, sk);
	else if (e->family == AF_NETLINK)
		e->lport = BPF_CORE_READ((struct netlink_sock *)sk, portid);
	else if (e->family == AF_VSOCK)
		fill_vsock(e, sk);
	return fixed;
}

#endif

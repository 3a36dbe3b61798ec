// SPDX-License-Identifier: GPL-2.0-only
/* A module for measuring: at each place where the modules about the network have a program on the way of a request and its answer, one that does nothing. */
#include "sonde/probe.bpf.h"

struct empty_event {
	struct sonde_event event;
	__u64 nothing SONDE_DOC("a number");
};

SONDE_EVENT(empty_event, "empty.event", 1, bulk, "Never.");

#define EMPTY(place, name, kind)                                                                                       \
	SEC(place)                                                                                                     \
	int name##__##kind(void *ctx)                                                                                  \
	{                                                                                                              \
		return 1;                                                                                              \
	}

EMPTY("tp_btf/kfree_skb", drop, tp_btf)
EMPTY("tp_btf/inet_sock_set_state", state, tp_btf)
EMPTY("tp_btf/inet_sock_set_state", state_nested, tp_btf)
EMPTY("tp_btf/sk_data_ready", arrive, tp_btf)
EMPTY("tp_btf/tcp_rcv_space_adjust", read, tp_btf)
EMPTY("tp_btf/tcp_sendmsg_locked", send, tp_btf)
EMPTY("tp_btf/sock_send_length", send_length, tp_btf)
EMPTY("tp_btf/sock_recv_length", recv_length, tp_btf)
EMPTY("tracepoint/syscalls/sys_exit_accept", accept, tracepoint)
EMPTY("tracepoint/syscalls/sys_exit_accept4", accept4, tracepoint)
EMPTY("tracepoint/syscalls/sys_exit_connect", connect, tracepoint)
EMPTY("cgroup_skb/egress", out, cgroup_skb)
EMPTY("cgroup_skb/ingress", in, cgroup_skb)

char LICENSE[] SEC("license") = "GPL";

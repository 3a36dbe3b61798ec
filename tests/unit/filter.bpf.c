// SPDX-License-Identifier: GPL-2.0-only
/* One place for a filter of each kind, as a module would have them, and a program on real packets. */
#include "sonde/filter.bpf.h"
#include <bpf/bpf_tracing.h>

SONDE_FILTER_SKB(skb_filter)
SONDE_FILTER_KERNEL(kernel_filter)
SONDE_FILTER_MEMORY(socket_filter)

struct sonde_filter_tuple tuple;
__u64 packets, matched;

SEC("tc")
int packet__tc(struct __sk_buff *skb)
{
	return skb_filter(skb, 14);
}

SEC("cgroup_skb/egress")
int packet__cgroup_skb(struct __sk_buff *skb)
{
	return skb_filter(skb, 0) != 0;
}

SEC("raw_tp")
int socket__raw_tp(void *ctx)
{
	struct sonde_filter_packet packet;
	__u32 length = sonde_filter_packet_of(&packet, &tuple);

	return socket_filter(&packet, length, length);
}

SEC("tp_btf/net_dev_queue")
int BPF_PROG(packet__tp_btf, struct sk_buff *skb)
{
	struct sonde_filter_span span;

	sonde_filter_span_of(&span, skb);
	__sync_fetch_and_add(&packets, 1);
	if (kernel_filter(span.packet, span.captured, span.length))
		__sync_fetch_and_add(&matched, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

// SPDX-License-Identifier: GPL-2.0-only
/* A network of the tests that loses packets: a fifth of what arrives for the sockets of a cgroup. */
#include "sonde/vmlinux.h"
#include <bpf/bpf_helpers.h>

SEC("cgroup_skb/ingress")
int lossy(struct __sk_buff *skb)
{
	return bpf_get_prandom_u32() % 5 != 0;
}

char LICENSE[] SEC("license") = "GPL";

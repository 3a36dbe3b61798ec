/* SPDX-License-Identifier: GPL-2.0-only */
/* An IPv4 address as events have it: mapped to IPv6. */
#ifndef SONDE_TCP_IP4_BPF_H
#define SONDE_TCP_IP4_BPF_H

#include "sonde/probe.bpf.h"
#include <bpf/bpf_endian.h>

sonde_inline void fill_ip4(struct sonde_ip *ip, __be32 address)
{
	__u32 words[4] = { 0, 0, bpf_htonl(0xffff), address };

	__builtin_memcpy(ip->bytes, words, sizeof words);
}

#endif

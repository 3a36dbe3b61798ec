/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libpcap is reentrant since 1.8: its parser's state lies in the handle, and each compilation has one of its own. The netmask is
 * unknown: what needs one (`ip broadcast`) is refused by libpcap, with that reason.
 */
#include "filter/classic.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <string.h>

#define SNAPLEN 65535 /* what a filter returns that matches */

_Static_assert(sizeof(struct bpf_insn) == 8 && offsetof(struct bpf_insn, jf) == 3 && offsetof(struct bpf_insn, k) == 4,
	       "as struct sock_filter");

static void close_handle(pcap_t **handle)
{
	if (*handle)
		pcap_close(*handle);
}

int classic_compile(void **ret, size_t *ret_n, const char *expression, bool ethernet, char *reason, size_t room)
{
	_cleanup_(close_handle) pcap_t *handle = pcap_open_dead(ethernet ? DLT_EN10MB : DLT_RAW, SNAPLEN);
	struct bpf_program program = { 0 };
	size_t bytes;

	if (!handle)
		return -ENOMEM;
	if (pcap_compile(handle, &program, expression, 1, PCAP_NETMASK_UNKNOWN) < 0) {
		snprintf(reason, room, "%s", pcap_geterr(handle));
		return -EINVAL;
	}
	bytes = program.bf_len * sizeof *program.bf_insns;
	*ret = malloc(MAX_OF(bytes, (size_t)1));
	if (*ret && bytes)
		memcpy(*ret, program.bf_insns, bytes);
	*ret_n = program.bf_len;
	pcap_freecode(&program);
	return *ret ? 0 : -ENOMEM;
}

uint32_t classic_run(const void *program, const void *packet, uint32_t captured, uint32_t length)
{
	return bpf_filter(program, packet, length, captured);
}

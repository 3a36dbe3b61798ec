// SPDX-License-Identifier: GPL-2.0-only
/* A module for measuring: one event of the size and kind of tcp.close for every prctl(PR_SET_NAME) on the host. */
#include "sonde/probe.bpf.h"

struct flood_event {
	struct sonde_event event;
	struct sonde_ip laddr SONDE_DOC("an address"), raddr SONDE_DOC("another");
	__u16 lport SONDE_DOC("a port"), rport SONDE_DOC("another");
	__u32 side SONDE_AS("names=client|server") SONDE_DOC("a name");
	__u64 sent_bytes SONDE_DOC("a number"), received_bytes SONDE_DOC("a number"), life_ns SONDE_DOC("a number"),
		srtt_ns SONDE_DOC("a number"), min_rtt_ns SONDE_DOC("a number"), retransmits SONDE_DOC("a number");
};

SONDE_EVENT(flood_event, "flood.event", 1, bulk, "A task named itself.");

SEC("tp_btf/task_rename")
int BPF_PROG(rename__tp_btf)
{
	struct flood_event *e = sonde_reserve(flood_event, sizeof *e);

	if (!e)
		return 0;
	__builtin_memset(&e->laddr, 0, sizeof *e - sizeof e->event);
	e->laddr.bytes[10] = e->laddr.bytes[11] = e->raddr.bytes[10] = e->raddr.bytes[11] = 0xff;
	e->laddr.bytes[12] = e->raddr.bytes[12] = 10;
	e->lport = 43210;
	e->rport = 443;
	e->sent_bytes = 1000;
	e->received_bytes = 100000;
	e->life_ns = e->event.time;
	e->srtt_ns = 123456;
	e->min_rtt_ns = 100000;
	sonde_submit(flood_event, e, sizeof *e);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

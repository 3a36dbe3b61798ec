/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Packets of a connection that something happened to: the last ones before it, and some behind it. They are kept in the kernel, by flow,
 * and go into the stream only when there is a reason.
 */
#ifndef SONDE_PACKET_CAPTURE_H
#define SONDE_PACKET_CAPTURE_H

#include "probes/tcp/ends.h"
#include "sonde/filter.h"

#define CAPTURE_REASONS "unknown|slow|retransmit|reset|request"
enum capture_reason { CAPTURE_UNKNOWN, CAPTURE_SLOW, CAPTURE_RETRANSMIT, CAPTURE_RESET, CAPTURE_REQUEST };

struct packet_capture {
	struct sonde_event event;
	TCP_ENDS(, , , );
	__u16 protocol SONDE_DOC("number of the IP protocol: 6 TCP, 17 UDP") SONDE_OTEL("network.transport");
	__u16 count SONDE_DOC("packets in this record");
	__u32 reason SONDE_AS("names=" CAPTURE_REASONS) SONDE_DOC(
		"why: an answer was slow, segments were sent again, the connection was reset, or it was asked for");
	__u32 part SONDE_DOC("of what one reason brought, which record this is; the first is 1");
	__u32 request SONDE_DOC("number of the request, of sonde capture") SONDE_OPTIONAL;
	__u64 missed SONDE_DOC(
		"packets of the flow between these that are not here, since they came faster than they were read")
		SONDE_OPTIONAL;
	__u64 event_seq SONDE_DOC("seq of the event that was the reason, where it is in the stream already")
		SONDE_OPTIONAL;
	struct sonde_text trigger SONDE_DOC("type of the event that was the reason") SONDE_OPTIONAL;
	struct sonde_text packets SONDE_AS("table") SONDE_DOC(
		"array of arrays, one for each packet: ts (ns since the epoch), whether this host sent it, its length "
		"in bytes from the "
		"IP header on, and what was kept of it, as binary; sonde cat --format pcapng makes a file of them");
};

SONDE_EVENT(packet_capture, "packet.capture", 1, bulk,
	    "Packets of a flow, from the IP header on, that there was a reason to keep.");

/* ---- between the kernel side and the module ---- */

/* A flow as one of its ends sees it. Between two processes of this host there are two. */
#define CAPTURE_KEY struct sonde_filter_tuple

/* In the kernel's table, behind each key: this, and behind it slots of capture_slot_bytes(). */
struct capture_flow {
	__u64 count;  /* packets so far: the number of the next */
	__u64 stop;   /* what has this number or a higher one is not kept until the reader has been here; 0: all is */
	__u64 halted; /* boot clock: when the first was not kept */
	__u64 _pad;
};

/* Which packet lies in a slot: it is whole where both ends name it. */
struct capture_slot {
	__u64 number; /* one more than the packet's, written last; 0: none */
	__u64 time;   /* boot clock */
	__u32 length;
	__u16 captured; /* bytes that are meant, of those behind this */
	__u8 sent;
	__u8 _pad;
	/* Then the bytes, and behind them the number once more, written first. */
};

/* Room for a packet of `bytes` bytes. */
static inline __attribute__((always_inline)) __u32 capture_slot_bytes(__u32 bytes)
{
	return (__u32)sizeof(struct capture_slot) + (bytes + 7) / 8 * 8 + 8;
}

/* What the kernel side says: there is a reason to write a flow, or, while requests are open (CAPTURE_REQUEST), a packet. */
struct capture_note {
	struct sonde_event event;
	CAPTURE_KEY key;
	__u32 reason; /* enum capture_reason */
	__u32 length; /* of the packet */
	__u16 captured;
	__u8 sent;
	__u8 _pad[5];
	__u8 bytes[0];
};

SONDE_INTERNAL_EVENT(capture_note, "capture.note", bulk,
		     "A reason to write a flow's packets, or a packet that sonde capture asks for.");

/* Defaults, and what the table is made for until the options are known. */
#define CAPTURE_PACKETS 32u
#define CAPTURE_SNAPLEN 96u
#define CAPTURE_PAYLOAD 0u
#define CAPTURE_FLOWS   1024u

#ifndef __bpf__
_Static_assert(sizeof(struct capture_flow) == 32 && sizeof(struct capture_slot) == 24 && sizeof(CAPTURE_KEY) == 40 &&
		       sizeof(struct capture_note) == 120,
	       "written by the kernel side");
#endif

#endif

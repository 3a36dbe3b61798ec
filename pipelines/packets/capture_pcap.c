/* SPDX-License-Identifier: Apache-2.0 */
/* pcap: a header of 24 bytes, and before each frame one of 16. */
#include "packets/capture_state.h"

#define HEADER_BYTES   24
#define RECORD_BYTES   16
#define SNAP_USUAL     262144u /* what libpcap takes as the most */
#define MAGIC_US       0xa1b2c3d4u
#define MAGIC_NS       0xa1b23c4du
#define MAGIC_MODIFIED 0xa1b2cd34u /* 8 bytes more for each record, of old patched systems */

static int pcap_next(struct capture *c, struct frame *ret)
{
	uint64_t offset = input_offset(&c->input);
	uint32_t header = RECORD_BYTES + c->extra, captured;
	const uint8_t *at;

	if (!input_has(&c->input, header)) {
		if (c->input.at == c->input.end && c->input.error == 0)
			return 0;
		return capture_cut(c, offset, "the header of a packet");
	}
	captured = capture_u32(c, c->input.at + 8);
	if (captured > c->most)
		return capture_fail(c, -EBADMSG, offset, "damaged: a packet of %u bytes where at most %u are captured",
				    captured, c->most);
	if (!input_has(&c->input, header + (size_t)captured))
		return capture_cut(c, offset, "a packet");
	at = c->input.at;
	*ret = (struct frame){
		.time = capture_u32(c, at) * NS_PER_SEC + (uint64_t)capture_u32(c, at + 4) * c->fraction_ns,
		.captured = captured,
		.length = MAX_OF(capture_u32(c, at + 12), captured),
		.link = c->link,
		.snap = c->snap,
		.bytes = at + header,
	};
	c->input.at += header + captured;
	return 1;
}

int pcap_begin(struct capture *c)
{
	uint32_t magic = capture_u32(c, c->input.at);

	c->swapped = magic != MAGIC_US && magic != MAGIC_NS && magic != MAGIC_MODIFIED;
	magic = capture_u32(c, c->input.at);
	if (magic != MAGIC_US && magic != MAGIC_NS && magic != MAGIC_MODIFIED) {
		c->swapped = false;
		return 0;
	}
	if (!input_has(&c->input, HEADER_BYTES))
		return capture_cut(c, 0, "its header");
	c->fraction_ns = magic == MAGIC_NS ? 1 : 1000;
	c->extra = magic == MAGIC_MODIFIED ? 8 : 0;
	if (capture_u16(c, c->input.at + 4) != 2)
		return capture_fail(c, -EINVAL, 4, "version %u of pcap is not known", capture_u16(c, c->input.at + 4));
	c->snap = capture_u32(c, c->input.at + 16);
	c->most = MIN_OF(MAX_OF(c->snap, SNAP_USUAL), CAPTURE_FRAME_MAX);
	c->link = capture_u32(c, c->input.at + 20) & 0xffff; /* above it: how long the frame check sequence is */
	c->input.at += HEADER_BYTES;
	c->next = pcap_next;
	c->format = "pcap";
	return 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a capture file: every frame lies within them, and what is decoded of it within the frame. */
#include <stdlib.h>

#include "packets/capture.h"
#include "packets/packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct capture *c = NULL;
	struct fault fault;
	struct frame frame;
	volatile uint8_t last = 0;

	if (capture_open_bytes(&c, data, size, &fault) < 0)
		return 0;
	while (capture_next(c, &frame, &fault) > 0) {
		struct packet p = { 0 };
		enum packet_kind kind;

		check(frame.captured <= frame.length && frame.captured <= CAPTURE_FRAME_MAX);
		if (frame.captured)
			last = (uint8_t)(last + frame.bytes[frame.captured - 1]);
		kind = packet_decode(&frame, &p);
		if (kind != PACKET_TCP && kind != PACKET_UDP && kind != PACKET_UNREACHABLE)
			continue;
		check(p.captured <= p.length && p.payload >= frame.bytes &&
		      p.payload + p.captured <= frame.bytes + frame.captured);
		check(p.tcp.n_sacks <= PACKET_SACKS_MAX);
	}
	capture_close(c);
	return 0;
}

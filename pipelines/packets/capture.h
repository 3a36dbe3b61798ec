/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames out of a capture file, one after the other: pcap of either byte order and resolution, and pcapng. Files are hostile:
 * what is damaged ends the reading with the place named, and everything before it was given out.
 * Sources: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html and draft-ietf-opsawg-pcapng-03
 */
#ifndef SONDE_CAPTURE_H
#define SONDE_CAPTURE_H

#include "packets/input.h"

#define CAPTURE_FRAME_MAX      (INPUT_PEEK_MAX - (64u << 10))
#define CAPTURE_INTERFACES_MAX 65536u

struct frame {
	uint64_t time; /* ns since the epoch */
	uint32_t captured, length;
	uint32_t link;      /* LINK_* */
	uint32_t interface; /* number within the file, over all its sections */
	uint32_t snap;      /* the most that its interface captures; 0: no bound */
	const uint8_t *bytes;
};

struct capture; /* opaque */

int capture_open(struct capture **ret, const char *path, struct fault *fault);
int capture_open_bytes(struct capture **ret, const void *bytes, size_t size, struct fault *fault);
void capture_close(struct capture *capture);

/* 1 with a frame, valid until the next call; 0 at the end; else a negative errno, with the file and the byte in `fault`: the next
 * call says the same. -ENODATA: it ends within a record; -EBADMSG: damaged; else as read(2). */
int capture_next(struct capture *capture, struct frame *ret, struct fault *fault);

/* Of the file's own bytes: read so far, and all (0: not known). */
uint64_t capture_done(const struct capture *capture);
uint64_t capture_size(const struct capture *capture);
const char *capture_format(const struct capture *capture); /* "pcap", "pcapng" */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What the two formats' readers share. */
#ifndef SONDE_CAPTURE_STATE_H
#define SONDE_CAPTURE_STATE_H

#include <string.h>

#include "packets/capture.h"

/* How an interface of a pcapng section counts time: ns = ticks * multiply / divide, or by halving where `shift` is set. */
struct interface {
	uint32_t link, snap;
	uint64_t multiply, divide;
	uint8_t shift; /* ticks of 2^-shift s; 0: decimal */
	int64_t offset_s;
};

struct capture {
	struct input input;
	char *path;
	bool swapped;
	int failed; /* the errno that ended the reading */
	struct fault fault;
	int (*next)(struct capture *capture, struct frame *ret);
	const char *format;
	/* pcap */
	uint32_t link, snap, most;
	uint32_t extra; /* bytes between a record's header and its frame */
	uint32_t fraction_ns;
	/* pcapng */
	struct interface *interfaces; /* of this section */
	uint32_t n_interfaces, interfaces_room, first_interface;
	uint64_t last_time;
};

static inline uint16_t capture_u16(const struct capture *c, const uint8_t *at)
{
	uint16_t v;

	memcpy(&v, at, sizeof v);
	return c->swapped ? __builtin_bswap16(v) : v;
}

static inline uint32_t capture_u32(const struct capture *c, const uint8_t *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof v);
	return c->swapped ? __builtin_bswap32(v) : v;
}

/* Ends the reading at `offset`: returns `error`. */
int capture_fail(struct capture *c, int error, uint64_t offset, const char *format, ...) _printf_(4, 5);
/* The input ended, or could not be read on, within a `what` that began at `offset`. */
int capture_cut(struct capture *c, uint64_t offset, const char *what);

/* capture_pcap.c, capture_pcapng.c: `at` is the file's first bytes. 1: it is of this format; 0: not; else a negative errno. */
int pcap_begin(struct capture *c);
int pcapng_begin(struct capture *c);

#endif

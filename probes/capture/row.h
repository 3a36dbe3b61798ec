/* SPDX-License-Identifier: Apache-2.0 */
/* A packet.capture put together: the flow, and packets as long as there is room. Pure. */
#ifndef SONDE_CAPTURE_ROW_H
#define SONDE_CAPTURE_ROW_H

#include "encode/pack.h"
#include "probes/capture/capture.h"

#define CAPTURE_TRIGGER_MAX 32u
#define CAPTURE_ROW_PACKETS 16384u /* bytes: a record holds no more */

struct capture_row {
	struct packet_capture row;
	uint8_t behind[CAPTURE_TRIGGER_MAX + CAPTURE_ROW_PACKETS];
	struct pack pack; /* over what is left of it */
	uint8_t *array;
};

/* What is the same for all parts. */
struct capture_head {
	struct sonde_event event; /* whose, and when the reason was */
	CAPTURE_KEY key;
	uint32_t reason, request;
	uint64_t event_seq;
	const char *trigger; /* NULL: no event */
};

void capture_row_begin(struct capture_row *row, const struct capture_head *head, uint32_t part);
/* `time`: ns since the epoch. False, and nothing is added, where there is no more room. */
bool capture_row_add(struct capture_row *row, uint64_t time, bool sent, uint32_t length, const void *bytes,
		     uint16_t captured);
/* The record, ready to be emitted. */
struct packet_capture *capture_row_end(struct capture_row *row);

#endif

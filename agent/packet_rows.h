/* SPDX-License-Identifier: Apache-2.0 */
/* The packets of packet.capture records as a pcapng file, in the order of their times, each with whose it is as its comment. */
#ifndef SONDE_PACKET_ROWS_H
#define SONDE_PACKET_ROWS_H

#include "base/base.h"

struct packet_rows; /* opaque */

/* Begins the file. Up to `bytes` of packets are held to be put in order; more are written in parts, each in order by itself. */
int packet_rows_make(struct packet_rows **ret, FILE *file, size_t bytes);
void packet_rows_free(struct packet_rows *rows);

/* One record of the stream. -EBADMSG: damaged, or no packet.capture; nothing of it is taken then. Else 0 or a negative errno. */
int packet_rows_add(struct packet_rows *rows, const void *map, size_t size);

/* Writes what is held: 0 or a negative errno. */
int packet_rows_end(struct packet_rows *rows);
uint64_t packet_rows_count(const struct packet_rows *rows); /* packets so far */

#endif

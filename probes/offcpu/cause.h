/* SPDX-License-Identifier: Apache-2.0 */
/* What a thread waited for, as texts: from a sample's numbers and path, and from the frames of its stack. */
#ifndef SONDE_OFFCPU_CAUSE_H
#define SONDE_OFFCPU_CAUSE_H

#include "base/base.h"
#include "probes/offcpu/offcpu.h"

#define OFFCPU_TEXT_ROOM sizeof(((struct profile_offcpu *)0)->file)

/* The cause of a sample as it is compared: equal causes are equal bytes. */
struct offcpu_key {
	struct offcpu_cause cause; /* path_size: bytes of `file` */
	char file[OFFCPU_TEXT_ROOM];
};

/* Bytes of a key that count: what lies behind its text does not. */
size_t offcpu_key_size(const struct offcpu_key *key);

/* Makes the key of a sample. A path that is too long keeps its end behind "...". -EBADMSG: the sample is not what the kernel side
 * writes. */
int offcpu_key_make(const struct offcpu_sample *sample, struct offcpu_key *ret);

/* Fills the row's keys that tell the cause; bytes of `key` may be fewer than its struct. */
void offcpu_key_write(const struct offcpu_key *key, size_t size, struct profile_offcpu *row);

/* The kernel function that waits: the first of the frames (NUL-terminated texts, leaf first) that is no part of the scheduler. Empty
 * where there is none. */
void offcpu_wait_function(const char *frames, size_t size, char *ret, size_t room);

#endif

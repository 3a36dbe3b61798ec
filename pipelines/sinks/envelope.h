/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sink writes on the outside of a record: the values of its first common keys, in place.
 */
#ifndef SONDE_ENVELOPE_H
#define SONDE_ENVELOPE_H

#include "base/base.h"

/* A text within the record, not terminated; `at` is NULL where the record has none. */
struct envelope_text {
	const char *at;
	uint32_t length;
};

struct envelope {
	struct envelope_text type, host, run;
	uint64_t seq;
	bool has_seq;
};

/* Reads the envelope of the msgpack map of `size` bytes. 0 when all of it is there; -ENOENT when some key is missing or
 * of another kind (what was found is still set); -EBADMSG when the bytes are no map. Never reads past the record. */
int envelope_read(const void *map, size_t size, struct envelope *ret);

/* The part of a type before the dot: "tcp" of "tcp.connect"; the whole where there is no dot. */
struct envelope_text envelope_module(struct envelope_text type);

#endif

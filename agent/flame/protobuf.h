/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protobuf writer: fields one after the other into growing text. A message within a message is written on its own
 * first, since its length stands before it. Encoding: https://protobuf.dev/programming-guides/encoding/
 */
#ifndef SONDE_FLAME_PROTOBUF_H
#define SONDE_FLAME_PROTOBUF_H

#include "encode/text.h"

static inline void protobuf_varint(struct text *t, uint64_t value)
{
	for (; value > 0x7f; value >>= 7)
		text_char(t, (char)(value | 0x80));
	text_char(t, (char)value);
}

/* A number; 0 is what an absent one reads as, and is left out. */
static inline void protobuf_number(struct text *t, unsigned field, uint64_t value)
{
	if (value == 0)
		return;
	protobuf_varint(t, field << 3);
	protobuf_varint(t, value);
}

static inline void protobuf_bytes(struct text *t, unsigned field, const void *bytes, size_t size)
{
	protobuf_varint(t, field << 3 | 2);
	protobuf_varint(t, size);
	text_put(t, bytes, size);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file or pipe of bytes, read once from begin to end through one window; gzip is unpacked on the way. Memory is bounded by
 * what its reader asks to see at once.
 */
#ifndef SONDE_INPUT_H
#define SONDE_INPUT_H

#include "base/base.h"

#include <errno.h>

#define INPUT_PEEK_MAX (16u << 20)

struct inflate; /* opaque */

/* `at`..`end` are read and not yet taken; `base` is the offset of `at`'s buffer in the (unpacked) bytes. */
struct input {
	int fd;
	uint8_t *buffer, *at, *end;
	size_t room;
	uint64_t base;           /* offset of buffer[0] */
	uint64_t consumed;       /* bytes of the file itself that were read */
	uint64_t size;           /* of the file; 0: not known */
	struct inflate *inflate; /* NULL: not packed */
	bool over;               /* no more bytes come */
	int error;               /* why, if not because it ended: -EBADMSG for damaged gzip, else of read(2) */
};

/* `path` "-" is standard input. 0, or a negative errno with a sentence in `fault`. */
int input_open(struct input *ret, const char *path, struct fault *fault);
/* Over bytes in memory, which are copied: for tests. */
int input_open_bytes(struct input *ret, const void *bytes, size_t size);
void input_close(struct input *input);

/* Reads on until `size` (at most INPUT_PEEK_MAX) bytes are there. False at the end, when fewer are, or when memory ran out. */
bool input_fill(struct input *input, size_t size);

static inline bool input_has(struct input *input, size_t size)
{
	return __builtin_expect((size_t)(input->end - input->at) >= size, 1) || input_fill(input, size);
}

static inline uint64_t input_offset(const struct input *input)
{
	return input->base + (uint64_t)(input->at - input->buffer);
}

/* Takes `size` bytes that need not have been seen. False when it ended before. */
bool input_skip(struct input *input, uint64_t size);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as an xz stream. The sums that a damaged stream would fail by are made right first: those of the index and
 * of both ends, so that what is behind them is reached.
 */
#include <lzma.h>
#include <stdlib.h>
#include <string.h>

#include "stacks/xz.h"

#define ROOM (12u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_crc(uint8_t *at, const uint8_t *bytes, size_t size)
{
	uint32_t crc = lzma_crc32(bytes, size, 0);

	memcpy(at, &crc, sizeof crc);
}

static void make_right(uint8_t *bytes, size_t size)
{
	size_t footer = size - LZMA_STREAM_HEADER_SIZE, index;
	uint32_t backward;

	memcpy(bytes,
	       "\375"
	       "7zXZ",
	       6);
	put_crc(bytes + 8, bytes + 6, 2);
	memcpy(bytes + footer + 8, bytes + 6, 2);
	memcpy(bytes + footer + 10, "YZ", 2);
	put_crc(bytes + footer, bytes + footer + 4, 6);
	memcpy(&backward, bytes + footer + 4, sizeof backward);
	index = ((size_t)backward + 1) * 4;
	if (index >= 8 && index < footer)
		put_crc(bytes + footer - 4, bytes + footer - index, index - 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t *room;
	uint8_t *bytes = malloc(size + 1);
	struct elf_file file = { .fd = -1, .bytes = bytes, .size = size }, out;

	if (!room)
		room = aligned_alloc(16, ROOM);
	memcpy(bytes, data, size);
	if (size >= 2 * LZMA_STREAM_HEADER_SIZE)
		make_right(bytes, size);
	if (xz_unpack(&file, 0, size, room, ROOM, &out) == 0 && (out.size > ROOM || out.bytes != room))
		abort();
	free(bytes);
	return 0;
}

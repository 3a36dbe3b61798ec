/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index at the stream's end tells the unpacked size, so that the room can be divided before the decoder runs:
 *
 *	[ unpacked bytes | decoder's memory, in order of allocation ]
 *
 * liblzma asks for memory through an allocator that takes the next bytes of the room. Freed is only what was taken last:
 * a stream that makes the decoder ask again and again ends when the room does. Format: The .xz File Format, 2.1 and 4.
 */
#include "stacks/xz.h"

#include <errno.h>
#include <lzma.h>
#include <string.h>

#include "base/base.h"

#define PIECE     8192u
#define INDEX_MAX 4096u
#define ALIGNMENT ((size_t)16)

struct arena {
	uint8_t *memory;
	size_t size, taken, last;
};

static void *arena_take(void *opaque, size_t count, size_t size)
{
	struct arena *a = opaque;
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes) || bytes > a->size - a->taken)
		return NULL;
	a->last = a->taken;
	a->taken += ALIGN_UP(bytes, ALIGNMENT);
	if (a->taken > a->size)
		a->taken = a->size;
	return a->memory + a->last;
}

static void arena_give(void *opaque, void *memory)
{
	struct arena *a = opaque;

	if (memory && memory == a->memory + a->last)
		a->taken = a->last;
}

/* Adds up the blocks of an index, which is without its CRC. */
static int64_t sum_index(const uint8_t *index, size_t size)
{
	lzma_vli count, packed, unpacked;
	uint64_t sum = 0;
	size_t at = 1;

	if (size < 2 || index[0] != 0 || lzma_vli_decode(&count, NULL, index, &at, size) != LZMA_OK)
		return -EBADMSG;
	for (; count; count--) {
		if (lzma_vli_decode(&packed, NULL, index, &at, size) != LZMA_OK ||
		    lzma_vli_decode(&unpacked, NULL, index, &at, size) != LZMA_OK)
			return -EBADMSG;
		sum += unpacked;
		if (unpacked > INT64_MAX / 2 || sum > INT64_MAX / 2)
			return -EBADMSG;
	}
	return (int64_t)sum;
}

int64_t xz_size(const struct elf_file *file, uint64_t offset, uint64_t size)
{
	uint8_t footer[LZMA_STREAM_HEADER_SIZE], index[INDEX_MAX];
	lzma_stream_flags flags;
	int r;

	if (size < 2 * sizeof footer || offset > file->size || size > file->size - offset)
		return -EBADMSG;
	r = elf_read_at(file, offset + size - sizeof footer, footer, sizeof footer);
	if (r < 0)
		return r == -EIO ? r : -EBADMSG;
	if (lzma_stream_footer_decode(&flags, footer) != LZMA_OK || flags.backward_size > sizeof index ||
	    flags.backward_size > size - 2 * sizeof footer)
		return -EBADMSG;
	r = elf_read_at(file, offset + size - sizeof footer - flags.backward_size, index, (size_t)flags.backward_size);
	if (r < 0)
		return r == -EIO ? r : -EBADMSG;
	return sum_index(index, (size_t)flags.backward_size);
}

static int decode(lzma_stream *stream, const struct elf_file *file, uint64_t offset, uint64_t size)
{
	uint8_t piece[PIECE];
	lzma_ret status = LZMA_OK;

	for (uint64_t done = 0; done < size && status == LZMA_OK;) {
		size_t n = size - done < sizeof piece ? (size_t)(size - done) : sizeof piece;
		int r = elf_read_at(file, offset + done, piece, n);

		if (r < 0)
			return r == -EIO ? r : -EBADMSG;
		stream->next_in = piece;
		stream->avail_in = n;
		/* More output than the index told makes no progress, which is an error to liblzma. */
		while (stream->avail_in && status == LZMA_OK)
			status = lzma_code(stream, LZMA_RUN);
		done += n;
	}
	if (status == LZMA_MEM_ERROR)
		return -ENOSPC;
	return status == LZMA_STREAM_END ? 0 : -EBADMSG;
}

int xz_unpack(const struct elf_file *file, uint64_t offset, uint64_t size, void *room, size_t room_size,
	      struct elf_file *ret)
{
	int64_t unpacked = xz_size(file, offset, size);
	size_t begin = unpacked >= 0 ? ALIGN_UP((size_t)unpacked, ALIGNMENT) : 0;
	struct arena arena = { .memory = (uint8_t *)room + begin, .size = room_size - begin };
	lzma_allocator allocator = { arena_take, arena_give, &arena };
	lzma_stream stream = LZMA_STREAM_INIT;
	int r;

	if (unpacked < 0)
		return (int)unpacked;
	if ((uint64_t)unpacked > room_size || begin > room_size)
		return -ENOSPC;
	stream.allocator = &allocator;
	if (lzma_stream_decoder(&stream, UINT64_MAX, 0) != LZMA_OK)
		return -ENOSPC;
	stream.next_out = room;
	stream.avail_out = (size_t)unpacked;
	r = decode(&stream, file, offset, size);
	if (r == 0 && stream.avail_out)
		r = -EBADMSG;
	lzma_end(&stream);
	if (r == 0)
		*ret = (struct elf_file){ .fd = -1, .bytes = room, .size = (uint64_t)unpacked };
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of this machine's byte order; each is put together from at most three parts and their padding. */
#include "packets/pcapng_writer.h"

#include <errno.h>
#include <string.h>

enum { BLOCK_INTERFACE = 1, BLOCK_PACKET = 6 };
enum { OPTION_COMMENT = 1, OPTION_NAME = 2, OPTION_APPLICATION = 4, OPTION_TSRESOL = 9 };
#define BLOCK_SECTION 0x0a0d0d0au
#define END_OPTIONS   4u /* bytes of the option that ends a list */

static void put(struct pcapng_writer *w, const void *bytes, size_t size)
{
	static const uint8_t zeros[4];

	fwrite_unlocked(bytes, 1, size, w->file);
	fwrite_unlocked(zeros, 1, ALIGN_UP(size, (size_t)4) - size, w->file);
}

static void put_u32(struct pcapng_writer *w, uint32_t value)
{
	put(w, &value, sizeof value);
}

static void put_option(struct pcapng_writer *w, uint16_t code, const void *value, uint16_t length)
{
	uint16_t head[2] = { code, length };

	put(w, head, sizeof head);
	put(w, value, length);
}

static uint32_t option_size(size_t length)
{
	return (uint32_t)(4 + ALIGN_UP(length, (size_t)4));
}

static int ended(struct pcapng_writer *w, uint32_t total)
{
	put_u32(w, total);
	return ferror_unlocked(w->file) ? (errno ? -errno : -EIO) : 0;
}

/* No longer than `most`, and not within a character. */
static uint16_t text_length(const char *text, size_t most)
{
	size_t n = strnlen(text, most + 1);

	if (n > most)
		for (n = most; n && ((uint8_t)text[n] & 0xc0) == 0x80;)
			n--;
	return (uint16_t)n;
}

int pcapng_begin_file(struct pcapng_writer *w, FILE *file, const char *application)
{
	const struct {
		uint32_t magic;
		uint16_t major, minor;
		int64_t length; /* of the section: not said */
	} __attribute__((packed)) body = { 0x1a2b3c4d, 1, 0, -1 };
	uint16_t n = text_length(application, 256);
	uint32_t total = 12 + (uint32_t)sizeof body + option_size(n) + END_OPTIONS;

	*w = (struct pcapng_writer){ .file = file };
	put_u32(w, BLOCK_SECTION);
	put_u32(w, total);
	put(w, &body, sizeof body);
	put_option(w, OPTION_APPLICATION, application, n);
	put_u32(w, 0);
	return ended(w, total);
}

int pcapng_add_interface(struct pcapng_writer *w, uint16_t link, uint32_t snap, const char *name, uint32_t *ret)
{
	static const uint8_t nanoseconds = 9;
	uint16_t n = name ? text_length(name, 256) : 0, head[2] = { link, 0 };
	uint32_t total = 12 + 8 + option_size(1) + END_OPTIONS + (n ? option_size(n) : 0);

	put_u32(w, BLOCK_INTERFACE);
	put_u32(w, total);
	put(w, head, sizeof head);
	put_u32(w, snap);
	if (n)
		put_option(w, OPTION_NAME, name, n);
	put_option(w, OPTION_TSRESOL, &nanoseconds, 1);
	put_u32(w, 0);
	*ret = w->n_interfaces++;
	return ended(w, total);
}

int pcapng_write_packet(struct pcapng_writer *w, uint32_t interface, uint64_t time, const void *bytes,
			uint32_t captured, uint32_t length, const char *comment)
{
	uint16_t n = comment ? text_length(comment, PCAPNG_COMMENT_MAX) : 0;
	uint32_t total = 12 + 20 + ALIGN_UP(captured, 4u) + (n ? option_size(n) + END_OPTIONS : 0);
	uint32_t head[] = { BLOCK_PACKET, total, interface, (uint32_t)(time >> 32), (uint32_t)time, captured, length };

	if (interface >= w->n_interfaces || captured > length || captured > UINT32_MAX / 2)
		return -EINVAL;
	put(w, head, sizeof head);
	put(w, bytes, captured);
	if (n) {
		put_option(w, OPTION_COMMENT, comment, n);
		put_u32(w, 0);
	}
	return ended(w, total);
}

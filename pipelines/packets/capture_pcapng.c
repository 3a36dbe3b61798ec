/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pcapng: blocks, each with its length at both ends. A section header says the byte order of what follows and forgets the interfaces
 * before it. Blocks of other kinds are passed over without being kept.
 */
#include "packets/capture_state.h"

#include <inttypes.h>

enum {
	BLOCK_INTERFACE = 1,
	BLOCK_PACKET_OLD = 2,
	BLOCK_PACKET_SIMPLE = 3,
	BLOCK_PACKET = 6,
};
#define BLOCK_SECTION    0x0a0d0d0au /* the same in either byte order */
#define BYTE_ORDER_MAGIC 0x1a2b3c4du
#define BLOCK_LEAST      12u

enum { OPTION_END = 0, OPTION_TSRESOL = 9, OPTION_TSOFFSET = 14 };

struct block {
	uint64_t offset;
	uint32_t size; /* of the body */
	const uint8_t *body;
};

static uint64_t ticks_to_ns(const struct interface *i, uint64_t ticks)
{
	__int128 ns;

	if (i->shift)
		ns = (__int128)(((unsigned __int128)ticks * NS_PER_SEC) >> i->shift);
	else
		ns = (__int128)((unsigned __int128)ticks * i->multiply / i->divide);
	ns += (__int128)i->offset_s * (int64_t)NS_PER_SEC;
	return ns < 0 ? 0 : ns > INT64_MAX ? INT64_MAX : (uint64_t)ns;
}

/* if_tsresol: a power of ten, or of two where the top bit is set. False: finer than can be told. */
static bool set_resolution(struct interface *i, uint8_t resolution)
{
	unsigned power = resolution & 0x7f;

	i->multiply = i->divide = 1;
	i->shift = 0;
	if (resolution & 0x80) {
		if (power > 63)
			return false;
		i->shift = (uint8_t)power;
		i->multiply = power ? 1 : NS_PER_SEC;
		return true;
	}
	if (power > 27)
		return false;
	for (; power < 9; power++)
		i->multiply *= 10;
	for (; power > 9; power--)
		i->divide *= 10;
	return true;
}

static int64_t capture_s64(const struct capture *c, const uint8_t *at)
{
	uint64_t first = capture_u32(c, at), second = capture_u32(c, at + 4);
	bool big = (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) != c->swapped;

	return (int64_t)(big ? first << 32 | second : second << 32 | first);
}

static int read_options(struct capture *c, struct interface *i, const struct block *b, uint32_t at)
{
	while (b->size - at >= 4) {
		uint16_t code = capture_u16(c, b->body + at), length = capture_u16(c, b->body + at + 2);
		const uint8_t *value = b->body + at + 4;

		if (code == OPTION_END)
			break;
		if (length > b->size - at - 4)
			return capture_fail(c, -EBADMSG, b->offset, "damaged: an option reaches past its block");
		if (code == OPTION_TSRESOL && length == 1 && !set_resolution(i, *value))
			return capture_fail(c, -EBADMSG, b->offset, "an interface with times of 2^-%u or 10^-%u s",
					    *value & 0x7f, *value & 0x7f);
		if (code == OPTION_TSOFFSET && length == 8)
			i->offset_s = capture_s64(c, value);
		at += MIN_OF(4 + ALIGN_UP((uint32_t)length, 4u), b->size - at);
	}
	return 0;
}

static int add_interface(struct capture *c, const struct block *b)
{
	struct interface i = { 0 }, *more;
	int r;

	if (b->size < 8)
		return capture_fail(c, -EBADMSG, b->offset, "damaged: the description of an interface in %u bytes",
				    b->size);
	if (c->n_interfaces >= CAPTURE_INTERFACES_MAX)
		return capture_fail(c, -E2BIG, b->offset, "more than %u interfaces", CAPTURE_INTERFACES_MAX);
	i.link = capture_u16(c, b->body);
	i.snap = capture_u32(c, b->body + 4);
	set_resolution(&i, 6);
	r = read_options(c, &i, b, 8);
	if (r < 0)
		return r;
	if (c->n_interfaces == c->interfaces_room) {
		uint32_t room = c->interfaces_room ? c->interfaces_room * 2 : 4;

		more = realloc(c->interfaces, room * sizeof *more);
		if (!more)
			return capture_fail(c, -ENOMEM, b->offset, "out of memory");
		c->interfaces = more;
		c->interfaces_room = room;
	}
	c->interfaces[c->n_interfaces++] = i;
	return 0;
}

/* A frame of `captured` bytes at `at` of the block, from the n-th interface. */
static int give_frame(struct capture *c, const struct block *b, uint32_t n, uint32_t at, struct frame *ret)
{
	if (n >= c->n_interfaces)
		return capture_fail(c, -EBADMSG, b->offset, "damaged: a packet of interface %u, of which there are %u",
				    n, c->n_interfaces);
	if (ret->captured > b->size - at)
		return capture_fail(c, -EBADMSG, b->offset, "damaged: a packet of %u bytes in a block of %u",
				    ret->captured, b->size);
	ret->length = MAX_OF(ret->length, ret->captured);
	ret->link = c->interfaces[n].link;
	ret->snap = c->interfaces[n].snap;
	ret->interface = c->first_interface + n;
	ret->bytes = b->body + at;
	c->last_time = ret->time;
	return 1;
}

static int read_packet(struct capture *c, const struct block *b, bool old, struct frame *ret)
{
	uint32_t n;
	uint64_t ticks;

	if (b->size < 20)
		return capture_fail(c, -EBADMSG, b->offset, "damaged: a packet in a block of %u bytes", b->size);
	n = old ? capture_u16(c, b->body) : capture_u32(c, b->body);
	ticks = (uint64_t)capture_u32(c, b->body + 4) << 32 | capture_u32(c, b->body + 8);
	*ret = (struct frame){ .captured = capture_u32(c, b->body + 12), .length = capture_u32(c, b->body + 16) };
	if (n < c->n_interfaces)
		ret->time = ticks_to_ns(&c->interfaces[n], ticks);
	return give_frame(c, b, n, 20, ret);
}

/* It has no time: that of the packet before it is the nearest. */
static int read_simple(struct capture *c, const struct block *b, struct frame *ret)
{
	if (b->size < 4)
		return capture_fail(c, -EBADMSG, b->offset, "damaged: a packet in a block of %u bytes", b->size);
	*ret = (struct frame){ .time = c->last_time, .length = capture_u32(c, b->body) };
	ret->captured = MIN_OF(ret->length, b->size - 4);
	if (c->n_interfaces && c->interfaces[0].snap)
		ret->captured = MIN_OF(ret->captured, c->interfaces[0].snap);
	return give_frame(c, b, 0, 4, ret);
}

static int begin_section(struct capture *c, uint64_t offset)
{
	uint32_t magic;

	if (!input_has(&c->input, 28))
		return capture_cut(c, offset, "the header of a section");
	memcpy(&magic, c->input.at + 8, sizeof magic);
	if (magic != BYTE_ORDER_MAGIC && magic != __builtin_bswap32(BYTE_ORDER_MAGIC))
		return capture_fail(c, -EBADMSG, offset, "damaged: a section of no byte order");
	c->swapped = magic != BYTE_ORDER_MAGIC;
	if (capture_u16(c, c->input.at + 12) != 1)
		return capture_fail(c, -EINVAL, offset, "version %u of pcapng is not known",
				    capture_u16(c, c->input.at + 12));
	c->first_interface += c->n_interfaces;
	c->n_interfaces = 0;
	return 0;
}

/* Sees the whole block, whose length at its end must be that at its begin. Some writers leave the padding out of it. */
static int whole_block(struct capture *c, struct block *b, uint32_t total)
{
	uint32_t padded = ALIGN_UP(total, 4u);

	if (total > INPUT_PEEK_MAX)
		return capture_fail(c, -EBADMSG, b->offset, "damaged: a block of %u bytes", total);
	if (!input_has(&c->input, padded))
		return capture_cut(c, b->offset, "a block");
	b->body = c->input.at + 8;
	b->size = padded - BLOCK_LEAST;
	if (capture_u32(c, c->input.at + padded - 4) != total)
		return capture_fail(c, -EBADMSG, b->offset, "damaged: the two lengths of a block are %u and %u", total,
				    capture_u32(c, c->input.at + padded - 4));
	return 0;
}

/* 1 with a frame, 0: no frame in it; the block is taken. */
static int read_block(struct capture *c, uint32_t type, uint32_t total, struct block *b, struct frame *ret)
{
	int r = 0;

	if (type != BLOCK_INTERFACE && type != BLOCK_PACKET && type != BLOCK_PACKET_OLD && type != BLOCK_PACKET_SIMPLE)
		return input_skip(&c->input, ALIGN_UP((uint64_t)total, 4ull)) ? 0
									      : capture_cut(c, b->offset, "a block");
	r = whole_block(c, b, total);
	if (r < 0)
		return r;
	if (type == BLOCK_INTERFACE)
		r = add_interface(c, b);
	else if (type == BLOCK_PACKET_SIMPLE)
		r = read_simple(c, b, ret);
	else
		r = read_packet(c, b, type == BLOCK_PACKET_OLD, ret);
	if (r >= 0)
		c->input.at += ALIGN_UP(total, 4u);
	return r;
}

static int pcapng_next(struct capture *c, struct frame *ret)
{
	int r = 0;

	while (r == 0) {
		struct block b = { .offset = input_offset(&c->input) };
		uint32_t type, total;

		if (!input_has(&c->input, BLOCK_LEAST)) {
			if (c->input.at == c->input.end && c->input.error == 0)
				return 0;
			return capture_cut(c, b.offset, "a block");
		}
		type = capture_u32(c, c->input.at);
		if (type == BLOCK_SECTION && (r = begin_section(c, b.offset)) < 0)
			return r;
		total = capture_u32(c, c->input.at + 4);
		if (total < BLOCK_LEAST)
			return capture_fail(c, -EBADMSG, b.offset, "damaged: a block of %u bytes", total);
		r = read_block(c, type, total, &b, ret);
	}
	return r;
}

int pcapng_begin(struct capture *c)
{
	if (capture_u32(c, c->input.at) != BLOCK_SECTION)
		return 0;
	c->next = pcapng_next;
	c->format = "pcapng";
	return 1;
}

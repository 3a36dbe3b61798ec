/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DWARF sections of one ELF file as byte streams with a position. A section may be compressed (zlib); its reader sees the content.
 * The file is hostile: it is read in pieces by pread, offsets are checked, and behind a section's end there are only zeros. No memory
 * but the given room is used.
 *
 * A read is fast and needs no check of its own: dwarf_need() makes sure that DWARF_GUARD bytes can be read at the position.
 */
#ifndef SONDE_DWARF_SECTION_H
#define SONDE_DWARF_SECTION_H

#include <string.h>

#include "stacks/elf_file.h"
#include "stacks/elf_table.h"

#define DWARF_GUARD 32u

enum dwarf_section_name {
	DWARF_INFO,
	DWARF_ABBREV,
	DWARF_STR,
	DWARF_LINE_STR,
	DWARF_STR_OFFSETS,
	DWARF_ADDR,
	DWARF_RANGES,
	DWARF_RNGLISTS,
	DWARF_SECTIONS
};

struct dwarf_inflater;

struct dwarf_section {
	uint64_t offset, stored;         /* where it lies in the file, and how many bytes of it */
	uint64_t size;                   /* of the content; 0: there is none */
	bool packed;                     /* compressed in the file */
	bool bad;                        /* a position behind the end was asked for */
	struct dwarf_inflater *inflater; /* of a compressed section */
	uint8_t *window;                 /* `capacity` bytes and DWARF_GUARD zeros more */
	size_t capacity, filled, burst;
	uint64_t at; /* the content's offset of window[0] */
	const uint8_t *next, *end;
};

struct dwarf_file {
	struct elf_file file;
	int status;     /* 0, or -EIO once reading the file has failed */
	uint64_t steps; /* work done so far: bytes read, inflated or parsed */
	uint64_t base;  /* the lowest address of code */
	unsigned n_loads;
	struct elf_load loads[ELF_LOADS_MAX]; /* executable segments */
	struct dwarf_section sections[DWARF_SECTIONS];
};

/* Finds the sections and the executable segments. 0, -ENOENT (nothing that can be read), -ENOEXEC, -EIO. */
int dwarf_find(const struct elf_file *file, struct dwarf_file *ret);

/* Bytes of room that dwarf_open() takes for the readers of all sections. */
size_t dwarf_room(const struct dwarf_file *dwarf);

/* Gives each section its reader within dwarf_room() bytes at `room` (16-byte aligned), which may not move from then on. */
int dwarf_open(struct dwarf_file *dwarf, uint8_t *room);

/* Whether code can lie at `address`. */
bool dwarf_is_code(const struct dwarf_file *dwarf, uint64_t address);

/* Moves to offset `to` of the content. False, with `bad` set, when it lies behind the end or cannot be read. */
bool dwarf_seek(struct dwarf_file *dwarf, struct dwarf_section *section, uint64_t to);

static inline uint64_t dwarf_tell(const struct dwarf_section *s)
{
	return s->at + (uint64_t)(s->next - s->window);
}

static inline void dwarf_need(struct dwarf_file *dwarf, struct dwarf_section *s)
{
	if (s->end - s->next < (ptrdiff_t)DWARF_GUARD)
		dwarf_seek(dwarf, s, dwarf_tell(s));
}

static inline void dwarf_skip(struct dwarf_file *dwarf, struct dwarf_section *s, uint64_t count)
{
	if (s->next <= s->end && count <= (uint64_t)(s->end - s->next))
		s->next += count;
	else
		dwarf_seek(dwarf, s, count > s->size ? UINT64_MAX : dwarf_tell(s) + count);
}

static inline uint64_t dwarf_fixed(struct dwarf_section *s, unsigned bytes)
{
	uint64_t value = 0;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	memcpy(&value, s->next, bytes);
#else
	memcpy((uint8_t *)&value + sizeof value - bytes, s->next, bytes);
#endif
	s->next += bytes;
	return value;
}

static inline uint64_t dwarf_uleb(struct dwarf_section *s)
{
	uint64_t value = *s->next & 0x7f;

	if (!(*s->next++ & 0x80))
		return value;
	for (unsigned shift = 7; shift < 70; shift += 7) {
		uint8_t byte = *s->next++;

		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			break;
	}
	return value;
}

/* The value of a signed LEB128 number, in two's complement. */
static inline uint64_t dwarf_sleb(struct dwarf_section *s)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 70; shift += 7) {
		uint8_t byte = *s->next++;

		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			if ((byte & 0x40) && shift + 7 < 64)
				value |= ~0ull << (shift + 7);
			break;
		}
	}
	return value;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Units of .debug_info and their entries (DIEs), as far as functions go: which attributes an entry has that say where its code is and
 * what it is called. DWARF 2 to 5, 32- and 64-bit, with gcc's and LLVM's extensions. What needs another file (split DWARF, dwz's
 * common file, type signatures) is passed over.
 */
#ifndef SONDE_DWARF_UNIT_H
#define SONDE_DWARF_UNIT_H

#include "stacks/dwarf_section.h"

#define DWARF_CODES_MAX 16384u /* abbreviations of a unit; a unit with more is refused */
#define DWARF_WORDS_MAX (96u << 10)

enum dwarf_tag {
	DWARF_TAG_COMPILE_UNIT = 0x11,
	DWARF_TAG_INLINED = 0x1d,
	DWARF_TAG_SUBPROGRAM = 0x2e,
	DWARF_TAG_PARTIAL_UNIT = 0x3c,
};

enum dwarf_unit_type {
	DWARF_UNIT_COMPILE = 1,
	DWARF_UNIT_TYPE,
	DWARF_UNIT_PARTIAL,
	DWARF_UNIT_SKELETON,
	DWARF_UNIT_SPLIT_COMPILE,
	DWARF_UNIT_SPLIT_TYPE
};

/* The attributes that matter, as indices. */
enum dwarf_slot {
	DWARF_NAME,
	DWARF_LINKAGE_NAME,
	DWARF_LOW_PC,
	DWARF_HIGH_PC,
	DWARF_RANGE_LIST,
	DWARF_ORIGIN,
	DWARF_SPECIFICATION,
	DWARF_ADDR_BASE,
	DWARF_RNGLISTS_BASE,
	DWARF_STR_OFFSETS_BASE,
	DWARF_SLOTS
};

struct dwarf_unit {
	uint64_t begin, first, end; /* in .debug_info: the header, the first entry, behind the last */
	uint64_t abbreviations;     /* in .debug_abbrev */
	uint16_t version;
	uint8_t type, offset_bytes, address_bytes;
	bool readable; /* false: a version or kind that is not read; begin and end are right */
	uint64_t base; /* address that range lists start from */
	uint64_t addr_base, rnglists_base, str_offsets_base;
};

/* A unit's abbreviations, translated into what to do with each attribute: skip so many bytes, skip a form, keep a value. */
struct dwarf_abbreviations {
	uint64_t at;
	uint16_t version;
	uint8_t offset_bytes, address_bytes;
	bool loaded;
	uint32_t n_codes, n_words;
	uint32_t code_at[DWARF_CODES_MAX];
	uint32_t words[DWARF_WORDS_MAX];
};

struct dwarf_die {
	uint64_t at;
	uint32_t tag; /* 0: the null entry that ends its siblings */
	bool children;
	uint32_t has; /* a bit for each slot */
	uint8_t form[DWARF_SLOTS];
	uint64_t value[DWARF_SLOTS]; /* references and strings in .debug_info as offsets in the section */
};

enum dwarf_text { DWARF_TEXT_NONE, DWARF_TEXT_INFO, DWARF_TEXT_STR, DWARF_TEXT_LINE_STR };

static inline bool dwarf_has(const struct dwarf_die *die, enum dwarf_slot slot)
{
	return die->has >> slot & 1;
}

/* Reads the header of the unit at `begin`: 0, or -EBADMSG when there is no way on behind it. */
int dwarf_unit_read(struct dwarf_file *dwarf, uint64_t begin, struct dwarf_unit *ret);

/* Loads the unit's abbreviations, unless they are those loaded last, and reads its first entry, which sets the bases. The position is
 * behind that entry then. False when the unit cannot be read. */
bool dwarf_unit_open(struct dwarf_file *dwarf, struct dwarf_unit *unit, struct dwarf_abbreviations *abbreviations,
		     struct dwarf_die *die);

/* Reads the entry at the position of .debug_info. False when it is malformed. */
bool dwarf_die_read(struct dwarf_file *dwarf, const struct dwarf_unit *unit,
		    const struct dwarf_abbreviations *abbreviations, struct dwarf_die *die);

/* The entry's low_pc as an address. */
bool dwarf_low_pc(struct dwarf_file *dwarf, const struct dwarf_unit *unit, const struct dwarf_die *die, uint64_t *ret);

/* Entry `index` of the unit's part of .debug_addr. */
bool dwarf_address(struct dwarf_file *dwarf, const struct dwarf_unit *unit, uint64_t index, uint64_t *ret);

/* Where the text of a name lies: in which section, at which offset. */
enum dwarf_text dwarf_text(struct dwarf_file *dwarf, const struct dwarf_unit *unit, const struct dwarf_die *die,
			   enum dwarf_slot slot, uint64_t *ret_at);

/* The address ranges of an entry, one after the other. */
struct dwarf_ranges {
	enum { DWARF_RANGES_END, DWARF_RANGES_ONE, DWARF_RANGES_PAIRS, DWARF_RANGES_LIST } kind;
	uint64_t start, end, base;
	uint32_t left; /* bound on entries of a list */
};

void dwarf_ranges_begin(struct dwarf_file *dwarf, const struct dwarf_unit *unit, const struct dwarf_die *die,
			struct dwarf_ranges *ret);

/* The next range, with start < end; false after the last. Nothing else may move in the range sections meanwhile. */
bool dwarf_ranges_next(struct dwarf_file *dwarf, const struct dwarf_unit *unit, struct dwarf_ranges *ranges,
		       uint64_t *ret_start, uint64_t *ret_end);

#endif

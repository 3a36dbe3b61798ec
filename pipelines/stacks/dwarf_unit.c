/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading units and entries. Most of .debug_info is of no interest here, so the abbreviations are translated once per unit into words
 * that make skipping cheap: neighbouring attributes of fixed size become one skip.
 *
 *	abbreviation = tag << 8 | children, words..., 0
 *	word = SKIP | bytes << 8, FORM | form << 8, SLOT | slot << 8 | form << 16, CONSTANT | slot << 8 and the value in two more words
 *
 * Invariants: code_at[] leads to whole abbreviations that end in 0, so reading an entry never leaves words[]; an entry's references lie
 * inside .debug_info. Format: DWARF 5, section 7.5.
 */
#include "stacks/dwarf_unit.h"

#include <errno.h>

#include "stacks/dwarf_form.h"

enum { WORD_END, WORD_SKIP, WORD_FORM, WORD_SLOT, WORD_CONSTANT };

#define GNU_REF_ALT  0x1f20u
#define GNU_STRP_ALT 0x1f21u

static unsigned form_of(uint64_t number)
{
	if (number == GNU_REF_ALT)
		return FORM_REF_ALT;
	if (number == GNU_STRP_ALT)
		return FORM_STRP_ALT;
	return number && number != 2 && number < FORM_REF_ALT ? (unsigned)number : FORM_UNKNOWN;
}

/* Bytes of a form that has the same size everywhere in a unit; -1 for the others. */
static int fixed_size(const struct dwarf_unit *unit, unsigned form)
{
	switch (form) {
	case FORM_FLAG_PRESENT:
	case FORM_IMPLICIT_CONST:
		return 0;
	case FORM_DATA1:
	case FORM_FLAG:
	case FORM_REF1:
	case FORM_STRX1:
	case FORM_ADDRX1:
		return 1;
	case FORM_DATA2:
	case FORM_REF2:
	case FORM_STRX2:
	case FORM_ADDRX2:
		return 2;
	case FORM_STRX3:
	case FORM_ADDRX3:
		return 3;
	case FORM_DATA4:
	case FORM_REF4:
	case FORM_REF_SUP4:
	case FORM_STRX4:
	case FORM_ADDRX4:
		return 4;
	case FORM_DATA8:
	case FORM_REF8:
	case FORM_REF_SIG8:
	case FORM_REF_SUP8:
		return 8;
	case FORM_DATA16:
		return 16;
	case FORM_ADDR:
		return unit->address_bytes;
	case FORM_REF_ADDR:
		return unit->version < 3 ? unit->address_bytes : unit->offset_bytes;
	case FORM_STRP:
	case FORM_SEC_OFFSET:
	case FORM_STRP_SUP:
	case FORM_LINE_STRP:
	case FORM_REF_ALT:
	case FORM_STRP_ALT:
		return unit->offset_bytes;
	default:
		return -1;
	}
}

static bool is_block(unsigned form)
{
	return form == FORM_BLOCK || form == FORM_BLOCK1 || form == FORM_BLOCK2 || form == FORM_BLOCK4 ||
	       form == FORM_EXPRLOC;
}

static uint64_t block_length(struct dwarf_section *s, unsigned form)
{
	switch (form) {
	case FORM_BLOCK1:
		return dwarf_fixed(s, 1);
	case FORM_BLOCK2:
		return dwarf_fixed(s, 2);
	case FORM_BLOCK4:
		return dwarf_fixed(s, 4);
	default:
		return dwarf_uleb(s);
	}
}

static void skip_string(struct dwarf_file *d, struct dwarf_section *s)
{
	while (!s->bad) {
		size_t n = s->next < s->end ? (size_t)(s->end - s->next) : 0;
		const uint8_t *nul = n ? memchr(s->next, 0, n) : NULL;

		if (nul) {
			s->next = nul + 1;
			return;
		}
		s->next += n;
		dwarf_need(d, s);
		if (s->next >= s->end)
			s->bad = true;
	}
}

/* Reads an attribute's value; the form becomes the real one where it is indirect. False for a form that is not known. */
static bool read_form(struct dwarf_file *d, const struct dwarf_unit *unit, unsigned *form, uint64_t *value)
{
	struct dwarf_section *s = &d->sections[DWARF_INFO];
	int size;

	dwarf_need(d, s);
	if (*form == FORM_INDIRECT) {
		*form = form_of(dwarf_uleb(s));
		if (*form == FORM_IMPLICIT_CONST)
			return false;
	}
	size = fixed_size(unit, *form);
	if (size > 8) {
		s->next += size;
	} else if (size >= 0) {
		*value = size ? dwarf_fixed(s, (unsigned)size) : 1;
	} else if (*form == FORM_STRING) {
		*value = dwarf_tell(s);
		skip_string(d, s);
	} else if (is_block(*form)) {
		dwarf_skip(d, s, block_length(s, *form));
	} else if (*form == FORM_SDATA) {
		*value = dwarf_sleb(s);
	} else if (*form == FORM_INDIRECT || *form >= FORM_UNKNOWN) {
		return false;
	} else {
		*value = dwarf_uleb(s);
	}
	return true;
}

/* ---- abbreviations ---- */

/* Names are kept of functions only, bases of units only, and so on: an attribute that is not kept is cheap. */
static int slot_of(uint64_t tag, uint64_t attribute)
{
	bool function = tag == DWARF_TAG_SUBPROGRAM || tag == DWARF_TAG_INLINED;
	bool unit = tag == DWARF_TAG_COMPILE_UNIT || tag == DWARF_TAG_PARTIAL_UNIT;

	switch (attribute) {
	case 0x03:
		return function ? DWARF_NAME : -1;
	case 0x6e:
	case 0x2007: /* DWARF 2 and 3 had only MIPS's own */
		return function ? DWARF_LINKAGE_NAME : -1;
	case 0x11:
		return function || unit ? DWARF_LOW_PC : -1;
	case 0x12:
		return function ? DWARF_HIGH_PC : -1;
	case 0x55:
		return function ? DWARF_RANGE_LIST : -1;
	case 0x31:
		return function ? DWARF_ORIGIN : -1;
	case 0x47:
		return function ? DWARF_SPECIFICATION : -1;
	case 0x72:
		return unit ? DWARF_STR_OFFSETS_BASE : -1;
	case 0x73:
		return unit ? DWARF_ADDR_BASE : -1;
	case 0x74:
		return unit ? DWARF_RNGLISTS_BASE : -1;
	default:
		return -1;
	}
}

/* Words are added without a check each; load_abbreviations() sees to it that there is always room for one attribute. */
static void add_word(struct dwarf_abbreviations *a, uint32_t word)
{
	a->words[a->n_words++] = word;
}

static void add_skip(struct dwarf_abbreviations *a, uint32_t *skip)
{
	if (*skip)
		add_word(a, WORD_SKIP | *skip << 8);
	*skip = 0;
}

static void add_attribute(struct dwarf_abbreviations *a, const struct dwarf_unit *unit, int slot, unsigned form,
			  uint64_t constant, uint32_t *skip)
{
	int size = fixed_size(unit, form);

	if (slot < 0 && size >= 0) {
		*skip += (uint32_t)size;
		return;
	}
	add_skip(a, skip);
	if (slot < 0) {
		add_word(a, WORD_FORM | form << 8);
	} else if (form == FORM_IMPLICIT_CONST) {
		add_word(a, WORD_CONSTANT | (uint32_t)slot << 8);
		add_word(a, (uint32_t)constant);
		add_word(a, (uint32_t)(constant >> 32));
	} else {
		add_word(a, WORD_SLOT | (uint32_t)slot << 8 | form << 16);
	}
}

#define WORDS_AT_ONCE 6u /* a pending skip, a constant, the end, and the next abbreviation's head */

/* One abbreviation behind its code. */
static bool load_abbreviation(struct dwarf_file *d, struct dwarf_abbreviations *a, const struct dwarf_unit *unit)
{
	struct dwarf_section *s = &d->sections[DWARF_ABBREV];
	uint64_t tag = dwarf_uleb(s);
	uint32_t skip = 0;

	add_word(a, (uint32_t)(tag > 0xffff ? 0xffff : tag) << 8 | (dwarf_fixed(s, 1) ? 1 : 0));
	for (;;) {
		uint64_t attribute, form, constant = 0;

		dwarf_need(d, s);
		attribute = dwarf_uleb(s);
		form = dwarf_uleb(s);
		if (s->bad || a->n_words + WORDS_AT_ONCE > DWARF_WORDS_MAX || skip > 1u << 20)
			return false;
		if (!attribute && !form)
			break;
		if (form == FORM_IMPLICIT_CONST)
			constant = dwarf_sleb(s);
		add_attribute(a, unit, slot_of(tag, attribute), form_of(form), constant, &skip);
	}
	add_skip(a, &skip);
	add_word(a, WORD_END);
	return true;
}

static bool load_abbreviations(struct dwarf_file *d, const struct dwarf_unit *unit, struct dwarf_abbreviations *a)
{
	struct dwarf_section *s = &d->sections[DWARF_ABBREV];

	if (a->loaded && a->at == unit->abbreviations && a->version == unit->version &&
	    a->offset_bytes == unit->offset_bytes && a->address_bytes == unit->address_bytes)
		return true;
	memset(a->code_at, 0, (a->n_codes + 1) * sizeof a->code_at[0]);
	a->at = unit->abbreviations;
	a->version = unit->version;
	a->offset_bytes = unit->offset_bytes;
	a->address_bytes = unit->address_bytes;
	a->n_codes = 0;
	a->n_words = 1; /* place 0 means that there is none */
	a->loaded = false;
	s->bad = false;
	if (!dwarf_seek(d, s, a->at))
		return false;
	for (;;) {
		uint64_t code;
		uint32_t place = a->n_words;

		dwarf_need(d, s);
		code = dwarf_uleb(s);
		if (!code)
			break;
		if (s->bad || code >= DWARF_CODES_MAX || a->n_words + WORDS_AT_ONCE > DWARF_WORDS_MAX)
			return false;
		a->n_codes = code > a->n_codes ? (uint32_t)code : a->n_codes;
		if (!load_abbreviation(d, a, unit))
			return false;
		a->code_at[code] = place;
	}
	d->steps += dwarf_tell(s) > a->at ? dwarf_tell(s) - a->at : 0;
	a->loaded = true;
	return true;
}

/* ---- units ---- */

int dwarf_unit_read(struct dwarf_file *dwarf, uint64_t begin, struct dwarf_unit *ret)
{
	struct dwarf_section *s = &dwarf->sections[DWARF_INFO];
	struct dwarf_unit u = { .begin = begin, .type = DWARF_UNIT_COMPILE, .offset_bytes = 4 };
	uint64_t length;

	s->bad = false;
	if (begin >= s->size || !dwarf_seek(dwarf, s, begin))
		return -EBADMSG;
	length = dwarf_fixed(s, 4);
	if (length == 0xffffffff) {
		u.offset_bytes = 8;
		length = dwarf_fixed(s, 8);
	}
	if (!length || length > s->size - dwarf_tell(s) || dwarf_tell(s) > s->size)
		return -EBADMSG;
	u.end = dwarf_tell(s) + length;
	u.version = (uint16_t)dwarf_fixed(s, 2);
	dwarf_need(dwarf, s);
	if (u.version >= 5) {
		u.type = (uint8_t)dwarf_fixed(s, 1);
		u.address_bytes = (uint8_t)dwarf_fixed(s, 1);
		u.abbreviations = dwarf_fixed(s, u.offset_bytes);
	} else {
		u.abbreviations = dwarf_fixed(s, u.offset_bytes);
		u.address_bytes = (uint8_t)dwarf_fixed(s, 1);
	}
	if (u.type == DWARF_UNIT_SKELETON || u.type == DWARF_UNIT_SPLIT_COMPILE)
		s->next += 8;
	else if (u.type == DWARF_UNIT_TYPE || u.type == DWARF_UNIT_SPLIT_TYPE)
		s->next += 8 + u.offset_bytes;
	u.first = dwarf_tell(s);
	u.readable = u.version >= 2 && u.version <= 5 && (u.address_bytes == 8 || u.address_bytes == 4) &&
		     u.first < u.end && (u.type == DWARF_UNIT_COMPILE || u.type == DWARF_UNIT_PARTIAL);
	*ret = u;
	return 0;
}

bool dwarf_unit_open(struct dwarf_file *dwarf, struct dwarf_unit *unit, struct dwarf_abbreviations *abbreviations,
		     struct dwarf_die *die)
{
	uint64_t wide = unit->offset_bytes == 8;

	if (!unit->readable || !load_abbreviations(dwarf, unit, abbreviations) ||
	    !dwarf_seek(dwarf, &dwarf->sections[DWARF_INFO], unit->first) ||
	    !dwarf_die_read(dwarf, unit, abbreviations, die) || !die->tag)
		return false;
	/* Without a base the unit's part is the section's first: it begins behind the header there. */
	unit->addr_base = dwarf_has(die, DWARF_ADDR_BASE) ? die->value[DWARF_ADDR_BASE] : wide ? 16 : 8;
	unit->rnglists_base = dwarf_has(die, DWARF_RNGLISTS_BASE) ? die->value[DWARF_RNGLISTS_BASE] : wide ? 20 : 12;
	unit->str_offsets_base = dwarf_has(die, DWARF_STR_OFFSETS_BASE) ? die->value[DWARF_STR_OFFSETS_BASE]
				 : wide                                 ? 16
									: 8;
	if (!dwarf_low_pc(dwarf, unit, die, &unit->base))
		unit->base = 0;
	return true;
}

/* ---- entries ---- */

/* References become offsets in .debug_info; what points into another file, or nowhere, is as good as not there. */
static void keep_value(struct dwarf_file *d, const struct dwarf_unit *unit, struct dwarf_die *die, unsigned slot,
		       unsigned form, uint64_t value)
{
	if (slot == DWARF_ORIGIN || slot == DWARF_SPECIFICATION) {
		if (form >= FORM_REF1 && form <= FORM_REF_UDATA)
			value = value < unit->end - unit->begin ? unit->begin + value : UINT64_MAX;
		else if (form != FORM_REF_ADDR)
			return;
		if (value >= d->sections[DWARF_INFO].size)
			return;
	}
	die->has |= 1u << slot;
	die->form[slot] = (uint8_t)form;
	die->value[slot] = value;
}

bool dwarf_die_read(struct dwarf_file *dwarf, const struct dwarf_unit *unit,
		    const struct dwarf_abbreviations *abbreviations, struct dwarf_die *die)
{
	struct dwarf_section *s = &dwarf->sections[DWARF_INFO];
	const uint32_t *word;
	uint64_t code;

	dwarf_need(dwarf, s);
	die->at = dwarf_tell(s);
	die->has = 0;
	die->tag = 0;
	code = dwarf_uleb(s);
	if (!code)
		return !s->bad;
	if (code > abbreviations->n_codes || !abbreviations->code_at[code])
		return false;
	word = &abbreviations->words[abbreviations->code_at[code]];
	die->tag = *word >> 8;
	die->children = *word & 1;
	for (word++; *word; word++) {
		unsigned slot = *word >> 8 & 0xff, form = *word >> 8;
		uint64_t value = 0;

		switch (*word & 0xff) {
		case WORD_SKIP:
			dwarf_skip(dwarf, s, *word >> 8);
			break;
		case WORD_FORM:
			if (!read_form(dwarf, unit, &form, &value))
				return false;
			break;
		case WORD_SLOT:
			form = *word >> 16;
			if (!read_form(dwarf, unit, &form, &value))
				return false;
			keep_value(dwarf, unit, die, slot, form, value);
			break;
		default:
			keep_value(dwarf, unit, die, slot, FORM_IMPLICIT_CONST, (uint64_t)word[2] << 32 | word[1]);
			word += 2;
		}
	}
	return !s->bad;
}

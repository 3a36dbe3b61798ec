/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an entry's values mean: addresses, texts and address ranges, which lie in sections of their own. Formats: DWARF 4, section 2.17.3;
 * DWARF 5, sections 7.25 to 7.28.
 *
 * Invariant: a list yields no more than LIST_MAX ranges, so that a file in which all entries share a long one costs no more than steps.
 */
#include "stacks/dwarf_form.h"
#include "stacks/dwarf_unit.h"

#define LIST_MAX 8192u /* ranges of one entry */

/* One number of a table of numbers: `base` of it lies in the section, and each has `bytes`. */
static bool read_indexed(struct dwarf_file *d, enum dwarf_section_name name, uint64_t base, uint64_t index,
			 unsigned bytes, uint64_t *ret)
{
	struct dwarf_section *s = &d->sections[name];

	s->bad = false;
	if (base >= s->size || index >= (s->size - base) / bytes || !dwarf_seek(d, s, base + index * bytes))
		return false;
	*ret = dwarf_fixed(s, bytes);
	return true;
}

bool dwarf_address(struct dwarf_file *dwarf, const struct dwarf_unit *unit, uint64_t index, uint64_t *ret)
{
	return read_indexed(dwarf, DWARF_ADDR, unit->addr_base, index, unit->address_bytes, ret);
}

bool dwarf_low_pc(struct dwarf_file *dwarf, const struct dwarf_unit *unit, const struct dwarf_die *die, uint64_t *ret)
{
	if (!dwarf_has(die, DWARF_LOW_PC))
		return false;
	if (dwarf_is_address_index(die->form[DWARF_LOW_PC]))
		return dwarf_address(dwarf, unit, die->value[DWARF_LOW_PC], ret);
	*ret = die->value[DWARF_LOW_PC];
	return die->form[DWARF_LOW_PC] == FORM_ADDR;
}

enum dwarf_text dwarf_text(struct dwarf_file *dwarf, const struct dwarf_unit *unit, const struct dwarf_die *die,
			   enum dwarf_slot slot, uint64_t *ret_at)
{
	unsigned form = die->form[slot];

	if (!dwarf_has(die, slot))
		return DWARF_TEXT_NONE;
	*ret_at = die->value[slot];
	if (form == FORM_STRING)
		return DWARF_TEXT_INFO;
	if (form == FORM_STRP)
		return DWARF_TEXT_STR;
	if (form == FORM_LINE_STRP)
		return DWARF_TEXT_LINE_STR;
	if ((form == FORM_STRX || (form >= FORM_STRX1 && form <= FORM_STRX4)) &&
	    read_indexed(dwarf, DWARF_STR_OFFSETS, unit->str_offsets_base, *ret_at, unit->offset_bytes, ret_at))
		return DWARF_TEXT_STR;
	return DWARF_TEXT_NONE;
}

/* ---- ranges ---- */

void dwarf_ranges_begin(struct dwarf_file *dwarf, const struct dwarf_unit *unit, const struct dwarf_die *die,
			struct dwarf_ranges *ret)
{
	struct dwarf_section *s = &dwarf->sections[unit->version < 5 ? DWARF_RANGES : DWARF_RNGLISTS];
	uint64_t at = die->value[DWARF_RANGE_LIST], offset;

	*ret = (struct dwarf_ranges){ .kind = DWARF_RANGES_END, .base = unit->base, .left = LIST_MAX };
	if (dwarf_has(die, DWARF_RANGE_LIST)) {
		if (unit->version >= 5 && die->form[DWARF_RANGE_LIST] == FORM_RNGLISTX) {
			if (!read_indexed(dwarf, DWARF_RNGLISTS, unit->rnglists_base, at, unit->offset_bytes, &offset))
				return;
			at = unit->rnglists_base + offset;
		}
		s->bad = false;
		if (at < s->size && dwarf_seek(dwarf, s, at))
			ret->kind = unit->version < 5 ? DWARF_RANGES_PAIRS : DWARF_RANGES_LIST;
	} else if (dwarf_has(die, DWARF_HIGH_PC) && dwarf_low_pc(dwarf, unit, die, &ret->start)) {
		unsigned form = die->form[DWARF_HIGH_PC];

		ret->kind = DWARF_RANGES_ONE;
		ret->end = die->value[DWARF_HIGH_PC];
		if (dwarf_is_address_index(form)) {
			if (!dwarf_address(dwarf, unit, ret->end, &ret->end))
				ret->kind = DWARF_RANGES_END;
		} else if (form != FORM_ADDR) {
			ret->end += ret->start;
		}
	}
}

static bool next_pair(struct dwarf_section *s, const struct dwarf_unit *unit, struct dwarf_ranges *r)
{
	uint64_t start = dwarf_fixed(s, unit->address_bytes), end = dwarf_fixed(s, unit->address_bytes);
	uint64_t largest = unit->address_bytes == 8 ? UINT64_MAX : UINT32_MAX;

	r->start = r->end = 0;
	if (!start && !end)
		return false;
	if (start == largest) {
		r->base = end;
	} else {
		r->start = r->base + start;
		r->end = r->base + end;
	}
	return true;
}

enum { LIST_END, LIST_BASE_X, LIST_START_X_END_X, LIST_START_X_LENGTH, LIST_OFFSETS, LIST_BASE, LIST_PAIR, LIST_START };

static bool next_entry(struct dwarf_file *d, struct dwarf_section *s, const struct dwarf_unit *unit,
		       struct dwarf_ranges *r)
{
	uint8_t kind = (uint8_t)dwarf_fixed(s, 1);
	uint64_t first, second;

	r->start = r->end = 0;
	if (kind == LIST_END || kind > LIST_START)
		return false;
	if (kind == LIST_BASE || kind == LIST_PAIR || kind == LIST_START)
		first = dwarf_fixed(s, unit->address_bytes);
	else
		first = dwarf_uleb(s);
	if (kind == LIST_BASE_X || kind == LIST_START_X_END_X || kind == LIST_START_X_LENGTH)
		if (!dwarf_address(d, unit, first, &first))
			return false;
	if (kind == LIST_BASE || kind == LIST_BASE_X) {
		r->base = first;
		return true;
	}
	second = kind == LIST_PAIR ? dwarf_fixed(s, unit->address_bytes) : dwarf_uleb(s);
	if (kind == LIST_START_X_END_X && !dwarf_address(d, unit, second, &second))
		return false;
	if (kind == LIST_OFFSETS) {
		first += r->base;
		second += r->base;
	} else if (kind == LIST_START || kind == LIST_START_X_LENGTH) {
		second += first;
	}
	r->start = first;
	r->end = second;
	return true;
}

bool dwarf_ranges_next(struct dwarf_file *dwarf, const struct dwarf_unit *unit, struct dwarf_ranges *ranges,
		       uint64_t *ret_start, uint64_t *ret_end)
{
	struct dwarf_section *s = &dwarf->sections[unit->version < 5 ? DWARF_RANGES : DWARF_RNGLISTS];

	while (ranges->kind != DWARF_RANGES_END && ranges->left--) {
		if (ranges->kind == DWARF_RANGES_ONE) {
			ranges->kind = DWARF_RANGES_END;
		} else {
			dwarf->steps += 8;
			dwarf_need(dwarf, s);
			if (!(ranges->kind == DWARF_RANGES_PAIRS ? next_pair(s, unit, ranges)
								 : next_entry(dwarf, s, unit, ranges)) ||
			    s->bad)
				break;
		}
		if (ranges->start < ranges->end) {
			*ret_start = ranges->start;
			*ret_end = ranges->end;
			return true;
		}
	}
	ranges->kind = DWARF_RANGES_END;
	return false;
}

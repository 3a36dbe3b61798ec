/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading records: lengths, pointers, CIEs. Running the programs in them is unwind_cfi_run.c.
 *
 * A record is read whole into a window of 32 KiB, so that a larger one (a function with thousands of moves of its stack pointer) is left
 * out. The last few CIEs are kept parsed, as neighbours share them.
 */
#include "stacks/unwind_cfi.h"

#include <errno.h>

#include "base/base.h"
#include "stacks/unwind_bytes.h"
#include "stacks/unwind_cfi_run.h"

#define RECORDS_MAX (8u << 20)

enum {
	ENCODED_ABSOLUTE = 0x00,
	ENCODED_ULEB = 0x01,
	ENCODED_U2 = 0x02,
	ENCODED_U4 = 0x03,
	ENCODED_U8 = 0x04,
	ENCODED_SLEB = 0x09,
	ENCODED_S2 = 0x0a,
	ENCODED_S4 = 0x0b,
	ENCODED_S8 = 0x0c,
	ENCODED_FORM = 0x0f,
	ENCODED_FROM = 0x70,
	ENCODED_FROM_PC = 0x10,
	ENCODED_FROM_DATA = 0x30,
	ENCODED_INDIRECT = 0x80,
	ENCODED_NONE = 0xff,
};

/* One record, its length read off. */
struct record {
	uint64_t at, next; /* offsets in the section */
	uint64_t cie;      /* of an FDE: its CIE's offset */
	uint32_t head;     /* bytes up to what follows the id */
	bool is_cie, is_end;
};

const uint8_t *cfi_window_get(struct cfi_window *w, uint64_t at, uint64_t size)
{
	const struct elf_file *file = w->file;

	if (at > file->size || size > file->size - at)
		return NULL;
	if (file->bytes)
		return file->bytes + at;
	if (size > w->most)
		return NULL;
	if (at < w->at || at + size > w->at + w->size) {
		uint64_t most = MIN_OF((uint64_t)w->most, file->size - at);

		w->size = 0;
		if (elf_read_at(file, at, w->bytes, (size_t)most) < 0)
			return NULL;
		w->at = at;
		w->size = (uint32_t)most;
	}
	return w->bytes + (at - w->at);
}

void cfi_open(struct cfi_reader *r, struct unwind_builder *builder, const struct elf_file *file,
	      const struct cfi_section *section)
{
	r->builder = builder;
	r->section = *section;
	r->window = (struct cfi_window){ .file = file, .most = sizeof r->bytes, .bytes = r->bytes };
	r->cie_window = (struct cfi_window){ .file = file, .most = sizeof r->cie_bytes, .bytes = r->cie_bytes };
	r->next_cie = 0;
	for (unsigned i = 0; i < CFI_CIES; i++)
		r->cies[i].at = UINT64_MAX;
}

/* The record at `at`: false at the end of the section, or where it is broken. */
static bool read_record(const struct cfi_section *s, struct cfi_window *window, uint64_t at, struct record *ret)
{
	uint64_t left = s->size - at, length, id;
	const uint8_t *head;
	struct unwind_bytes b;
	bool wide = false;

	if (at > s->size || left < 4)
		return false;
	head = cfi_window_get(window, s->offset + at, MIN_OF(left, (uint64_t)20));
	if (!head)
		return false;
	b = (struct unwind_bytes){ head, head + MIN_OF(left, (uint64_t)20), false };
	*ret = (struct record){ .at = at };
	length = bytes_unsigned(&b, 4);
	if (length == 0) {
		ret->is_end = true;
		ret->next = at + 4;
		return true;
	}
	if (length == 0xffffffff) {
		length = bytes_unsigned(&b, 8);
		wide = true;
	}
	uint64_t body = at + (uint64_t)(b.at - head);

	id = bytes_unsigned(&b, wide && s->debug ? 8 : 4);
	ret->head = (uint32_t)(b.at - head);
	if (b.bad || length > s->size - body || length < ret->head - (body - at))
		return false;
	ret->next = body + length;
	ret->is_cie = s->debug ? id == (wide ? UINT64_MAX : 0xffffffff) : id == 0;
	ret->cie = s->debug ? id : body - id;
	return true;
}

/* A pointer at address `here` of memory. Those that need more than the file has (indirect ones) are bad. */
static uint64_t read_pointer(struct unwind_bytes *b, uint8_t encoding, uint64_t here)
{
	uint64_t from = 0, value = 0;

	switch (encoding & ENCODED_FORM) {
	case ENCODED_ABSOLUTE:
	case ENCODED_U8:
	case ENCODED_S8:
		value = bytes_unsigned(b, 8);
		break;
	case ENCODED_ULEB:
		value = bytes_uleb(b);
		break;
	case ENCODED_U2:
		value = bytes_unsigned(b, 2);
		break;
	case ENCODED_U4:
		value = bytes_unsigned(b, 4);
		break;
	case ENCODED_SLEB:
		value = (uint64_t)bytes_sleb(b);
		break;
	case ENCODED_S2:
		value = (uint64_t)bytes_signed(b, 2);
		break;
	case ENCODED_S4:
		value = (uint64_t)bytes_signed(b, 4);
		break;
	default:
		b->bad = true;
	}
	if ((encoding & ENCODED_FROM) == ENCODED_FROM_PC)
		from = here;
	else if (encoding & ENCODED_FROM)
		b->bad = true;
	if (encoding & ENCODED_INDIRECT)
		b->bad = true;
	return value + from;
}

/* The letters of the augmentation that matter; false when one is unknown and its data cannot be stepped over. */
static bool read_augmentation(struct cfi_cie *cie, const char *letters, struct unwind_bytes *b)
{
	uint64_t size = bytes_uleb(b);
	const uint8_t *data = bytes_take(b, size);
	struct unwind_bytes d = { data, data + (data ? size : 0), false };

	for (const char *l = letters + 1; data && *l; l++) {
		switch (*l) {
		case 'R':
			cie->pointer_encoding = bytes_u8(&d);
			break;
		case 'P':
			read_pointer(&d, bytes_u8(&d) & ENCODED_FORM, 0);
			break;
		case 'L':
			bytes_u8(&d);
			break;
		case 'S':
			cie->signal = true;
			break;
		case 'B': /* AArch64: return addresses are signed with the second key; the address's bits are the same. */
		case 'G':
			break;
		default:
			return false;
		}
	}
	return data && !d.bad;
}

static bool parse_cie(struct cfi_reader *r, uint64_t at, struct cfi_cie *cie)
{
	const struct unwind_arch *arch = r->builder->arch;
	struct record record;
	const uint8_t *bytes;
	struct unwind_bytes b;
	uint64_t column;
	uint8_t version;

	*cie = (struct cfi_cie){ .at = at };
	if (!read_record(&r->section, &r->cie_window, at, &record) || !record.is_cie || record.is_end)
		return false;
	bytes = cfi_window_get(&r->cie_window, r->section.offset + at, record.next - at);
	if (!bytes)
		return false;
	b = (struct unwind_bytes){ bytes + record.head, bytes + (record.next - at), false };
	version = bytes_u8(&b);

	const char *letters = (const char *)b.at;

	while (bytes_u8(&b))
		;
	if (b.bad || (version != 1 && version != 3 && version != 4))
		return false;
	if (version == 4 && (bytes_u8(&b) != 8 || bytes_u8(&b) != 0))
		return false;
	cie->code_align = bytes_uleb(&b);
	cie->data_align = bytes_sleb(&b);
	column = version == 1 ? bytes_u8(&b) : bytes_uleb(&b);
	cie->augmented = letters[0] == 'z';
	if (cie->augmented ? !read_augmentation(cie, letters, &b) : letters[0] != 0)
		return false;
	if (b.bad || column != arch->return_column || cie->pointer_encoding == ENCODED_NONE)
		return false;
	cie->initial.cfa_register = arch->sp;
	return cfi_run_initial(r, cie, b);
}

static const struct cfi_cie *find_cie(struct cfi_reader *r, uint64_t at)
{
	struct cfi_cie *cie;

	for (unsigned i = 0; i < CFI_CIES; i++)
		if (r->cies[i].at == at)
			return r->cies[i].good ? &r->cies[i] : NULL;
	cie = &r->cies[r->next_cie++ % CFI_CIES];
	cie->good = parse_cie(r, at, cie);
	/* Also one that is not good is kept, as that. */
	cie->at = at;
	return cie->good ? cie : NULL;
}

/* The function's begin and end, and what follows them. */
static const struct cfi_cie *parse_fde(struct cfi_reader *r, const struct record *record, struct unwind_bytes *ret,
				       uint64_t *ret_begin, uint64_t *ret_end)
{
	const struct cfi_cie *cie = find_cie(r, record->cie);
	const uint8_t *bytes =
		cie ? cfi_window_get(&r->window, r->section.offset + record->at, record->next - record->at) : NULL;
	uint64_t range;

	if (!bytes)
		return NULL;
	*ret = (struct unwind_bytes){ bytes + record->head, bytes + (record->next - record->at), false };
	*ret_begin = read_pointer(ret, cie->pointer_encoding, r->section.address + record->at + record->head);
	range = read_pointer(ret, cie->pointer_encoding & ENCODED_FORM, 0);
	if (cie->augmented)
		bytes_take(ret, bytes_uleb(ret));
	if (ret->bad || !range || range > UINT64_MAX - *ret_begin)
		return NULL;
	*ret_end = *ret_begin + range;
	return cie;
}

void cfi_announce(struct cfi_reader *r)
{
	struct record record;
	uint64_t at = 0;

	for (uint32_t n = 0; n < RECORDS_MAX && read_record(&r->section, &r->window, at, &record);
	     n++, at = record.next) {
		struct unwind_bytes b;
		uint64_t begin, end;

		if (record.is_end && r->section.until_zero)
			return;
		if (record.is_end || record.is_cie || !parse_fde(r, &record, &b, &begin, &end))
			continue;
		unwind_builder_announce(r->builder, begin, r->section.debug ? UNWIND_DEBUG_FRAME : UNWIND_EH_FRAME, at);
		if (!r->section.debug)
			r->builder->described += end - begin;
	}
}

void cfi_describe(struct cfi_reader *r, uint64_t place)
{
	struct record record;
	struct unwind_bytes b;
	uint64_t begin, end;
	const struct cfi_cie *cie;

	if (!read_record(&r->section, &r->window, place, &record) || record.is_end || record.is_cie)
		return;
	cie = parse_fde(r, &record, &b, &begin, &end);
	if (cie && unwind_builder_begin(r->builder, begin, end))
		cfi_run(r, cie, b, begin, end);
}

int cfi_find_eh_frame(const struct elf_file *file, uint64_t offset, uint64_t address, uint64_t end,
		      struct cfi_section *ret)
{
	uint8_t head[16];
	struct unwind_bytes b = { head + 4, head + sizeof head, false };
	uint64_t eh_frame;

	if (elf_read_at(file, offset, head, sizeof head) < 0 || head[0] != 1)
		return -ENOENT;
	eh_frame = read_pointer(&b, head[1], address + 4);
	/* Both lie in the same segment, at the same distance in the file as in memory. */
	offset += eh_frame - address;
	if (b.bad || offset >= end || end > file->size)
		return -ENOENT;
	*ret = (struct cfi_section){ .offset = offset, .size = end - offset, .address = eh_frame, .until_zero = true };
	return 0;
}

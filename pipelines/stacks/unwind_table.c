/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making and asking an unwind table: looks at which sources a file has, lets each announce its functions, then has them described one after
 * the other in the order of their addresses, so that rows never need sorting.
 *
 * Invariants: only the given room is written; what is read from the file is bounded by its size.
 */
#include "stacks/unwind_table.h"

#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "stacks/unwind_cfi.h"
#include "stacks/unwind_code.h"
#include "stacks/unwind_go.h"

/* What a file has. */
struct survey {
	struct elf_header header;
	struct unwind_table head; /* segments and base */
	uint64_t span, code;      /* from the base to the end of the last segment; bytes in all segments */
	struct cfi_section eh_frame, debug_frame;
	struct go_table go;
	struct code_symbols symbols;
	uint64_t weight, n_functions;
};

struct build {
	struct unwind_builder builder;
	struct cfi_reader eh_frame, debug_frame;
	struct go_reader go;
	struct code_reader code;
};

static void find_segments(const struct elf_file *file, struct survey *s)
{
	struct unwind_table *t = &s->head;
	uint64_t end = 0;

	t->base = UINT64_MAX;
	for (uint32_t i = 0; i < s->header.n_programs && t->n_segments < ELF_LOADS_MAX; i++) {
		Elf64_Phdr p;

		if (elf_read_program(file, &s->header, i, &p) < 0)
			break;
		if (p.p_type != PT_LOAD || !(p.p_flags & PF_X) || p.p_offset > file->size || !p.p_filesz ||
		    p.p_filesz > file->size - p.p_offset || p.p_vaddr > UINT64_MAX - p.p_filesz)
			continue;
		t->segments[t->n_segments++] = (struct elf_load){ p.p_offset, p.p_vaddr, p.p_filesz };
		t->base = MIN_OF(t->base, p.p_vaddr);
		end = MAX_OF(end, p.p_vaddr + p.p_filesz);
		s->code += p.p_filesz;
	}
	/* A whole page, as the mapping has it: functions before the first segment's begin do not exist. */
	s->span = t->n_segments ? end - t->base : 0;
}

/* Without section headers the index of .eh_frame, which is a segment, leads to it. */
static bool find_eh_frame_by_segment(const struct elf_file *file, struct survey *s)
{
	Elf64_Phdr index = { 0 }, p;

	for (uint32_t i = 0; i < s->header.n_programs; i++)
		if (elf_read_program(file, &s->header, i, &p) == 0 && p.p_type == PT_GNU_EH_FRAME)
			index = p;
	if (index.p_type != PT_GNU_EH_FRAME)
		return false;
	for (uint32_t i = 0; i < s->header.n_programs; i++) {
		if (elf_read_program(file, &s->header, i, &p) < 0 || p.p_type != PT_LOAD ||
		    index.p_offset < p.p_offset || index.p_offset - p.p_offset >= p.p_filesz ||
		    p.p_filesz > file->size || p.p_offset > file->size - p.p_filesz)
			continue;
		return cfi_find_eh_frame(file, index.p_offset, index.p_vaddr, p.p_offset + p.p_filesz, &s->eh_frame) ==
		       0;
	}
	return false;
}

static void find_frames(const struct elf_file *file, struct survey *s)
{
	Elf64_Shdr section;

	if (elf_find_section(file, &s->header, ".eh_frame", &section) == 0)
		s->eh_frame = (struct cfi_section){ .offset = section.sh_offset,
						    .size = section.sh_size,
						    .address = section.sh_addr };
	else
		find_eh_frame_by_segment(file, s);
	if (elf_find_section(file, &s->header, ".debug_frame", &section) == 0 && !(section.sh_flags & SHF_COMPRESSED))
		s->debug_frame =
			(struct cfi_section){ .offset = section.sh_offset, .size = section.sh_size, .debug = true };
}

static int survey(const struct unwind_arch *arch, const struct elf_file *file, struct survey *ret)
{
	int r;

	*ret = (struct survey){ 0 };
	r = elf_read_header(file, &ret->header);
	if (r < 0)
		return r;
	if (ret->header.machine != arch->machine || !ret->header.wide)
		return -ENOEXEC;
	ret->head.machine = arch->machine;
	find_segments(file, ret);
	if (!ret->head.n_segments)
		return 0;
	find_frames(file, ret);
	go_find(file, &ret->header, &ret->go);
	if (arch->follow_code)
		code_find_symbols(file, &ret->header, &ret->symbols);
	ret->weight = ret->eh_frame.size + ret->debug_frame.size + ret->go.count * 24ull;
	ret->n_functions = (ret->eh_frame.size + ret->debug_frame.size) / 20 + ret->go.count;
	/* Only files that say next to nothing of their code have it followed. */
	if (ret->symbols.count && ret->weight < ret->code / 64) {
		ret->weight += ret->code / 2;
		ret->n_functions += ret->symbols.count;
	} else {
		ret->symbols.count = 0;
	}
	return 0;
}

int64_t unwind_table_room(const struct elf_file *file)
{
	struct survey s;
	int r = survey(&unwind_native, file, &s);

	if (r < 0)
		return r;
	return (int64_t)(s.head.n_segments ? unwind_builder_room(s.span, s.weight, s.n_functions) : sizeof s.head);
}

static void describe(struct build *build, const struct unwind_entry *entry)
{
	uint32_t place = entry->source & ((1u << UNWIND_PLACE_BITS) - 1);

	switch ((enum unwind_source)(entry->source >> UNWIND_PLACE_BITS)) {
	case UNWIND_EH_FRAME:
		cfi_describe(&build->eh_frame, place);
		return;
	case UNWIND_DEBUG_FRAME:
		cfi_describe(&build->debug_frame, place);
		return;
	case UNWIND_GO:
		go_describe(&build->go, place);
		return;
	case UNWIND_CODE:
		code_describe(&build->code, place);
		return;
	}
}

static void build_rows(struct build *build, const struct elf_file *file, const struct survey *s)
{
	struct unwind_builder *b = &build->builder;

	cfi_open(&build->eh_frame, b, file, &s->eh_frame);
	cfi_open(&build->debug_frame, b, file, &s->debug_frame);
	go_open(&build->go, b, file, &s->go);
	code_open(&build->code, b, file, &s->symbols);
	cfi_announce(&build->eh_frame);
	go_announce(&build->go);
	cfi_announce(&build->debug_frame);
	code_announce(&build->code);
	unwind_builder_sort(b);
	for (uint32_t i = 0; i < b->n_entries; i++) {
		struct unwind_entry entry = b->entries[i];

		b->rows_end = (uint32_t *)&b->entries[i + 1];
		describe(build, &entry);
	}
	unwind_builder_close(b);
}

int unwind_table_build_for(const struct unwind_arch *arch, const struct elf_file *file, void *room, size_t size)
{
	struct unwind_table *table = room;
	struct build build;
	struct survey s;
	int r = survey(arch, file, &s);

	if (r < 0)
		return r;
	if (size < sizeof *table)
		return -ENOSPC;
	*table = s.head;
	if (!s.weight || !table->n_segments)
		return 0;
	if (unwind_builder_open(&build.builder, arch, table, size, s.span, s.weight))
		build_rows(&build, file, &s);
	else
		table->full = 1;
	return 0;
}

int unwind_table_build(const struct elf_file *file, void *room, size_t size)
{
	return unwind_table_build_for(&unwind_native, file, room, size);
}

size_t unwind_table_bytes(const struct unwind_table *table)
{
	struct unwind_parts parts = unwind_table_parts(table);

	if (!table->n_buckets)
		return sizeof *table;
	return ALIGN_UP((size_t)(parts.bytes + table->n_bytes - (const uint8_t *)table), (size_t)8);
}

bool unwind_table_address(const struct unwind_table *table, uint64_t offset, uint64_t *ret_address)
{
	for (unsigned i = 0; i < table->n_segments; i++) {
		const struct elf_load *s = &table->segments[i];

		if (offset - s->offset < s->size) {
			*ret_address = s->address + (offset - s->offset);
			return true;
		}
	}
	return false;
}

/* Does row `index` hold from the address `at` on, exactly? */
static bool begins_at(const struct unwind_table *table, const struct unwind_parts *parts, uint32_t index, uint64_t at)
{
	uint64_t bucket = at >> 16;

	return bucket < table->n_buckets && index >= parts->buckets[bucket] && index < parts->buckets[bucket + 1] &&
	       parts->rows[index] >> 16 == (at & 0xffff);
}

const struct unwind_recipe *unwind_table_find(const struct unwind_table *table, const struct unwind_parts *parts,
					      uint64_t address, bool called)
{
	uint64_t at = address - table->base - called;
	uint32_t bucket = (uint32_t)(at >> 16), key = (uint32_t)at << 16 | 0xffff, low, count, recipe;

	if (at >= (uint64_t)table->n_buckets << 16)
		return NULL;
	/* The number of rows at or before the address, by halving without branches. */
	low = parts->buckets[bucket];
	count = parts->buckets[bucket + 1] - low;
	while (count) {
		uint32_t half = (count + 1) / 2;

		low += parts->rows[low + half - 1] <= key ? half : 0;
		count -= half;
	}
	if (called && begins_at(table, parts, low, at + 1)) {
		recipe = parts->rows[low] & 0xffff;
		if (recipe != UNWIND_NO_RECIPE && parts->recipes[recipe].flags & UNWIND_SIGNAL)
			return &parts->recipes[recipe];
	}
	recipe = low ? parts->rows[low - 1] & 0xffff : UNWIND_NO_RECIPE;
	return recipe == UNWIND_NO_RECIPE ? NULL : &parts->recipes[recipe];
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From symbols to functions. What the instructions mean is the processor's part (arch->follow_code). The return from a signal handler is
 * known by its bytes, and the program's first function by the ELF header.
 */
#include "stacks/unwind_code.h"

#include <string.h>

#include "base/base.h"

#define SYMBOLS_MAX 1000000u
/* A label without a size in assembly. */
#define UNSIZED 32u

void code_find_symbols(const struct elf_file *file, const struct elf_header *header, struct code_symbols *ret)
{
	static const char *const names[] = { ".symtab", ".dynsym" };

	*ret = (struct code_symbols){ 0 };
	for (unsigned i = 0; i < ARRAY_SIZE(names) && !ret->count; i++) {
		Elf64_Shdr s;

		if (elf_find_section(file, header, names[i], &s) < 0)
			continue;
		ret->offset = s.sh_offset;
		ret->count = (uint32_t)MIN_OF(s.sh_size / sizeof(Elf64_Sym), SYMBOLS_MAX);
	}
	if (elf_read_at(file, offsetof(Elf64_Ehdr, e_entry), &ret->entry, sizeof ret->entry) < 0)
		ret->entry = 0;
}

void code_open(struct code_reader *r, struct unwind_builder *builder, const struct elf_file *file,
	       const struct code_symbols *symbols)
{
	r->builder = builder;
	r->symbols = *symbols;
	r->table = (struct cfi_window){ .file = file, .most = sizeof r->table_bytes, .bytes = r->table_bytes };
	r->code = (struct cfi_window){ .file = file, .most = sizeof r->code_bytes, .bytes = r->code_bytes };
}

static bool read_symbol(struct code_reader *r, uint64_t index, Elf64_Sym *ret)
{
	const uint8_t *at = cfi_window_get(&r->table, r->symbols.offset + index * sizeof *ret, sizeof *ret);

	if (!at)
		return false;
	memcpy(ret, at, sizeof *ret);
	if (ret->st_shndx == SHN_UNDEF || ret->st_shndx >= SHN_LORESERVE)
		return false;
	return ELF64_ST_TYPE(ret->st_info) == STT_FUNC ||
	       (ELF64_ST_TYPE(ret->st_info) == STT_NOTYPE && ELF64_ST_BIND(ret->st_info) == STB_GLOBAL);
}

void code_announce(struct code_reader *r)
{
	Elf64_Sym s;

	for (uint32_t i = 0; i < r->symbols.count; i++)
		if (read_symbol(r, i, &s))
			unwind_builder_announce(r->builder, s.st_value, UNWIND_CODE, i);
}

static bool is_sigreturn(const struct unwind_arch *arch, const struct unwind_code *code)
{
	for (unsigned i = 0; i < ARRAY_SIZE(arch->sigreturn); i++) {
		const struct unwind_code_pattern *p = &arch->sigreturn[i];

		if (p->size && code->end - code->begin >= p->size && !memcmp(code->bytes, p->bytes, p->size))
			return true;
	}
	return false;
}

void code_describe(struct code_reader *r, uint64_t index)
{
	const struct unwind_table *t = r->builder->table;
	struct unwind_code code;
	Elf64_Sym s;

	if (!read_symbol(r, index, &s) || s.st_size > UINT32_MAX)
		return;
	code = (struct unwind_code){ .begin = s.st_value, .end = s.st_value + (s.st_size ? s.st_size : UNSIZED) };
	code.entry = code.begin == r->symbols.entry;
	for (unsigned i = 0; i < t->n_segments; i++) {
		const struct elf_load *load = &t->segments[i];
		uint64_t at = code.begin - load->address;

		if (at >= load->size)
			continue;
		code.end = MIN_OF(code.end, load->address + load->size);
		code.bytes = cfi_window_get(&r->code, load->offset + at, code.end - code.begin);
	}
	if (!code.bytes || !unwind_builder_begin(r->builder, code.begin, code.end))
		return;
	if (is_sigreturn(r->builder->arch, &code)) {
		int recipe = unwind_builder_sigreturn(r->builder);

		unwind_builder_row(r->builder, code.begin, recipe < 0 ? UNWIND_NO_RECIPE : (uint16_t)recipe);
		return;
	}
	r->builder->arch->follow_code(r->builder, &code);
}

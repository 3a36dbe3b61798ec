/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions that no table describes, as musl's and hand-written assembly: found by the symbols, and described by following what their
 * instructions do to the stack pointer. Only files without tables of their own are read this way.
 */
#ifndef SONDE_UNWIND_CODE_H
#define SONDE_UNWIND_CODE_H

#include "stacks/unwind_cfi.h"

/* One function's instructions. */
struct unwind_code {
	uint64_t begin, end; /* virtual addresses */
	const uint8_t *bytes;
	bool entry; /* where the program begins: nobody called it */
};

/* .symtab, or else .dynsym. */
struct code_symbols {
	uint64_t offset;
	uint32_t count;
	uint64_t entry; /* virtual address at which the program begins, 0 in a library */
};

void code_find_symbols(const struct elf_file *file, const struct elf_header *header, struct code_symbols *ret);

struct code_reader {
	struct unwind_builder *builder;
	struct code_symbols symbols;
	struct cfi_window table, code;
	uint8_t table_bytes[4096], code_bytes[32768];
};

void code_open(struct code_reader *reader, struct unwind_builder *builder, const struct elf_file *file,
	       const struct code_symbols *symbols);
void code_announce(struct code_reader *reader);
void code_describe(struct code_reader *reader, uint64_t index);

#endif

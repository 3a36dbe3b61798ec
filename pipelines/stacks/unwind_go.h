/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Go's own table of functions, .gopclntab of Go 1.18 and later, which no strip removes: for each function how far its stack pointer has moved
 * at each instruction.
 */
#ifndef SONDE_UNWIND_GO_H
#define SONDE_UNWIND_GO_H

#include "stacks/unwind_cfi.h"

struct go_table {
	uint64_t offset, size;             /* of .gopclntab in the file */
	uint64_t text;                     /* virtual address that functions count from */
	uint64_t functions, names, values; /* file offsets of the tables */
	uint32_t count;
	uint8_t quantum;
	bool has_line; /* Go 1.20: a function's record is longer by a word */
};

/* 0, -ENOENT: no Go program, or of a version with another table. */
int go_find(const struct elf_file *file, const struct elf_header *header, struct go_table *ret);

struct go_reader {
	struct unwind_builder *builder;
	struct go_table table;
	struct cfi_window functions, values, names;
	uint8_t bytes[3][8192];
};

void go_open(struct go_reader *reader, struct unwind_builder *builder, const struct elf_file *file,
	     const struct go_table *table);
void go_announce(struct go_reader *reader);
void go_describe(struct go_reader *reader, uint64_t index);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Call frame information: .eh_frame and .debug_frame (LSB core 5, chapter 10.6; DWARF 5, section 6.4). A section is a list of CIEs (what many
 * functions share) and FDEs (one function each). It is walked once to announce the functions, then each function is read again when its
 * turn in the order of addresses comes.
 */
#ifndef SONDE_UNWIND_CFI_H
#define SONDE_UNWIND_CFI_H

#include "stacks/unwind_builder.h"

struct cfi_section {
	uint64_t offset, size, address; /* in the file; address of its first byte in memory */
	bool debug;                     /* .debug_frame */
	bool until_zero;                /* its size is not known: an empty record ends it */
};

/* A piece of the file in memory. */
struct cfi_window {
	const struct elf_file *file;
	uint64_t at;
	uint32_t size, most;
	uint8_t *bytes;
};

/* `size` bytes of the file, or NULL when it ends before or they do not fit the window. Good until the next call. */
const uint8_t *cfi_window_get(struct cfi_window *window, uint64_t at, uint64_t size);

#define CFI_WINDOW     32768u
#define CFI_CIES       8u
#define CFI_REMEMBERED 8u

enum cfi_rule_kind {
	CFI_UNSPECIFIED, /* the rest as in unwind_rows.h */
};

struct cfi_rule {
	uint8_t kind;
	int32_t value;
};

/* One row of the table that an FDE stands for. */
struct cfi_state {
	int32_t cfa_offset;
	uint8_t cfa_register;
	bool cfa_expression;
	struct cfi_rule rules[UNWIND_REGISTERS_MAX];
};

struct cfi_cie {
	uint64_t at;
	bool good, signal, augmented;
	uint8_t pointer_encoding;
	uint64_t code_align;
	int64_t data_align;
	struct cfi_state initial;
};

struct cfi_reader {
	struct unwind_builder *builder;
	struct cfi_section section;
	struct cfi_window window, cie_window;
	struct cfi_cie cies[CFI_CIES];
	unsigned next_cie;
	/* Rules of the row before, when they did not change. */
	int rules;
	bool rules_changed, end;
	struct cfi_state remembered[CFI_REMEMBERED];
	uint8_t bytes[CFI_WINDOW], cie_bytes[4096];
};

void cfi_open(struct cfi_reader *reader, struct unwind_builder *builder, const struct elf_file *file,
	      const struct cfi_section *section);
void cfi_announce(struct cfi_reader *reader);
/* Describes the function of the FDE at `place`, as it was announced. */
void cfi_describe(struct cfi_reader *reader, uint64_t place);

/* The eh_frame section from the start of its index, .eh_frame_hdr, which is at `address` and `offset`: for files without section
 * headers. `end` is where its segment ends in the file. */
int cfi_find_eh_frame(const struct elf_file *file, uint64_t offset, uint64_t address, uint64_t end,
		      struct cfi_section *ret);

#endif

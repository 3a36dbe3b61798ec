/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of a Go program by its own table, .gopclntab, which no strip removes and which the linker's -s and -w
 * leave. Of Go 1.2 and later, 32 and 64 bits, position-independent or not. Hostile: every offset is checked.
 *
 * Functions that were inlined are not told here: their tree is reached through the function's funcdata, whose base only
 * the module's own description holds, which programs before Go 1.26 have no section for. With DWARF they are in the
 * inline table.
 */
#ifndef SONDE_GO_NAMES_H
#define SONDE_GO_NAMES_H

#include "stacks/elf_file.h"

#define GO_WINDOW 4096u

struct go_function {
	uint64_t address, size;
	uint32_t name; /* place among the names */
};

struct go_names {
	uint64_t names, names_size; /* the names' place in the file, each ends with a NUL */
	uint32_t count;

	/* How to read on. */
	const struct elf_file *file;
	uint64_t end;       /* of the table in the file */
	uint64_t functions; /* file offset of { entry, record } pairs */
	uint64_t records;   /* what their records count from */
	uint64_t text;      /* what their entries count from */
	uint8_t word;       /* bytes of a pointer */
	uint8_t width;      /* of an entry */
	uint32_t next;
	struct {
		uint64_t at, size;
		uint8_t bytes[GO_WINDOW];
	} windows[2];
};

/* 0, -ENOENT: no Go program, or none whose table is understood. */
int go_names_open(struct go_names *ret, const struct elf_file *file, const struct elf_header *header);

/* The next function, in the order of addresses. False: there is none. */
bool go_names_next(struct go_names *go, struct go_function *ret);

#endif

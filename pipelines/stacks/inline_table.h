/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which functions are inlined at each instruction of one ELF file, as a compact table made from its DWARF (.debug_info, versions 4 and
 * 5, .debug_abbrev, .debug_str, .debug_line_str, .debug_ranges, .debug_rnglists, .debug_addr, .debug_str_offsets; compressed sections
 * too). The file is hostile: it is read in pieces by pread, every count and offset is clamped, nesting and work have a bound, and no
 * memory but the given room is used.
 */
#ifndef SONDE_INLINE_TABLE_H
#define SONDE_INLINE_TABLE_H

#include "stacks/elf_table.h"

#define INLINE_DEPTH_MAX 16u

struct inline_table; /* opaque; position-independent: may be moved as a block of inline_table_bytes() */

/* Room to try to build within, at most; 0: the file has no DWARF; or a negative errno. */
int64_t inline_table_room(const struct elf_file *file);

/* Builds at `room` (8-byte aligned), names included. 0, -ENOENT (no DWARF), -ENOSPC (room below the header), -EIO, -EBADMSG. What does
 * not fit is left out. */
int inline_table_build(const struct elf_file *file, void *room, size_t size);

size_t inline_table_bytes(const struct inline_table *table);

/* The names of the functions inlined at virtual address `address`, innermost first, not the function that holds them all: at most `most`
 * of them, as pointers into the table (linkage names where there are any, so that they can be demangled). Returns how many. */
unsigned inline_table_find(const struct inline_table *table, uint64_t address, const char **names, unsigned most);

#endif

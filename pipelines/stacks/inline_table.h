/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which functions are inlined at each instruction of one ELF file, as a compact table made from its DWARF (.debug_info, versions 2 to
 * 5, .debug_abbrev, .debug_str, .debug_line_str, .debug_ranges, .debug_rnglists, .debug_addr, .debug_str_offsets; compressed sections
 * too). The file is hostile: it is read in pieces by pread, every count and offset is clamped, nesting and work have a bound, and no
 * memory but the given room is used.
 *
 * Not read: split DWARF (.dwo, .dwp), dwz's common file (.gnu_debugaltlink: functions named only there stay out), sections compressed
 * with zstd or of the old .zdebug kind, object files before linking.
 */
#ifndef SONDE_INLINE_TABLE_H
#define SONDE_INLINE_TABLE_H

#include "stacks/elf_table.h"

#define INLINE_DEPTH_MAX 16u

struct inline_table; /* opaque; position-independent: may be moved as a block of inline_table_bytes() */

/* Room to try to build within, at most; 0: the file has no DWARF; or a negative errno. Some 1 to 4 MiB of it are work space, and the
 * table that is made takes a fraction of the rest. */
int64_t inline_table_room(const struct elf_file *file);

/* Builds at `room` (8-byte aligned), names included. 0, -ENOENT (no DWARF), -ENOSPC (room below the header and work space), -EIO,
 * -ENOEXEC. What does not fit, or is malformed, is left out unit by unit. */
int inline_table_build(const struct elf_file *file, void *room, size_t size);

/*
 * The same in parts, for a caller who may not be away for long: begin once, then build_some until it no longer returns 1. In between
 * `room` must stay where it is and untouched, and `size` the same; the file may come with another descriptor each time. A step is
 * about a byte of DWARF: INLINE_STEPS of them take some 20 ms, and a call ends soon after its steps are used up. Between calls
 * there is nothing to give back: who no longer wants the table forgets the room.
 */
#define INLINE_STEPS (2u << 20)

int inline_table_build_begin(const struct elf_file *file, void *room, size_t size);

/* 1: there is more to do; 0: the table is at `room`; -EIO. */
int inline_table_build_some(const struct elf_file *file, void *room, size_t size, uint64_t steps);

size_t inline_table_bytes(const struct inline_table *table);

/* What the table was made from, and what is missing in it. */
struct inline_health {
	uint32_t units_read, units_left_out; /* left out: did not fit, or could not be read */
	uint32_t names_left_out;             /* did not fit: chains are shorter by them */
};

struct inline_health inline_table_health(const struct inline_table *table);

/* The names of the functions inlined at virtual address `address`, innermost first, not the function that holds them all: at most `most`
 * of them, as pointers into the table (linkage names where there are any, so that they can be demangled). Returns how many. */
unsigned inline_table_find(const struct inline_table *table, uint64_t address, const char **names, unsigned most);

#endif

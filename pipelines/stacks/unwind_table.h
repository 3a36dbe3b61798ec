/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How to step from each instruction of one ELF file to its caller, as a compact sorted table made from .eh_frame, .debug_frame or, for
 * Go, .gopclntab. The file is hostile: it is read in pieces by pread, every count and offset is clamped, recursion and loops have a
 * bound, and no memory but the given room is used.
 */
#ifndef SONDE_UNWIND_TABLE_H
#define SONDE_UNWIND_TABLE_H

#include "stacks/elf_table.h"

struct unwind_table; /* opaque; position-independent: it may be moved as a block of unwind_table_bytes() */

/* Room that unwind_table_build() can use at most for this file, or a negative errno (-ENOEXEC: no ELF of this machine). A file without
 * any unwind information has a table too, of few bytes: frame pointers will be tried there. */
int64_t unwind_table_room(const struct elf_file *file);

/* Builds the table at `room` (8-byte aligned). 0, -ENOEXEC, -ENOSPC (room below the header), -EIO. What does not fit, or is not
 * understood, is left out, and unwinding there falls back to frame pointers. */
int unwind_table_build(const struct elf_file *file, void *room, size_t size);

size_t unwind_table_bytes(const struct unwind_table *table);

#endif

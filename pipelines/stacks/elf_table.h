/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of one ELF file as a compact sorted table. The file is hostile: it is read in pieces by pread (a
 * mapping would fault when the file shrinks), every count and offset is clamped, and no memory but the given room is
 * used.
 */
#ifndef SONDE_ELF_TABLE_H
#define SONDE_ELF_TABLE_H

#include "stacks/elf_file.h"

#define ELF_BUILD_ID_MAX 32
#define ELF_LOADS_MAX    8
#define ELF_NAME_MAX     256 /* bytes of a function's name, with its NUL; a longer name is cut */

/* One function: its address relative to the table's base; `size` holds the rank among aliases in its top four bits. */
struct elf_symbol {
	uint32_t at;
	uint32_t size;
	uint32_t name;
};

struct elf_load {
	uint64_t offset, address, size;
};

/* Position-independent: it may be moved as a block of elf_table_bytes(). */
struct elf_table {
	uint64_t base;              /* virtual address of symbols[].at 0 */
	uint64_t names, names_size; /* the string section in the file */
	uint32_t count;
	uint8_t build_id_length, n_loads;
	uint8_t build_id[ELF_BUILD_ID_MAX];
	struct elf_load loads[ELF_LOADS_MAX]; /* executable segments */
	struct elf_symbol symbols[];
};

/* Room that elf_table_build() can use at most for this file, or a negative errno (-ENOEXEC: no ELF of this machine's
 * byte order). */
int64_t elf_table_room(const struct elf_file *file);

/* Builds the table at `room` (8-byte aligned). More functions than fit are left out: their addresses stay unknown.
 * 0, -ENOEXEC, -ENOSPC (room below the header), -EIO. */
int elf_table_build(const struct elf_file *file, void *room, size_t size);

static inline size_t elf_table_bytes(const struct elf_table *table)
{
	return (sizeof *table + table->count * sizeof table->symbols[0] + 7) & ~(size_t)7;
}

/* The function that holds the byte at `offset` of the file. `name` has room for ELF_NAME_MAX. Returns its length,
 * `ret_delta` the distance from its begin; -ENOENT when no function is known there. */
int elf_table_find(const struct elf_table *table, const struct elf_file *file, uint64_t offset, char *name,
		   uint32_t *ret_delta);

#endif

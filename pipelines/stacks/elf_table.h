/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of one ELF file as a compact sorted table. They come from the first of these that names any:
 *
 *	.symtab of the file
 *	.symtab of its separate debug file, where one is given
 *	.symtab within .gnu_debugdata (MiniDebugInfo), Go's .gopclntab and .dynsym, together
 *
 * The file is hostile: it is read in pieces by pread (a mapping would fault when the file shrinks), every count and
 * offset is clamped, and no memory but the given room is used.
 */
#ifndef SONDE_ELF_TABLE_H
#define SONDE_ELF_TABLE_H

#include "stacks/demangle.h"
#include "stacks/elf_file.h"

#define ELF_BUILD_ID_MAX 32
#define ELF_LOADS_MAX    8
#define ELF_NAME_MAX     256                 /* bytes of a function's name as it is shown, with its NUL */
#define ELF_LINKAGE_MAX  (DEMANGLE_MOST + 2) /* and as the file holds it; a longer one is cut */
/* Working memory that is enough for all but a huge .gnu_debugdata. Most of it is never touched. */
#define ELF_SCRATCH_BYTES (24u << 20)

/* Where the text of a name is: a string section of the file, or the table's own pool. */
enum elf_names_of {
	ELF_NAMES_SYMTAB,
	ELF_NAMES_DYNSYM,
	ELF_NAMES_GO,
	ELF_NAMES_POOL,
};
#define ELF_NAME_BITS 30
#define ELF_NAME_MASK ((1u << ELF_NAME_BITS) - 1)

/* One function: its address relative to the table's base; `size` holds the rank among aliases in its top four bits, `name`
 * an enum elf_names_of in its top two and the place there below. */
struct elf_symbol {
	uint32_t at;
	uint32_t size;
	uint32_t name;
};

struct elf_load {
	uint64_t offset, address, size;
};

struct elf_strings {
	uint64_t offset, size;
};

/* Position-independent: it may be moved as a block of elf_table_bytes(). The pool lies behind the symbols. */
struct elf_table {
	uint64_t base;                            /* virtual address of symbols[].at 0 */
	struct elf_strings names[ELF_NAMES_POOL]; /* in the file */
	uint32_t count, pool;                     /* symbols; bytes of names behind them */
	uint32_t left_out;                        /* functions, for want of room */
	uint8_t build_id_length, n_loads;
	bool names_in_debug;
	uint8_t build_id[ELF_BUILD_ID_MAX];
	struct elf_load loads[ELF_LOADS_MAX]; /* executable segments */
	struct elf_symbol symbols[];
};

/* What a table is built from. */
struct elf_sources {
	const struct elf_file *file;
	/* Its debug file: only its .symtab counts, addresses are those of `file`. Ignored when its build id is another. The
	 * names are copied, so that it is not needed any more once the table is built; but with `debug_stays` they are
	 * not, which takes a sixth of the memory, and lookups are given the debug file where table->names_in_debug. NULL:
	 * none. */
	const struct elf_file *debug;
	bool debug_stays;
	/* Working memory (16-byte aligned) to unpack .gnu_debugdata in, free again after the build. NULL: it is not read. */
	void *scratch;
	size_t scratch_size;
};

/* Room that elf_table_build() can use at most for this file, or a negative errno (-ENOEXEC: no ELF of this machine's
 * byte order). */
int64_t elf_table_room_of(const struct elf_sources *sources);
int64_t elf_table_room(const struct elf_file *file);

/* Builds the table at `room` (8-byte aligned). More functions than fit are left out, counted: their addresses stay
 * unknown. In a room for the head alone, only the head is made, without reading a symbol: build id and segments. 0,
 * -ENOEXEC, -ENOSPC (room below the head), -EIO. The short form has no debug file and no scratch. */
int elf_table_build_of(const struct elf_sources *sources, void *room, size_t size);
int elf_table_build(const struct elf_file *file, void *room, size_t size);

static inline size_t elf_table_bytes(const struct elf_table *table)
{
	return (sizeof *table + table->count * sizeof table->symbols[0] + table->pool + 7) & ~(size_t)7;
}

/* The virtual address of the byte at `offset` of the file, which other tables of the file go by. False: that byte is not
 * code. */
bool elf_table_address(const struct elf_table *table, uint64_t offset, uint64_t *ret);

/* The function that holds the byte at `offset` of the file. `file` is that which holds the names. `name` has room for ELF_NAME_MAX and is demangled. Returns its
 * length, `ret_delta` the distance from its begin; -ENOENT when no function is known there. */
int elf_table_find(const struct elf_table *table, const struct elf_file *file, uint64_t offset, char *name,
		   uint32_t *ret_delta);

/* The same with the name as the file holds it: room for ELF_LINKAGE_MAX. */
int elf_table_find_linkage(const struct elf_table *table, const struct elf_file *file, uint64_t offset, char *name,
			   uint32_t *ret_delta);

#endif

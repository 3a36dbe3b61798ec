/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the symbols of a stripped file may be: what the file says itself, which is hostile, and the places that gdb, perf
 * and elfutils look at, in their order. Which of them exists, and is the file's own (by its build id, else by the CRC of
 * all its bytes), is for the caller to see.
 */
#ifndef SONDE_DEBUG_FILE_H
#define SONDE_DEBUG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stacks/elf_file.h"

#define DEBUG_FILE_ROOT       "/usr/lib/debug"
#define DEBUG_FILE_CANDIDATES 4u

/* What the .gnu_debuglink of `file` says: the debug file's name (without folders) into name[size], and the checksum of its
 * content. 0, or -ENOENT: nothing, or nothing sane. The build id is in the file's elf_table. */
int elf_debug_link(const struct elf_file *file, char *name, size_t size, uint32_t *ret_crc);

/* What the stripped file says of its debug file, see elf_debug_link(). */
struct debug_file_hint {
	const char *path;        /* of the stripped file: absolute */
	const uint8_t *build_id; /* may be NULL */
	size_t build_id_length;
	const char *link; /* .gnu_debuglink: a file name without folders; NULL or "": none */
};

/* Candidate number `index`, from 0:
 *	/usr/lib/debug/.build-id/ab/cdef.debug		by build id
 *	FOLDER/LINK, FOLDER/.debug/LINK, /usr/lib/debug/FOLDER/LINK
 * Writes it to path[size]. False: there is no candidate of this number; those after it may exist. */
bool debug_file_candidate(const struct debug_file_hint *hint, unsigned index, char *path, size_t size);

/* The checksum of .gnu_debuglink, continued from `crc` (0 at the begin). */
uint32_t debug_file_crc(uint32_t crc, const void *bytes, size_t size);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions that a just-in-time compiler wrote to memory, from its /tmp/perf-PID.map: one line for each, "START SIZE
 * NAME" with hexadecimal numbers (with or without "0x") and a name that goes to the end of the line. Written by Node
 * (--perf-basic-prof), Java (jcmd Compiler.perfmap), .NET (DOTNET_PerfMapEnabled), Python 3.12 (-X perf). The file is
 * hostile and may grow while it is read: what is behind `size` is not looked at, a last line without its end is left
 * out.
 *
 * Code is replaced: of all lines that cover an address the last one in the file names it. Names are kept as they are, but
 * for control characters, which become '?', and what is beyond PERF_MAP_NAME_MAX.
 */
#ifndef SONDE_PERF_MAP_H
#define SONDE_PERF_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "stacks/elf_table.h"

#define PERF_MAP_NAME_MAX 256 /* bytes of a name, with its NUL */

/* The addresses from `at` on that one line names. */
struct perf_map_segment {
	uint64_t at;
	uint32_t length;
	uint32_t name; /* place in the names */
};

/* Position-independent: it may be moved as a block of perf_map_bytes(). The names lie behind the segments. */
struct perf_map {
	uint64_t end;        /* bytes of the file up to its last whole line */
	uint64_t skipped;    /* of them, at its begin, left out for want of room or time */
	uint32_t lines;      /* taken in */
	uint32_t rubbish;    /* lines that are no such lines */
	uint32_t lost;       /* what is left of functions partly replaced, for want of room */
	uint32_t names_size; /* bytes */
	uint32_t count, reserved;
	struct perf_map_segment segments[];
};

/* Builds the table at `room` (8-byte aligned) from the first file->size bytes. What does not fit is left out: the newest
 * is kept. 0, -ENOSPC (room below the header), -EIO, -ESTALE (the file shrank: it is being written anew). */
int perf_map_build(const struct elf_file *file, void *room, size_t size);

static inline size_t perf_map_bytes(const struct perf_map *map)
{
	return (sizeof *map + map->count * sizeof map->segments[0] + map->names_size + 7) & ~(size_t)7;
}

/* The function that holds `address`, as a name in the table; `ret_delta` is the distance from its begin. NULL: none. */
const char *perf_map_find(const struct perf_map *map, uint64_t address, uint64_t *ret_delta);

#endif

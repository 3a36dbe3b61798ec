/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What names cost: time to build the table of each ELF file that is given (or of this program and its libc), bytes of the
 * table, and names a second, demangled; the same for a perf map of a million lines.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "stacks/elf_table.h"
#include "stacks/perf_map.h"

#define LINES 1000000u
#define ASKED 200000u

static uint64_t offset_of(const struct elf_table *table, uint32_t index)
{
	uint64_t address = table->base + table->symbols[index].at;

	for (unsigned i = 0; i < table->n_loads; i++)
		if (address - table->loads[i].address < table->loads[i].size)
			return address - table->loads[i].address + table->loads[i].offset;
	return 0;
}

static void bench_elf(const char *path)
{
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_(free_pointer) void *scratch = aligned_alloc(16, ELF_SCRATCH_BYTES);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		printf("%s: cannot be opened\n", path);
		return;
	}

	struct elf_file file = { .fd = fd, .size = (uint64_t)st.st_size };
	struct elf_sources sources = { .file = &file, .scratch = scratch, .scratch_size = ELF_SCRATCH_BYTES };
	int64_t room = elf_table_room_of(&sources);
	_cleanup_(free_pointer) struct elf_table *table = room > 0 ? malloc((size_t)room) : NULL;
	uint64_t begin = now_boottime_ns(), built;
	char name[ELF_NAME_MAX];
	uint32_t delta, found = 0;

	if (!table || elf_table_build_of(&sources, table, (size_t)room) < 0) {
		printf("%s: no table\n", path);
		return;
	}
	built = now_boottime_ns();
	for (uint32_t i = 0; i < ASKED && table->count; i++)
		found += elf_table_find(table, &file, offset_of(table, (uint32_t)(i * 7919ull % table->count)), name,
					&delta) > 0;
	printf("%-60s %7u functions %8.2f ms %9zu bytes %8.0f names/s\n", path, table->count,
	       (double)(built - begin) / 1e6, elf_table_bytes(table),
	       found / ((double)(now_boottime_ns() - built) / 1e9));
}

static void bench_perf_map(size_t room_size)
{
	_cleanup_(free_pointer) char *text = malloc(LINES * 80ull);
	_cleanup_(free_pointer) struct perf_map *map = malloc(room_size);
	size_t size = 0;
	uint64_t begin, built, delta;
	uint32_t found = 0;

	/* Every fourth line replaces code. */
	for (uint32_t i = 0; i < LINES; i++)
		size += (size_t)sprintf(text + size, "%llx %x LazyCompile:*function%u /srv/app/lib/module.js:%u:%u\n",
					0x2a0b00000000ull + (i % 4 ? i : i / 2) * 0x100ull, 0xf0, i, i % 5000, i % 80);

	struct elf_file file = { .fd = -1, .bytes = (uint8_t *)text, .size = size };

	begin = now_boottime_ns();
	perf_map_build(&file, map, room_size);
	built = now_boottime_ns();
	for (uint32_t i = 0; i < ASKED; i++)
		found += perf_map_find(map, 0x2a0b00000000ull + i * 7919ull % LINES * 0x100, &delta) != NULL;
	printf("perf map of %u lines, %zu MiB in %zu MiB of room %17u functions %8.2f ms %9zu bytes %8.0f names/s\n",
	       LINES, size >> 20, room_size >> 20, map->count, (double)(built - begin) / 1e6, perf_map_bytes(map),
	       ASKED / ((double)(now_boottime_ns() - built) / 1e9) + 0 * found);
}

int main(int argc, char **argv)
{
	Dl_info libc;

	for (int i = 1; i < argc; i++)
		bench_elf(argv[i]);
	if (argc == 1) {
		bench_elf("/proc/self/exe");
		if (dladdr((void *)getpid, &libc))
			bench_elf(libc.dli_fname);
	}
	bench_perf_map(4u << 20);
	bench_perf_map(128u << 20);
	return 0;
}

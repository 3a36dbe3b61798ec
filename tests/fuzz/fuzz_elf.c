/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as an ELF file: the first byte chooses how little room the table gets, the second whether the file is its own
 * debug file too, and with what the names are looked up.
 */
#include <stdlib.h>
#include <string.h>

#include "stacks/debug_file.h"
#include "stacks/elf_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;

	struct elf_file file = { .fd = -1, .bytes = data + 2, .size = size - 2 };
	size_t room = data[0] < 128 ? 64u << 10 : (size_t)data[0] * 8 - 1024;
	struct elf_table *table = malloc(room + 1);
	static _Alignas(16) uint8_t scratch[1u << 20];
	struct elf_sources sources = { .file = &file, .scratch = scratch, .scratch_size = sizeof scratch };
	char name[ELF_NAME_MAX];
	uint32_t delta;

	if (data[1] & 1)
		sources.debug = &file;
	sources.debug_stays = data[1] & 2;
	if (elf_debug_link(&file, name, sizeof name, &delta) == 0 && (!*name || strchr(name, '/')))
		abort();
	elf_table_room_of(&sources);
	if (elf_table_build_of(&sources, table, room) == 0) {
		if (elf_table_bytes(table) > room + 7)
			abort();
		for (uint32_t i = 1; i < table->count; i++)
			if (table->symbols[i].at < table->symbols[i - 1].at)
				abort();
		for (uint64_t offset = 0; offset <= size + 64; offset += 1 + size / 64) {
			int length = elf_table_find(table, &file, offset, name, &delta);

			if (length > 0 && (length >= ELF_NAME_MAX || strlen(name) != (size_t)length))
				abort();
		}
	}
	free(table);
	return 0;
}

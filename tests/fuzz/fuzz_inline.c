/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an ELF file with DWARF: the first byte chooses how much room the table gets, and the parts in which it is built. */
#include <stdlib.h>
#include <string.h>

#include "stacks/inline_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_up(const struct inline_table *table, const uint8_t *begin, size_t bytes)
{
	const char *names[INLINE_DEPTH_MAX];
	uint64_t address = 0;

	for (unsigned i = 0; i < 512; i++, address += i < 256 ? 61 : 0x10000001ull * i) {
		unsigned n = inline_table_find(table, address, names, INLINE_DEPTH_MAX);

		if (n > INLINE_DEPTH_MAX)
			abort();
		for (unsigned k = 0; k < n; k++)
			if ((const uint8_t *)names[k] < begin || (const uint8_t *)names[k] >= begin + bytes ||
			    !names[k][0] || (const uint8_t *)names[k] + strlen(names[k]) >= begin + bytes)
				abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t rooms[] = { 1u << 20, 1000u << 10, 820u << 10, 100 };
	static const uint64_t steps[] = { UINT64_MAX, 1000, 50, 1 };

	if (size < 1)
		return 0;

	/* The file ends where the copy does, so that reading behind it is seen. */
	uint8_t *copy = malloc(size);
	struct elf_file file = { .fd = -1, .bytes = copy, .size = size - 1 };
	size_t room = rooms[data[0] & 3];
	uint8_t *memory = malloc(room);

	memcpy(copy, data + 1, size - 1);
	inline_table_room(&file);

	int r = inline_table_build_begin(&file, memory, room);

	if (r == 0) {
		while ((r = inline_table_build_some(&file, memory, room, steps[data[0] >> 2 & 3])) > 0)
			;
		if (r == 0) {
			const struct inline_table *table = (void *)memory;
			size_t bytes = inline_table_bytes(table);

			if (bytes > room)
				abort();
			/* Nothing but these bytes makes the table. */
			memset(memory + bytes, 0xff, room - bytes < 65536 ? room - bytes : 65536);
			look_up(table, memory, bytes);
		}
	}
	free(memory);
	free(copy);
	return 0;
}

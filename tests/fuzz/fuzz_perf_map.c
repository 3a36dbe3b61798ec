/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a perf map: the first byte chooses how little room the table gets. */
#include <stdlib.h>
#include <string.h>

#include "stacks/perf_map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct perf_map *map)
{
	for (uint32_t i = 0; i < map->count; i++) {
		const struct perf_map_segment *s = &map->segments[i];
		uint64_t delta;
		const char *name = perf_map_find(map, s->at, &delta);

		if (!s->length || (i && s->at < s[-1].at + s[-1].length))
			abort();
		if (!name || !*name || strlen(name) >= PERF_MAP_NAME_MAX)
			abort();
		if (delta > UINT32_MAX)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;

	struct elf_file file = { .fd = -1, .bytes = data + 1, .size = size - 1 };
	size_t room = data[0] < 128 ? 1u << 20 : (size_t)data[0] * 8 - 1024;
	struct perf_map *map = malloc(room + 1);
	uint64_t delta;

	if (perf_map_build(&file, map, room) == 0) {
		if (perf_map_bytes(map) > room + 7)
			abort();
		check(map);
		perf_map_find(map, 0, &delta);
		perf_map_find(map, UINT64_MAX, &delta);
	}
	free(map);
	return 0;
}

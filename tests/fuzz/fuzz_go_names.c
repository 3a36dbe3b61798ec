/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as Go's table of functions in a file that is otherwise right. */
#include <stdlib.h>

#include "made_elf.h"
#include "stacks/go_names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *bytes = malloc(size + MADE_ELF_EXTRA);
	struct elf_file file = { .fd = -1, .bytes = bytes, .size = made_elf(bytes, ".gopclntab", data, size) };
	struct elf_header header;
	struct go_names go;
	struct go_function f;
	uint32_t count = 0;

	if (elf_read_header(&file, &header) < 0)
		abort();
	if (go_names_open(&go, &file, &header) == 0) {
		if (go.names > file.size || go.names_size > file.size - go.names)
			abort();
		while (go_names_next(&go, &f)) {
			count++;
			if (!f.size)
				abort();
		}
		if (count > go.count)
			abort();
	}
	free(bytes);
	return 0;
}

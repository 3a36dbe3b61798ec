/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a mangled name; the first byte chooses how short the readable one has to be. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stacks/demangle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;

	size_t room = 4 + data[0];
	char *name = malloc(size), *text = malloc(room);

	memcpy(name, data + 1, size - 1);
	name[size - 1] = 0;

	size_t length = demangle(name, text, room);

	if (length >= room || strlen(text) != length)
		abort();
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			abort();
	free(name);
	free(text);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Greedy line breaking over words that are separated by single spaces; columns are counted in characters of UTF-8. */
#include "paragraph.h"

#include <stdbool.h>
#include <string.h>

static unsigned columns(const char *text, size_t size)
{
	unsigned n = 0;

	for (size_t i = 0; i < size; i++)
		n += ((unsigned char)text[i] & 0xc0) != 0x80;
	return n;
}

void write_paragraph(FILE *out, const char *lead, unsigned used, unsigned width, const char *text)
{
	bool first = true;

	while (*text) {
		size_t size = strcspn(text, " ");
		unsigned word = columns(text, size);

		if (!first && used + 1 + word > width) {
			fprintf(out, "\n%s", lead);
			used = columns(lead, strlen(lead));
			first = true;
		}
		fprintf(out, "%s%.*s", first ? "" : " ", (int)size, text);
		used += word + !first;
		first = false;
		text += size;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

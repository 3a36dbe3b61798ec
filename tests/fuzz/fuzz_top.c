/* SPDX-License-Identifier: Apache-2.0 */
/* What `sonde top` makes of any bytes: two records of the input, then the page, which never holds a control character. */
#include <stdlib.h>
#include <string.h>

#include "top_model.h"
#include "top_panes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void check_page(const struct top_model *m, unsigned columns)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	check(out && top_write_snapshot(m, out, NULL, 20, columns) == 0);
	fclose(out);
	for (size_t i = 0; i < length; i++)
		check(text[i] == '\n' || ((unsigned char)text[i] >= ' ' && text[i] != 0x7f));
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct top_stacks wanted = { .function = "main", .library = "app" };
	const struct top_entry *found[8];
	struct top_model *m;
	uint64_t sum;

	if (!size || top_model_open(&m, 60 * NS_PER_SEC) < 0)
		return 0;
	top_model_advance(m, 1795420692ull * NS_PER_SEC);
	top_model_record(m, data, size);
	top_model_record(m, data + size / 2, size - size / 2);
	check_page(m, 0);
	check_page(m, 1 + data[size - 1] % 200u);
	top_stacks_find(m, &wanted, found, ARRAY_SIZE(found), &sum);
	top_model_advance(m, 1795420792ull * NS_PER_SEC);
	top_model_close(m);
	return 0;
}

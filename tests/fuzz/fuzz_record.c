/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a record: read, written as JSON and as lines. The readers must agree on whether it is one, and no control character may
 * reach a terminal. */
#include "encode/record.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static char *collect(int (*write)(FILE *out, const uint8_t *data, size_t size), const uint8_t *data, size_t size,
		     int *ret)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	*ret = write(out, data, size);
	fclose(out);
	check(*ret == 0 || length == 0);
	check(strlen(text) == length);
	return text;
}

static int write_json(FILE *out, const uint8_t *data, size_t size)
{
	return record_write_json(out, data, size);
}

static int write_line(FILE *out, const uint8_t *data, size_t size)
{
	return record_write_line(out, data, size, false, 0);
}

static int write_narrow(FILE *out, const uint8_t *data, size_t size)
{
	return record_write_line(out, data, size, false, 1 + data[size - 1] % 120u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = value_skip(data, data + size);
	const char *type;
	size_t length;
	struct value v;
	char *text;
	int r;

	check(!end || (end > data && end <= data + size));
	record_type(data, size, &type, &length);
	if (record_get(data, size, "ts", &v) == 0 && v.next)
		check(v.next > data && v.next <= data + size);
	text = collect(write_json, data, size, &r);
	check(r != 0 || end == data + size);
	for (const char *c = text; *c; c++)
		check((unsigned char)*c >= 0x20 && *c != 0x7f);
	free(text);
	text = collect(write_line, data, size, &r);
	check(r != 0 || end == data + size);
	for (const char *c = text; *c; c++)
		check((unsigned char)*c >= 0x20 && *c != 0x7f);
	free(text);
	if (size) {
		text = collect(write_narrow, data, size, &r);
		free(text);
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as an expression, up to the first NUL, over any bytes as a record, behind it. */
#include "rules/expr.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

/* `not (TEXT)` says the opposite of TEXT wherever the record is whole. */
static void check_opposite(const char *text, const uint8_t *map, size_t size, bool holds)
{
	struct expr *expr = NULL;
	char room[4200];

	snprintf(room, sizeof room, "not (%s)", text);
	if (expr_compile(&expr, room, NULL) < 0)
		return;
	check(!(expr_match(expr, map, size) && holds));
	expr_free(expr);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t sample[] = "\x84\xa4type\xa3"
					"a.b\xa3pid\xcd\x04\xd2\xa4"
					"args\x92\xa1x\xa2-g\xa1m\x81\xa1k\xc3";
	size_t length = strnlen((const char *)data, size);
	char *text = strndup((const char *)data, length);
	struct fault fault = { 0 };
	struct expr *expr = NULL;
	bool holds;

	if (expr_compile(&expr, text, &fault) == 0) {
		holds = expr_match(expr, sample, sizeof sample - 1);
		check_opposite(text, sample, sizeof sample - 1, holds);
		if (length < size)
			check_opposite(text, data + length + 1, size - length - 1,
				       expr_match(expr, data + length + 1, size - length - 1));
	} else {
		check(!expr && fault.text[0]);
	}
	expr_free(expr);
	free(text);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Values, and texts that live as long as the event. */
#include "alerts/live_state.h"

#include <stdarg.h>
#include <string.h>

char *texts_take(struct live *live, size_t size, size_t *ret_size)
{
	char *at = live->texts + live->used;

	*ret_size = MIN_OF(size, live->room - live->used);
	live->used += *ret_size;
	live->cut |= *ret_size < size;
	return at;
}

void texts_give_back(struct live *live, size_t size)
{
	live->used -= size;
}

bool give_text(struct rule_value *ret, const char *text, size_t length)
{
	*ret = (struct rule_value){ .kind = RULE_TEXT, .text = text, .length = (uint32_t)length };
	return true;
}

bool give_number(struct rule_value *ret, __int128 number)
{
	*ret = (struct rule_value){ .kind = RULE_NUMBER, .number = number };
	return true;
}

bool give_truth(struct rule_value *ret, bool truth)
{
	*ret = (struct rule_value){ .kind = RULE_TRUTH, .truth = truth };
	return true;
}

bool give_made(struct live *live, struct rule_value *ret, const char *format, ...)
{
	char *at = live->texts + live->used;
	size_t room = live->room - live->used;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(at, room, format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= room) {
		live->cut = true;
		return false;
	}
	live->used += (size_t)n;
	return give_text(ret, at, (size_t)n);
}

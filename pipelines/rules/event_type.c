/* SPDX-License-Identifier: Apache-2.0 */
#include "rules/event_type.h"

#include <seccomp.h>
#include <string.h>

#define EVENT_TYPE(name, call) { #name, sizeof #name - 1, call },
static const struct event_type {
	const char *name;
	uint8_t length;
	bool call;
} types[] = {
#include "rules/event_types.def"
};
#undef EVENT_TYPE

_Static_assert(ARRAY_SIZE(types) <= EVENT_TYPES_MAX, "EVENT_TYPES_MAX");

unsigned event_types_known(void)
{
	return ARRAY_SIZE(types);
}

const char *event_type_name(unsigned type)
{
	return types[type].name;
}

bool event_type_is_call(unsigned type)
{
	return types[type].call;
}

int event_type_of(const char *name, size_t length)
{
	size_t low = 0, high = ARRAY_SIZE(types);

	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = memcmp(types[middle].name, name, MIN_OF(types[middle].length, length));

		if (order == 0)
			order = types[middle].length < length ? -1 : types[middle].length > length;
		if (order == 0)
			return (int)middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

const char *event_type_near(const char *name)
{
	const char *names[ARRAY_SIZE(types)];

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		names[i] = types[i].name;
	return nearest_name(name, names, ARRAY_SIZE(types));
}

int event_type_number(unsigned type)
{
	int number = types[type].call ? seccomp_syscall_resolve_name(types[type].name) : -1;

	/* libseccomp gives calls that this machine does not have negative numbers of its own. */
	return number >= 0 ? number : -1;
}

void event_types_all(struct event_types *ret)
{
	memset(ret, 0, sizeof *ret);
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
		event_types_add(ret, i);
}

unsigned event_types_count(const struct event_types *set)
{
	unsigned n = 0;

	for (unsigned i = 0; i < EVENT_TYPE_WORDS; i++)
		n += (unsigned)__builtin_popcountll(set->words[i]);
	return n;
}

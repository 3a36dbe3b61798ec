/* SPDX-License-Identifier: Apache-2.0 */
/* See the header. Invariant: array k ends at or before the begin of array k + 1. */
#include "stacks/inline_room.h"

#include <string.h>

#include "base/base.h"
#include "stacks/inline_build.h"

static size_t bytes_of(const struct inline_array *array)
{
	return ALIGN_UP((size_t)array->element * array->count, (size_t)8);
}

void inline_room_open(struct inline_room *room, uint8_t *begin, uint8_t *end)
{
	static const uint32_t elements[INLINE_ARRAYS] = { sizeof(struct inline_entry), sizeof(uint64_t),
							  sizeof(struct inline_node), sizeof(struct inline_entry), 1 };

	*room = (struct inline_room){ .begin = begin, .end = end };
	for (unsigned k = 0; k < INLINE_ARRAYS; k++)
		room->arrays[k] = (struct inline_array){ .begin = begin, .element = elements[k] };
}

static size_t used(const struct inline_room *room)
{
	size_t bytes = 0;

	for (unsigned k = 0; k < INLINE_ARRAYS; k++)
		bytes += bytes_of(&room->arrays[k]);
	return bytes;
}

static void move(struct inline_array *array, uint8_t *to)
{
	memmove(to, array->begin, (size_t)array->element * array->count);
	array->begin = to;
}

uint8_t *inline_room_pack(struct inline_room *room)
{
	uint8_t *to = room->begin;

	for (unsigned k = 0; k < INLINE_ARRAYS; k++) {
		move(&room->arrays[k], to);
		room->arrays[k].places = room->arrays[k].count;
		to += bytes_of(&room->arrays[k]);
	}
	return to;
}

/* Half of what is free is spread evenly, half by what each has already. From the last to the first, as all move up. */
static void spread(struct inline_room *room, size_t filled, size_t free)
{
	uint8_t *end = room->end;

	for (unsigned k = INLINE_ARRAYS; k-- > 0;) {
		struct inline_array *array = &room->arrays[k];
		size_t bytes = bytes_of(array);
		size_t share =
			free / 2 / INLINE_ARRAYS + (size_t)((double)free / 2 * (double)bytes / (double)(filled + 1));
		size_t whole = (bytes + share) & ~(size_t)7;
		uint64_t places = whole / array->element;

		array->places = (uint32_t)MIN_OF(places, (uint64_t)UINT32_MAX);
		end -= whole;
		move(array, end);
	}
}

bool inline_room_grow(struct inline_room *room, enum inline_array_name which, uint32_t count)
{
	struct inline_array *array = &room->arrays[which];
	size_t total = (size_t)(room->end - room->begin), filled = used(room);
	/* Moving everything for little would go on forever. */
	size_t least = total / 64 + room->reserve + 8192 * INLINE_ARRAYS;

	if (array->places - array->count >= count)
		return true;
	if (total < filled || total - filled < least)
		return false;
	inline_room_pack(room);
	spread(room, filled, total - filled);
	return array->places - array->count >= count;
}

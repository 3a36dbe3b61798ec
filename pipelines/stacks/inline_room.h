/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays that grow side by side in one room. Each has some free places behind it; when one is full, all move so that what is free is
 * spread anew. They are referred to by index therefore, never by pointer across a call that may grow one.
 */
#ifndef SONDE_INLINE_ROOM_H
#define SONDE_INLINE_ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum inline_array_name { INLINE_ROWS, INLINE_SEGMENTS, INLINE_NODES, INLINE_ORIGINS, INLINE_NAMES, INLINE_ARRAYS };

struct inline_array {
	uint8_t *begin;
	uint32_t element; /* bytes */
	uint32_t count, places;
};

/* In the order of their addresses, which are multiples of 8. */
struct inline_room {
	uint8_t *begin, *end;
	size_t reserve; /* bytes that are not given away */
	struct inline_array arrays[INLINE_ARRAYS];
};

void inline_room_open(struct inline_room *room, uint8_t *begin, uint8_t *end);

/* Moves all arrays down, without a gap; returns where the free room begins. */
uint8_t *inline_room_pack(struct inline_room *room);

/* Makes place for `count` more elements (of at most 4 KiB together); false when the room is used up. */
bool inline_room_grow(struct inline_room *room, enum inline_array_name which, uint32_t count);

/* A new element at the end, or NULL. */
static inline void *inline_room_add(struct inline_room *room, enum inline_array_name which)
{
	struct inline_array *array = &room->arrays[which];

	if (array->count == array->places && !inline_room_grow(room, which, 1))
		return NULL;
	return array->begin + (size_t)array->element * array->count++;
}

#endif

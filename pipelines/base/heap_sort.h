/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sorting in place: heapsort needs no memory, has no bad case, and so suits what is hostile. Inlined, so that width and
 * key are known where it is used.
 */
#ifndef SONDE_HEAP_SORT_H
#define SONDE_HEAP_SORT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HEAP_SORT_WIDTH_MAX 32u

static inline __attribute__((always_inline)) void heap_sift(char *heap, uint32_t root, uint32_t count, size_t width,
							    uint64_t (*key)(const void *))
{
	char moving[HEAP_SORT_WIDTH_MAX];
	uint64_t moving_key = key(heap + root * width);

	memcpy(moving, heap + root * width, width);
	for (uint32_t child; (child = 2 * root + 1) < count; root = child) {
		if (child + 1 < count && key(heap + child * width) < key(heap + (child + 1) * width))
			child++;
		if (key(heap + child * width) <= moving_key)
			break;
		memcpy(heap + root * width, heap + child * width, width);
	}
	memcpy(heap + root * width, moving, width);
}

/* Sorts `count` (below 2^31) elements of `width` bytes by ascending key. Equal keys come in any order. */
static inline __attribute__((always_inline)) void heap_sort(void *elements, uint32_t count, size_t width,
							    uint64_t (*key)(const void *))
{
	char *heap = elements, last[HEAP_SORT_WIDTH_MAX];

	for (uint32_t i = count / 2; i-- > 0;)
		heap_sift(heap, i, count, width, key);
	for (uint32_t i = count; i-- > 1;) {
		memcpy(last, heap + i * width, width);
		memcpy(heap + i * width, heap, width);
		memcpy(heap, last, width);
		heap_sift(heap, 0, i, width, key);
	}
}

#endif

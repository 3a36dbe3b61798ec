/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See the header. The code is the same for entries and for numbers: `size` is a constant wherever it is inlined.
 *
 * Invariant: the parts on the stack do not overlap, and all elements outside them are where they belong.
 */
#include "stacks/inline_sort.h"

#include <stddef.h>
#include <string.h>

#define SMALL 16u /* such parts are sorted by insertion */

static inline __attribute__((always_inline)) uint64_t key_of(const uint8_t *element)
{
	uint64_t key;

	memcpy(&key, element, sizeof key);
	return key;
}

static inline __attribute__((always_inline)) uint8_t low_of(const uint8_t *element, size_t size)
{
	return size == sizeof(struct inline_entry) ? (uint8_t)((const struct inline_entry *)element)->b : 0;
}

static inline __attribute__((always_inline)) void begin(struct inline_sort *sort, const uint8_t *at, uint32_t count,
							size_t size)
{
	uint64_t all = ~0ull, any = 0;

	for (uint32_t i = 0; i < count; i++) {
		all &= key_of(at + i * size);
		any |= key_of(at + i * size);
	}
	sort->varying = all ^ any;
	sort->n_parts = 0;
	if (count > 1)
		sort->parts[sort->n_parts++] = (struct inline_sort_part){ 0, count, INLINE_SORT_BITS };
}

static inline __attribute__((always_inline)) bool before(const uint8_t *x, const uint8_t *y, size_t size)
{
	return key_of(x) != key_of(y) ? key_of(x) < key_of(y) : low_of(x, size) < low_of(y, size);
}

static inline __attribute__((always_inline)) void insert_all(uint8_t *at, uint32_t begin, uint32_t end, size_t size)
{
	for (uint32_t i = begin + 1; i < end; i++) {
		uint8_t moving[sizeof(struct inline_entry)] __attribute__((aligned(8)));
		uint32_t k = i;

		memcpy(moving, at + i * size, size);
		for (; k > begin && before(moving, at + (k - 1) * size, size); k--)
			memcpy(at + k * size, at + (k - 1) * size, size);
		memcpy(at + k * size, moving, size);
	}
}

static inline __attribute__((always_inline)) bool bit_of(const uint8_t *element, uint32_t bit, size_t size)
{
	return bit >= 8 ? key_of(element) >> (bit - 8) & 1 : low_of(element, size) >> bit & 1;
}

/* Elements with the bit clear go before those with it set; returns where the latter begin. */
static inline __attribute__((always_inline)) uint32_t split(uint8_t *at, uint32_t begin, uint32_t end, uint32_t bit,
							    size_t size)
{
	while (begin < end) {
		if (!bit_of(at + begin * size, bit, size)) {
			begin++;
		} else if (bit_of(at + (end - 1) * size, bit, size)) {
			end--;
		} else {
			uint8_t moving[sizeof(struct inline_entry)];

			end--;
			memcpy(moving, at + begin * size, size);
			memcpy(at + begin * size, at + end * size, size);
			memcpy(at + end * size, moving, size);
			begin++;
		}
	}
	return begin;
}

static inline __attribute__((always_inline)) bool go_on(struct inline_sort *sort, uint8_t *at, size_t size,
							uint64_t *steps, uint64_t limit)
{
	while (sort->n_parts) {
		struct inline_sort_part part = sort->parts[sort->n_parts - 1];
		uint32_t middle;

		if (*steps >= limit)
			return false;
		sort->n_parts--;
		while (part.bits > 8 && !(sort->varying >> (part.bits - 9) & 1))
			part.bits--;
		if (part.end - part.begin <= SMALL) {
			insert_all(at, part.begin, part.end, size);
			*steps += part.end - part.begin;
			continue;
		}
		if (!part.bits)
			continue;
		part.bits--;
		middle = split(at, part.begin, part.end, part.bits, size);
		*steps += (part.end - part.begin) / 4;
		if (part.end - middle > 1)
			sort->parts[sort->n_parts++] = (struct inline_sort_part){ middle, part.end, part.bits };
		if (middle - part.begin > 1)
			sort->parts[sort->n_parts++] = (struct inline_sort_part){ part.begin, middle, part.bits };
	}
	return true;
}

void inline_sort_begin(struct inline_sort *sort, const struct inline_entry *entries, uint32_t count)
{
	begin(sort, (const void *)entries, count, sizeof *entries);
}

bool inline_sort_some(struct inline_sort *sort, struct inline_entry *entries, uint64_t *steps, uint64_t limit)
{
	return go_on(sort, (void *)entries, sizeof *entries, steps, limit);
}

void inline_sort_begin_numbers(struct inline_sort *sort, const uint64_t *numbers, uint32_t count)
{
	begin(sort, (const void *)numbers, count, sizeof *numbers);
}

bool inline_sort_some_numbers(struct inline_sort *sort, uint64_t *numbers, uint64_t *steps, uint64_t limit)
{
	return go_on(sort, (void *)numbers, sizeof *numbers, steps, limit);
}

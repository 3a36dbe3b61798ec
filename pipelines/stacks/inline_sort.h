/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sorting in place and in parts, without memory and without a bad case: binary radix exchange (Knuth, volume 3, 5.2.2), which parts
 * entries by one bit after the other, the highest first. What is still to part is on a stack that holds one part a bit at most.
 */
#ifndef SONDE_INLINE_SORT_H
#define SONDE_INLINE_SORT_H

#include <stdbool.h>
#include <stdint.h>

#define INLINE_SORT_BITS 72u /* those of `key`, and below them the low byte of `b` */

struct inline_entry {
	uint64_t key;
	uint32_t a, b;
};

struct inline_sort {
	uint64_t varying; /* bits in which keys differ; the others need no parting */
	uint32_t n_parts;
	struct inline_sort_part {
		uint32_t begin, end;
		uint32_t bits; /* still to part by */
	} parts[INLINE_SORT_BITS + 1];
};

void inline_sort_begin(struct inline_sort *sort, const struct inline_entry *entries, uint32_t count);

/* Goes on until `*steps` reaches `limit`: true when all is sorted, by key, then by the low byte of b. */
bool inline_sort_some(struct inline_sort *sort, struct inline_entry *entries, uint64_t *steps, uint64_t limit);

/* The same for plain numbers. */
void inline_sort_begin_numbers(struct inline_sort *sort, const uint64_t *numbers, uint32_t count);
bool inline_sort_some_numbers(struct inline_sort *sort, uint64_t *numbers, uint64_t *steps, uint64_t limit);

#endif

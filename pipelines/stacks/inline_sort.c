/* SPDX-License-Identifier: Apache-2.0 */
/* See the header. Invariant: the parts on the stack do not overlap, and all entries outside them are where they belong. */
#include "stacks/inline_sort.h"

#include <stddef.h>

#define SMALL 16u /* such parts are sorted by insertion */

void inline_sort_begin(struct inline_sort *sort, const struct inline_entry *entries, uint32_t count)
{
	uint64_t all = ~0ull, any = 0;

	for (uint32_t i = 0; i < count; i++) {
		all &= entries[i].key;
		any |= entries[i].key;
	}
	sort->varying = all ^ any;
	sort->n_parts = 0;
	if (count > 1)
		sort->parts[sort->n_parts++] = (struct inline_sort_part){ 0, count, INLINE_SORT_BITS };
}

static bool before(const struct inline_entry *x, const struct inline_entry *y)
{
	return x->key != y->key ? x->key < y->key : (x->b & 0xff) < (y->b & 0xff);
}

static void insert_all(struct inline_entry *entries, uint32_t begin, uint32_t end)
{
	for (uint32_t i = begin + 1; i < end; i++) {
		struct inline_entry moving = entries[i];
		uint32_t k = i;

		for (; k > begin && before(&moving, &entries[k - 1]); k--)
			entries[k] = entries[k - 1];
		entries[k] = moving;
	}
}

static bool bit_of(const struct inline_entry *entry, uint32_t bit)
{
	return bit >= 8 ? entry->key >> (bit - 8) & 1 : entry->b >> bit & 1;
}

/* Entries with the bit clear go before those with it set; returns where the latter begin. */
static uint32_t split(struct inline_entry *entries, uint32_t begin, uint32_t end, uint32_t bit)
{
	while (begin < end) {
		if (!bit_of(&entries[begin], bit)) {
			begin++;
		} else if (bit_of(&entries[end - 1], bit)) {
			end--;
		} else {
			struct inline_entry moving = entries[begin];

			entries[begin++] = entries[--end];
			entries[end] = moving;
		}
	}
	return begin;
}

bool inline_sort_some(struct inline_sort *sort, struct inline_entry *entries, uint64_t *steps, uint64_t limit)
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
			insert_all(entries, part.begin, part.end);
			*steps += part.end - part.begin;
			continue;
		}
		if (!part.bits)
			continue;
		part.bits--;
		middle = split(entries, part.begin, part.end, part.bits);
		*steps += (part.end - part.begin) / 4;
		if (part.end - middle > 1)
			sort->parts[sort->n_parts++] = (struct inline_sort_part){ middle, part.end, part.bits };
		if (middle - part.begin > 1)
			sort->parts[sort->n_parts++] = (struct inline_sort_part){ part.begin, middle, part.bits };
	}
	return true;
}

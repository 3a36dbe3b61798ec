/* SPDX-License-Identifier: Apache-2.0 */
/* What first.c calls; with link-time optimization it is inlined there, by references from unit to unit. */
#include <stdint.h>

static inline uint64_t shift(uint64_t x)
{
	return x >> 7 ^ x << 3;
}

uint64_t across(uint64_t x);
uint64_t across(uint64_t x)
{
	return shift(x) + shift(x * 3) + 11;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SipHash-2-4: a hash under a secret key, for what others choose and would gain from two of which look the same.
 * Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012.
 */
#ifndef SONDE_SIPHASH_H
#define SONDE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
	uint64_t halves[2];
};

/* From the kernel's random numbers. 0 or a negative errno. */
int siphash_make_key(struct siphash_key *ret);
uint64_t siphash(const struct siphash_key *key, const void *bytes, size_t size);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256, as FIPS 180-4 section 6.2 has it. Not for secrets: its time tells nothing but the length, yet its memory is not wiped. */
#ifndef SONDE_SHA256_H
#define SONDE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

struct sha256 {
	uint32_t state[8];
	uint64_t bytes; /* taken so far */
	uint8_t block[64];
};

void sha256_begin(struct sha256 *h);
void sha256_add(struct sha256 *h, const void *bytes, size_t size);
void sha256_end(struct sha256 *h, uint8_t ret[SHA256_BYTES]);

#endif

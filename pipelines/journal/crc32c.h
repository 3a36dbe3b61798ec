/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C over bytes. `crc` is 0 to begin, or the result so far: crc32c(crc32c(0, a), b) is that of a and b together.
 */
#ifndef SONDE_CRC32C_H
#define SONDE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);

/* The same without the processor's instruction: what crc32c() falls back to. */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size);

#endif

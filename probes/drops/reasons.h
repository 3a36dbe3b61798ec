/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's names for why it drops packets: numbers differ from kernel to kernel, so they are read from its BTF. */
#ifndef SONDE_DROPS_REASONS_H
#define SONDE_DROPS_REASONS_H

#include <stddef.h>
#include <stdint.h>

struct reasons; /* opaque, immutable */

/* -ENOMEM, or why the kernel's BTF cannot be read. Subsystems whose kernel module is not loaded now stay without names. */
int reasons_read(struct reasons **ret);
void reasons_free(struct reasons *reasons);

/* As the kernel's own tracepoint writes it; "reason-0x10003" where there is no name. `size`: with the NUL. `reasons` may be NULL. */
void reasons_name(const struct reasons *reasons, uint32_t reason, char *ret, size_t size);

#endif

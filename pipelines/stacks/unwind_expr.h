/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The expressions of call frame information (DWARF 5, 2.5): a small stack machine over registers and the copied piece of stack. Bounded:
 * a deep stack, a long run or a read outside of the copy ends it.
 */
#ifndef SONDE_UNWIND_EXPR_H
#define SONDE_UNWIND_EXPR_H

#include <stddef.h>
#include <stdint.h>

/* A piece of stack: the byte at `base` is bytes[0]. */
struct unwind_memory {
	const uint8_t *bytes;
	uint64_t base;
	uint32_t size;
};

/* The 8 bytes at `address`: 0, -ENODATA when they lie behind the piece, -EFAULT when before it. */
int unwind_read(const struct unwind_memory *memory, uint64_t address, uint64_t *ret);

struct unwind_registers {
	uint64_t known; /* bit set of those whose value is known */
	uint64_t values[33];
};

/* `cfa`: pushed first when not NULL. 0, or a negative errno: -ENODATA and -EFAULT as above, -ENOENT (an unknown register),
 * -EBADMSG (no expression). */
int unwind_expression(const uint8_t *bytes, size_t size, const struct unwind_registers *registers,
		      const struct unwind_memory *memory, const uint64_t *cfa, uint64_t *ret);

#endif

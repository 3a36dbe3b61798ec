/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From registers and a copied piece of stack to return addresses. Pure: no system call, no allocation, bounded work whatever the bytes.
 */
#ifndef SONDE_UNWIND_H
#define SONDE_UNWIND_H

#include <stdbool.h>

#include "sonde/stack.h"
#include "stacks/unwind_table.h"

#define UNWIND_FRAMES_MAX 512u
/* In a frame: the address is exact (the leaf, or what a signal interrupted). Without it the address is where a call returns to, and
 * the code meant is the byte before it. */
#define UNWIND_EXACT (1ull << 63)

/* An executable mapping, sorted by `start` in its list, no two overlapping. */
struct unwind_mapping {
	uint64_t start, end, offset; /* addresses, and the file offset of `start` */
	uint64_t file;               /* number of the file's content; 0: no file, or not one to read */
};

enum unwind_end {
	UNWIND_WHOLE,   /* reached the end of the stack: _start, a thread's or a goroutine's first function */
	UNWIND_CUT,     /* the slice ended, or UNWIND_FRAMES_MAX: there is more */
	UNWIND_BROKEN,  /* the way on is not known: what there is, is right as far as it goes */
	UNWIND_MISSING, /* the table of a file is needed first; see `missing` */
};

struct unwind_result {
	enum unwind_end end;
	uint32_t n_frames;
	uint64_t missing; /* number of the file */
	uint64_t frames[UNWIND_FRAMES_MAX];
};

struct unwind_input {
	const uint64_t *registers; /* SONDE_REGISTERS of them */
	const uint8_t *slice; /* bytes of the stack from the stack pointer up, and n_below; 8-byte aligned or not */
	uint32_t n_slice;
	bool slice_cut; /* the stack goes on behind the slice */
	/* How much of the slice lies below the stack pointer: 0, or up to 128 on x86-64, whose functions may use that much there. */
	uint32_t n_below;
	const struct unwind_mapping *mappings;
	uint32_t n_mappings;
	/* The table of a file's content: NULL with `*ret_none` true when the file cannot have one (frame pointers are tried), NULL with
	 * false when it is to be had first. */
	const struct unwind_table *(*table)(void *context, uint64_t file, bool *ret_none);
	void *context;
};

void unwind(const struct unwind_input *input, struct unwind_result *ret);

#endif

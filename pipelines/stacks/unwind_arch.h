/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What unwinding must know of a processor, as one constant. Nothing else in unwinding names a register or an instruction. A table is made
 * for one processor and carries its machine number; the agent's own is unwind_native, another serves tests.
 *
 * Registers are numbered as in DWARF, with the program counter behind them (sonde/stack.h).
 */
#ifndef SONDE_UNWIND_ARCH_H
#define SONDE_UNWIND_ARCH_H

#include "stacks/unwind.h"

#define UNWIND_REGISTERS_MAX 33u

struct unwind_builder;
struct unwind_code;

struct unwind_arch {
	uint16_t machine; /* EM_* */
	uint8_t n_registers, sp, fp, pc;
	uint8_t return_column; /* DWARF's column of the return address: the pc itself, or the link register */
	bool link;             /* a call leaves the return address in a register: a function may have no frame at all */
	int16_t call_bytes;    /* what a call itself pushes */
	uint64_t kept;         /* bit set of the registers that a function gives back as they were; without sp and pc */
	uint64_t code_mask;    /* the bits of a return address that are address */
	/* Where a function that has moved its stack pointer by `depth` bytes keeps what. Go's frame layout. */
	struct {
		int16_t link_from_sp; /* with .link: the return address, from the stack pointer */
		int16_t fp_from_cfa;  /* without .link: the caller's frame pointer, from the CFA */
	} go;
	/* Instructions that return from a signal handler, and where the kernel's frame keeps the registers then, from the stack pointer:
	 * an offset for each register, -1 where there is none. */
	struct unwind_code_pattern {
		uint8_t size;
		uint8_t bytes[11];
	} sigreturn[2];
	int16_t signal_frame[UNWIND_REGISTERS_MAX];
	/* True for a fixed address of the kernel that acts as a function without a frame (x86's vsyscall page). */
	bool (*is_kernel_stub)(uint64_t pc);
	/* Follows the stack pointer through the instructions of a function that no table describes, and adds its rows; NULL where that
	 * cannot be done. */
	void (*follow_code)(struct unwind_builder *builder, const struct unwind_code *code);
};

extern const struct unwind_arch unwind_x86_64, unwind_arm64;

#if defined(__aarch64__)
#define unwind_native unwind_arm64
#else
#define unwind_native unwind_x86_64
#endif

/* As the functions without `arch`, for another processor. */
int unwind_table_build_for(const struct unwind_arch *arch, const struct elf_file *file, void *room, size_t size);
void unwind_for(const struct unwind_arch *arch, const struct unwind_input *input, struct unwind_result *ret);

#endif

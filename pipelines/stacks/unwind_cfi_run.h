/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running call frame programs: what a CIE says first, then what its FDE says, a row at each advance.
 */
#ifndef SONDE_UNWIND_CFI_RUN_H
#define SONDE_UNWIND_CFI_RUN_H

#include "stacks/unwind_bytes.h"
#include "stacks/unwind_cfi.h"

/* Fills cie->initial. False: not understood. */
bool cfi_run_initial(struct cfi_reader *reader, struct cfi_cie *cie, struct unwind_bytes program);
/* Adds the rows of one function, which has begun. Where an instruction is not understood its description ends. */
void cfi_run(struct cfi_reader *reader, const struct cfi_cie *cie, struct unwind_bytes program, uint64_t begin,
	     uint64_t end);

#endif

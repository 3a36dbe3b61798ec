/* SPDX-License-Identifier: Apache-2.0 */
/* What building and reading a table of functions agree on about struct elf_symbol.size. */
#ifndef SONDE_ELF_SYMBOL_H
#define SONDE_ELF_SYMBOL_H

#define ELF_SIZE_BITS 28
#define ELF_SIZE_MASK ((1u << ELF_SIZE_BITS) - 1)
/* The rank of a sized name that is not local. */
#define ELF_RANK_BEST 3u

#endif

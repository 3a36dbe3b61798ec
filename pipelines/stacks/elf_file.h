/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ELF file as hostile bytes: its header, program headers and section headers, each read by pread (a mapping would fault when the file
 * shrinks) with every count and offset clamped. No memory is allocated.
 */
#ifndef SONDE_ELF_FILE_H
#define SONDE_ELF_FILE_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the bytes come from: an open file, or memory when `bytes` is set. `size` bounds every read. */
struct elf_file {
	int fd;
	const uint8_t *bytes;
	uint64_t size;
};

struct elf_header {
	bool wide; /* 64-bit */
	uint16_t machine;
	uint64_t programs, sections; /* offsets of the tables */
	uint32_t n_programs, n_sections;
	uint32_t names; /* index of the section with the sections' names */
};

/* All of `size` bytes at `at`: 0, -ENOEXEC when the file ends before, -EIO. */
int elf_read_at(const struct elf_file *file, uint64_t at, void *into, size_t size);

/* 0, -ENOEXEC: no ELF file of this machine's byte order, -EIO. */
int elf_read_header(const struct elf_file *file, struct elf_header *ret);

/* One entry, widened: 0, -ENOEXEC, -EIO. Offsets in it may point anywhere. */
int elf_read_section(const struct elf_file *file, const struct elf_header *header, uint32_t index, Elf64_Shdr *ret);
int elf_read_program(const struct elf_file *file, const struct elf_header *header, uint32_t index, Elf64_Phdr *ret);

/* The first section named `name` (at most 31 bytes) that has bytes, all of them inside the file: 0 or -ENOENT. */
int elf_find_section(const struct elf_file *file, const struct elf_header *header, const char *name, Elf64_Shdr *ret);

#endif

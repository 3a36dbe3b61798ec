/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF headers, read one entry at a time. 32-bit headers are widened as they are read, so that nobody else has to know of them.
 *
 * Invariants: nothing at or past file->size is read; n_programs and n_sections are clamped, and their tables begin inside the file.
 * Format: System V ABI, chapter 4.
 */
#include "stacks/elf_file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM_HEADERS_MAX 128u
#define SECTIONS_MAX        16384u

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NATIVE_DATA ELFDATA2LSB
#else
#define NATIVE_DATA ELFDATA2MSB
#endif

int elf_read_at(const struct elf_file *file, uint64_t at, void *into, size_t size)
{
	if (at > file->size || size > file->size - at)
		return -ENOEXEC;
	if (file->bytes) {
		memcpy(into, file->bytes + at, size);
		return 0;
	}
	for (size_t done = 0; done < size;) {
		ssize_t n = pread(file->fd, (char *)into + done, size - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -EIO : -ENOEXEC;
		done += (size_t)n;
	}
	return 0;
}

int elf_read_section(const struct elf_file *file, const struct elf_header *header, uint32_t index, Elf64_Shdr *ret)
{
	if (index >= header->n_sections)
		return -ENOEXEC;
	if (header->wide)
		return elf_read_at(file, header->sections + (uint64_t)index * sizeof *ret, ret, sizeof *ret);

	Elf32_Shdr narrow;
	int r = elf_read_at(file, header->sections + (uint64_t)index * sizeof narrow, &narrow, sizeof narrow);

	if (r < 0)
		return r;
	*ret = (Elf64_Shdr){ .sh_name = narrow.sh_name,
			     .sh_type = narrow.sh_type,
			     .sh_flags = narrow.sh_flags,
			     .sh_addr = narrow.sh_addr,
			     .sh_offset = narrow.sh_offset,
			     .sh_size = narrow.sh_size,
			     .sh_link = narrow.sh_link,
			     .sh_entsize = narrow.sh_entsize };
	return 0;
}

int elf_read_program(const struct elf_file *file, const struct elf_header *header, uint32_t index, Elf64_Phdr *ret)
{
	if (index >= header->n_programs)
		return -ENOEXEC;
	if (header->wide)
		return elf_read_at(file, header->programs + (uint64_t)index * sizeof *ret, ret, sizeof *ret);

	Elf32_Phdr narrow;
	int r = elf_read_at(file, header->programs + (uint64_t)index * sizeof narrow, &narrow, sizeof narrow);

	if (r < 0)
		return r;
	*ret = (Elf64_Phdr){ .p_type = narrow.p_type,
			     .p_flags = narrow.p_flags,
			     .p_offset = narrow.p_offset,
			     .p_vaddr = narrow.p_vaddr,
			     .p_filesz = narrow.p_filesz,
			     .p_memsz = narrow.p_memsz,
			     .p_align = narrow.p_align };
	return 0;
}

static int read_header_narrow(const struct elf_file *file, struct elf_header *ret)
{
	Elf32_Ehdr h;
	int r = elf_read_at(file, 0, &h, sizeof h);

	if (r < 0)
		return r;
	ret->programs = h.e_phoff;
	ret->n_programs = h.e_phentsize == sizeof(Elf32_Phdr) ? h.e_phnum : 0;
	ret->sections = h.e_shoff;
	ret->n_sections = h.e_shoff && h.e_shentsize == sizeof(Elf32_Shdr) ? h.e_shnum : 0;
	ret->names = h.e_shstrndx;
	ret->machine = h.e_machine;
	return 0;
}

static int read_header_wide(const struct elf_file *file, struct elf_header *ret)
{
	Elf64_Ehdr h;
	int r = elf_read_at(file, 0, &h, sizeof h);

	if (r < 0)
		return r;
	ret->programs = h.e_phoff;
	ret->n_programs = h.e_phentsize == sizeof(Elf64_Phdr) ? h.e_phnum : 0;
	ret->sections = h.e_shoff;
	ret->n_sections = h.e_shoff && h.e_shentsize == sizeof(Elf64_Shdr) ? h.e_shnum : 0;
	ret->names = h.e_shstrndx;
	ret->machine = h.e_machine;
	return 0;
}

int elf_read_header(const struct elf_file *file, struct elf_header *ret)
{
	uint8_t ident[EI_NIDENT];
	int r = elf_read_at(file, 0, ident, sizeof ident);

	if (r < 0)
		return r;
	if (memcmp(ident, ELFMAG, SELFMAG) || ident[EI_DATA] != NATIVE_DATA)
		return -ENOEXEC;
	if (ident[EI_CLASS] != ELFCLASS64 && ident[EI_CLASS] != ELFCLASS32)
		return -ENOEXEC;
	ret->wide = ident[EI_CLASS] == ELFCLASS64;
	r = ret->wide ? read_header_wide(file, ret) : read_header_narrow(file, ret);
	if (r < 0)
		return r;
	if (ret->n_programs > PROGRAM_HEADERS_MAX)
		ret->n_programs = PROGRAM_HEADERS_MAX;
	if (ret->n_sections > SECTIONS_MAX)
		ret->n_sections = SECTIONS_MAX;
	/* Offsets so large that index arithmetic could wrap are no offsets into this file. */
	if (ret->programs > file->size)
		ret->n_programs = 0;
	if (ret->sections > file->size)
		ret->n_sections = 0;
	return 0;
}

int elf_find_section(const struct elf_file *file, const struct elf_header *header, const char *name, Elf64_Shdr *ret)
{
	size_t size = strlen(name) + 1;
	char text[32];
	Elf64_Shdr names, s;

	if (size > sizeof text || elf_read_section(file, header, header->names, &names) < 0 ||
	    names.sh_offset > file->size)
		return -ENOENT;
	for (uint32_t i = 0; i < header->n_sections; i++) {
		if (elf_read_section(file, header, i, &s) < 0)
			return -ENOENT;
		if (s.sh_type == SHT_NULL || s.sh_type == SHT_NOBITS || s.sh_name >= file->size - names.sh_offset)
			continue;
		if (elf_read_at(file, names.sh_offset + s.sh_name, text, size) < 0 || memcmp(text, name, size))
			continue;
		if (s.sh_offset > file->size || s.sh_size > file->size - s.sh_offset)
			return -ENOENT;
		*ret = s;
		return 0;
	}
	return -ENOENT;
}

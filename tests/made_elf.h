/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest ELF file that holds one section of given bytes beside its code, for tests and fuzzers. */
#ifndef SONDE_TESTS_MADE_ELF_H
#define SONDE_TESTS_MADE_ELF_H

#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MADE_ELF_EXTRA     1024u /* beyond the section's bytes */
#define MADE_ELF_TEXT      0x400000u
#define MADE_ELF_TEXT_SIZE 0x10000u

/* Writes it to into[size + MADE_ELF_EXTRA]; returns how many bytes. Its code lies at MADE_ELF_TEXT, from offset 0 on. */
static inline size_t made_elf(uint8_t *into, const char *section, const void *bytes, size_t size)
{
	char names[64] = "\0.text\0.shstrtab";
	const uint32_t own = 17;
	Elf64_Ehdr header = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			      .e_type = ET_EXEC,
			      .e_machine = EM_X86_64,
			      .e_version = EV_CURRENT,
			      .e_phoff = sizeof header,
			      .e_shoff = sizeof header + sizeof(Elf64_Phdr),
			      .e_ehsize = sizeof header,
			      .e_phentsize = sizeof(Elf64_Phdr),
			      .e_phnum = 1,
			      .e_shentsize = sizeof(Elf64_Shdr),
			      .e_shnum = 4,
			      .e_shstrndx = 2 };
	size_t at_names = header.e_shoff + 4 * sizeof(Elf64_Shdr), at = at_names + sizeof names;
	Elf64_Phdr program = { .p_type = PT_LOAD,
			       .p_flags = PF_R | PF_X,
			       .p_vaddr = MADE_ELF_TEXT,
			       .p_filesz = MADE_ELF_TEXT_SIZE,
			       .p_memsz = MADE_ELF_TEXT_SIZE };
	Elf64_Shdr sections[4] = {
		{ 0 },
		{ .sh_name = 1, .sh_type = SHT_PROGBITS, .sh_addr = MADE_ELF_TEXT, .sh_size = 16 },
		{ .sh_name = 7, .sh_type = SHT_STRTAB, .sh_offset = at_names, .sh_size = sizeof names },
		{ .sh_name = own, .sh_type = SHT_PROGBITS, .sh_addr = 0x800000, .sh_offset = at, .sh_size = size },
	};

	strncpy(names + own, section, sizeof names - own - 1);
	memcpy(into, &header, sizeof header);
	memcpy(into + header.e_phoff, &program, sizeof program);
	memcpy(into + header.e_shoff, sections, sizeof sections);
	memcpy(into + at_names, names, sizeof names);
	if (size)
		memcpy(into + at, bytes, size);
	return at + size;
}

#endif

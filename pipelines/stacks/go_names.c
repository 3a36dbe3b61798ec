/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layout (Go's runtime/symtab.go, debug/gosym/pclntab.go; a word is a pointer):
 *
 *	1.2	magic u32, 0, 0, quantum u8, word size u8, count word, then pairs { entry word, record word }; records and
 *		names count from the table's begin
 *	1.16	after the count: files, and the offsets of names, compilation units, files, values, pairs; records count
 *		from the pairs
 *	1.18	after the count: files, text start, and the offsets; pairs { entry u32, record u32 } count from the text
 *		start; 1.20 is the same with another magic
 *
 * Behind the last pair comes the end of the last function. A record begins with its entry again (word, since 1.18 u32),
 * then the name's place (u32).
 *
 * The text start: Go 1.26 no longer writes it, it is then word 22 of the module's description, .go.module; in a
 * position-independent program either may be left to a relocation.
 */
#include "stacks/go_names.h"

#include <errno.h>
#include <string.h>

#define MAGIC_12  0xfffffffbu
#define MAGIC_116 0xfffffffau
#define MAGIC_118 0xfffffff0u
#define MAGIC_120 0xfffffff1u

#define FUNCTIONS_MAX   4000000u
#define RELOCATIONS_MAX 4000000u
#define MODULE_TEXT     22u
#define HEADER_WORDS    8u

/* `size` bytes at `at` of the file through a window; NULL when they are not all there. */
static const uint8_t *see(struct go_names *go, unsigned window, uint64_t at, size_t size)
{
	if (at < go->windows[window].at || at - go->windows[window].at > go->windows[window].size ||
	    size > go->windows[window].size - (at - go->windows[window].at)) {
		if (at > go->end || size > go->end - at)
			return NULL;
		go->windows[window].at = at;
		go->windows[window].size = go->end - at < GO_WINDOW ? go->end - at : GO_WINDOW;
		if (elf_read_at(go->file, at, go->windows[window].bytes, (size_t)go->windows[window].size) < 0) {
			go->windows[window].size = 0;
			return NULL;
		}
	}
	return go->windows[window].bytes + (at - go->windows[window].at);
}

static uint64_t number(const uint8_t *at, unsigned size)
{
	uint32_t narrow;
	uint64_t wide;

	if (size == sizeof wide) {
		memcpy(&wide, at, sizeof wide);
		return wide;
	}
	memcpy(&narrow, at, sizeof narrow);
	return narrow;
}

/* What the loader will write at `address`: the addend of its relocation; 0 when there is none. */
static uint64_t relocated(const struct elf_file *file, const struct elf_header *header, uint64_t address)
{
	Elf64_Rela piece[128];
	Elf64_Shdr s;

	if (!header->wide ||
	    (elf_find_section(file, header, ".rela.dyn", &s) < 0 && elf_find_section(file, header, ".rela", &s) < 0))
		return 0;

	uint64_t count = s.sh_size / sizeof piece[0];

	if (count > RELOCATIONS_MAX)
		count = RELOCATIONS_MAX;
	for (uint64_t i = 0; i < count; i += 128) {
		size_t n = count - i < 128 ? (size_t)(count - i) : 128;

		if (elf_read_at(file, s.sh_offset + i * sizeof piece[0], piece, n * sizeof piece[0]) < 0)
			return 0;
		for (size_t k = 0; k < n; k++)
			if (piece[k].r_offset == address && !ELF64_R_SYM(piece[k].r_info))
				return (uint64_t)piece[k].r_addend;
	}
	return 0;
}

/* A pointer in the section, as the loader will leave it. */
static uint64_t pointer(const struct elf_file *file, const struct elf_header *header, const Elf64_Shdr *s,
			uint64_t offset, unsigned word)
{
	uint8_t bytes[8];
	uint64_t value;

	if (offset + word > s->sh_size || elf_read_at(file, s->sh_offset + offset, bytes, word) < 0)
		return 0;
	value = number(bytes, word);
	return value ? value : relocated(file, header, s->sh_addr + offset);
}

static uint64_t text_start(const struct elf_file *file, const struct elf_header *header, const Elf64_Shdr *table,
			   unsigned word)
{
	Elf64_Shdr s;
	uint64_t text = pointer(file, header, table, 8 + 2 * word, word);

	if (!text && elf_find_section(file, header, ".go.module", &s) == 0)
		text = pointer(file, header, &s, MODULE_TEXT * word, word);
	/* Right for what Go itself linked. */
	if (!text && elf_find_section(file, header, ".text", &s) == 0)
		text = s.sh_addr;
	return text;
}

static void locate(struct go_names *go, const Elf64_Shdr *table, const uint64_t *words, unsigned names,
		   unsigned functions)
{
	go->names = table->sh_offset + words[names];
	go->names_size = table->sh_size - words[names];
	go->functions = table->sh_offset + words[functions];
	go->records = go->functions;
}

static int read_layout(struct go_names *go, const struct elf_header *header, const Elf64_Shdr *table,
		       const uint8_t *head)
{
	uint64_t words[HEADER_WORDS];

	for (unsigned i = 0; i < HEADER_WORDS; i++) {
		words[i] = number(head + 8 + i * go->word, go->word);
		/* What is no offset here is checked below, or not used. */
		if (words[i] > table->sh_size && i > 2)
			words[i] = table->sh_size;
	}
	if (words[2] > table->sh_size)
		words[2] = table->sh_size;
	go->count = words[0] > FUNCTIONS_MAX ? 0 : (uint32_t)words[0];
	go->width = go->word;
	switch ((uint32_t)number(head, 4)) {
	case MAGIC_12:
		go->names = go->records = table->sh_offset;
		go->names_size = table->sh_size;
		go->functions = table->sh_offset + 8 + go->word;
		return 0;
	case MAGIC_116:
		locate(go, table, words, 2, 6);
		return 0;
	case MAGIC_118:
	case MAGIC_120:
		locate(go, table, words, 3, 7);
		go->width = 4;
		go->text = text_start(go->file, header, table, go->word);
		return go->text ? 0 : -ENOENT;
	default:
		return -ENOENT;
	}
}

int go_names_open(struct go_names *ret, const struct elf_file *file, const struct elf_header *header)
{
	uint8_t head[8 + HEADER_WORDS * 8] = { 0 };
	Elf64_Shdr table;

	memset(ret, 0, offsetof(struct go_names, windows));
	ret->windows[0].size = ret->windows[1].size = 0;
	ret->windows[0].at = ret->windows[1].at = 0;
	if (elf_find_section(file, header, ".gopclntab", &table) < 0 &&
	    elf_find_section(file, header, ".data.rel.ro.gopclntab", &table) < 0)
		return -ENOENT;
	if (table.sh_size < sizeof head || elf_read_at(file, table.sh_offset, head, sizeof head) < 0)
		return -ENOENT;
	if (head[4] || head[5] || (head[6] != 1 && head[6] != 2 && head[6] != 4) || (head[7] != 4 && head[7] != 8))
		return -ENOENT;
	ret->file = file;
	ret->word = head[7];
	ret->end = table.sh_offset + table.sh_size;
	return read_layout(ret, header, &table, head);
}

bool go_names_next(struct go_names *go, struct go_function *ret)
{
	while (go->next < go->count) {
		unsigned width = go->width;
		const uint8_t *pair = see(go, 0, go->functions + 2ull * width * go->next, 3 * width), *record;
		uint64_t entry, place, end;

		if (!pair)
			break;
		go->next++;
		entry = number(pair, width);
		place = number(pair + width, width);
		end = number(pair + 2 * width, width);
		record = place < go->end ? see(go, 1, go->records + place, width + 4) : NULL;
		if (!record || end <= entry)
			continue;
		*ret = (struct go_function){ go->text + entry, end - entry, (uint32_t)number(record + width, 4) };
		return true;
	}
	go->next = go->count;
	return false;
}

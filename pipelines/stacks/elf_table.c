/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading functions out of ELF. One pass over the program headers gives the executable segments and the build id, one
 * over the section headers the symbol tables; .symtab is taken when it names any function, else .dynsym. An entry is 12
 * bytes, names stay in the file and are read when asked for: the asker keeps them. Entries are sorted in place by
 * heapsort, which needs no memory and has no bad case. 32-bit files are widened as they are read.
 *
 * Invariants: nothing at or past file->size is read; loops are bounded by the *_MAX limits; symbols[] is sorted by
 * address, then rank. Format: System V ABI, chapters 4 and 5.
 */
#include "stacks/elf_table.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#define SYMBOLS_MAX 4000000u
#define NOTES_MAX   (16u << 10)
#define SIZE_BITS   28
#define SIZE_MASK   ((1u << SIZE_BITS) - 1)
/* How far a function without a size may reach; the next function ends it sooner. */
#define UNSIZED_REACH (64u << 10)

struct section {
	uint64_t offset, size;
	uint32_t link;
};

/* The build id among the notes at `offset`. Each note is { name size, description size, type } and both texts, padded.
 */
static void read_notes(const struct elf_file *file, uint64_t offset, uint64_t size, uint64_t align,
		       struct elf_table *table)
{
	uint64_t pad = align == 8 ? 7 : 3;
	Elf64_Nhdr note;

	if (size > NOTES_MAX)
		size = NOTES_MAX;
	for (uint64_t at = 0; at + sizeof note <= size;) {
		char owner[4];
		uint64_t body;

		if (elf_read_at(file, offset + at, &note, sizeof note) < 0)
			return;
		body = at + sizeof note + (((uint64_t)note.n_namesz + pad) & ~pad);
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && note.n_descsz && body < size &&
		    note.n_descsz <= size - body && note.n_descsz <= ELF_BUILD_ID_MAX &&
		    elf_read_at(file, offset + at + sizeof note, owner, 4) == 0 && !memcmp(owner, "GNU", 4)) {
			if (elf_read_at(file, offset + body, table->build_id, note.n_descsz) == 0)
				table->build_id_length = (uint8_t)note.n_descsz;
			return;
		}
		at = body + (((uint64_t)note.n_descsz + pad) & ~pad);
	}
}

static void read_programs(const struct elf_file *file, const struct elf_header *header, struct elf_table *table)
{
	for (uint32_t i = 0; i < header->n_programs; i++) {
		Elf64_Phdr p;

		if (elf_read_program(file, header, i, &p) < 0)
			return;
		if (p.p_type == PT_LOAD && (p.p_flags & PF_X) && table->n_loads < ELF_LOADS_MAX && p.p_filesz &&
		    p.p_filesz <= UINT32_MAX && p.p_vaddr <= UINT64_MAX - p.p_filesz)
			table->loads[table->n_loads++] = (struct elf_load){ p.p_offset, p.p_vaddr, p.p_filesz };
		if (p.p_type == PT_NOTE && !table->build_id_length && p.p_offset < file->size)
			read_notes(file, p.p_offset, p.p_filesz, p.p_align, table);
	}
}

/* The first section of `type` with its strings; false when there is none that is sane. */
static bool find_symbols(const struct elf_file *file, const struct elf_header *header, uint32_t type,
			 struct section *symbols, struct section *names)
{
	size_t entry = header->wide ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym);

	for (uint32_t i = 0; i < header->n_sections; i++) {
		Elf64_Shdr s, strings;

		if (elf_read_section(file, header, i, &s) < 0)
			return false;
		if (s.sh_type != type)
			continue;
		if (s.sh_entsize != entry || s.sh_offset > file->size || s.sh_size > file->size - s.sh_offset)
			return false;
		if (elf_read_section(file, header, s.sh_link, &strings) < 0 || strings.sh_offset > file->size)
			return false;
		*symbols = (struct section){ .offset = s.sh_offset, .size = s.sh_size };
		*names = (struct section){ .offset = strings.sh_offset, .size = strings.sh_size };
		if (names->size > file->size - names->offset)
			names->size = file->size - names->offset;
		return true;
	}
	return false;
}

static uint64_t symbols_in(const struct elf_header *header, const struct section *symbols)
{
	uint64_t count = symbols->size / (header->wide ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym));

	return count > SYMBOLS_MAX ? SYMBOLS_MAX : count;
}

int64_t elf_table_room(const struct elf_file *file)
{
	struct elf_header header;
	struct section symbols, names;
	uint64_t count = 0;
	int r = elf_read_header(file, &header);

	if (r < 0)
		return r;
	if (find_symbols(file, &header, SHT_SYMTAB, &symbols, &names))
		count = symbols_in(&header, &symbols);
	if (find_symbols(file, &header, SHT_DYNSYM, &symbols, &names) && symbols_in(&header, &symbols) > count)
		count = symbols_in(&header, &symbols);
	return (int64_t)(sizeof(struct elf_table) + count * sizeof(struct elf_symbol) + 8);
}

static bool in_loads(const struct elf_table *table, uint64_t address)
{
	for (unsigned i = 0; i < table->n_loads; i++)
		if (address >= table->loads[i].address && address - table->loads[i].address < table->loads[i].size)
			return true;
	return false;
}

/* Which of several names for one address is best: perf's order, a sized one before a label, strong before weak, global
 * before local. */
static uint32_t rank_of(const Elf64_Sym *s)
{
	unsigned bind = ELF64_ST_BIND(s->st_info);

	return (s->st_size ? 4u : 0u) | (bind != STB_WEAK ? 2u : 0u) | (bind == STB_GLOBAL ? 1u : 0u);
}

static bool is_function(const Elf64_Sym *s)
{
	unsigned type = ELF64_ST_TYPE(s->st_info);

	if (s->st_shndx == SHN_UNDEF || s->st_shndx == SHN_ABS || !s->st_name)
		return false;
	/* Assembly without a type: only global ones, as local labels are no functions. */
	return type == STT_FUNC || type == STT_GNU_IFUNC ||
	       (type == STT_NOTYPE && ELF64_ST_BIND(s->st_info) == STB_GLOBAL);
}

static void keep_symbol(struct elf_table *table, const Elf64_Sym *s, uint64_t names_size, uint32_t room)
{
	if (table->count >= room || !is_function(s) || s->st_name >= names_size || !in_loads(table, s->st_value))
		return;
	if (s->st_value < table->base || s->st_value - table->base > UINT32_MAX)
		return;

	uint32_t size = s->st_size > SIZE_MASK ? SIZE_MASK : (uint32_t)s->st_size;

	table->symbols[table->count++] = (struct elf_symbol){ .at = (uint32_t)(s->st_value - table->base),
							      .size = rank_of(s) << SIZE_BITS | size,
							      .name = s->st_name };
}

static int read_symbols(const struct elf_file *file, const struct elf_header *header, const struct section *symbols,
			uint64_t names_size, struct elf_table *table, uint32_t room)
{
	union {
		Elf64_Sym wide[256];
		Elf32_Sym narrow[256];
	} piece;
	size_t entry = header->wide ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym);
	uint64_t count = symbols_in(header, symbols);

	for (uint64_t i = 0; i < count; i += 256) {
		size_t n = count - i < 256 ? (size_t)(count - i) : 256;
		int r = elf_read_at(file, symbols->offset + i * entry, &piece, n * entry);

		if (r < 0)
			return r;
		for (size_t k = 0; k < n; k++) {
			Elf64_Sym s;

			if (header->wide)
				s = piece.wide[k];
			else
				s = (Elf64_Sym){ .st_name = piece.narrow[k].st_name,
						 .st_info = piece.narrow[k].st_info,
						 .st_shndx = piece.narrow[k].st_shndx,
						 .st_value = piece.narrow[k].st_value,
						 .st_size = piece.narrow[k].st_size };
			keep_symbol(table, &s, names_size, room);
		}
	}
	return 0;
}

static uint64_t sort_key(const struct elf_symbol *s)
{
	return (uint64_t)s->at << 32 | s->size;
}

static void sift_down(struct elf_symbol *heap, uint32_t root, uint32_t count)
{
	struct elf_symbol moving = heap[root];

	for (uint32_t child; (child = 2 * root + 1) < count; root = child) {
		if (child + 1 < count && sort_key(&heap[child]) < sort_key(&heap[child + 1]))
			child++;
		if (sort_key(&heap[child]) <= sort_key(&moving))
			break;
		heap[root] = heap[child];
	}
	heap[root] = moving;
}

static void sort_symbols(struct elf_symbol *symbols, uint32_t count)
{
	for (uint32_t i = count / 2; i-- > 0;)
		sift_down(symbols, i, count);
	for (uint32_t i = count; i-- > 1;) {
		struct elf_symbol top = symbols[0];

		symbols[0] = symbols[i];
		symbols[i] = top;
		sift_down(symbols, 0, i);
	}
}

int elf_table_build(const struct elf_file *file, void *room, size_t size)
{
	static const uint32_t types[] = { SHT_SYMTAB, SHT_DYNSYM };
	struct elf_table *table = room;
	struct elf_header header;
	int r;

	if (size < sizeof *table)
		return -ENOSPC;
	memset(table, 0, sizeof *table);
	r = elf_read_header(file, &header);
	if (r < 0)
		return r;
	read_programs(file, &header, table);
	table->base = UINT64_MAX;
	for (unsigned i = 0; i < table->n_loads; i++)
		if (table->loads[i].address < table->base)
			table->base = table->loads[i].address;

	uint64_t fits = (size - sizeof *table) / sizeof(struct elf_symbol);

	for (unsigned i = 0; i < 2 && !table->count && table->n_loads; i++) {
		struct section symbols, names;

		if (!find_symbols(file, &header, types[i], &symbols, &names))
			continue;
		table->names = names.offset;
		table->names_size = names.size;
		r = read_symbols(file, &header, &symbols, names.size, table,
				 fits > SYMBOLS_MAX ? SYMBOLS_MAX : (uint32_t)fits);
		if (r == -EIO)
			return r;
	}
	sort_symbols(table->symbols, table->count);
	return 0;
}

/* A name up to its NUL, its symbol version ("@@GLIBC_2.2.5") or ELF_NAME_MAX. Returns its length, 0 when unreadable. */
static int read_name(const struct elf_table *table, const struct elf_file *file, uint32_t name, char *text)
{
	uint64_t most = table->names_size - name;
	size_t want = most < ELF_NAME_MAX - 1 ? (size_t)most : ELF_NAME_MAX - 1;

	if (name >= table->names_size || elf_read_at(file, table->names + name, text, want) < 0)
		return 0;
	text[want] = 0;

	size_t length = strcspn(text, "@");

	text[length] = 0;
	return (int)length;
}

static bool covers(const struct elf_symbol *s, uint32_t at)
{
	uint32_t size = s->size & SIZE_MASK;

	return at - s->at < (size ? size : UNSIZED_REACH);
}

/* The best covering function. The nearest that covers wins, as functions do not overlap but for aliases. A label
 * without a size covers only up to the next function, so it counts only as the nearest. */
static const struct elf_symbol *find_symbol(const struct elf_table *table, uint32_t at)
{
	uint32_t low = 0, high = table->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (table->symbols[middle].at <= at)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return NULL;

	uint32_t nearest = table->symbols[low - 1].at;

	for (uint32_t i = low; i-- > 0 && low - i <= 64;) {
		const struct elf_symbol *s = &table->symbols[i];

		if (!(s->size & SIZE_MASK) && s->at != nearest)
			continue;
		if (covers(s, at))
			return s;
	}
	return NULL;
}

static size_t underscores(const char *name)
{
	return strspn(name, "_");
}

/* Among aliases of one rank, the name with the fewest underscores in front: `write`, not `__write`. */
static int best_name(const struct elf_table *table, const struct elf_file *file, const struct elf_symbol *s, char *name)
{
	char other[ELF_NAME_MAX];
	int length = read_name(table, file, s->name, name);

	for (unsigned tries = 0; tries < 8 && s > table->symbols; tries++) {
		const struct elf_symbol *alias = s - 1 - tries;

		if (alias < table->symbols || alias->at != s->at || alias->size != s->size)
			break;

		int n = read_name(table, file, alias->name, other);

		if (n > 0 && (length <= 0 || underscores(other) < underscores(name))) {
			memcpy(name, other, (size_t)n + 1);
			length = n;
		}
	}
	return length;
}

int elf_table_find(const struct elf_table *table, const struct elf_file *file, uint64_t offset, char *name,
		   uint32_t *ret_delta)
{
	for (unsigned i = 0; i < table->n_loads; i++) {
		const struct elf_load *load = &table->loads[i];

		if (offset < load->offset || offset - load->offset >= load->size)
			continue;

		uint64_t at = load->address + (offset - load->offset) - table->base;
		const struct elf_symbol *s = at <= UINT32_MAX ? find_symbol(table, (uint32_t)at) : NULL;

		if (!s)
			continue;

		int length = best_name(table, file, s, name);

		if (length <= 0)
			return -ENOENT;
		*ret_delta = (uint32_t)at - s->at;
		return length;
	}
	return -ENOENT;
}

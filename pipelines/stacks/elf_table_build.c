/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building the table. One pass over the program headers gives the executable segments and the build id, one over the
 * section headers each symbol table. Symbols fill the room from the front. Names stay in the file where they are to be had
 * from it when asked for; those of a debug file and of .gnu_debugdata are copied, from the back of the room:
 *
 *	[ header | symbol symbol ... -> free <- ... name name ]
 *
 * In the end the symbols are sorted in place and the names move behind them. 32-bit files are widened as they are read.
 *
 * Invariants: nothing at or past file->size is read; loops are bounded by the *_MAX limits; symbols[] is sorted by
 * address, then rank. Format: System V ABI, chapters 4 and 5.
 */
#include "stacks/elf_table.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/heap_sort.h"
#include "stacks/elf_symbol.h"
#include "stacks/go_names.h"
#include "stacks/xz.h"

#define SYMBOLS_MAX  4000000u
#define NOTES_MAX    (16u << 10)
#define NAMES_WINDOW 4096u

struct section {
	uint64_t offset, size;
};

/* The symbols of one file. */
struct source {
	const struct elf_file *file;
	struct elf_header header;
	enum elf_names_of names_of;
	struct section symbols, names;
};

struct builder {
	struct elf_table *table;
	uint8_t *room;
	size_t size; /* of the room */
	/* A piece of a file's names, for copying them. */
	uint64_t window_at;
	size_t window_size;
	char window[NAMES_WINDOW];
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
static bool find_symbols(struct source *source, uint32_t type)
{
	const struct elf_file *file = source->file;
	const struct elf_header *header = &source->header;
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
		source->symbols = (struct section){ .offset = s.sh_offset, .size = s.sh_size };
		source->names = (struct section){ .offset = strings.sh_offset, .size = strings.sh_size };
		if (source->names.size > file->size - strings.sh_offset)
			source->names.size = file->size - strings.sh_offset;
		return true;
	}
	return false;
}

static uint64_t symbols_in(const struct source *source)
{
	uint64_t count = source->symbols.size / (source->header.wide ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym));

	return count > SYMBOLS_MAX ? SYMBOLS_MAX : count;
}

static bool in_loads(const struct elf_table *table, uint64_t address)
{
	for (unsigned i = 0; i < table->n_loads; i++)
		if (address >= table->loads[i].address && address - table->loads[i].address < table->loads[i].size)
			return true;
	return false;
}

/* Which of several names for one address is best: a sized one before a label, one that others can call it by before a local one. A weak
 * name is as good as a strong one: `read` is weak, __libc_read is strong. */
static uint32_t rank_of(const Elf64_Sym *s)
{
	return (s->st_size ? 2u : 0u) | (ELF64_ST_BIND(s->st_info) != STB_LOCAL ? 1u : 0u);
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

/* ---- names ---- */

/* The name at `place` of the source's strings, up to its NUL or symbol version, through the window. Returns its length. */
static size_t see_name(struct builder *b, const struct source *source, uint32_t place, const char **ret)
{
	uint64_t left = source->names.size - place;
	size_t want = left < ELF_LINKAGE_MAX ? (size_t)left : ELF_LINKAGE_MAX, have, length;

	if (place < b->window_at || place - b->window_at >= b->window_size)
		b->window_size = 0;
	have = b->window_size ? b->window_size - (size_t)(place - b->window_at) : 0;
	if (!have || (have < want && !memchr(b->window + (place - b->window_at), 0, have))) {
		b->window_size = left < NAMES_WINDOW ? (size_t)left : NAMES_WINDOW;
		b->window_at = place;
		if (elf_read_at(source->file, source->names.offset + place, b->window, b->window_size) < 0) {
			b->window_size = 0;
			return 0;
		}
		have = b->window_size;
	}
	*ret = b->window + (place - b->window_at);
	length = strnlen(*ret, have < want ? have : want);
	if (memchr(*ret, '@', length))
		length = (size_t)((const char *)memchr(*ret, '@', length) - *ret);
	return length;
}

static size_t room_left(const struct builder *b)
{
	return b->size - sizeof *b->table - b->table->count * sizeof b->table->symbols[0] - b->table->pool;
}

/* Adds a function, whose name is pool[length] when it is to be copied. */
static void add(struct builder *b, uint64_t address, uint32_t size, uint32_t name, const char *pool, size_t length)
{
	struct elf_table *table = b->table;
	size_t needed = sizeof table->symbols[0] + (pool ? length + 1 : 0);

	if (address < table->base || address - table->base > UINT32_MAX || !in_loads(table, address))
		return;
	if (room_left(b) < needed || table->count == SYMBOLS_MAX || (pool && table->pool + length >= ELF_NAME_MASK)) {
		table->left_out++;
		return;
	}
	if (pool) {
		table->pool += (uint32_t)length + 1;

		uint8_t *text = b->room + b->size - table->pool;

		memcpy(text, pool, length);
		text[length] = 0;
		/* From the room's end, for now. */
		name = (uint32_t)ELF_NAMES_POOL << ELF_NAME_BITS | table->pool;
	}
	table->symbols[table->count++] =
		(struct elf_symbol){ .at = (uint32_t)(address - table->base), .size = size, .name = name };
}

static void add_symbol(struct builder *b, const struct source *source, const Elf64_Sym *s)
{
	uint32_t size = s->st_size > ELF_SIZE_MASK ? ELF_SIZE_MASK : (uint32_t)s->st_size;
	const char *pool = NULL;
	size_t length = 0;

	if (!is_function(s) || s->st_name >= source->names.size || s->st_name > ELF_NAME_MASK ||
	    !in_loads(b->table, s->st_value))
		return;
	if (source->names_of == ELF_NAMES_POOL) {
		length = see_name(b, source, s->st_name, &pool);
		if (!length)
			return;
	}
	add(b, s->st_value, rank_of(s) << ELF_SIZE_BITS | size,
	    (uint32_t)source->names_of << ELF_NAME_BITS | s->st_name, pool, length);
}

/* ---- sources ---- */

static int read_symbols(struct builder *b, const struct source *source)
{
	union {
		Elf64_Sym wide[256];
		Elf32_Sym narrow[256];
	} piece;
	size_t entry = source->header.wide ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym);
	uint64_t count = symbols_in(source);

	b->window_size = 0;
	if (source->names_of < ELF_NAMES_POOL)
		b->table->names[source->names_of] = (struct elf_strings){ source->names.offset, source->names.size };
	for (uint64_t i = 0; i < count; i += 256) {
		size_t n = count - i < 256 ? (size_t)(count - i) : 256;
		int r = elf_read_at(source->file, source->symbols.offset + i * entry, &piece, n * entry);

		if (r < 0)
			return r;
		for (size_t k = 0; k < n; k++) {
			Elf64_Sym s;

			if (source->header.wide)
				s = piece.wide[k];
			else
				s = (Elf64_Sym){ .st_name = piece.narrow[k].st_name,
						 .st_info = piece.narrow[k].st_info,
						 .st_shndx = piece.narrow[k].st_shndx,
						 .st_value = piece.narrow[k].st_value,
						 .st_size = piece.narrow[k].st_size };
			add_symbol(b, source, &s);
		}
	}
	return 0;
}

/* The symbol table of `type`: 0 also when there is none, or it ends too soon; -EIO. */
static int take_symbols(struct builder *b, struct source *source, uint32_t type, enum elf_names_of names_of)
{
	int r;

	if (!find_symbols(source, type))
		return 0;
	source->names_of = names_of;
	r = read_symbols(b, source);
	return r == -EIO ? r : 0;
}

/* A file of another build would name everything wrong. */
static bool is_same_build(const struct elf_table *table, const struct elf_file *file, const struct elf_header *header)
{
	struct elf_table other = { 0 };

	read_programs(file, header, &other);
	return !table->build_id_length || !other.build_id_length ||
	       (table->build_id_length == other.build_id_length &&
		!memcmp(table->build_id, other.build_id, table->build_id_length));
}

static int take_debug(struct builder *b, const struct elf_sources *sources)
{
	struct source source = { .file = sources->debug };
	int r;

	if (!source.file || elf_read_header(source.file, &source.header) < 0 ||
	    !is_same_build(b->table, source.file, &source.header))
		return 0;
	r = take_symbols(b, &source, SHT_SYMTAB, sources->debug_stays ? ELF_NAMES_SYMTAB : ELF_NAMES_POOL);
	b->table->names_in_debug = sources->debug_stays && b->table->count;
	return r;
}

static int take_debugdata(struct builder *b, const struct source *main, const struct elf_sources *sources)
{
	struct elf_file unpacked;
	struct source source = { .file = &unpacked };
	Elf64_Shdr s;
	int r;

	if (!sources->scratch || elf_find_section(main->file, &main->header, ".gnu_debugdata", &s) < 0)
		return 0;
	r = xz_unpack(main->file, s.sh_offset, s.sh_size, sources->scratch, sources->scratch_size, &unpacked);
	if (r < 0)
		return r == -EIO ? r : 0;
	if (elf_read_header(&unpacked, &source.header) < 0)
		return 0;
	return take_symbols(b, &source, SHT_SYMTAB, ELF_NAMES_POOL);
}

static void take_go(struct builder *b, const struct source *main)
{
	struct go_names go;
	struct go_function f;

	if (go_names_open(&go, main->file, &main->header) < 0)
		return;
	b->table->names[ELF_NAMES_GO] = (struct elf_strings){ go.names, go.names_size };
	while (go_names_next(&go, &f)) {
		uint32_t size = f.size > ELF_SIZE_MASK ? ELF_SIZE_MASK : (uint32_t)f.size;

		if (f.name <= ELF_NAME_MASK)
			add(b, f.address, ELF_RANK_BEST << ELF_SIZE_BITS | size,
			    (uint32_t)ELF_NAMES_GO << ELF_NAME_BITS | f.name, NULL, 0);
	}
}

/* Whether a source named any function, fit or not. */
static bool is_named(const struct elf_table *table)
{
	return table->count || table->left_out;
}

static int take_all(struct builder *b, struct source *main, const struct elf_sources *sources)
{
	int r = take_symbols(b, main, SHT_SYMTAB, ELF_NAMES_SYMTAB);

	if (r < 0 || is_named(b->table))
		return r;
	r = take_debug(b, sources);
	if (r < 0 || is_named(b->table))
		return r;
	r = take_debugdata(b, main, sources);
	if (r < 0)
		return r;
	take_go(b, main);
	return take_symbols(b, main, SHT_DYNSYM, ELF_NAMES_DYNSYM);
}

/* ---- the table ---- */

static uint64_t room_of_symbols(struct source *source, uint32_t type, bool names)
{
	if (!find_symbols(source, type))
		return 0;
	return symbols_in(source) * sizeof(struct elf_symbol) + (names ? source->names.size : 0);
}

/* Of what is unpacked, a symbol is at least as large as its entry here. */
static uint64_t room_of_debugdata(const struct source *main, const struct elf_sources *sources)
{
	int64_t unpacked;
	Elf64_Shdr s;

	if (!sources->scratch || elf_find_section(main->file, &main->header, ".gnu_debugdata", &s) < 0)
		return 0;
	unpacked = xz_size(main->file, s.sh_offset, s.sh_size);
	return unpacked > 0 && (uint64_t)unpacked <= sources->scratch_size ? (uint64_t)unpacked : 0;
}

static uint64_t room_of_go(const struct source *main)
{
	struct go_names go;

	return go_names_open(&go, main->file, &main->header) < 0 ? 0 : go.count * sizeof(struct elf_symbol);
}

int64_t elf_table_room_of(const struct elf_sources *sources)
{
	struct source main = { .file = sources->file }, debug = { .file = sources->debug };
	int r = elf_read_header(sources->file, &main.header);
	uint64_t room, other = 0;

	if (r < 0)
		return r;
	room = room_of_symbols(&main, SHT_SYMTAB, false);
	if (!room) {
		if (sources->debug && elf_read_header(sources->debug, &debug.header) == 0)
			other = room_of_symbols(&debug, SHT_SYMTAB, !sources->debug_stays);
		room = room_of_symbols(&main, SHT_DYNSYM, false) + room_of_debugdata(&main, sources) +
		       room_of_go(&main);
	}
	if (room < other)
		room = other;
	return (int64_t)(sizeof(struct elf_table) + room + 16);
}

static uint64_t sort_key(const void *element)
{
	const struct elf_symbol *s = element;

	return (uint64_t)s->at << 32 | s->size;
}

static void finish(struct builder *b)
{
	struct elf_table *table = b->table;

	heap_sort(table->symbols, table->count, sizeof table->symbols[0], sort_key);
	/* The pool moves behind the symbols: places from its end become places in it. */
	for (uint32_t i = 0; i < table->count && table->pool; i++) {
		uint32_t name = table->symbols[i].name;

		if (name >> ELF_NAME_BITS == ELF_NAMES_POOL)
			table->symbols[i].name =
				(uint32_t)ELF_NAMES_POOL << ELF_NAME_BITS | (table->pool - (name & ELF_NAME_MASK));
	}
	memmove(&table->symbols[table->count], b->room + b->size - table->pool, table->pool);
}

int elf_table_build_of(const struct elf_sources *sources, void *room, size_t size)
{
	struct source main = { .file = sources->file };
	struct builder b = { .table = room, .room = room, .size = size };
	struct elf_table *table = room;
	int r;

	if (size < sizeof *table)
		return -ENOSPC;
	memset(table, 0, sizeof *table);
	r = elf_read_header(sources->file, &main.header);
	if (r < 0)
		return r;
	read_programs(sources->file, &main.header, table);
	table->base = UINT64_MAX;
	for (unsigned i = 0; i < table->n_loads; i++)
		if (table->loads[i].address < table->base)
			table->base = table->loads[i].address;
	if (!table->n_loads || size < sizeof *table + sizeof table->symbols[0])
		return 0;
	r = take_all(&b, &main, sources);
	if (r < 0)
		return r;
	finish(&b);
	return 0;
}

int64_t elf_table_room(const struct elf_file *file)
{
	return elf_table_room_of(&(struct elf_sources){ .file = file });
}

int elf_table_build(const struct elf_file *file, void *room, size_t size)
{
	return elf_table_build_of(&(struct elf_sources){ .file = file }, room, size);
}

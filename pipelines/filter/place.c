/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a filter into an object file: over the first instructions of a function, whose symbol then has the filter's length.
 *
 * The whole room of the function is found again when another filter is placed: it ends where the next function begins, or the
 * section does. So nothing has to be remembered, and a shorter filter can be followed by a longer one.
 */
#include "filter/filter.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

struct object {
	uint8_t *image;
	size_t size;
	Elf64_Ehdr head;
	struct fault *fault;
	const char *function;
};

/* Copies `n` bytes at `at`, if they are inside. */
static bool read_at(const struct object *o, uint64_t at, void *to, size_t n)
{
	if (at > o->size || n > o->size - at)
		return false;
	memcpy(to, o->image + at, n);
	return true;
}

static int damaged(const struct object *o, const char *what)
{
	return fault_set(o->fault, -ENOEXEC, "the filter '%.64s' cannot be placed: %s", o->function, what);
}

static int open_object(struct object *o)
{
	static const uint8_t magic[] = {
		ELFMAG0,
		ELFMAG1,
		ELFMAG2,
		ELFMAG3,
		ELFCLASS64,
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
		ELFDATA2LSB
#else
		ELFDATA2MSB
#endif
	};

	if (!read_at(o, 0, &o->head, sizeof o->head) || memcmp(o->head.e_ident, magic, sizeof magic) ||
	    o->head.e_machine != EM_BPF || o->head.e_shentsize != sizeof(Elf64_Shdr))
		return damaged(o, "this is no object file of eBPF");
	return 0;
}

static bool read_section(const struct object *o, uint64_t index, Elf64_Shdr *ret)
{
	return index < o->head.e_shnum && o->head.e_shoff < o->size &&
	       read_at(o, o->head.e_shoff + index * sizeof *ret, ret, sizeof *ret) &&
	       (ret->sh_type == SHT_NOBITS || (ret->sh_offset <= o->size && ret->sh_size <= o->size - ret->sh_offset));
}

static int find_symbols(const struct object *o, Elf64_Shdr *ret, Elf64_Shdr *ret_names)
{
	for (uint64_t i = 0; i < o->head.e_shnum; i++)
		if (read_section(o, i, ret) && ret->sh_type == SHT_SYMTAB && ret->sh_entsize == sizeof(Elf64_Sym))
			return read_section(o, ret->sh_link, ret_names) && ret_names->sh_type == SHT_STRTAB
				       ? 0
				       : damaged(o, "its symbols have no names");
	return damaged(o, "it has no symbols");
}

static uint64_t symbol_count(const Elf64_Shdr *symbols)
{
	return symbols->sh_size / sizeof(Elf64_Sym);
}

static void read_symbol(const struct object *o, const Elf64_Shdr *symbols, uint64_t i, Elf64_Sym *ret)
{
	memcpy(ret, o->image + symbols->sh_offset + i * sizeof *ret, sizeof *ret);
}

static bool has_name(const struct object *o, const Elf64_Shdr *names, const Elf64_Sym *symbol)
{
	size_t n = strlen(o->function) + 1;

	return symbol->st_name < names->sh_size && n <= names->sh_size - symbol->st_name &&
	       memcmp(o->image + names->sh_offset + symbol->st_name, o->function, n) == 0;
}

static bool is_function(const Elf64_Sym *symbol)
{
	return ELF64_ST_TYPE(symbol->st_info) == STT_FUNC;
}

/* Where the room of the function ends, in its section. */
static uint64_t room_end(const struct object *o, const Elf64_Shdr *symbols, const Elf64_Sym *function, uint64_t end)
{
	for (uint64_t i = 0; i < symbol_count(symbols); i++) {
		Elf64_Sym other;

		read_symbol(o, symbols, i, &other);
		if (is_function(&other) && other.st_shndx == function->st_shndx &&
		    other.st_value > function->st_value && other.st_value < end)
			end = other.st_value;
	}
	return end;
}

static int write_filter(const struct object *o, const Elf64_Shdr *symbols, uint64_t index, const Elf64_Sym *function,
			const struct bpf_insn *insns, size_t n)
{
	Elf64_Sym changed = *function;
	Elf64_Shdr code;
	uint64_t room;

	if (!read_section(o, function->st_shndx, &code) || code.sh_type != SHT_PROGBITS ||
	    function->st_value >= code.sh_size || function->st_value % sizeof *insns)
		return damaged(o, "its function lies outside of the code");
	room = (room_end(o, symbols, function, code.sh_size) - function->st_value) / sizeof *insns;
	if (n > room)
		return fault_set(o->fault, -E2BIG,
				 "the filter '%.64s' has %zu instructions, and in the program there is room for %llu; "
				 "shorten it",
				 o->function, n, (unsigned long long)room);
	memcpy(o->image + code.sh_offset + function->st_value, insns, n * sizeof *insns);
	changed.st_size = n * sizeof *insns;
	memcpy(o->image + symbols->sh_offset + index * sizeof changed, &changed, sizeof changed);
	return 0;
}

int filter_place(void *image, size_t size, const char *name, const struct bpf_insn *insns, size_t n,
		 struct fault *fault)
{
	struct object o = { .image = image, .size = size, .fault = fault, .function = name };
	Elf64_Shdr symbols, names;
	int r = open_object(&o);

	if (r == 0)
		r = find_symbols(&o, &symbols, &names);
	if (r < 0)
		return r;
	for (uint64_t i = 0; i < symbol_count(&symbols); i++) {
		Elf64_Sym symbol;

		read_symbol(&o, &symbols, i, &symbol);
		if (is_function(&symbol) && has_name(&o, &names, &symbol))
			return write_filter(&o, &symbols, i, &symbol, insns, n);
	}
	return fault_set(fault, -ENOENT, "there is no function '%.64s' in the object to place a filter in", name);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layout (Go's internal/abi, runtime/symtab.go, cmd/link/internal/ld/pcln.go):
 *
 *	header: magic u32, 0, 0, quantum u8, word size u8, then words: functions, files, text start, and the offsets of
 *	        names, compilation units, files, values, functions
 *	functions: { entry u32, record u32 } each, then the end u32; entries count from the text start
 *	record: entry, name, args, deferreturn, pcsp, pcfile, pcln, npcdata, cu (and, since 1.20, start line), function id u8, flags u8
 *	values: pairs of LEB128 { zigzag change of value, change of pc in quanta }; a change of 0 ends the list, but as its first
 *
 * Go 1.26 no longer fills in the text start; it is then the word 22 of the module's own description, .go.module, or, where a
 * relocation will fill that too, the begin of .text, which is right for what Go itself linked.
 */
#include "stacks/unwind_go.h"

#include <errno.h>

#include "base/base.h"
#include "stacks/unwind_bytes.h"

#define MAGIC_118     0xfffffff0u
#define MAGIC_120     0xfffffff1u
#define FUNCTIONS_MAX 4000000u
#define RUNS_MAX      20000u
#define RUN_BYTES     512u
#define MODULE_TEXT   22u

#define FLAG_TOP_FRAME 1u
#define FLAG_SP_WRITE  2u
#define FLAG_ASSEMBLY  4u

struct function {
	uint64_t begin, end;
	uint64_t values; /* offset in the file of how far its stack pointer moved; 0: it does not */
	uint32_t name;
	uint8_t flags;
};

static uint64_t text_start(const struct elf_file *file, const struct elf_header *header, uint64_t written)
{
	Elf64_Shdr s;
	uint64_t text = 0;

	if (written)
		return written;
	if (elf_find_section(file, header, ".go.module", &s) == 0 && s.sh_size >= (MODULE_TEXT + 1) * sizeof text &&
	    elf_read_at(file, s.sh_offset + MODULE_TEXT * sizeof text, &text, sizeof text) == 0 && text)
		return text;
	return elf_find_section(file, header, ".text", &s) == 0 ? s.sh_addr : 0;
}

int go_find(const struct elf_file *file, const struct elf_header *header, struct go_table *ret)
{
	uint8_t head[8 + 8 * 8];
	struct unwind_bytes b = { head, head + sizeof head, false };
	uint64_t words[8];
	uint32_t magic;
	Elf64_Shdr s;

	if (elf_find_section(file, header, ".gopclntab", &s) < 0 &&
	    elf_find_section(file, header, ".data.rel.ro.gopclntab", &s) < 0)
		return -ENOENT;
	if (s.sh_size < sizeof head || elf_read_at(file, s.sh_offset, head, sizeof head) < 0)
		return -ENOENT;
	magic = (uint32_t)bytes_unsigned(&b, 4);
	if ((magic != MAGIC_118 && magic != MAGIC_120) || head[7] != 8 || !head[6])
		return -ENOENT;
	bytes_take(&b, 4);
	for (unsigned i = 0; i < 8; i++)
		words[i] = bytes_unsigned(&b, 8);
	if (words[0] > FUNCTIONS_MAX || words[3] > s.sh_size || words[6] > s.sh_size || words[7] > s.sh_size)
		return -ENOENT;
	*ret = (struct go_table){ .offset = s.sh_offset,
				  .size = s.sh_size,
				  .text = text_start(file, header, words[2]),
				  .functions = s.sh_offset + words[7],
				  .names = s.sh_offset + words[3],
				  .values = s.sh_offset + words[6],
				  .count = (uint32_t)words[0],
				  .quantum = head[6],
				  .has_line = magic == MAGIC_120 };
	return 0;
}

void go_open(struct go_reader *r, struct unwind_builder *builder, const struct elf_file *file,
	     const struct go_table *table)
{
	struct cfi_window *windows[] = { &r->functions, &r->values, &r->names };

	r->builder = builder;
	r->table = *table;
	for (unsigned i = 0; i < ARRAY_SIZE(windows); i++)
		*windows[i] = (struct cfi_window){ .file = file, .most = sizeof r->bytes[i], .bytes = r->bytes[i] };
}

void go_announce(struct go_reader *r)
{
	for (uint32_t i = 0; i < r->table.count; i++) {
		const uint8_t *at = cfi_window_get(&r->functions, r->table.functions + 8ull * i, 8);
		struct unwind_bytes b = { at, at + 8, false };

		if (!at)
			return;
		unwind_builder_announce(r->builder, r->table.text + bytes_unsigned(&b, 4), UNWIND_GO, i);
	}
}

static bool read_function(struct go_reader *r, uint64_t index, struct function *ret)
{
	const struct go_table *t = &r->table;
	size_t size = t->has_line ? 44 : 40;
	const uint8_t *at = cfi_window_get(&r->functions, t->functions + 8 * index, 12);
	struct unwind_bytes b = { at, at + 12, false };
	uint64_t record, values;

	if (index >= t->count || !at)
		return false;
	ret->begin = t->text + bytes_unsigned(&b, 4);
	record = bytes_unsigned(&b, 4);
	ret->end = t->text + bytes_unsigned(&b, 4);
	at = cfi_window_get(&r->names, t->functions + record, size);
	if (!at)
		return false;
	b = (struct unwind_bytes){ at, at + size, false };
	bytes_take(&b, 4);
	ret->name = (uint32_t)bytes_unsigned(&b, 4);
	bytes_take(&b, 8);
	values = bytes_unsigned(&b, 4);
	ret->values = values ? t->values + values : 0;
	ret->flags = at[size - 3];
	return true;
}

static bool is_named(struct go_reader *r, const struct function *f, const char *name)
{
	size_t size = strlen(name) + 1;
	const uint8_t *at = cfi_window_get(&r->names, r->table.names + f->name, size);

	return at && !memcmp(at, name, size);
}

/* Where things are once the stack pointer has moved by `depth`. */
static int recipe_of(struct unwind_builder *b, uint32_t depth, uint8_t flags)
{
	const struct unwind_arch *arch = b->arch;
	struct unwind_rule list[2];
	uint32_t count = 0;
	int rules;

	if (arch->link && depth) {
		list[count++] = (struct unwind_rule){ arch->fp, UNWIND_RULE_AT, (uint16_t) - (int)(depth + 8) };
		list[count++] = (struct unwind_rule){ arch->return_column, UNWIND_RULE_AT,
						      (uint16_t)(arch->go.link_from_sp - (int)depth) };
		if (depth > 32000)
			list[0].kind = list[1].kind = UNWIND_RULE_UNDEFINED;
	} else if (arch->link) {
		list[count++] = (struct unwind_rule){ arch->return_column, UNWIND_RULE_SAME, 0 };
	} else {
		if (depth)
			list[count++] =
				(struct unwind_rule){ arch->fp, UNWIND_RULE_AT, (uint16_t)arch->go.fp_from_cfa };
		list[count++] =
			(struct unwind_rule){ arch->return_column, UNWIND_RULE_AT, (uint16_t)-arch->call_bytes };
	}
	rules = unwind_builder_rules(b, list, count);
	if (rules < 0)
		return -1;
	return unwind_builder_recipe(b, (struct unwind_recipe){ .offset = (int32_t)depth + arch->call_bytes,
								.reg = arch->sp,
								.flags = flags,
								.rules = (uint16_t)rules });
}

static void put(struct unwind_builder *b, uint64_t at, int recipe)
{
	unwind_builder_row(b, at, recipe < 0 ? UNWIND_NO_RECIPE : (uint16_t)recipe);
}

/* One { change of value, change of pc } off the file. */
static bool read_run(struct go_reader *r, uint64_t *at, bool first, int32_t *value, uint64_t *pc)
{
	const uint8_t *bytes = cfi_window_get(&r->values, *at, 10);
	struct unwind_bytes b = { bytes, bytes + 10, false };
	uint32_t change;

	if (!bytes)
		return false;
	change = (uint32_t)bytes_uleb(&b);
	if (!change && !first)
		return false;
	*value = (int32_t)((uint32_t)*value + (change >> 1 ^ (0 - (change & 1))));
	*pc += (uint32_t)bytes_uleb(&b) * (uint64_t)r->table.quantum;
	*at += (uint64_t)(b.at - bytes);
	return !b.bad;
}

static void describe_depth(struct go_reader *r, const struct function *f)
{
	uint64_t pc = f->begin, next = f->begin, at = f->values;
	int32_t depth = -1;

	if (!at) {
		put(r->builder, pc, recipe_of(r->builder, 0, 0));
		return;
	}
	for (uint32_t n = 0; n < RUNS_MAX && pc < f->end && read_run(r, &at, n == 0, &depth, &next); n++, pc = next)
		put(r->builder, pc,
		    depth >= 0 && depth <= INT32_MAX / 2 ? recipe_of(r->builder, (uint32_t)depth, 0) : -1);
	if (pc < f->end)
		put(r->builder, pc, -1);
}

void go_describe(struct go_reader *r, uint64_t index)
{
	struct function f;
	uint8_t flags = 0;

	if (!read_function(r, index, &f) || !unwind_builder_begin(r->builder, f.begin, f.end))
		return;
	/* Functions in assembly that change stacks: who called them lies on another one. mcall() never returns to its caller. */
	if (f.flags & FLAG_TOP_FRAME || (f.flags & FLAG_SP_WRITE && is_named(r, &f, "runtime.mcall")))
		flags = UNWIND_END;
	else if (f.flags & FLAG_SP_WRITE)
		flags = UNWIND_SWITCH;
	if (flags)
		put(r->builder, f.begin, recipe_of(r->builder, 0, flags));
	else if (f.flags & FLAG_ASSEMBLY &&
		 (is_named(r, &f, "runtime.sigreturn__sigaction") || is_named(r, &f, "runtime.sigreturn")))
		put(r->builder, f.begin, unwind_builder_sigreturn(r->builder));
	else
		describe_depth(r, &f);
}

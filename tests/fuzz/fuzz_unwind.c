/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as an ELF file, any registers and any stack: the table that comes of the file keeps its invariants, and the walk over it stays
 * within the stack. Input: { room u8 | flags u8 | slice u16 | registers | slice | file }; the pc is an offset into the file's mapping.
 */
#include <stdlib.h>
#include <string.h>

#include "stacks/unwind_arch.h"
#include "stacks/unwind_rows.h"

#define MAPPED_AT 0x400000ull
#define STACK_AT  0x7ffffff00000ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_rows(const struct unwind_table *t, const struct unwind_parts *p)
{
	uint64_t last = 0;

	for (uint32_t bucket = 0; bucket < t->n_buckets; bucket++) {
		require(p->buckets[bucket] <= p->buckets[bucket + 1]);
		for (uint32_t i = p->buckets[bucket]; i < p->buckets[bucket + 1]; i++) {
			uint64_t at = (uint64_t)bucket << 16 | p->rows[i] >> 16;
			uint32_t recipe = p->rows[i] & 0xffff;

			require(i == 0 || at > last);
			require(recipe == UNWIND_NO_RECIPE || recipe < t->n_recipes);
			last = at;
		}
	}
	require(!t->n_buckets || p->buckets[t->n_buckets] == t->n_rows);
}

static void check_recipes(const struct unwind_table *t, const struct unwind_parts *p)
{
	for (uint32_t i = 0; i < t->n_recipes; i++) {
		const struct unwind_recipe *r = &p->recipes[i];

		require(r->rules < t->n_rules && r->reg < UNWIND_REGISTERS_MAX);
		if (r->flags & UNWIND_CFA_EXPRESSION)
			require(r->offset >= 0 && (uint32_t)r->offset + 2 <= t->n_bytes);
	}
	require(!t->n_rules || p->rules[t->n_rules - 1].kind == UNWIND_RULE_LAST);
}

static const struct unwind_table *table_of(void *context, uint64_t file, bool *ret_none)
{
	*ret_none = true;
	return file == 1 ? context : NULL;
}

static void walk(const struct unwind_arch *arch, struct unwind_table *table, const uint8_t *stack,
		 const struct elf_file *file, uint8_t flags, uint32_t n_slice)
{
	static struct unwind_result result;
	uint64_t registers[UNWIND_REGISTERS_MAX];
	struct unwind_mapping mappings[] = { { 0x1000, 0x20000, 0, 0 },
					     { MAPPED_AT, MAPPED_AT + (file->size | 4095) + 1, 0, 1 } };
	/* Of its own size, so that a read behind it is found. */
	uint8_t *slice = malloc(n_slice + 1);
	struct unwind_input input = { .registers = registers,
				      .slice = slice,
				      .n_slice = n_slice,
				      .slice_cut = flags & 2,
				      .n_below = flags & 8 ? 128 : 0,
				      .mappings = mappings,
				      .n_mappings = 2,
				      .table = table_of,
				      .context = table };

	memcpy(registers, stack, sizeof registers);
	memcpy(slice, stack + sizeof registers, n_slice);
	registers[arch->pc] = MAPPED_AT + registers[arch->pc] % (file->size + 1);
	if (flags & 4)
		registers[arch->sp] = STACK_AT;
	unwind_for(arch, &input, &result);
	require(result.n_frames >= 1 && result.n_frames <= UNWIND_FRAMES_MAX && result.end <= UNWIND_BROKEN);
	free(slice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t head = 4 + UNWIND_REGISTERS_MAX * sizeof(uint64_t);
	uint32_t n_slice;

	if (size < head)
		return 0;
	n_slice = (uint32_t)(data[2] | data[3] << 8) % 2048;
	if (size - head < n_slice)
		return 0;

	struct elf_file file = { .fd = -1, .bytes = data + head + n_slice, .size = size - head - n_slice };
	const struct unwind_arch *arch = data[1] & 1 ? &unwind_arm64 : &unwind_x86_64;
	size_t room = data[0] < 128 ? 256u << 10 : (size_t)(data[0] - 127) * 64;
	struct unwind_table *table = malloc(room);

	unwind_table_room(&file);
	if (unwind_table_build_for(arch, &file, table, room) == 0) {
		struct unwind_parts parts = unwind_table_parts(table);

		require(unwind_table_bytes(table) <= room);
		check_rows(table, &parts);
		check_recipes(table, &parts);
		walk(arch, table, data + 4, &file, data[1], n_slice);
	}
	free(table);
	return 0;
}

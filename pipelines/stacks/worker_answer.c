/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the worker does with a question, apart from processes and sockets: it finds or builds the table on its shelf, and looks things up in
 * it.
 */
#include <errno.h>
#include <string.h>

#include "stacks/shelf.h"
#include "stacks/unwind.h"
#include "stacks/worker.h"

static struct shelf_entry *build_symbols(struct shelf *shelf, uint64_t number, const struct elf_file *file)
{
	int64_t wanted = elf_table_room(file);
	size_t room, bytes;
	void *at = shelf_room(shelf, &room);
	int status = wanted < 0 ? (int)wanted : 0;

	bytes = wanted > 0 ? MIN_OF((size_t)wanted, room) : 0;
	if (!status)
		status = elf_table_build(file, at, bytes);
	return shelf_keep(shelf, number, SHELF_SYMBOLS, status, status ? 0 : elf_table_bytes(at), bytes);
}

static struct shelf_entry *build_unwind(struct shelf *shelf, uint64_t number, const struct elf_file *file)
{
	int64_t wanted = unwind_table_room(file);
	size_t room, bytes;
	void *at = shelf_room(shelf, &room);
	int status = wanted < 0 ? (int)wanted : 0;

	bytes = wanted > 0 ? MIN_OF((size_t)wanted, room) : 0;
	if (!status)
		status = unwind_table_build(file, at, bytes);
	return shelf_keep(shelf, number, SHELF_UNWIND, status, status ? 0 : unwind_table_bytes(at), bytes);
}

/* Whether the file is the one that was meant, where that is known by its build id only. */
static bool is_wanted(const struct worker_ask *ask, const struct elf_table *table)
{
	return !ask->build_id_length || (table->build_id_length == ask->build_id_length &&
					 !memcmp(table->build_id, ask->build_id, ask->build_id_length));
}

static void put_name(const struct elf_table *table, const struct elf_file *file, uint64_t place,
		     struct worker_name *name, struct worker_answer *answer, size_t *used)
{
	int length = elf_table_find(table, file, place, answer->text + *used, &name->delta);

	if (length <= 0)
		return;
	name->at = (uint16_t)*used;
	name->length = (uint16_t)length;
	*used += (size_t)length;
}

static size_t name_in_elf(struct worker_state *state, int fd)
{
	const struct worker_ask *ask = &state->ask;
	struct worker_answer *answer = &state->answer;
	struct elf_file file = { .fd = fd, .size = ask->size };
	struct shelf_entry *entry = shelf_find(state->shelf, ask->file, SHELF_SYMBOLS);
	size_t used = 0;

	if (!entry)
		entry = build_symbols(state->shelf, ask->file, &file);
	answer->status = entry->status;
	if (entry->status)
		return 0;

	const struct elf_table *table = shelf_table(state->shelf, entry);

	answer->build_id_length = table->build_id_length;
	memcpy(answer->build_id, table->build_id, sizeof answer->build_id);
	if (!is_wanted(ask, table)) {
		answer->status = -ESTALE;
		return 0;
	}
	for (; answer->count < ask->count && used <= WORKER_TEXT - ELF_NAME_MAX; answer->count++)
		put_name(table, &file, ask->places[answer->count], &answer->names[answer->count], answer, &used);
	return used;
}

/* The head of a symbol table tells the build id without reading any symbol. */
static bool is_file_wanted(const struct worker_ask *ask, const struct elf_file *file)
{
	struct elf_table head;

	return !ask->build_id_length || (elf_table_build(file, &head, sizeof head) == 0 && is_wanted(ask, &head));
}

static void learn(struct worker_state *state, int fd)
{
	const struct worker_ask *ask = &state->ask;
	struct elf_file file = { .fd = fd, .size = ask->size };
	struct shelf_entry *entry = shelf_find(state->shelf, ask->file, SHELF_UNWIND);

	if (entry) {
		state->answer.status = entry->status;
		return;
	}
	if (fd < 0)
		entry = shelf_keep(state->shelf, ask->file, SHELF_UNWIND, -ENOENT, 0, 0);
	else if (!is_file_wanted(ask, &file))
		entry = shelf_keep(state->shelf, ask->file, SHELF_UNWIND, -ESTALE, 0, 0);
	else
		entry = build_unwind(state->shelf, ask->file, &file);
	state->answer.status = entry->status;
}

static const struct unwind_table *find_table(void *context, uint64_t file, bool *ret_none)
{
	struct shelf *shelf = context;
	struct shelf_entry *entry = shelf_find(shelf, file, SHELF_UNWIND);

	*ret_none = entry && entry->status;
	return entry && !entry->status ? shelf_table(shelf, entry) : NULL;
}

static void unwind_sample(struct worker_state *state, uint32_t i)
{
	const struct arena *arena = &state->arena;
	struct arena_head *head = arena->head;
	struct arena_sample sample = head->samples[i];
	const struct sonde_stack *stack = arena_at(arena, sample.block);
	struct unwind_input input = { .registers = (const uint64_t *)stack->registers,
				      .slice = (const uint8_t *)(stack + 1),
				      .n_slice = stack->n_slice,
				      .slice_cut = stack->flags & SONDE_STACK_CUT,
				      .mappings = head->mappings + sample.first,
				      .n_mappings = sample.n_mappings,
				      .table = find_table,
				      .context = state->shelf };

	unwind(&input, &head->results[i]);
}

size_t worker_answer(struct worker_state *state, int fd, int debug_fd)
{
	struct worker_answer *answer = &state->answer;
	const struct worker_ask *ask = &state->ask;
	size_t used = 0;

	memset(answer, 0, offsetof(struct worker_answer, text));
	answer->ticket = ask->ticket;
	if (ask->kind == WORKER_NAMES && fd >= 0 && ask->count <= WORKER_BATCH)
		used = name_in_elf(state, fd);
	else if (ask->kind == WORKER_LEARN)
		learn(state, fd);
	else if (ask->kind == WORKER_UNWIND)
		for (; answer->count < ask->count && answer->count < ARENA_SAMPLES; answer->count++)
			unwind_sample(state, answer->count);
	return offsetof(struct worker_answer, text) + used;
}

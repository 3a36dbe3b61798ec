/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the worker does with a question, apart from processes and sockets: it finds or builds the table on its shelf, and looks things up in
 * it.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/base.h"
#include "stacks/debug_file.h"
#include "stacks/inline_table.h"
#include "stacks/perf_map.h"
#include "stacks/shelf.h"
#include "stacks/unwind.h"
#include "stacks/worker.h"

/* The files that came with a question. */
struct files {
	struct elf_file file, debug;
	bool has_debug;
};

/* Half a megabyte of it may stay; the rest goes back to the system. */
static void give_back_work(struct worker_state *state)
{
	madvise((uint8_t *)state->work + (512u << 10), WORKER_WORK - (512u << 10), MADV_DONTNEED);
}

/* ---- tables ---- */

/* What was made while there was no debug file is made anew with it. */
static struct shelf_entry *find_own(struct worker_state *state, const struct files *files, enum shelf_kind kind)
{
	struct shelf_entry *entry = shelf_find(state->shelf, state->ask.file, kind);

	if (!entry || entry->with_debug || !files->has_debug)
		return entry;
	shelf_forget(state->shelf, entry);
	return NULL;
}

static struct shelf_entry *build_symbols(struct worker_state *state, const struct files *files)
{
	struct shelf *shelf = state->shelf;
	struct elf_sources sources = { .file = &files->file,
				       .debug = files->has_debug ? &files->debug : NULL,
				       .debug_stays = true,
				       .scratch = state->work,
				       .scratch_size = WORKER_WORK };
	int64_t wanted = elf_table_room_of(&sources);
	size_t room, bytes;
	void *at = shelf_room(shelf, &room);
	int status = wanted < 0 ? (int)wanted : 0;

	bytes = wanted > 0 ? MIN_OF((size_t)wanted, room) : 0;
	state->inlines = 0; /* its memory is used here */
	if (!status)
		status = elf_table_build_of(&sources, at, bytes);
	give_back_work(state);

	struct shelf_entry *entry =
		shelf_keep(shelf, state->ask.file, SHELF_SYMBOLS, status, status ? 0 : elf_table_bytes(at), bytes);

	entry->with_debug = files->has_debug;
	return entry;
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

static struct shelf_entry *build_perf_map(struct shelf *shelf, uint64_t number, const struct elf_file *file)
{
	size_t room;
	void *at = shelf_room(shelf, &room);
	int status;

	/* The newest lines are those that are kept, and others want room on the shelf too. */
	room = MIN_OF(room, shelf->bound / 4);
	status = perf_map_build(file, at, room);
	return shelf_keep(shelf, number, SHELF_PERF_MAP, status, status ? 0 : perf_map_bytes(at), room);
}

/* What was made in the work memory becomes a table like all others. */
static struct shelf_entry *keep_inlines(struct worker_state *state, int status)
{
	size_t room, bytes = status ? 0 : inline_table_bytes(state->work);
	void *at = shelf_room(state->shelf, &room);

	if (!status && bytes > room)
		status = -EFBIG;
	if (!status)
		memcpy(at, state->work, bytes);
	state->inlines = 0;
	give_back_work(state);

	struct shelf_entry *entry = shelf_keep(state->shelf, state->ask.file, SHELF_INLINES, status, bytes, bytes);

	entry->with_debug = state->inlines_debug;
	return entry;
}

/* ---- the file ---- */

/* Whether the file is the one that was meant, where that is known by its build id only. */
static bool is_wanted(const struct worker_ask *ask, const struct elf_table *table)
{
	return !ask->build_id_length || (table->build_id_length == ask->build_id_length &&
					 !memcmp(table->build_id, ask->build_id, ask->build_id_length));
}

/* The head of a symbol table tells the build id without reading any symbol. */
static int check_file(const struct worker_ask *ask, const struct elf_file *file, struct elf_table *head)
{
	int r = elf_table_build(file, head, sizeof *head);

	return r < 0 ? r : is_wanted(ask, head) ? 0 : -ESTALE;
}

static void describe(struct worker_state *state, const struct files *files)
{
	struct worker_answer *answer = &state->answer;
	struct elf_header header;
	struct elf_table head;
	Elf64_Shdr section;
	uint32_t crc;

	answer->status = check_file(&state->ask, &files->file, &head);
	if (answer->status < 0)
		return;
	answer->build_id_length = head.build_id_length;
	memcpy(answer->build_id, head.build_id, sizeof answer->build_id);
	answer->stripped = elf_read_header(&files->file, &header) < 0 ||
			   elf_find_section(&files->file, &header, ".symtab", &section) < 0;
	elf_debug_link(&files->file, answer->debug_link, sizeof answer->debug_link, &crc);
}

static void read_inlines(struct worker_state *state, const struct files *files)
{
	const struct elf_file *file = files->has_debug ? &files->debug : &files->file;
	struct shelf_entry *entry = find_own(state, files, SHELF_INLINES);
	int r = 1;

	if (!entry && (state->inlines != state->ask.file || state->inlines_debug != files->has_debug)) {
		int64_t room = inline_table_room(file);

		r = room <= 0 ? -ENOENT : inline_table_build_begin(file, state->work, WORKER_WORK);
		state->inlines = state->ask.file;
		state->inlines_debug = files->has_debug;
	}
	if (!entry && r >= 0)
		r = inline_table_build_some(file, state->work, WORKER_WORK, INLINE_STEPS / 2);
	if (!entry && r <= 0)
		entry = keep_inlines(state, r);
	state->answer.status = entry ? 0 : 1;
	state->answer.count = entry && !entry->status; /* there are some */
}

/* ---- names ---- */

/* The functions inlined at the place, behind its name: a name that has no room ends the list. */
static void put_inlined(const struct inline_table *inlines, uint64_t address, struct worker_name *name, char *text,
			size_t room)
{
	const char *names[INLINE_DEPTH_MAX];
	unsigned n = inline_table_find(inlines, address, names, INLINE_DEPTH_MAX);

	for (unsigned i = 0; i < n && (size_t)name->inlined + ELF_NAME_MAX <= room; i++)
		name->inlined = (uint16_t)(name->inlined + demangle(names[i], text + name->inlined, ELF_NAME_MAX) + 1);
}

#define NAME_ROOM (ELF_NAME_MAX * (INLINE_DEPTH_MAX + 1)) /* of one place, with all that is inlined there */

struct tables {
	const struct elf_table *symbols;
	const struct inline_table *inlines;
};

static size_t put_name(const struct tables *tables, const struct elf_file *file, uint64_t place,
		       struct worker_name *name, char *text, size_t at)
{
	int length = elf_table_find(tables->symbols, file, place, text + at, &name->delta);
	uint64_t address;

	if (length <= 0)
		return at;
	name->at = (uint16_t)at;
	name->length = (uint16_t)length;
	at += (size_t)length;
	if (tables->inlines && elf_table_address(tables->symbols, place, &address))
		put_inlined(tables->inlines, address, name, text + at, NAME_ROOM - (size_t)length);
	return at + name->inlined;
}

static size_t name_in_elf(struct worker_state *state, const struct files *files)
{
	const struct worker_ask *ask = &state->ask;
	struct worker_answer *answer = &state->answer;
	struct shelf_entry *symbols = find_own(state, files, SHELF_SYMBOLS), *inlines;
	struct tables tables = { 0 };
	size_t used = 0;

	if (!symbols)
		symbols = build_symbols(state, files);
	answer->status = symbols->status;
	if (symbols->status)
		return 0;
	inlines = shelf_find(state->shelf, ask->file, SHELF_INLINES);
	tables.symbols = shelf_table(state->shelf, symbols);
	if (inlines && !inlines->status)
		tables.inlines = shelf_table(state->shelf, inlines);
	if (!is_wanted(ask, tables.symbols)) {
		answer->status = -ESTALE;
		return 0;
	}
	for (; answer->count < ask->count && used <= WORKER_TEXT - NAME_ROOM; answer->count++)
		used = put_name(&tables, tables.symbols->names_in_debug ? &files->debug : &files->file,
				ask->places[answer->count], &answer->names[answer->count], answer->text, used);
	return used;
}

static size_t name_in_perf_map(struct worker_state *state, const struct files *files)
{
	const struct worker_ask *ask = &state->ask;
	struct worker_answer *answer = &state->answer;
	struct shelf_entry *entry = shelf_find(state->shelf, ask->file, SHELF_PERF_MAP);
	size_t used = 0;

	if (!entry)
		entry = build_perf_map(state->shelf, ask->file, &files->file);
	answer->status = entry->status;
	for (; !entry->status && answer->count < ask->count && used <= WORKER_TEXT - ELF_NAME_MAX; answer->count++) {
		struct worker_name *name = &answer->names[answer->count];
		uint64_t delta;
		const char *text = perf_map_find(shelf_table(state->shelf, entry), ask->places[answer->count], &delta);

		if (!text)
			continue;
		name->delta = (uint32_t)delta;
		name->at = (uint16_t)used;
		name->length = (uint16_t)strnlen(text, ELF_NAME_MAX - 1);
		memcpy(answer->text + used, text, name->length);
		used += name->length;
	}
	return used;
}

/* ---- unwinding ---- */

static void learn(struct worker_state *state, int fd)
{
	const struct worker_ask *ask = &state->ask;
	struct elf_file file = { .fd = fd, .size = ask->size };
	struct shelf_entry *entry = shelf_find(state->shelf, ask->file, SHELF_UNWIND);
	struct elf_table head;
	int status = -ENOENT;

	/* Once it could not be opened, and now it can. */
	if (entry && entry->status == -ENOENT && fd >= 0) {
		shelf_forget(state->shelf, entry);
		entry = NULL;
	}
	if (!entry && fd >= 0)
		status = check_file(ask, &file, &head);
	if (!entry && status < 0)
		entry = shelf_keep(state->shelf, ask->file, SHELF_UNWIND, status, 0, 0);
	else if (!entry)
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
				      .n_below = stack->flags & SONDE_STACK_BELOW ? SONDE_STACK_RED_ZONE : 0,
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
	struct files files = { .file = { .fd = fd, .size = ask->size },
			       .debug = { .fd = debug_fd, .size = ask->debug_size },
			       .has_debug = debug_fd >= 0 };
	size_t used = 0;

	memset(answer, 0, offsetof(struct worker_answer, text));
	answer->ticket = ask->ticket;
	if (ask->kind == WORKER_DESCRIBE && fd >= 0)
		describe(state, &files);
	else if (ask->kind == WORKER_INLINES && fd >= 0)
		read_inlines(state, &files);
	else if (ask->kind == WORKER_NAMES && fd >= 0 && ask->count <= WORKER_BATCH)
		used = ask->form == WORKER_PERF_MAP ? name_in_perf_map(state, &files) : name_in_elf(state, &files);
	else if (ask->kind == WORKER_LEARN)
		learn(state, fd);
	else if (ask->kind == WORKER_UNWIND)
		for (; answer->samples < ask->count && answer->samples < ARENA_SAMPLES; answer->samples++)
			unwind_sample(state, answer->samples);
	return offsetof(struct worker_answer, text) + used;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recorded stack: all that unwinding needs of one moment of one thread, and what came of it, so that it can be unwound again anywhere.
 * The file, little-endian:
 *
 *	struct case_head | struct unwind_mapping[n_mappings] | frames u64[n_frames] | text | slice |
 *	for each file: struct case_file | for each piece of it: struct case_piece | its bytes
 *
 * Of an ELF file only the pieces are kept that matter to this stack; the rest is zero. The text names the frames, for people.
 */
#ifndef SONDE_STACK_CASE_H
#define SONDE_STACK_CASE_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "stacks/unwind.h"
#include "stacks/unwind_table.h"

#define CASE_FILES_MAX 32u

struct case_head {
	char magic[8];
	uint32_t n_mappings, n_frames, n_text, n_slice, n_files;
	uint32_t end, cut, n_below;
	uint64_t registers[SONDE_REGISTERS];
};

struct case_file {
	uint64_t size;
	uint32_t n_pieces, zero;
};

struct case_piece {
	uint64_t offset, size;
};

#define CASE_MAGIC "sndstk1"

struct stack_case {
	struct case_head head;
	struct unwind_mapping *mappings; /* file: 1 + index of `files` */
	uint64_t *frames;
	char *text;
	uint8_t *slice;
	struct elf_file files[CASE_FILES_MAX];
	struct unwind_table *tables[CASE_FILES_MAX];
};

static inline const struct unwind_table *case_table(void *context, uint64_t file, bool *ret_none)
{
	struct stack_case *c = context;

	*ret_none = false;
	return c->tables[file - 1];
}

static inline int case_build(struct stack_case *c, uint32_t file)
{
	int64_t room = unwind_table_room(&c->files[file]);

	free(c->tables[file]);
	c->tables[file] = malloc(room > 0 ? (size_t)room : sizeof(uint64_t));
	return room > 0 && c->tables[file] ? unwind_table_build(&c->files[file], c->tables[file], (size_t)room)
					   : -ENOEXEC;
}

static inline void case_unwind(struct stack_case *c, struct unwind_result *ret)
{
	struct unwind_input input = { .registers = c->head.registers,
				      .slice = c->slice,
				      .n_slice = c->head.n_slice,
				      .slice_cut = c->head.cut,
				      .n_below = c->head.n_below,
				      .mappings = c->mappings,
				      .n_mappings = c->head.n_mappings,
				      .table = case_table,
				      .context = c };

	unwind(&input, ret);
}

static inline void case_free(struct stack_case *c)
{
	for (unsigned i = 0; i < CASE_FILES_MAX; i++) {
		free(c->tables[i]);
		free((void *)c->files[i].bytes);
	}
	free(c->mappings);
	free(c->frames);
	free(c->text);
	free(c->slice);
}

/* A fresh copy of the next `size` bytes. */
static inline void *case_take(FILE *f, size_t size)
{
	void *bytes = calloc(1, size + 1);

	if (bytes && fread(bytes, 1, size, f) == size)
		return bytes;
	free(bytes);
	return NULL;
}

static inline bool case_read_file(FILE *f, struct elf_file *ret)
{
	struct case_file file;
	uint8_t *bytes;

	if (fread(&file, sizeof file, 1, f) != 1 || file.size > 256u << 20)
		return false;
	bytes = calloc(1, file.size);
	*ret = (struct elf_file){ .fd = -1, .bytes = bytes, .size = file.size };
	for (uint32_t i = 0; bytes && i < file.n_pieces; i++) {
		struct case_piece piece;

		if (fread(&piece, sizeof piece, 1, f) != 1 || piece.size > file.size ||
		    piece.offset > file.size - piece.size ||
		    fread(bytes + piece.offset, 1, piece.size, f) != piece.size)
			return false;
	}
	return bytes;
}

/* False: no such file, or a broken one. Free it in either case. */
static inline bool case_read(struct stack_case *c, const char *path)
{
	_cleanup_(close_file) FILE *f = fopen(path, "rb");
	struct case_head *h = &c->head;

	memset(c, 0, sizeof *c);
	if (!f || fread(h, sizeof *h, 1, f) != 1 || memcmp(h->magic, CASE_MAGIC, 8) || h->n_files > CASE_FILES_MAX)
		return false;
	c->mappings = case_take(f, h->n_mappings * sizeof *c->mappings);
	c->frames = case_take(f, h->n_frames * sizeof *c->frames);
	c->text = case_take(f, h->n_text);
	c->slice = case_take(f, h->n_slice);
	if (!c->mappings || !c->frames || !c->text || !c->slice)
		return false;
	for (uint32_t i = 0; i < h->n_files; i++)
		if (!case_read_file(f, &c->files[i]) || case_build(c, i) < 0)
			return false;
	return true;
}

/* Runs of bytes that are not all zero, in steps of 8. */
static inline void case_write_file(FILE *f, const struct elf_file *file)
{
	static const uint8_t zero[8];
	struct case_file head = { .size = file->size };

	for (int pass = 0; pass < 2; pass++) {
		for (uint64_t at = 0, from; at < file->size;) {
			while (at < file->size && !memcmp(file->bytes + at, zero, MIN_OF(file->size - at, 8u)))
				at += 8;
			for (from = at; at < file->size && memcmp(file->bytes + at, zero, MIN_OF(file->size - at, 8u));)
				at += 8;
			struct case_piece piece = { from, MIN_OF(at, file->size) - from };

			if (from >= file->size)
				break;
			head.n_pieces += !pass;
			if (pass) {
				fwrite(&piece, sizeof piece, 1, f);
				fwrite(file->bytes + from, 1, piece.size, f);
			}
		}
		if (!pass)
			fwrite(&head, sizeof head, 1, f);
	}
}

static inline bool case_write(const struct stack_case *c, const char *path)
{
	FILE *f = fopen(path, "wb");

	if (!f)
		return false;
	fwrite(&c->head, sizeof c->head, 1, f);
	fwrite(c->mappings, sizeof *c->mappings, c->head.n_mappings, f);
	fwrite(c->frames, sizeof *c->frames, c->head.n_frames, f);
	fwrite(c->text, 1, c->head.n_text, f);
	fwrite(c->slice, 1, c->head.n_slice, f);
	for (uint32_t i = 0; i < c->head.n_files; i++)
		case_write_file(f, &c->files[i]);
	return fclose(f) == 0;
}

#endif

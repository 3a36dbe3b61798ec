/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three caches stand before the work, each by a keyed hash: whole stacks (their msgpack bytes and the node that they hang
 * on), raw frame texts (an offset apart, so many for one function), and cleaned texts. A row with a known stack costs one
 * hash over its bytes.
 */
#include "flame/tree.h"

#include "encode/record.h"

#include <errno.h>
#include <string.h>

#define TEXT_BYTES_MAX (UINT32_MAX / 2)

int flame_tree_begin(struct flame_tree *t, struct flame_budget *budget, enum flame_offsets offsets)
{
	uint32_t ignored;
	int r;

	*t = (struct flame_tree){ .budget = budget, .offsets = offsets };
	flame_secret_make(&t->secret);
	flame_map_begin(&t->text_map, budget);
	flame_map_begin(&t->raw_map, budget);
	flame_map_begin(&t->frame_map, budget);
	flame_map_begin(&t->node_map, budget);
	flame_map_begin(&t->stack_map, budget);
	t->scratch = malloc((FLAME_FRAMES_MAX + 1) * sizeof *t->scratch);
	r = t->scratch ? flame_grow(budget, &t->nodes, &t->nodes_room, 0, sizeof *t->nodes) : -ENOMEM;
	if (r == 0)
		r = flame_tree_text(t, "", 0, &ignored);
	if (r < 0) {
		flame_tree_free(t);
		return r;
	}
	t->nodes[t->n_nodes++] = (struct flame_node){ 0, UINT32_MAX };
	return 0;
}

void flame_tree_free(struct flame_tree *t)
{
	if (!t->budget)
		return;
	flame_release(t->budget, &t->bytes, &t->bytes_room, 1);
	flame_release(t->budget, &t->texts, &t->texts_room, sizeof *t->texts);
	flame_release(t->budget, &t->frames, &t->frames_room, sizeof *t->frames);
	flame_release(t->budget, &t->nodes, &t->nodes_room, sizeof *t->nodes);
	flame_map_free(&t->text_map);
	flame_map_free(&t->raw_map);
	flame_map_free(&t->frame_map);
	flame_map_free(&t->node_map);
	flame_map_free(&t->stack_map);
	free(t->scratch);
	*t = (struct flame_tree){ 0 };
}

struct flame_span flame_tree_text_of(const struct flame_tree *t, uint32_t text)
{
	uint32_t begin = text ? t->texts[text - 1] : 0;

	return (struct flame_span){ t->bytes + begin, t->texts[text] - begin };
}

static int add_text(struct flame_tree *t, const char *text, size_t length)
{
	int r = flame_grow(t->budget, &t->texts, &t->texts_room, t->n_texts, sizeof *t->texts);

	if (r == 0 && t->n_bytes + length > TEXT_BYTES_MAX)
		r = -ENOBUFS;
	while (r == 0 && t->n_bytes + length >= t->bytes_room)
		r = flame_grow(t->budget, &t->bytes, &t->bytes_room, t->bytes_room, 1);
	if (r < 0)
		return r;
	memcpy(t->bytes + t->n_bytes, text, length);
	t->n_bytes += length;
	t->texts[t->n_texts++] = (uint32_t)t->n_bytes;
	return 0;
}

int flame_tree_text(struct flame_tree *t, const char *text, size_t length, uint32_t *ret_text)
{
	char clean[FLAME_NAME_MAX + 4];
	uint64_t key;
	int r;

	length = flame_clean(text, length, clean);
	key = flame_hash(&t->secret, clean, length);
	if (flame_map_find(&t->text_map, key, ret_text))
		return 0;
	r = add_text(t, clean, length);
	if (r < 0)
		return r;
	*ret_text = (uint32_t)t->n_texts - 1;
	return flame_map_put(&t->text_map, key, *ret_text);
}

int flame_tree_frame(struct flame_tree *t, const struct tree_frame *frame, uint32_t *ret_frame)
{
	uint64_t key = flame_hash(&t->secret, frame, sizeof *frame);
	int r;

	if (flame_map_find(&t->frame_map, key, ret_frame))
		return 0;
	r = flame_grow(t->budget, &t->frames, &t->frames_room, t->n_frames, sizeof *t->frames);
	if (r < 0)
		return r;
	*ret_frame = (uint32_t)t->n_frames;
	t->frames[t->n_frames++] = *frame;
	return flame_map_put(&t->frame_map, key, *ret_frame);
}

int flame_tree_node(struct flame_tree *t, uint32_t parent, uint32_t frame, uint32_t *ret_node)
{
	uint64_t key = (uint64_t)parent << 32 | frame;
	int r;

	if (flame_map_find(&t->node_map, key, ret_node))
		return 0;
	r = flame_grow(t->budget, &t->nodes, &t->nodes_room, t->n_nodes, sizeof *t->nodes);
	if (r < 0)
		return r;
	*ret_node = (uint32_t)t->n_nodes;
	t->nodes[t->n_nodes++] = (struct flame_node){ parent, frame };
	return flame_map_put(&t->node_map, key, *ret_node);
}

int flame_tree_made(struct flame_tree *t, enum flame_frame_kind kind, const char *text, size_t length,
		    uint32_t *ret_frame)
{
	struct tree_frame frame = { .kind = kind };
	int r = flame_tree_text(t, text, length, &frame.name);

	return r < 0 ? r : flame_tree_frame(t, &frame, ret_frame);
}

/* The name of a frame without a function: its library in brackets, or the library with the offset, or the address. */
static size_t name_unknown(const struct flame_frame *frame, bool offset, char *room, size_t size)
{
	int length = (int)MIN_OF(frame->library.length, FLAME_NAME_MAX);
	int n;

	if (!length)
		n = snprintf(room, size, "%.*s", (int)MIN_OF(frame->name.length, 64u), frame->name.text);
	else if (!offset)
		n = snprintf(room, size, "[%.*s]", length, frame->library.text);
	else if (frame->name.length)
		n = snprintf(room, size, "%.*s [%.*s]", (int)MIN_OF(frame->name.length, 64u), frame->name.text, length,
			     frame->library.text);
	else
		n = snprintf(room, size, "%.*s+0x%llx", length, frame->library.text, (unsigned long long)frame->offset);
	return n > 0 ? MIN_OF((size_t)n, size - 1) : 0;
}

static int add_frame(struct flame_tree *t, const struct flame_frame *frame, bool offset, uint32_t *ret_frame)
{
	struct tree_frame f = { .kind = frame->kind };
	char room[FLAME_NAME_MAX + 128];
	int r;

	if (frame->kind == FRAME_UNKNOWN) {
		r = flame_tree_text(t, room, name_unknown(frame, offset, room, sizeof room), &f.name);
		f.offset = t->offsets == OFFSETS_KEPT ? frame->offset : 0;
	} else {
		r = flame_tree_text(t, frame->name.text, frame->name.length, &f.name);
	}
	if (r == 0)
		r = flame_tree_text(t, frame->library.text, frame->library.length, &f.library);
	if (r == 0)
		r = flame_tree_text(t, frame->build_id.text, frame->build_id.length, &f.build_id);
	return r < 0 ? r : flame_tree_frame(t, &f, ret_frame);
}

/* The frame of a raw text. `program_leaf`: no frame of the program is nearer to the leaf. */
static int read_frame(struct flame_tree *t, const struct value *text, bool *program_leaf, uint32_t *ret_frame)
{
	uint64_t key = flame_hash(&t->secret, text->body, text->length) ^ *program_leaf;
	struct flame_frame frame;
	int r;

	if (!flame_map_find(&t->raw_map, key, ret_frame)) {
		bool leaf = *program_leaf;

		flame_frame_read((const char *)text->body, text->length, &frame);
		r = add_frame(t, &frame, t->offsets != OFFSETS_NONE && !leaf, ret_frame);
		if (r == 0)
			r = flame_map_put(&t->raw_map, key, *ret_frame);
		if (r < 0)
			return r;
	}
	if (t->frames[*ret_frame].kind != FRAME_KERNEL)
		*program_leaf = false;
	return 0;
}

/* Frames of the row into `scratch`: their number. */
static int read_stack(struct flame_tree *t, const struct flame_row *row)
{
	uint32_t n = MIN_OF(row->n_frames, FLAME_FRAMES_MAX);
	const uint8_t *at = row->stack;
	bool program_leaf = true;
	struct value text;
	int r;

	for (uint32_t i = 0; i < n; i++) {
		if (value_read(at, row->stack_end, &text) < 0 || text.kind != VALUE_STR)
			return -EBADMSG;
		r = read_frame(t, &text, &program_leaf, &t->scratch[i]);
		if (r < 0)
			return r;
		at = text.next;
	}
	if (row->truncated || n < row->n_frames || n == 0) {
		const char *note = n ? "[truncated]" : "[no stack]";

		r = flame_tree_made(t, FRAME_NOTE, note, strlen(note), &t->scratch[n++]);
		if (r < 0)
			return r;
	}
	return (int)n;
}

int flame_tree_stack(struct flame_tree *t, uint32_t parent, const struct flame_row *row, uint32_t *ret_node)
{
	uint64_t whole[2] = { flame_hash(&t->secret, row->stack, (size_t)(row->stack_end - row->stack)),
			      (uint64_t)parent << 1 | row->truncated };
	uint64_t key = flame_hash(&t->secret, whole, sizeof whole);
	uint32_t node = parent;
	int n, r;

	if (flame_map_find(&t->stack_map, key, ret_node))
		return 0;
	n = read_stack(t, row);
	if (n < 0)
		return n;
	while (n-- > 0) {
		r = flame_tree_node(t, node, t->scratch[n], &node);
		if (r < 0)
			return r;
	}
	*ret_node = node;
	/* The cache spares work only: that it is full changes nothing. */
	r = flame_map_put(&t->stack_map, key, node);
	return r == -ENOMEM ? r : 0;
}

size_t flame_tree_path(const struct flame_tree *t, uint32_t node, uint32_t *frames, size_t max)
{
	size_t n = 0;

	for (; node && n < max; node = t->nodes[node].parent)
		frames[n++] = t->nodes[node].frame;
	return n;
}

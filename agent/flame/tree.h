/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many stacks as one tree: each node is a frame below its parent, so stacks that begin alike at the root share their
 * beginning. Nodes, frames and texts are numbers in vectors; node 0 is the root, a parent's number is less than its
 * children's, text 0 is empty. Bounded by a budget: what does not fit is said by -ENOBUFS, and nothing of it is added
 * but what a later stack may use.
 */
#ifndef SONDE_FLAME_TREE_H
#define SONDE_FLAME_TREE_H

#include "flame/frame.h"
#include "flame/row.h"
#include "flame/table.h"

#define FLAME_FRAMES_MAX 2048u /* of one stack; what is deeper is cut at the root and says so */

/* Which offsets of unknown frames stay: none, or those of callers, in their names. A leaf's is where the sample fell, any
 * of hundreds in one function; that of a caller is where a call returns to, and tells functions apart. Kept: so, and in
 * tree_frame.offset every one. */
enum flame_offsets { OFFSETS_NONE, OFFSETS_OF_CALLERS, OFFSETS_KEPT };

struct flame_node {
	uint32_t parent, frame;
};

struct tree_frame {
	uint32_t name, library, build_id; /* texts */
	uint32_t kind;                    /* enum flame_frame_kind */
	uint64_t offset;                  /* of an unknown one, where they are kept */
};

struct flame_tree {
	struct flame_budget *budget;
	enum flame_offsets offsets;
	struct flame_secret secret;
	char *bytes; /* all texts, one after the other */
	size_t n_bytes, bytes_room;
	uint32_t *texts; /* their ends in `bytes` */
	size_t n_texts, texts_room;
	struct tree_frame *frames;
	size_t n_frames, frames_room;
	struct flame_node *nodes;
	size_t n_nodes, nodes_room;
	struct flame_map text_map, raw_map, frame_map, node_map, stack_map;
	uint32_t *scratch; /* frames of the stack at hand, leaf first */
};

int flame_tree_begin(struct flame_tree *tree, struct flame_budget *budget, enum flame_offsets offsets);
void flame_tree_free(struct flame_tree *tree);

/* Each finds or adds: 0, -ENOMEM, -ENOBUFS. Texts are cleaned (flame_clean). */
int flame_tree_text(struct flame_tree *tree, const char *text, size_t length, uint32_t *ret_text);
int flame_tree_frame(struct flame_tree *tree, const struct tree_frame *frame, uint32_t *ret_frame);
int flame_tree_node(struct flame_tree *tree, uint32_t parent, uint32_t frame, uint32_t *ret_node);
/* A frame that this program makes, such as the process at the root. */
int flame_tree_made(struct flame_tree *tree, enum flame_frame_kind kind, const char *text, size_t length,
		    uint32_t *ret_frame);

/* The node of the row's leaf, with the whole stack below `parent`. -EBADMSG when a frame is no text. */
int flame_tree_stack(struct flame_tree *tree, uint32_t parent, const struct flame_row *row, uint32_t *ret_node);

struct flame_span flame_tree_text_of(const struct flame_tree *tree, uint32_t text);

/* The frames from `node` (first) to below the root: their number, at most `max`. */
size_t flame_tree_path(const struct flame_tree *tree, uint32_t node, uint32_t *frames, size_t max);

#endif

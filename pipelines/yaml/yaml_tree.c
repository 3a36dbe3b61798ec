/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML to a tree, over libyaml's event parser, because only its events carry the marks that errors need.
 *
 * The text is hostile: its size is bounded by the caller, nodes and depth here. An alias is an edge to the node already
 * built, never a copy, so aliases cost one edge each and cannot multiply; an anchor is known only once its node is
 * complete, so there are no cycles. Everything is allocated in one list of blocks and freed with the tree.
 */
#include "yaml/yaml_tree.h"

#include <errno.h>
#include <string.h>
#include <yaml.h>

#define ANCHOR_MAX 64u
#define KEYS_MAX   1024u /* of one mapping: looking for a duplicate walks them all */

static const struct yaml_bounds configuration_bounds = { .depth = 16, .nodes = 8192 };

struct block {
	struct block *next;
	max_align_t bytes[];
};

struct anchor {
	const char *name;
	const struct yaml_node *node;
};

struct yaml_tree {
	struct block *blocks;
	struct anchor anchors[ANCHOR_MAX];
	unsigned n_anchors, n_nodes;
};

/* One parse: what every step needs. */
struct builder {
	struct yaml_tree *tree;
	yaml_parser_t parser;
	const struct yaml_bounds *bounds;
	const char *label, *input;
	size_t size;
	struct fault *fault;
};

static void *take(struct yaml_tree *tree, size_t size)
{
	struct block *b = calloc(1, sizeof *b + size);

	if (!b)
		return NULL;
	b->next = tree->blocks;
	tree->blocks = b;
	return b->bytes;
}

static const char *take_text(struct yaml_tree *tree, const void *text, size_t size)
{
	char *copy = take(tree, size + 1);

	if (copy)
		memcpy(copy, text, size);
	return copy;
}

void yaml_tree_free(struct yaml_tree *tree)
{
	if (!tree)
		return;
	while (tree->blocks) {
		struct block *b = tree->blocks;

		tree->blocks = b->next;
		free(b);
	}
	free(tree);
}

bool yaml_node_is_null(const struct yaml_node *node)
{
	return node->kind == YAML_IS_SCALAR && node->plain &&
	       (!*node->text || !strcmp(node->text, "~") || !strcmp(node->text, "null"));
}

static int refuse(struct builder *b, yaml_mark_t at, const char *sentence)
{
	unsigned line = (unsigned)at.line + 1, column = (unsigned)at.column + 1;

	return fault_at(b->fault, -EINVAL, line, column, "%s:%u:%u: %s", b->label, line, column, sentence);
}

/* Bytes that are no text have an offset only: find their line. */
static int refuse_bytes(struct builder *b)
{
	yaml_mark_t at = { 0 };

	for (size_t i = 0; i < b->parser.problem_offset && i < b->size; i++) {
		at.column++;
		if (b->input[i] == '\n') {
			at.line++;
			at.column = 0;
		}
	}
	return refuse(b, at, "the file is not UTF-8 text");
}

static int refuse_syntax(struct builder *b)
{
	char sentence[256];

	if (b->parser.error == YAML_MEMORY_ERROR)
		return fault_set(b->fault, -ENOMEM, "%s: out of memory", b->label);
	if (b->parser.error == YAML_READER_ERROR)
		return refuse_bytes(b);
	snprintf(sentence, sizeof sentence, "not valid YAML: %s%s%s",
		 b->parser.problem ? b->parser.problem : "syntax error", b->parser.context ? " " : "",
		 b->parser.context ? b->parser.context : "");
	return refuse(b, b->parser.problem_mark, sentence);
}

static int next_event(struct builder *b, yaml_event_t *ret)
{
	return yaml_parser_parse(&b->parser, ret) ? 0 : refuse_syntax(b);
}

static int parse_node(struct builder *b, yaml_event_t *event, unsigned depth, const struct yaml_node **ret);

static struct yaml_edge *take_edge(struct builder *b, struct yaml_edge ***tail)
{
	struct yaml_edge *edge = take(b->tree, sizeof *edge);

	if (edge) {
		**tail = edge;
		*tail = &edge->next;
	}
	return edge;
}

static int parse_sequence(struct builder *b, struct yaml_node *node, unsigned depth)
{
	struct yaml_edge **tail = &node->first;

	for (;;) {
		_cleanup_(yaml_event_delete) yaml_event_t event = { 0 };
		int r = next_event(b, &event);

		if (r < 0 || event.type == YAML_SEQUENCE_END_EVENT)
			return r;

		struct yaml_edge *edge = take_edge(b, &tail);

		if (!edge)
			return -ENOMEM;
		r = parse_node(b, &event, depth + 1, &edge->node);
		if (r < 0)
			return r;
	}
}

static int check_key(struct builder *b, const struct yaml_node *mapping, const yaml_event_t *event)
{
	const char *name = (const char *)event->data.scalar.value;
	char sentence[160];
	unsigned n = 0;

	if (event->type != YAML_SCALAR_EVENT)
		return refuse(b, event->start_mark, "a key must be plain text");
	if (strlen(name) != event->data.scalar.length)
		return refuse(b, event->start_mark, "a key must not hold a NUL character");
	for (const struct yaml_edge *e = mapping->first; e; e = e->next) {
		if (++n == KEYS_MAX)
			return refuse(b, event->start_mark, "more than 1024 keys");
		if (!e->key || strcmp(e->key, name))
			continue;
		snprintf(sentence, sizeof sentence, "duplicate key '%.64s', first given on line %u", name, e->line);
		return refuse(b, event->start_mark, sentence);
	}
	return 0;
}

static int parse_pair(struct builder *b, struct yaml_node *node, const yaml_event_t *key, struct yaml_edge ***tail,
		      unsigned depth)
{
	_cleanup_(yaml_event_delete) yaml_event_t event = { 0 };
	int r = check_key(b, node, key);

	if (r < 0)
		return r;

	struct yaml_edge *edge = take_edge(b, tail);

	if (!edge)
		return -ENOMEM;
	edge->key = take_text(b->tree, key->data.scalar.value, key->data.scalar.length);
	edge->line = (unsigned)key->start_mark.line + 1;
	edge->column = (unsigned)key->start_mark.column + 1;
	if (!edge->key)
		return -ENOMEM;
	r = next_event(b, &event);
	return r < 0 ? r : parse_node(b, &event, depth + 1, &edge->node);
}

static int parse_mapping(struct builder *b, struct yaml_node *node, unsigned depth)
{
	struct yaml_edge **tail = &node->first;

	for (;;) {
		_cleanup_(yaml_event_delete) yaml_event_t key = { 0 };
		int r = next_event(b, &key);

		if (r < 0 || key.type == YAML_MAPPING_END_EVENT)
			return r;
		r = parse_pair(b, node, &key, &tail, depth);
		if (r < 0)
			return r;
	}
}

static int follow_alias(struct builder *b, const yaml_event_t *event, const struct yaml_node **ret)
{
	for (unsigned i = b->tree->n_anchors; i-- > 0;) {
		if (strcmp(b->tree->anchors[i].name, (const char *)event->data.alias.anchor))
			continue;
		*ret = b->tree->anchors[i].node;
		return 0;
	}
	return refuse(b, event->start_mark, "this alias has no anchor before it");
}

static int keep_anchor(struct builder *b, const yaml_event_t *event, const yaml_char_t *name,
		       const struct yaml_node *node)
{
	struct yaml_tree *t = b->tree;

	if (!name)
		return 0;
	if (t->n_anchors == ANCHOR_MAX)
		return refuse(b, event->start_mark, "more than 64 anchors");

	const char *copy = take_text(t, name, strlen((const char *)name));

	if (!copy)
		return -ENOMEM;
	t->anchors[t->n_anchors++] = (struct anchor){ copy, node };
	return 0;
}

static int fill_scalar(struct builder *b, const yaml_event_t *event, struct yaml_node *node)
{
	const char *text = (const char *)event->data.scalar.value;

	if (strlen(text) != event->data.scalar.length)
		return refuse(b, event->start_mark, "a value must not hold a NUL character");
	node->kind = YAML_IS_SCALAR;
	node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	node->style = event->data.scalar.style == YAML_SINGLE_QUOTED_SCALAR_STYLE   ? YAML_SINGLE_QUOTED
		      : event->data.scalar.style == YAML_DOUBLE_QUOTED_SCALAR_STYLE ? YAML_DOUBLE_QUOTED
		      : node->plain                                                 ? YAML_PLAIN
										    : YAML_BLOCK;
	node->text = take_text(b->tree, text, event->data.scalar.length);
	return node->text ? 0 : -ENOMEM;
}

/* `event` has been read and begins the node. */
static int fill_node(struct builder *b, const yaml_event_t *event, unsigned depth, struct yaml_node *node)
{
	const yaml_char_t *tag, *anchor;
	int r;

	switch (event->type) {
	case YAML_SCALAR_EVENT:
		tag = event->data.scalar.tag;
		anchor = event->data.scalar.anchor;
		r = fill_scalar(b, event, node);
		break;
	case YAML_SEQUENCE_START_EVENT:
		tag = event->data.sequence_start.tag;
		anchor = event->data.sequence_start.anchor;
		node->kind = YAML_IS_SEQUENCE;
		r = parse_sequence(b, node, depth);
		break;
	case YAML_MAPPING_START_EVENT:
		tag = event->data.mapping_start.tag;
		anchor = event->data.mapping_start.anchor;
		node->kind = YAML_IS_MAPPING;
		r = parse_mapping(b, node, depth);
		break;
	default:
		return refuse(b, event->start_mark, "not valid YAML: expected a value");
	}
	if (r < 0)
		return r;
	if (tag)
		return refuse(b, event->start_mark, "tags are not used here; remove the '!'");
	return keep_anchor(b, event, anchor, node);
}

static int parse_node(struct builder *b, yaml_event_t *event, unsigned depth, const struct yaml_node **ret)
{
	char sentence[64];

	if (depth > b->bounds->depth) {
		snprintf(sentence, sizeof sentence, "nested more than %u deep", b->bounds->depth);
		return refuse(b, event->start_mark, sentence);
	}
	if (++b->tree->n_nodes > b->bounds->nodes) {
		snprintf(sentence, sizeof sentence, "more than %u values", b->bounds->nodes);
		return refuse(b, event->start_mark, sentence);
	}
	if (event->type == YAML_ALIAS_EVENT)
		return follow_alias(b, event, ret);

	struct yaml_node *node = take(b->tree, sizeof *node);

	if (!node)
		return -ENOMEM;
	node->line = (unsigned)event->start_mark.line + 1;
	node->column = (unsigned)event->start_mark.column + 1;

	int r = fill_node(b, event, depth, node);

	if (r == 0)
		*ret = node;
	return r;
}

/* Each document becomes an element of `documents`. */
static int parse_stream(struct builder *b, struct yaml_node *documents)
{
	struct yaml_edge **tail = &documents->first;

	for (;;) {
		_cleanup_(yaml_event_delete) yaml_event_t event = { 0 };
		int r = next_event(b, &event);

		if (r < 0 || event.type == YAML_STREAM_END_EVENT)
			return r;
		if (event.type == YAML_STREAM_START_EVENT || event.type == YAML_DOCUMENT_END_EVENT)
			continue;
		if (event.type == YAML_DOCUMENT_START_EVENT) {
			/* An anchor is known in its own document only. */
			b->tree->n_anchors = 0;
			if (documents->first && !b->bounds->documents)
				return refuse(b, event.start_mark, "a second document; a configuration is one");
			continue;
		}

		struct yaml_edge *edge = take_edge(b, &tail);

		if (!edge)
			return -ENOMEM;
		edge->line = (unsigned)event.start_mark.line + 1;
		edge->column = (unsigned)event.start_mark.column + 1;
		r = parse_node(b, &event, 0, &edge->node);
		if (r < 0)
			return r;
	}
}

static int parse_text(struct builder *b, const struct yaml_node **ret_documents)
{
	struct yaml_node *documents = take(b->tree, sizeof *documents);

	if (!documents)
		return -ENOMEM;
	documents->kind = YAML_IS_SEQUENCE;
	documents->line = documents->column = 1;
	*ret_documents = documents;
	return parse_stream(b, documents);
}

int yaml_documents_parse(struct yaml_tree **ret, const struct yaml_node **ret_documents, const char *text, size_t size,
			 const char *label, const struct yaml_bounds *bounds, struct fault *fault)
{
	struct builder b = { .bounds = bounds, .label = label, .input = text, .size = size, .fault = fault };
	const struct yaml_node *documents = NULL;

	b.tree = calloc(1, sizeof *b.tree);
	if (!b.tree || !yaml_parser_initialize(&b.parser)) {
		free(b.tree);
		return fault_set(fault, -ENOMEM, "%s: out of memory", label);
	}
	yaml_parser_set_input_string(&b.parser, (const unsigned char *)text, size);

	int r = parse_text(&b, &documents);

	yaml_parser_delete(&b.parser);
	if (r < 0) {
		yaml_tree_free(b.tree);
		return r == -ENOMEM ? fault_set(fault, r, "%s: out of memory", label) : r;
	}
	*ret = b.tree;
	*ret_documents = documents;
	return 0;
}

int yaml_tree_parse(struct yaml_tree **ret, const struct yaml_node **ret_root, const char *text, size_t size,
		    const char *label, struct fault *fault)
{
	const struct yaml_node *documents = NULL;
	int r = yaml_documents_parse(ret, &documents, text, size, label, &configuration_bounds, fault);

	if (r == 0)
		*ret_root = documents->first ? documents->first->node : NULL;
	return r;
}

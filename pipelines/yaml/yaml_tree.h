/* SPDX-License-Identifier: Apache-2.0 */
/* A YAML text as a tree in which every node and key knows its line and column. */
#ifndef SONDE_YAML_TREE_H
#define SONDE_YAML_TREE_H

#include "base/base.h"

enum yaml_kind { YAML_IS_SCALAR, YAML_IS_SEQUENCE, YAML_IS_MAPPING };

enum yaml_style { YAML_PLAIN, YAML_SINGLE_QUOTED, YAML_DOUBLE_QUOTED, YAML_BLOCK };

struct yaml_node {
	enum yaml_kind kind;
	bool plain;              /* a scalar without quotes: may be null */
	enum yaml_style style;   /* of a scalar, as it is written */
	unsigned line, column;   /* from 1 */
	const char *text;        /* of a scalar */
	struct yaml_edge *first; /* of a sequence or mapping */
};

/* One item of a sequence, or one key and its value. Aliases make two edges lead to one node, so a node has no `next`.
 */
struct yaml_edge {
	struct yaml_edge *next;
	const char *key;       /* NULL in a sequence */
	unsigned line, column; /* of the key */
	const struct yaml_node *node;
};

struct yaml_tree; /* opaque: owns all nodes, edges and texts */

/* Parses `text` of `size` bytes. `label` begins every error ("sonde.yaml" gives "sonde.yaml:3:1: ..."); `ret_root` is
 * NULL for an empty text. -EINVAL with the sentence, -ENOMEM. Duplicate keys, tags, a second document, and what exceeds
 * the bounds are errors. */
int yaml_tree_parse(struct yaml_tree **ret, const struct yaml_node **ret_root, const char *text, size_t size,
		    const char *label, struct fault *fault);
/* What a text may hold at most; `documents`: more than one. */
struct yaml_bounds {
	unsigned depth, nodes;
	bool documents;
};

/* The same for other files than the configuration: `ret_documents` is a sequence of the documents' roots. */
int yaml_documents_parse(struct yaml_tree **ret, const struct yaml_node **ret_documents, const char *text, size_t size,
			 const char *label, const struct yaml_bounds *bounds, struct fault *fault);
void yaml_tree_free(struct yaml_tree *tree);

/* Whether a scalar says "nothing": `key:`, `key: ~`, `key: null`. */
bool yaml_node_is_null(const struct yaml_node *node);

#endif

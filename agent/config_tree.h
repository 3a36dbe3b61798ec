/* SPDX-License-Identifier: Apache-2.0 */
/* A YAML text as a tree in which every node and key knows its line and column. Used by config.c only. */
#ifndef SONDE_CONFIG_TREE_H
#define SONDE_CONFIG_TREE_H

#include "base/base.h"

enum config_kind { CONFIG_SCALAR, CONFIG_SEQUENCE, CONFIG_MAPPING };

struct config_node {
	enum config_kind kind;
	bool plain;                /* a scalar without quotes: may be null */
	unsigned line, column;     /* from 1 */
	const char *text;          /* of a scalar */
	struct config_edge *first; /* of a sequence or mapping */
};

/* One item of a sequence, or one key and its value. Aliases make two edges lead to one node, so a node has no `next`.
 */
struct config_edge {
	struct config_edge *next;
	const char *key;       /* NULL in a sequence */
	unsigned line, column; /* of the key */
	const struct config_node *node;
};

struct config_tree; /* opaque: owns all nodes, edges and texts */

/* Parses `text` of `size` bytes. `label` begins every error ("sonde.yaml" gives "sonde.yaml:3:1: ..."); `ret_root` is
 * NULL for an empty text. -EINVAL with the sentence, -ENOMEM. Duplicate keys, tags, a second document, and what exceeds
 * the bounds are errors. */
int config_tree_parse(struct config_tree **ret, const struct config_node **ret_root, const char *text, size_t size,
		      const char *label, struct fault *fault);
void config_tree_free(struct config_tree *tree);

/* Whether a scalar says "nothing": `key:`, `key: ~`, `key: null`. */
bool config_node_is_null(const struct config_node *node);

#endif

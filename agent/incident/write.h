/* SPDX-License-Identifier: Apache-2.0 */
/* An incident as people and programs read it. */
#ifndef SONDE_INCIDENT_WRITE_H
#define SONDE_INCIDENT_WRITE_H

#include "incident/tree.h"

struct incident_style {
	bool colour;
	unsigned columns; /* 0: unbounded */
};

/* Who it was and where it came from: one line, then the tree, a line for each program. 0 or a negative errno of `out`. */
int incident_write_head(FILE *out, const struct tree *tree, const struct execution *root, struct incident_style style);
int incident_write_tree(FILE *out, const struct execution *top, const struct execution *root,
			struct incident_style style);

/* The members "lineage" and "processes" of a JSON object, with the comma behind each. */
int incident_write_json(FILE *out, const struct tree *tree, const struct execution *top, const struct execution *root);

#endif

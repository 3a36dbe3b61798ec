/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The executions that a journal's rows tell of, and which of them belong to one tree: one execution, all that descend from it, and the
 * other programs that the same processes ran.
 *
 * Bounded: rows of executions beyond TREE_MAX are counted and left out.
 */
#ifndef SONDE_INCIDENT_TREE_H
#define SONDE_INCIDENT_TREE_H

#include "base/base.h"

#define TREE_MAX     524288u /* about what a journal of 256 MiB can tell of; memory is taken as they come */
#define TREE_LINEAGE 16u
#define TREE_COMMAND 120u

/* One program that one process ran, or ran on with after a fork. */
struct execution {
	uint64_t proc, parent; /* parent 0: not known */
	uint32_t pid;          /* 0: not known */
	uint64_t first, last;  /* ns since the epoch; 0: only its child said of it */
	uint64_t begun;        /* ns since the epoch that it was forked or ran its program; 0: not seen */
	uint64_t rows, alerts; /* that name it, of those that tree_add() was to count */
	char comm[16];
	char command[TREE_COMMAND]; /* its arguments, cut; "" where its beginning was not seen */
	char container[13];         /* first digits */
	bool ended, member;
	uint32_t exit_code, signal;
	uint64_t cpu_ns, run_ns;
	struct execution *above, *next_below, *below, *last_below; /* in the tree, oldest first; set by tree_choose() */
};

struct tree; /* opaque */

int tree_make(struct tree **ret); /* 0 or -ENOMEM */
void tree_free(struct tree *tree);

/* What the row says of the executions that it names: of the one who did it, and of those to whom it was done. `counts`: it is one of their
 * rows. 0, also for a row of none; -EBADMSG for one that is damaged; -ENOMEM. */
int tree_add(struct tree *tree, const void *map, size_t size, bool counts);

/* Rows that name an execution for which there was no room. */
uint64_t tree_left_out(const struct tree *tree);

/* NULL: no row told of it. Of a pid, the execution of that pid whose row came last. */
struct execution *tree_of_proc(const struct tree *tree, uint64_t proc);
struct execution *tree_of_pid(const struct tree *tree, uint32_t pid);

/* Makes the tree of `root` and of `up` ancestors above it; `ret` is its first execution, which lies in the tree's memory. Once for each
 * tree. 0 or -ENOMEM. */
int tree_choose(struct tree *tree, struct execution *root, unsigned up, struct execution **ret);

/* Nearest first; how many of `room`. */
unsigned tree_lineage(const struct tree *tree, const struct execution *of, struct execution **ret, unsigned room);

/* Whether the row names an execution of the chosen tree. */
bool tree_has(const struct tree *tree, const void *map, size_t size);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The table of executions as its files share it. Private to this folder. */
#ifndef SONDE_PROCESSES_STATE_H
#define SONDE_PROCESSES_STATE_H

#include "identity/processes.h"

#define NO_ENTRY UINT32_MAX

/* exe, cwd and args of an execution; what it forked shares them. */
struct process_text {
	uint32_t refs, size;
	char bytes[];
};

struct process_entry {
	struct process process; /* first: a pointer to it is one to the entry */
	struct process_text *text;
	uint32_t children;                  /* entries that name it as parent */
	uint32_t next_by_proc, next_by_pid; /* chains of the two hash tables */
	uint32_t before, behind;            /* of its list: living or ended, oldest first */
	bool used, current;                 /* current: found by pid */
};

struct process_list {
	uint32_t first, last;
};

struct processes {
	struct process_entry *entries;
	uint32_t *by_proc, *by_pid;          /* `mask` + 1 heads of chains */
	uint32_t room, mask, n_used, unused; /* unused: head of the chain of free entries */
	size_t text_bytes, text_room;
	struct process_list living, ended;
	struct processes_health health;
};

/* Gives an execution its texts; false: there is no room. */
bool process_set_text(struct processes *processes, struct process_entry *entry, const struct process *from);

#endif

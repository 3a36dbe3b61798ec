/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who runs and who made whom: executions by their `proc`, learned from process.exec, process.fork and process.exit, and from the kernel's list of
 * tasks for those that were there before.
 *
 * An execution that ended, or that another one of its process followed, stays as long as there is room, for late events and for the lineage of
 * those that it made. Bounded in bytes: first go those that ended, oldest first and those with living children last; then the oldest of all.
 */
#ifndef SONDE_PROCESSES_H
#define SONDE_PROCESSES_H

#include "base/base.h"

#define PROCESS_PATH_MAX 4096u /* bytes kept of `exe` and of `cwd`; longer ones keep their begin */
#define PROCESS_ARGS_MAX 4096u /* bytes kept of the arguments */
#define LINEAGE_DEPTH    16u
#define LINEAGE_ROOM     (LINEAGE_DEPTH * 16u) /* bytes of all its names, a NUL behind each */

/* What is not known is 0 or empty. */
struct process {
	uint64_t proc, parent;
	uint64_t began; /* when its process was made: boot clock, ns */
	uint64_t ino, dev;
	uint32_t pid, ns_pid, uid, euid, gid, egid, sid, pgid;
	int64_t loginuid; /* -1: none */
	bool file_known;  /* of the program's file is known: */
	bool memfd, writable, upper;
	bool detailed; /* all but proc, parent, pid, began and comm is known */
	bool ended;
	char comm[16], tty[16];       /* end with a NUL */
	const char *exe, *cwd, *args; /* args: a NUL behind each */
	uint32_t exe_length, cwd_length, args_length;
};

struct processes; /* opaque */

/* `bytes`: of memory, at most, a half of it for texts. */
int processes_open(struct processes **ret, size_t bytes);
void processes_close(struct processes *processes);

/* Valid until the next call that changes the table. NULL: not known. */
const struct process *processes_find(const struct processes *processes, uint64_t proc);
/* What runs, or ran last, as `pid`. */
const struct process *processes_of_pid(const struct processes *processes, uint32_t pid);

/* A process was made; it is what its parent was until it begins a program. */
void processes_fork(struct processes *processes, uint64_t parent, uint64_t child, uint32_t pid, uint64_t time);
/* A program began in `pid`. What its process had before and `process` does not say (began, sid, pgid) is kept. */
void processes_exec(struct processes *processes, const struct process *process);
void processes_exit(struct processes *processes, uint64_t proc);
/* A process that was there before. What is known already stays. */
void processes_found(struct processes *processes, const struct process *process);
/* Its first thread took another name. */
void processes_rename(struct processes *processes, uint64_t proc, const char comm[16]);

/* Reads from /proc what is not known yet of all that run. What cannot be read stays unknown. Returns how many were read. */
size_t processes_read_details(struct processes *processes, const char *root);

/* The names of `parent` and its ancestors, nearest first, into `room`, a NUL behind each; returns the bytes. */
size_t processes_lineage(const struct processes *processes, uint64_t parent, char room[LINEAGE_ROOM]);

struct processes_health {
	uint64_t held, ended; /* ended: of those held */
	uint64_t evicted;     /* ended ones that went for room */
	uint64_t lost;        /* living ones that did, or found no room for themselves or their texts */
	uint64_t text_bytes;
};
void processes_health(const struct processes *processes, struct processes_health *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address spaces: which executable mappings a process had at a given time. Fed by the kernel's own mmap2, comm, fork and exit events
 * (perf_events.h), so that processes that live for a moment, dlopen, exec and fork are right without a race; processes older than
 * the agent are read from /proc once, when first asked for (by the caller, who may not block: spaces_give()).
 *
 * A pid has a chain of spaces in time: exec begins a new one, fork copies the parent's (shared until either changes), exit ends the last. What
 * ended is kept for a grace, for samples still on their way.
 */
#ifndef SONDE_SPACES_H
#define SONDE_SPACES_H

#include "base/base.h"
#include "stacks/elf_table.h"
#include "stacks/maps.h"

struct spaces; /* opaque */

/* What is known of a file when it is mapped. Exactly one of build id and device/inode may be missing. */
struct space_file {
	uint64_t number;   /* names this content within the agent: keyed hash; never 0 */
	uint64_t dev, ino; /* ino 0: only the build id is known */
	uint8_t build_id_length;
	uint8_t build_id[ELF_BUILD_ID_MAX];
	const char *path; /* as its process saw it */
};

struct space_mapping {
	uint64_t start, end, offset;
	uint64_t file;    /* number, for spaces_file(); 0: memory without a file */
	const char *name; /* of memory without a file: "[vdso]", "//anon", "" ...; NULL with a file */
};

struct space {
	uint64_t number; /* changes whenever the mappings do: names this state of this space */
	int pid;
	uint64_t begin, end; /* boot clock, ns; end 0: lives */
	bool known;          /* false: older than the agent, and /proc not read yet */
	int source; /* while not known: whose /proc/PID/maps says it, as `pid` or the process that it was forked from */
	uint32_t n_mappings;
	const struct space_mapping *mappings; /* sorted by start, no two overlapping */
};

struct spaces_options {
	uint64_t bytes;    /* bound of everything kept */
	uint64_t grace_ns; /* how long an ended space is kept */
};

struct spaces_health {
	uint64_t spaces, files, mappings, bytes, evicted;
};

int spaces_open(struct spaces **ret, const struct spaces_options *options);
void spaces_close(struct spaces *spaces);

/* The space of `pid` at `time` (boot clock), or NULL when nothing is known of the pid. Valid until the next call that changes anything. */
const struct space *spaces_find(struct spaces *spaces, int pid, uint64_t time);
/* NULL: evicted. */
const struct space_file *spaces_file(struct spaces *spaces, uint64_t number);

/* Events, in the order of their time. Times are of the boot clock. `path` is the kernel's text. A mapping that overlaps older ones takes
 * their place. Beyond the bounds the least recently used goes, counted. */
struct space_map_event {
	int pid;
	uint64_t time, start, end, offset;
	uint64_t dev, ino;
	uint8_t build_id_length; /* 0: dev and ino are set */
	uint8_t build_id[ELF_BUILD_ID_MAX];
	const char *path;
};
void spaces_map(struct spaces *spaces, const struct space_map_event *event);
void spaces_exec(struct spaces *spaces, int pid, uint64_t time);
void spaces_fork(struct spaces *spaces, int parent, int pid, uint64_t time);
void spaces_exit(struct spaces *spaces, int pid, uint64_t time);
/* Events between these times were lost, so what lived then may have become anything: nothing is known of it in between,
 * and it is unknown from `until` on, to be read from /proc when asked for. */
void spaces_lost(struct spaces *spaces, uint64_t since, uint64_t until);
/* What /proc/PID/maps said of a process older than the agent; `time` is taken when it has been read, and the events up
 * to it are told first (drain, then give): they win over it. An empty list marks the space as known too. A process that
 * is known to have exec'd since gets nothing from it; its spaces of before are marked as known. Spaces that share the
 * mappings of `pid` (see `source`) become known with it. Should an end before `time` be told after all, what was given
 * is taken back. */
void spaces_give(struct spaces *spaces, int pid, uint64_t time, const struct maps *maps);
/* Now and then: forgets what ended longer ago than the grace. */
void spaces_sweep(struct spaces *spaces, uint64_t now);
void spaces_health(const struct spaces *spaces, struct spaces_health *ret);

#endif

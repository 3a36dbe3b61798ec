/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader thread: everything about /proc and files that may block (a process may hold its own memory map locked, a
 * file may lie on a file system that never answers). Jobs go in, the same jobs with results come out; a thread that is
 * held up is left behind and replaced, a few times. Started with the first job, so that it has only the rights the
 * agent kept.
 */
#ifndef SONDE_READER_H
#define SONDE_READER_H

#include "stacks/kernel.h"
#include "stacks/maps.h"
#include "stacks/worker.h"

enum reader_kind { READER_MAPS, READER_OPEN, READER_PERF_MAP, READER_DEBUG, READER_KERNEL };

struct reader_job {
	struct reader_job *next;
	enum reader_kind kind;
	int pid;
	uint64_t number, time;  /* the asker's */
	struct mapping mapping; /* OPEN: of which; without an inode number its path must do */
	/* DEBUG: of the stripped file whose path this is. */
	uint8_t build_id_length, build_id[ELF_BUILD_ID_MAX];
	char link[WORKER_LINK_MAX];
	/* Results. */
	int status; /* 0 or a negative errno */
	struct maps maps;
	int fd; /* OPEN, PERF_MAP, DEBUG: the file; KERNEL: kallsyms, given in */
	struct file_identity identity;
	struct kernel_table *kernel;
	char path[]; /* OPEN */
};

struct reader; /* opaque */

int reader_open(struct reader **ret);
/* Ends the thread; one that is held up is left to end by itself. */
void reader_close(struct reader *reader);

/* Readable when a job is done. */
int reader_fd(const struct reader *reader);

/* A job to fill in; NULL when there is no memory or too many wait. */
struct reader_job *reader_new_job(struct reader *reader, enum reader_kind kind, const char *path);
void reader_submit(struct reader *reader, struct reader_job *job);

/* The next finished job, or NULL. The taker frees it, and owns fd, maps and kernel once it has set them to -1, empty
 * and NULL. */
struct reader_job *reader_take(struct reader *reader);
void reader_free_job(struct reader_job *job);

/* To be called now and then: replaces a thread held up for 2 s. Returns how many were left behind so far. */
unsigned reader_watch(struct reader *reader, uint64_t now);

#endif

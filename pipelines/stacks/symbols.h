/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From addresses to frame texts. The agent's side: it knows the mappings of processes and the kernel's symbols, opens
 * ELF files, and asks the stack worker, a process with no privileges, to read them. Asking never blocks: an answer not
 * there yet is asked for again by the caller's next round, and after its deadline the frame goes out as
 * library+0xoffset [build-id].
 */
#ifndef SONDE_SYMBOLS_H
#define SONDE_SYMBOLS_H

#include "base/base.h"

struct symbols; /* opaque */

struct symbols_options {
	uint64_t cache_bytes;  /* bound of the agent's own tables */
	uint64_t worker_bytes; /* bound of the worker's tables */
	unsigned worker_uid;   /* 0: keep (unprivileged tests) */
};

struct symbols_health {
	uint64_t files, frames, evicted;      /* now cached, now cached, so far (files, frames and processes) */
	uint64_t bytes;                       /* of the agent's own tables, now */
	uint64_t worker_restarts, unresolved; /* so far; frames whose function stayed unknown */
	uint64_t held_up;                     /* reads of /proc or of a file that did not come back in time, so far */
	int worker_pid;                       /* 0: none */
};

/* One frame as it stands now. */
struct symbols_frame {
	/* "function+0x1f (library)", "library+0x2a10 [build-id]", or "0x7f..." where no mapping is known; for the
	 * kernel "function+0x1f ([k])". Lives until the next call of any function here. */
	const char *text;
	size_t length;
	/* Names the place in the code, the same on every host: over build id and file offset where known, else over the
	 * text. */
	uint64_t id;
	/* Waiting cannot better it. */
	bool final;
};

/* Forks the worker's keeper: to be called while there is one thread and all privileges. */
int symbols_open(struct symbols **ret, const struct symbols_options *options, struct fault *fault);
void symbols_close(struct symbols *symbols);

/* A descriptor to watch: symbols_answer() takes in what arrived and sends on what waits, also for deadlines. A worker
 * that died or hangs is started anew, counted. */
int symbols_fd(const struct symbols *symbols);
void symbols_answer(struct symbols *symbols);

/* A process ran a program or ended. `proc` names the execution. What ended is kept for a grace of 60 s, for samples
 * still on their way. */
void symbols_process(struct symbols *symbols, uint64_t proc, int pid);
void symbols_process_ended(struct symbols *symbols, uint64_t proc);

/* `caller`: the address is where a call returns to, so the function is the one that holds the byte before it. */
void symbols_user_frame(struct symbols *symbols, uint64_t proc, int pid, uint64_t address, bool caller,
			struct symbols_frame *ret);
void symbols_kernel_frame(struct symbols *symbols, uint64_t address, bool caller, struct symbols_frame *ret);
void symbols_health(const struct symbols *symbols, struct symbols_health *ret);

#endif

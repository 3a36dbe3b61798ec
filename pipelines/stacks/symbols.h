/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From addresses to frame texts. The agent's side: it knows the mappings of processes and the kernel's symbols, opens ELF files, and asks
 * the stack worker, a process with no privileges, to read them. Asking never blocks: an answer not there yet is asked for again
 * by the caller's next round, and after its deadline the frame goes out as library+0xoffset [build-id].
 */
#ifndef SONDE_SYMBOLS_H
#define SONDE_SYMBOLS_H

#include "base/base.h"

struct symbols; /* opaque */

struct symbols_options {
	uint64_t cache_bytes; /* bound of the agent's own tables */
	uint64_t worker_bytes; /* RLIMIT_AS-like bound of the worker */
	unsigned worker_uid; /* 0: keep (unprivileged tests) */
};

struct symbols_health {
	uint64_t files, frames, evicted; /* now cached, now cached, so far */
	uint64_t worker_restarts, unresolved;
	int worker_pid; /* 0: none */
};

int symbols_open(struct symbols **ret, const struct symbols_options *options, struct fault *fault);
void symbols_close(struct symbols *symbols);

/* A descriptor to watch; symbols_answer() takes in what arrived. A worker that died or hangs is started anew, counted. */
int symbols_fd(const struct symbols *symbols);
void symbols_answer(struct symbols *symbols);

/* A process ran a program or ended: its mappings are read anew, or dropped after a grace of 10 s. `proc` names the execution. */
void symbols_process(struct symbols *symbols, uint64_t proc, int pid);
void symbols_process_ended(struct symbols *symbols, uint64_t proc);

/* The text of one frame: "function+0x1f (library)", "library+0x2a10 [build-id]", or "0x7f..." where no mapping is known. `ret_known` tells
 * whether waiting could still better it. The text lives until the next call of symbols_answer(). */
const char *symbols_user_frame(struct symbols *symbols, uint64_t proc, int pid, uint64_t address, bool *ret_final);
const char *symbols_kernel_frame(struct symbols *symbols, uint64_t address);
void symbols_health(const struct symbols *symbols, struct symbols_health *ret);

#endif

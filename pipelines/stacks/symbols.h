/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a sample to the texts of its frames, the agent's side. It knows the mappings of processes (spaces.h, fed by the kernel's events),
 * opens ELF files, and asks the stack worker, a process with no privileges, to unwind and to read them. Nothing here blocks: a stack
 * comes by a call back, and a name not there yet is asked for again by the caller's next round; after its deadline the frame goes out
 * as library+0xoffset [build-id].
 */
#ifndef SONDE_SYMBOLS_H
#define SONDE_SYMBOLS_H

#include "base/base.h"
#include "sonde/stack.h"
#include "stacks/debuginfod.h"
#include "stacks/unwind.h"

struct symbols; /* opaque */

struct symbols_options {
	uint64_t cache_bytes;                 /* bound of the agent's own tables */
	uint64_t worker_bytes;                /* bound of the worker's tables */
	unsigned worker_uid;                  /* 0: keep (unprivileged tests) */
	bool java_maps;                       /* JVMs are asked for the names of their compiled code (jvm.h) */
	struct debuginfod_options debuginfod; /* servers that are asked for debug files; its urls empty: none */
	bool no_events; /* without the kernel's events of mappings: /proc alone (unprivileged tests) */
};

struct symbols_health {
	uint64_t files, frames, spaces, evicted; /* now cached, now cached, now cached, so far */
	uint64_t bytes;                          /* of the agent's own tables, now */
	uint64_t worker_restarts, unresolved;    /* so far; frames whose function stayed unknown */
	uint64_t held_up; /* reads of /proc or of a file that did not come back in time, so far */
	uint64_t unwound, cut, broken,
		lost;         /* stacks so far: all, with an end too early, with no way on, lost with a worker */
	uint64_t events_lost; /* mapping events that did not fit their ring */
	int worker_pid;       /* 0: none */
};

/* What stack_frame.file is when it is no file's number. */
#define STACK_KERNEL    0ull
#define STACK_BARE      1ull /* no mapping holds the address */
#define STACK_ANONYMOUS 2ull /* memory without a file, and without names for its code */
#define STACK_COMPAT    3ull /* in place of the frames of a 32-bit program that are not looked for */
#define STACK_UPROBES   4ull /* the kernel's own code in a program, for instructions that a uprobe stands in place of */
#define STACK_LAST      15ull

/* A place in code: `at` is the offset in the file's content (with UNWIND_EXACT as in unwind.h), or the address where there is none. */
struct stack_frame {
	uint64_t file, at;
};

/* The program's frames of one sample, leaf first. Valid during the call. */
struct stack_frames {
	const struct stack_frame *frames;
	unsigned count;
	bool truncated; /* it does not reach the stack's root */
};

/* One frame as it stands now. */
struct symbols_frame {
	/* "function+0x1f (library)", "library+0x2a10 [build-id]", or "0x7f..." where no mapping is known; for the
	 * kernel "function+0x1f ([k])". Functions inlined there come before it, "function (library) [inline]", each text but the last
	 * followed by a NUL. Lives until the next call of any function here. */
	const char *text;
	size_t length; /* without the last NUL */
	/* Names the place in the code, the same on every host: over build id and file offset where known, else over the
	 * text. */
	uint64_t id;
	/* Waiting cannot better it. */
	bool final;
};

/* Forks the worker's keeper: to be called while there is one thread and all privileges. */
int symbols_open(struct symbols **ret, const struct symbols_options *options, struct fault *fault);
void symbols_close(struct symbols *symbols);

/* Whether debuginfod can be asked, where that was wanted: waits for its helper a moment. Else why not, as a sentence; all else works. */
int symbols_debuginfod(struct symbols *symbols, struct fault *fault);

/* A descriptor to watch. symbols_answer() takes in what arrived and sends on what waits: to be called when the descriptor is readable, after
 * samples were handed in or names asked for, and every 100 ms or so, as what is gathered has no timer of its own. A worker that died or hangs is started anew, counted. */
int symbols_fd(const struct symbols *symbols);
void symbols_answer(struct symbols *symbols);

/* Unwinds the program's side of a sample of `pid` taken at `time` (boot clock). `stack` is checked against `bytes`, what lies from its
 * begin to the end of its record: -EBADMSG. Else 0, and `done` is called exactly once, perhaps before this returns, with `context`; at
 * symbols_close() at the latest. */
int symbols_unwind(struct symbols *symbols, int pid, uint64_t time, const struct sonde_stack *stack, size_t bytes,
		   void (*done)(void *context, const struct stack_frames *frames), void *context);

/* All samples on their way come home now, with what is known of them. */
void symbols_finish(struct symbols *symbols);

void symbols_user_frame(struct symbols *symbols, const struct stack_frame *frame, struct symbols_frame *ret);

/* What memory the code lies in, as far as that is nothing that programs usually run. */
enum symbols_code {
	SYMBOLS_CODE_USUAL,     /* a file's, the kernel's, or a JIT's that names it */
	SYMBOLS_CODE_NAMELESS,  /* a file's that is in no folder: memfd_create(2) */
	SYMBOLS_CODE_ANONYMOUS, /* no file's, and nobody names it */
};
enum symbols_code symbols_user_code(struct symbols *symbols, const struct stack_frame *frame);

/* How it stands with a frame's text. */
enum symbols_state {
	SYMBOLS_ASKED, /* there is no name, and it was asked for */
	SYMBOLS_OLD,   /* there is one, and a better one was asked for: with what is inlined, or of a map that grew */
	SYMBOLS_NONE,  /* there is no better one now; there may be later */
	SYMBOLS_KNOWN,
};

/* Cheaper than the text. What is missing is asked for. */
enum symbols_state symbols_user_state(struct symbols *symbols, const struct stack_frame *frame);
enum symbols_state symbols_kernel_state(struct symbols *symbols);
/* Changes when there is more to know of frames that were known. */
uint32_t symbols_generation(const struct symbols *symbols);
/* `caller`: the address is where a call returns to, so the function is the one that holds the byte before it. */
void symbols_kernel_frame(struct symbols *symbols, uint64_t address, bool caller, struct symbols_frame *ret);

void symbols_health(const struct symbols *symbols, struct symbols_health *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stack worker: the process that reads ELF files and unwinds. The agent forks a keeper while it is still privileged and has one
 * thread; the keeper gives everything up and from then on only forks, kills and reaps workers, so that a worker can be
 * replaced when the agent itself may no longer change its uid, signal another user's process or execute a program.
 * Agent and worker talk over one sequenced-packet socket, one question at a time: a question about a file carries it, and samples to
 * unwind lie in the memory that both share (arena.h).
 */
#ifndef SONDE_WORKER_H
#define SONDE_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "stacks/arena.h"
#include "stacks/elf_table.h"

#define WORKER_WORK     (16u << 20) /* bytes of memory that tables are made in, most of it never touched */
#define WORKER_LINK_MAX 128u
#define WORKER_BATCH    64u         /* addresses named by one question */
#define WORKER_TEXT     (48u << 10) /* bytes of their names: what does not fit is asked for again */

enum worker_kind {
	WORKER_DESCRIBE, /* what is the attached file, and where may its debug file be? */
	WORKER_INLINES, /* make the table of its inlined functions, or the next part of it: status 1 when there is more to do */
	WORKER_NAMES,  /* which functions hold these places of it? */
	WORKER_LEARN,  /* make its unwind table; without a file: there is none */
	WORKER_UNWIND, /* unwind the first `count` samples of the arena */
};

enum worker_form { WORKER_ELF, WORKER_PERF_MAP };

/* One question. `file` names the file's content: the same number is the same table. */
struct worker_ask {
	uint32_t ticket, kind, form, count;
	uint64_t file, size;
	uint64_t debug_size; /* of the second attached file, the first one's debug file; 0: none */
	/* The build id that the file must have, where it was found by its name alone. */
	uint32_t build_id_length;
	uint8_t build_id[ELF_BUILD_ID_MAX];
	uint64_t places[WORKER_BATCH]; /* file offsets; addresses where the form is a perf map */
};

struct worker_name {
	uint32_t delta;
	uint16_t at, length; /* in text; length 0: unknown */
	uint16_t inlined; /* bytes behind the name: the functions inlined there, innermost first, each with its NUL */
};

struct worker_answer {
	uint32_t ticket, count; /* NAMES: of how many places this is the answer */
	int32_t status;   /* 0, or the negative errno of the file: then every place is unknown. -ESTALE: another file */
	uint32_t samples; /* UNWIND: of so many samples the results are there */
	uint32_t stripped;                /* DESCRIBE: its own functions are not all in there */
	char debug_link[WORKER_LINK_MAX]; /* DESCRIBE: name of its debug file, without folders; "" */
	uint32_t build_id_length;
	uint8_t build_id[ELF_BUILD_ID_MAX];
	struct worker_name names[WORKER_BATCH];
	char text[WORKER_TEXT]; /* sent only as far as used */
};

struct worker_options {
	size_t table_bytes;  /* of the worker's tables: its only memory that grows */
	struct arena *arena; /* shared with the workers */
	unsigned uid;        /* 0: keep */
};

/* What one worker works with: all memory that it will ever write. */
struct worker_state {
	struct worker_ask ask;
	struct worker_answer answer;
	struct shelf *shelf;
	void *work;         /* WORKER_WORK bytes */
	uint64_t inlines;   /* number of the file whose inlined functions are half read there; 0: none */
	bool inlines_debug; /* from its debug file */
	struct arena arena; /* a copy: the agent's heap is wiped here */
};

/* The worker's side: answers the question in `state->ask`. Returns how many bytes of the answer are used. `fd` and `debug_fd`: -1 for
 * none. */
size_t worker_answer(struct worker_state *state, int fd, int debug_fd);

/* Forks the keeper. `ret_control` is its socket: worker_spawn() writes to it, worker_spawned() reads. */
int worker_start_keeper(const struct worker_options *options, int *ret_control, int *ret_pid);

/* Asks the keeper for a new worker (the one before is killed) and returns the agent's end of its socket, non-blocking.
 */
int worker_spawn(int control);

/* The pid of the worker that was started last, as it is told: > 0, -EAGAIN when there is no news, -EPIPE when the
 * keeper is gone. */
int worker_spawned(int control);

/* Sends one question with its files (-1: none); returns 0, -EAGAIN, -EPIPE. */
int worker_send(int worker, const struct worker_ask *ask, int fd, int debug_fd);

/* Takes in one answer, checked: 0, -EAGAIN, -EPIPE (the worker is gone), -EBADMSG. */
int worker_receive(int worker, struct worker_answer *answer);

struct sandbox;

/* What a worker may do. 0 or a negative errno. */
int worker_sandbox(struct sandbox *ret);

/* Closes the control socket and waits for the keeper's end. */
void worker_stop_keeper(int control, int pid);

#endif

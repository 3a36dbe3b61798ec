/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stack worker: the process that reads ELF files. The agent forks a keeper while it is still privileged and has one
 * thread; the keeper gives everything up and from then on only forks, kills and reaps workers, so that a worker can be
 * replaced when the agent itself may no longer change its uid, signal another user's process or execute a program.
 * Agent and worker talk over one sequenced-packet socket; each question carries the open file.
 */
#ifndef SONDE_WORKER_H
#define SONDE_WORKER_H

#include <stddef.h>
#include <stdint.h>
#include "stacks/elf_table.h"

#define WORKER_BATCH 64u
#define WORKER_TEXT  (WORKER_BATCH * ELF_NAME_MAX)

/* One question: which functions hold these bytes of the attached file? `file` names the file's content: the same number
 * is the same table. */
struct worker_ask {
	uint32_t ticket, count;
	uint64_t file, size;
	uint64_t offsets[WORKER_BATCH];
};

struct worker_name {
	uint32_t delta;
	uint16_t at, length; /* in text; length 0: unknown */
};

struct worker_answer {
	uint32_t ticket, count;
	int32_t status; /* 0, or the negative errno of the file: then every frame is unknown */
	uint32_t build_id_length;
	uint8_t build_id[ELF_BUILD_ID_MAX];
	struct worker_name names[WORKER_BATCH];
	char text[WORKER_TEXT]; /* sent only as far as used */
};

struct worker_options {
	size_t table_bytes; /* of the worker's tables: its only memory that grows */
	unsigned uid;       /* 0: keep */
};

/* Forks the keeper. `ret_control` is its socket: worker_spawn() writes to it, worker_spawned() reads. */
int worker_start_keeper(const struct worker_options *options, int *ret_control, int *ret_pid);

/* Asks the keeper for a new worker (the one before is killed) and returns the agent's end of its socket, non-blocking.
 */
int worker_spawn(int control);

/* The pid of the worker that was started last, as it is told: > 0, -EAGAIN when there is no news, -EPIPE when the
 * keeper is gone. */
int worker_spawned(int control);

/* Sends one question with its file; returns 0, -EAGAIN, -EPIPE. */
int worker_send(int worker, const struct worker_ask *ask, int fd);

/* Takes in one answer, checked: 0, -EAGAIN, -EPIPE (the worker is gone), -EBADMSG. */
int worker_receive(int worker, struct worker_answer *answer);

/* Closes the control socket and waits for the keeper's end. */
void worker_stop_keeper(int control, int pid);

#endif

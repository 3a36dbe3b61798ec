/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files read and hashed by a thread of their own, so that nothing waits for them: a file system that hangs stops that thread alone. Each
 * version of a file (device, inode, time of change, size) is asked for once, as far as the table of what is known holds it.
 *
 *	hasher_ask(h, &subject, path, length);		// at each process.exec
 *	while (hasher_take(h, &answer)) ...		// at each tick
 *
 * An answer is never that of another content. Either the execution that ran the file goes on after it was read (the kernel lets nobody write
 * to a file that runs), or the file has the time of change that it had then, and that was no new one: file systems count in ticks.
 */
#ifndef SONDE_HASHER_H
#define SONDE_HASHER_H

#include "base/base.h"
#include "probes/exec/sha256.h"
#include "sonde/event.h"

struct hasher; /* opaque; every function is for one thread */

struct hasher_version {
	uint64_t dev, ino, changed, bytes; /* `changed`: ns since the epoch */
};

#define HASHER_PATH_MAX 4096

/* Who runs it: the execution's event, and where its stack begins. `/proc/PID/exe` is read; where that is gone or another by now, the file of
 * the path, if it is the same. */
struct hasher_subject {
	struct hasher_version version;
	struct sonde_event event;
	uint64_t start_stack;
	bool fresh; /* it was changed just before: its time of change tells nothing */
};

/* The path is raw as in a record: components leaf first. */
struct hasher_question {
	struct hasher_subject subject;
	uint32_t path_length;
	char path[HASHER_PATH_MAX];
};

enum hasher_state {
	HASHER_DONE,
	HASHER_TOO_LARGE,
	HASHER_GONE, /* it could not be found or read any more, or was changed meanwhile: asked for again with the next process */
};

struct hasher_answer {
	const struct hasher_question *question; /* until the next hasher_take() */
	enum hasher_state state;
	uint8_t sha256[SHA256_BYTES];
};

/* Files of more than `most` bytes are not read; of the others `rate` bytes a second at most (of one file a piece more). */
int hasher_new(struct hasher **ret, uint64_t most, uint64_t rate);

/* Ends the thread. Where a file system holds it for more than a second it is left behind, with its memory. */
void hasher_free(struct hasher *h);

/* 1: asked; 0: known, or under way; -ENOBUFS: too many are under way; or a negative errno when no thread could be made. */
int hasher_ask(struct hasher *h, const struct hasher_subject *subject, const char *path, size_t path_length);
bool hasher_take(struct hasher *h, struct hasher_answer *ret);
unsigned hasher_open(const struct hasher *h); /* asked for, and not taken */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files read and hashed by a thread of their own, so that nothing waits for them: a file system that hangs stops that thread alone. Each
 * version of a file (device, inode, time of change, size) is asked for once, as far as the table of what is known holds it.
 *
 *	hasher_ask(h, &version, event, path, length);	// at each process.exec
 *	while (hasher_take(h, &answer)) ...		// at each tick
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

/* The raw path of a record: components leaf first. `event`: of the process that runs the file, /proc/PID/exe of which is read; where that is
 * gone or another by now, the file of that path, if it is the same. */
struct hasher_question {
	struct hasher_version version;
	struct sonde_event event;
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
int hasher_ask(struct hasher *h, const struct hasher_version *version, const struct sonde_event *event,
	       const char *path, size_t path_length);
bool hasher_take(struct hasher *h, struct hasher_answer *ret);
unsigned hasher_open(const struct hasher *h); /* asked for, and not taken */

#endif

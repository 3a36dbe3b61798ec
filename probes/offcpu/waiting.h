/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the iterator that samples threads which stay blocked, on a thread of its own: pages of other programs' stacks may have to be read in.
 */
#ifndef SONDE_OFFCPU_WAITING_H
#define SONDE_OFFCPU_WAITING_H

#include <stdint.h>

struct waiting; /* opaque */

/* `program` is the iterator's descriptor; it stays the caller's. */
int waiting_open(struct waiting **ret, int program);
/* Ends the thread. One that hangs in the kernel is left behind, with its memory, until its wait ends. */
void waiting_close(struct waiting *waiting);

/* A round on the caller's thread, for one that only takes threads in: it reads no program's memory. */
int waiting_take_in(struct waiting *waiting);
/* Starts a round over all threads, at most some 1600 samples a second. Does nothing while one runs. The thread begins with the first: the agent
 * gives up its privileges while it has one thread. */
int waiting_start(struct waiting *waiting);
/* Runs a round as fast as it goes, and returns when it is done. -EBUSY: it was not within `timeout_ms`. */
int waiting_now(struct waiting *waiting, int timeout_ms);

/* Samples of the last round. */
uint64_t waiting_samples(const struct waiting *waiting);

#endif

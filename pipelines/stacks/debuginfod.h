/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last place where the debug file of a stripped program is looked for: servers on the network, asked by build id (elfutils'
 * debuginfod). Off unless servers are named, as it tells them which programs run here.
 *
 * A question takes as long as a network does, so a helper asks: a process of its own, begun while the agent is privileged. It executes
 * the agent's program anew, and so holds none of the agent's memory; libdebuginfod and what it brings along are loaded there and
 * nowhere else. Its user is unprivileged, it has no capability, cannot get any, and may not signal or trace others. What came is kept
 * in a folder of a bounded size, and handed over as a descriptor.
 */
#ifndef SONDE_DEBUGINFOD_H
#define SONDE_DEBUGINFOD_H

#include "base/base.h"

struct debuginfod_options {
	const char *const *urls; /* of the servers; none: it is off */
	size_t n_urls;
	const char *cache;    /* a folder of its own, made where it is not there, with the one above it */
	uint64_t cache_bytes; /* what it holds at most; a debug file has a quarter of it at most */
	unsigned timeout_s;   /* for a server to begin with its answer; six times as much for all of it */
	unsigned uid;         /* of the helper; 0: who we are */
};

struct debuginfod; /* opaque: the agent's end */

/* Begins the helper, and does not wait for it. Call it with one thread and before privileges are dropped. */
int debuginfod_start(struct debuginfod **ret, const struct debuginfod_options *options);
/* The helper ends at once, also while it asks. */
void debuginfod_stop(struct debuginfod *d);

/* Waits until the helper can ask. -ETIMEDOUT, or what it lacks, as a sentence. */
int debuginfod_ready(struct debuginfod *d, int wait_ms, struct fault *fault);

/* Readable when debuginfod_take() has something to do; -1 when the helper is gone. */
int debuginfod_fd(const struct debuginfod *d);

/* The debug file of this build id, as a descriptor that is the caller's. Never blocks. -EAGAIN: it is asked for, see debuginfod_take();
 * -EBUSY: too many questions wait, ask again after the next answer; -ENOENT: it is not to be had, in this run. What was handed out is
 * handed out again: the servers are asked once. */
int debuginfod_get(struct debuginfod *d, const uint8_t *build_id, size_t length, int *ret_fd, uint64_t *ret_size);

/* Takes in what the helper said: 1: debuginfod_get() may know more now; 0: it does not. */
int debuginfod_take(struct debuginfod *d);

/* For main(), before anything else: whether this process is to be the helper, and its life. */
bool debuginfod_is_helper(int argc, char **argv);
int debuginfod_helper(char **argv);

#endif

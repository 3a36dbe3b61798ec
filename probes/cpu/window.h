/* SPDX-License-Identifier: Apache-2.0 */
/* The samples of one window, summed by program and stack. */
#ifndef SONDE_CPU_WINDOW_H
#define SONDE_CPU_WINDOW_H

#include "base/base.h"
#include "probes/cpu/cpu.h"

/* One sum. Behind it lie the frames as in cpu_sample. */
struct window_entry {
	struct sonde_event event; /* of the first sample; tid is the process's when threads mixed */
	uint64_t hash, value;
	uint32_t next; /* in its chain: offset in the memory, 0: none */
	uint32_t bytes;
	uint16_t n_kernel, n_user;
	uint8_t truncated, done, _pad[2];
};

static inline const uint64_t *window_frames(const struct window_entry *entry)
{
	return (const uint64_t *)(entry + 1);
}

struct window; /* opaque */

/* `bytes` bounds its memory; `buckets` is a power of two. */
int window_open(struct window **ret, size_t bytes, uint32_t buckets);
void window_close(struct window *window);

/* Adds one sample. `ret_entry` is set when its stack is new. -ENOSPC when there is no room for a new one; -EBADMSG when the sample's
 * lengths do not fit its size. */
int window_add(struct window *window, const struct cpu_sample *sample, const struct window_entry **ret_entry);

/* The entry after `entry` (NULL: the first) in the order of their coming, or NULL. */
struct window_entry *window_next(struct window *window, struct window_entry *entry);

size_t window_count(const struct window *window);
void window_clear(struct window *window);

#endif

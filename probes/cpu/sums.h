/* SPDX-License-Identifier: Apache-2.0 */
/* The samples of one window, summed by program and stack. */
#ifndef SONDE_CPU_SUMS_H
#define SONDE_CPU_SUMS_H

#include "base/base.h"
#include "probes/cpu/cpu.h"

/* One sum. Behind it lie the frames as in cpu_sample. */
struct cpu_sum {
	struct sonde_event event; /* of the first sample; tid is the process's when threads mixed */
	uint64_t hash, value;
	uint32_t next; /* in its chain: offset in the memory, 0: none */
	uint32_t bytes;
	uint16_t n_kernel, n_user;
	uint8_t truncated, done, _pad[2];
};

static inline const uint64_t *cpu_sum_frames(const struct cpu_sum *entry)
{
	return (const uint64_t *)(entry + 1);
}

struct cpu_sums; /* opaque */

/* `bytes` bounds its memory; `buckets` is a power of two. */
int cpu_sums_open(struct cpu_sums **ret, size_t bytes, uint32_t buckets);
void cpu_sums_close(struct cpu_sums *window);

/* Adds one sample. `ret_entry` is set when its stack is new. -ENOSPC when there is no room for a new one; -EBADMSG when the sample's
 * lengths do not fit its size. */
int cpu_sums_add(struct cpu_sums *window, const struct cpu_sample *sample, const struct cpu_sum **ret_entry);

/* The entry after `entry` (NULL: the first) in the order of their coming, or NULL. */
struct cpu_sum *cpu_sums_next(struct cpu_sums *window, struct cpu_sum *entry);

size_t cpu_sums_count(const struct cpu_sums *window);
void cpu_sums_clear(struct cpu_sums *window);

#endif

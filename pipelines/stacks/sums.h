/* SPDX-License-Identifier: Apache-2.0 */
/* The samples of one window, summed by thread, stack and cause. */
#ifndef SONDE_SUMS_H
#define SONDE_SUMS_H

#include "stacks/symbols.h"

/* One sample whose stack is known. */
struct sums_sample {
	const struct sonde_event *event;
	const __u64 *kernel; /* frames, leaf first */
	const struct stack_frame *user;
	const void *cause;
	uint64_t value;
	uint16_t n_kernel, n_user, cause_size;
	bool truncated;
};

/* One sum. Behind it lie the kernel's frames, the program's, and the cause. */
struct sum {
	struct sonde_event event; /* of the first sample */
	uint64_t hash, value, samples;
	uint32_t next; /* in its chain: offset in the memory, 0: none */
	uint32_t bytes;
	uint16_t n_kernel, n_user, cause_size;
	uint8_t truncated, done, named;
	uint32_t generation; /* of all names, when these were looked at */
};

static inline const uint64_t *sum_kernel(const struct sum *sum)
{
	return (const uint64_t *)(sum + 1);
}

static inline const struct stack_frame *sum_user(const struct sum *sum)
{
	return (const struct stack_frame *)(sum_kernel(sum) + sum->n_kernel);
}

static inline const void *sum_cause(const struct sum *sum)
{
	return sum_user(sum) + sum->n_user;
}

struct sums; /* opaque */

/* `bytes` bounds its memory; `buckets` is a power of two. */
int sums_open(struct sums **ret, size_t bytes, uint32_t buckets);
void sums_close(struct sums *sums);

/* Adds one sample. `ret_sum` is set when its stack is new. -ENOSPC when there is no room for a new one. */
int sums_add(struct sums *sums, const struct sums_sample *sample, struct sum **ret_sum);

/* The sum after `sum` (NULL: the first) in the order of their coming, or NULL. */
struct sum *sums_next(struct sums *sums, struct sum *sum);

size_t sums_count(const struct sums *sums);
void sums_clear(struct sums *sums);

#endif

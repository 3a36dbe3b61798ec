/* SPDX-License-Identifier: Apache-2.0 */
/* Which exit of a thread is the end of its process. */
#ifndef SONDE_PERF_THREADS_H
#define SONDE_PERF_THREADS_H

#include <stdbool.h>
#include <stdint.h>

struct perf_thread_slot {
	int pid; /* 0: free */
	uint32_t others : 31, leader_gone : 1;
};

struct perf_threads {
	struct perf_thread_slot *slots;
	uint32_t mask, count;
};

int perf_threads_open(struct perf_threads *threads);
void perf_threads_close(struct perf_threads *threads);

/* A thread other than the first began. */
void perf_threads_begin(struct perf_threads *threads, int pid);
/* The process began, or exec'd: it has its first thread alone. */
void perf_threads_reset(struct perf_threads *threads, int pid);
/* A thread ended. True: and its process with it, as far as is known. */
bool perf_threads_end(struct perf_threads *threads, int pid, int tid);

static inline uint64_t perf_threads_bytes(const struct perf_threads *threads)
{
	return ((uint64_t)threads->mask + 1) * sizeof *threads->slots;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms of waits for a CPU, summed by cgroup over a window. */
#ifndef SONDE_SCHED_GROUPS_H
#define SONDE_SCHED_GROUPS_H

#include "base/base.h"
#include "probes/sched/sched.h"

#define SCHED_GROUPS_MAX 512u

struct sched_group {
	uint64_t cgroup; /* with cgroup_v1 its key; 0: all cgroups for which the table had no room */
	uint64_t count, sum_ns, max_ns;
	uint64_t hist[SCHED_BUCKETS];
	bool cgroup_v1, used;
};

struct sched_groups {
	struct sched_group groups[SCHED_GROUPS_MAX], rest;
	unsigned used;
};

void sched_groups_add(struct sched_groups *groups, const struct sched_report *report);
void sched_groups_clear(struct sched_groups *groups);

/* The least time of a bucket, in ns. */
uint64_t sched_bucket_begin(unsigned bucket);
/* A time that `part` of 1000 waits did not exceed: the end of the bucket that holds the last of them, or the longest wait. */
uint64_t sched_group_percentile(const struct sched_group *group, unsigned part);
/* The histogram as msgpack: a map of a bucket's begin, as text, to its count, empty buckets left out. Returns the bytes written, 0
 * when `room` is too small (SCHED_HIST_ROOM is not). */
#define SCHED_HIST_ROOM (8 + SCHED_BUCKETS * 24)
size_t sched_group_pack(const struct sched_group *group, void *to, size_t room);

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the kernel side of every module and the agent share beside events: counters, settings, the identity of tasks.
 */
#ifndef SONDE_SHARED_H
#define SONDE_SHARED_H

#include "sonde/event.h"

#define SONDE_TYPES_MAX   128  /* event types of one agent run */
#define SONDE_ERRORS_MAX  1024 /* places where helpers failed */
#define SONDE_FILTERS_MAX 1024 /* entries of each filter list */

/* Why an event was lost before user space had it. */
enum sonde_drop {
	SONDE_DROP_RING_FULL, /* no room in the ring */
	SONDE_DROP_MAP_FULL,  /* a table that the measure needs was full */
	SONDE_DROP_READ,      /* the kernel's memory could not be read */
	SONDE_DROP_TOO_LARGE, /* no size class holds it */
	SONDE_DROP_RATE,      /* more than the module may say in a second */
	SONDE_DROP_KERNEL_REASONS,
};

/* Per type and CPU. produced = filtered + the sum of dropped + records in the ring. */
struct sonde_counts {
	__u64 produced, filtered;
	__u64 dropped[SONDE_DROP_KERNEL_REASONS];
};

/* A helper that failed: where, and what it said. */
struct sonde_error_key {
	__u32 module; /* number of the object */
	__u32 line;
	__s32 error;
};

/* What is known of a task, kept with the task itself. */
struct sonde_task {
	__u64 proc, parent;
	__u32 flags; /* SONDE_TASK_* */
	__u32 ended; /* its process's exit event went out */
};

/* It, or an ancestor, is in filter.pid. Two marks: one is in use (settings.selected) while a new selection is made with the
 * other. */
#define SONDE_TASK_SELECTED  1u
#define SONDE_TASK_SELECTED2 2u

#define SONDE_FILTER_CGROUP 1u
#define SONDE_FILTER_USER   2u
#define SONDE_FILTER_COMM   4u
#define SONDE_FILTER_PID    8u

/* In a key of filter.cgroup: the id is of the chosen v1 hierarchy. Each hierarchy counts its ids by itself. */
#define SONDE_FILTER_CGROUP_V1 (1ull << 63)

/* Set by the agent while everything runs. */
struct sonde_settings {
	__u32 filters;                      /* SONDE_FILTER_*: lists that are not empty */
	__u32 selected;                     /* SONDE_TASK_SELECTED*: the mark in use */
	__s64 sched_offset;                 /* ns: scheduler clock minus boot clock */
	__u64 urgent[SONDE_TYPES_MAX / 64]; /* a bit for each type that the agent is woken for at once */
};

#ifndef __bpf__
_Static_assert(sizeof(struct sonde_task) == 24 && sizeof(struct sonde_settings) == 32, "shared with the kernel side");
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* filter: of the configuration, brought into the kernel's tables, where every event is held against it once. */
#ifndef SONDE_AGENT_FILTER_H
#define SONDE_AGENT_FILTER_H

#include "config.h"
#include "loader.h"

/* Brings the lists into the kernel and marks the tasks that run; also the first call, that takes in the tasks that were there
 * before. What old and new lists both mean is never left out meanwhile. -EINVAL: a name that is nobody's, with the key; -E2BIG;
 * nothing has changed then. */
int filter_apply(struct loader *loader, const struct config *config, struct fault *fault);

/* A cgroup (`hierarchy` 0: of v2, 1: of the chosen v1) was made or renamed: it joins the table when the configuration means it or its
 * container, and leaves it when not. Or it was removed. */
void filter_cgroup_made(struct loader *loader, const struct config *config, unsigned hierarchy, uint64_t id,
			const char *path);
void filter_cgroup_removed(struct loader *loader, unsigned hierarchy, uint64_t id);

#endif

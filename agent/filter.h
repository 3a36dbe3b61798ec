/* SPDX-License-Identifier: Apache-2.0 */
/* filter: of the configuration, brought into the kernel's tables, where every event is held against it once. */
#ifndef SONDE_FILTER_H
#define SONDE_FILTER_H

#include "config.h"
#include "loader.h"

/* Fills the tables anew and marks the tasks that run; also the first call, that takes in the tasks that were there before.
 * -EINVAL: a name that is nobody's, with the key. Until it returns 0 nothing has changed but the tables of names. */
int filter_apply(struct loader *loader, const struct config *config, struct fault *fault);

/* A cgroup was made: when the configuration means it (or its container), it joins the table. */
void filter_cgroup_made(struct loader *loader, const struct config *config, uint64_t id, const char *path);

#endif

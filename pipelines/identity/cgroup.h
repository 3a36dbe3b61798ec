/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a cgroup's number, as the kernel reports it with each event, to its path and its container.
 * The table is filled by one walk of the mounted hierarchies at start and then by the kernel's own cgroup_mkdir,
 * cgroup_rename and cgroup_rmdir events, so a container that lived for 10 ms still has its name. Bounded: the oldest removed entries go first.
 */
#ifndef SONDE_CGROUP_H
#define SONDE_CGROUP_H

#include "base/base.h"

struct cgroups; /* opaque */

struct cgroup_name {
	const char *path;      /* "/system.slice/docker-3f...scope" as in /proc/PID/cgroup */
	const char *container; /* 64 hex digits (12 to 64, as the runtime writes it), or "" */
	uint16_t path_length, container_length;
};

/* Which hierarchies are mounted, from /proc/self/mountinfo (or `mountinfo` for tests). A v1 hierarchy that systemd or a runtime uses
 * (name=systemd, memory, pids) is chosen beside v2 when v2 holds nothing but the root. */
struct cgroup_layout {
	char v2[256];      /* mount point of cgroup2, or "" */
	char v2_root[256]; /* the cgroup that is mounted there: "" for the root, else "/docker/3f..." */
	char v1[256];      /* mount point of the chosen v1 hierarchy, or "" */
	char v1_root[256];
	char v1_controller[32]; /* "memory", "pids", "name=systemd" ... */
};
int cgroup_layout_read(const char *mountinfo, struct cgroup_layout *ret);

/* Walks what `layout` names. At most `capacity` cgroups are held (and 256 bytes of path for each, on the whole). */
int cgroups_open(struct cgroups **ret, const struct cgroup_layout *layout, size_t capacity);
void cgroups_close(struct cgroups *cgroups);

/* `hierarchy` is 0 for v2, 1 for the chosen v1; ids are kernfs node ids (the inode numbers of the folders).
 * An id that is known takes the new path (a rename), and what lies below it follows. -EINVAL: `path` is not absolute or over 4095
 * bytes; -ENOSPC: full of living cgroups. A removed cgroup is still found for 60 s, unless its place is needed. */
int cgroups_add(struct cgroups *cgroups, unsigned hierarchy, uint64_t id, const char *path);
void cgroups_remove(struct cgroups *cgroups, unsigned hierarchy, uint64_t id);

/* Never fails: an unknown id is looked up once by walking again (at most once a second), else named "cgroup:ID". The pointers live until the next
 * call of any function here. */
void cgroups_find(struct cgroups *cgroups, unsigned hierarchy, uint64_t id, struct cgroup_name *ret);

/* The container id in a cgroup path, by the layouts of docker, containerd, CRI-O, podman, Kubernetes (cgroupfs and systemd drivers),
 * LXC, systemd-nspawn, ECS, Garden and Mesos; of nested containers the innermost; a container's monitor (conmon) is none. Returns its length and start within `path`; 0 when there is none. */
size_t cgroup_container(const char *path, const char **ret_start);

/* The uid of the Kubernetes pod in a cgroup path, with dashes, as the API server writes it. Its length, or 0. */
size_t cgroup_pod(const char *path, char ret_uid[37]);

struct cgroups_health {
	uint64_t live, removed; /* held now; removed: kept for late events */
	uint64_t evicted;       /* removed ones that went before their 60 s, for room */
	uint64_t refused;       /* living ones that found no room */
	uint64_t unknown;       /* ids that no walk could name */
	uint64_t walks;
};
void cgroups_health(const struct cgroups *cgroups, struct cgroups_health *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container's runtime has written of it on the host: its name, image, labels and pod. Read from the runtime's own files, so that no runtime has to be
 * asked: docker's config.v2.json and hostconfig.json, the bundle of containerd (CRI, k3s, nerdctl), and what CRI-O and podman keep below
 * containers/storage.
 */
#ifndef SONDE_RUNTIME_H
#define SONDE_RUNTIME_H

#include "base/base.h"

#define RUNTIME_LABELS_MAX 64u   /* of a container; further ones are left out */
#define RUNTIME_TEXT_MAX   8192u /* bytes of all texts of a container; what finds no room is left out */

struct runtimes; /* opaque */

struct runtime_label {
	const char *key, *value;
};

/* NULL: not known. */
struct runtime_info {
	const char *name;     /* "web" */
	const char *image;    /* as it was asked for: "docker.io/library/nginx:1.25" */
	const char *image_id; /* "sha256:..." */
	const char *pod, *namespace, *sandbox;
	bool privileged, privileged_known;
	uint32_t n_labels;
	struct runtime_label labels[RUNTIME_LABELS_MAX];
};

/* `root` goes before each path: "" but for tests. */
int runtimes_open(struct runtimes **ret, const char *root);
void runtimes_close(struct runtimes *runtimes);

/* Of the container of this id, as cgroup_container() gives it. NULL: nothing is known of it, which is looked for again a second later, and then at longer
 * intervals. Valid until the next call. `now`: boot clock, ns. */
const struct runtime_info *runtimes_find(struct runtimes *runtimes, const char *id, size_t length, uint64_t now);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DECODE_TAGS_H
#define DECODE_TAGS_H

#include <bpf/btf.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The tags of an object's BTF ("sonde:NAME=VALUE" or "sonde:NAME", as SONDE_TAG of sonde/event.h writes them), by what they are on. An object has
 * thousands of types and is asked for hundreds of tags: they are read once. The texts are the BTF's own.
 */
struct tags {
	const struct btf *btf;
	struct tag *all; /* by type, then component, then as the BTF has them */
	size_t n;
};

/* -ENOMEM, or 0. `btf` outlives the tags; NULL has none. */
int tags_read(struct tags *tags, const struct btf *btf);
void tags_release(struct tags *tags);

/* The value of tag `name` on `type` (its member `component`, -1 for itself); NULL when it is not there, "" when it has none. */
const char *tags_get(const struct tags *tags, uint32_t type, int component, const char *name);

#endif

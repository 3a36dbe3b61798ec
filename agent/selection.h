/* SPDX-License-Identifier: Apache-2.0 */
/* Which records of a stream a command is about: by type, by time and by expression. */
#ifndef SONDE_SELECTION_H
#define SONDE_SELECTION_H

#include "base/base.h"

struct selection; /* opaque */

/* All of them may be NULL: no such condition. `types` are globs separated by commas; `since` and `until` as for
 * parse_when(). -EINVAL and friends with a sentence in `fault` that begins with the option's name. */
struct selection_options {
	const char *types, *where, *since, *until;
};

int selection_make(struct selection **ret, const struct selection_options *options, struct fault *fault);
void selection_free(struct selection *selection);

/* Whether the record fulfils all conditions. Allocates nothing. */
bool selection_match(const struct selection *selection, const void *map, size_t size);

#endif

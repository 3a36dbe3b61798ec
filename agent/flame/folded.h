/* SPDX-License-Identifier: Apache-2.0 */
/* Folded stacks, the input of flamegraph.pl and its kind: `comm;root;...;leaf value`, one line for each stack. */
#ifndef SONDE_FLAME_FOLDED_H
#define SONDE_FLAME_FOLDED_H

#include "base/base.h"

struct folded; /* opaque */

/* Sums in at most `memory` bytes. When they are full, what is summed so far is written and summing begins anew: then a
 * stack may have several lines, which the readers of this format add up. */
int folded_make(struct folded **ret, FILE *out, size_t memory);
void folded_free(struct folded *folded);

/* 0; -EBADMSG: damaged, or no stack in it; -EMEDIUMTYPE: its unit cannot be added to that of earlier rows; -ENOMEM; an
 * error of the file. */
int folded_add(struct folded *folded, const void *map, size_t size);

/* Writes what is left. 0 or a negative errno of the file. */
int folded_end(struct folded *folded);

/* A sentence for the user on what was written otherwise than asked, or NULL. */
const char *folded_note(const struct folded *folded);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A profile in pprof's format, profile.proto in gzip, as `go tool pprof`, Speedscope and Pyroscope read it.
 * https://github.com/google/pprof/blob/main/proto/profile.proto
 */
#ifndef SONDE_FLAME_PPROF_H
#define SONDE_FLAME_PPROF_H

#include "base/base.h"

struct pprof; /* opaque */

/* Sums in at most `memory` bytes. Rows that do not fit any more are counted on one stack that says so: totals stay right. */
int pprof_make(struct pprof **ret, size_t memory);
void pprof_free(struct pprof *pprof);

/* 0; -EBADMSG: damaged, or no stack in it; -ENOMEM. */
int pprof_add(struct pprof *pprof, const void *map, size_t size);

/* Writes the file. 0; -ENODATA: no row came, and nothing is written; -ENOMEM; an error of the file. */
int pprof_write(struct pprof *pprof, FILE *out);

uint64_t pprof_left_out(const struct pprof *pprof); /* rows whose stacks did not fit */

#endif

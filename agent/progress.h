/* SPDX-License-Identifier: Apache-2.0 */
/* One line on a terminal that says how far long work is; nothing elsewhere, and nothing for what is done at once. */
#ifndef SONDE_PROGRESS_H
#define SONDE_PROGRESS_H

#include "base/base.h"

struct progress {
	const char *command, *what;
	uint64_t begin_ns, shown_ns;
	bool terminal, shown;
};

void progress_begin(struct progress *progress, const char *command, const char *what);
/* `done` of `total` parts, and how many records that is; cheap enough to be called for each record. */
void progress_show(struct progress *progress, uint64_t done, uint64_t total, uint64_t records);
/* Takes the line away. */
void progress_end(struct progress *progress);

#endif

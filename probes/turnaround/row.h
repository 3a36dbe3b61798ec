/* SPDX-License-Identifier: Apache-2.0 */
/* The row of one service and window, out of the kernel side's sums. */
#ifndef SONDE_TURNAROUND_ROW_H
#define SONDE_TURNAROUND_ROW_H

#include "flows/histogram.h"
#include "probes/turnaround/turnaround.h"

#define TURNAROUND_HIST_ROOM 32768u /* all buckets in use, each with the largest count */

struct turnaround_row {
	struct tcp_turnaround row;
	uint8_t hist[TURNAROUND_HIST_ROOM];
	struct histogram times; /* begins with all zeros; between rows, of the last one */
};

/* What the row has of the times. */
void turnaround_fill_times(struct tcp_turnaround *row, const struct histogram *times);

/* Adds to the buckets and the sum what is in `passed`: answers of which only the number is known, and that none took `slow` ns (0: nothing is slow), as the
 * others were that were not slow. */
void turnaround_spread(struct turnaround_sums *sums, uint64_t slow);

/* Whether there is anything to say: false for what the filters leave out, and where nothing was answered. */
bool turnaround_row(struct turnaround_row *to, const struct turnaround_key *key, const struct turnaround_sums *sums,
		    uint64_t time, uint64_t window_ns);

#endif

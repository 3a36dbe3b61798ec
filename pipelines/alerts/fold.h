/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Equal alerts, folded: the first one of a rule and a proc goes out at once; further ones within the window are counted, and go out as one at its
 * end. Bounded: where there is no more room, the oldest window ends early.
 */
#ifndef SONDE_FOLD_H
#define SONDE_FOLD_H

#include "base/base.h"
#include "sonde/event.h"

#define FOLD_WINDOWS    1024u /* open at once */
#define FOLD_OUTPUT_MAX 1024u /* bytes kept of the last output */

struct fold; /* opaque */

/* One alert; and what is told at the end of a window: the last of those that were folded. */
struct fold_alert {
	uint32_t rule;
	uint64_t count; /* further ones, the last included; 0 of one alert */
	const struct sonde_event *event;
	uint64_t seq;
	const char *output;
	size_t output_size;
	bool cut; /* the output */
};

/* `tell` is called for each window that ends with alerts in it. */
int fold_open(struct fold **ret, uint64_t window_ns, void (*tell)(void *context, const struct fold_alert *folded),
	      void *context);
void fold_close(struct fold *fold);

/* Whether the alert opens a window, and so is to go out now; else it was counted. */
bool fold_take(struct fold *fold, const struct fold_alert *alert, uint64_t now);
/* Ends the windows that are over. */
void fold_tick(struct fold *fold, uint64_t now);
/* Ends all. */
void fold_flush(struct fold *fold);

#endif

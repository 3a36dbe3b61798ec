/* SPDX-License-Identifier: Apache-2.0 */
/* A filter expression (pipelines/filter) over frames of any link type: over Ethernet frames whole, over others behind their link header. */
#ifndef SONDE_REPLAY_FILTER_H
#define SONDE_REPLAY_FILTER_H

#include "packets/capture.h"

struct replay_filter; /* opaque */

/* -EINVAL or -E2BIG with the place and a way out when the expression is none. */
int replay_filter_new(struct replay_filter **ret, const char *expression, struct fault *fault);
void replay_filter_free(struct replay_filter *filter);

/* 1: it passes, 0: it does not; -EINVAL: the expression makes no sense for this link type. */
int replay_filter_match(struct replay_filter *filter, const struct frame *frame, struct fault *fault);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A filter expression of libpcap over frames of any link type: compiled once for each that comes. */
#ifndef SONDE_REPLAY_FILTER_H
#define SONDE_REPLAY_FILTER_H

#include "packets/capture.h"

struct replay_filter; /* opaque */

/* -EINVAL with libpcap's own sentence when the expression is none. */
int replay_filter_new(struct replay_filter **ret, const char *expression, struct fault *fault);
void replay_filter_free(struct replay_filter *filter);

/* 1: it passes, 0: it does not; -EINVAL: the expression makes no sense for this link type. */
int replay_filter_match(struct replay_filter *filter, const struct frame *frame, struct fault *fault);

#endif

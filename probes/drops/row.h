/* SPDX-License-Identifier: Apache-2.0 */
/* The row of one key and window, out of the kernel side's sums. */
#ifndef SONDE_DROPS_ROW_H
#define SONDE_DROPS_ROW_H

#include "probes/drops/drops.h"
#include "probes/drops/reasons.h"

#include <stdbool.h>
#include <stddef.h>

/* Whether there is anything to say: not where nothing was dropped. The location stays empty. */
bool drops_row(struct net_drop *row, const struct drops_key *key, const struct drops_sums *sums,
	       const struct reasons *reasons, uint64_t time, uint64_t window_ns);

/* Takes apart "function+0x1f ([k])", as symbols have it; an address without a name is a function's name. */
void drops_row_place(struct net_drop *row, const char *text, size_t length);

/* The name of a key's protocol, at most 15 bytes; "" for what is no packet. */
void drops_protocol(uint16_t protocol, char ret[16]);

#endif

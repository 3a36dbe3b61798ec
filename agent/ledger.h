/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ledger: what became of every event, from the kernel to the broker's acknowledgement. For each type
 *
 *	produced  = filtered + dropped{reason} + journaled
 *	journaled = acknowledged + pending + expired{reason}
 *
 * The kernel side counts what it produced, filtered and dropped; the agent counts by itself what came out of the rings. What the kernel says is on
 * its way (in a ring, in a window not yet closed) is `open`, and not yet in produced. When everything is drained open must be 0: what
 * is left then is counted as dropped for "unaccounted", and is a bug.
 */
#ifndef SONDE_LEDGER_H
#define SONDE_LEDGER_H

#include "base/base.h"
#include "decode/schema.h"
#include "journal/journal.h"

/* The kernel's reasons (enum sonde_drop) come first. */
enum ledger_reason {
	LEDGER_RING_FULL,
	LEDGER_MAP_FULL,
	LEDGER_READ_FAILED,
	LEDGER_NO_SIZE_CLASS,
	LEDGER_RATE,
	LEDGER_JOURNAL_FULL, /* the module's overflow policy kept it out */
	LEDGER_DISK_FULL,    /* no segment could be begun */
	LEDGER_TOO_LARGE,    /* larger than a record of the journal may be */
	LEDGER_MALFORMED,    /* the record contradicts its declaration */
	LEDGER_TABLE_FULL,   /* a module's own table */
	LEDGER_STOPPED,      /* the module was stopped before it was clear what to say */
	LEDGER_UNACCOUNTED,
	LEDGER_REASONS,
};
extern const char *const ledger_reason_names[LEDGER_REASONS];

enum ledger_expiry {
	LEDGER_OVERFLOW,  /* a sink fell behind the journal's bound */
	LEDGER_RETENTION, /* no sink is enabled: the journal keeps what fits its bound */
	LEDGER_REFUSED,   /* the far side refused the record for good */
	LEDGER_EXPIRIES,
};
extern const char *const ledger_expiry_names[LEDGER_EXPIRIES];

struct ledger; /* opaque */

/* `counters` is the shared per-CPU map; -1: none (tests). */
int ledger_new(struct ledger **ret, const struct schema *schema, int counters);
void ledger_free(struct ledger *ledger);

/* The loop's thread: one event of `type` came out of a ring; was made by the agent itself, or would have been; reached the journal; was lost. */
void ledger_received(struct ledger *ledger, uint16_t type);
void ledger_made(struct ledger *ledger, uint16_t type, uint64_t count);
void ledger_journaled(struct ledger *ledger, uint16_t type, uint64_t count);
void ledger_dropped(struct ledger *ledger, uint16_t type, enum ledger_reason reason, uint64_t count);

/* Any thread: records of this run that are acknowledged, or gone before they were. */
void ledger_acknowledged(struct ledger *ledger, uint16_t type);
void ledger_expired(struct ledger *ledger, uint16_t type, enum ledger_expiry why);
/* A record of an earlier run expired before the sink took it: no part of this run's accounts, but told as a loss. */
void ledger_expired_earlier(struct ledger *ledger, uint16_t type);

/* Reads the kernel's counters. With `final` what is still open becomes unaccounted. */
void ledger_refresh(struct ledger *ledger, bool final);

struct ledger_row {
	uint64_t produced, filtered, journaled, acknowledged, pending, open;
	uint64_t dropped[LEDGER_REASONS];
	uint64_t expired[LEDGER_EXPIRIES];
};
/* As of the last refresh. */
void ledger_row(const struct ledger *ledger, uint16_t type, struct ledger_row *ret);

/* Events that the kernel put into the rings and nobody has taken out yet: of one type; of all. As of the last refresh. */
uint64_t ledger_in_ring(const struct ledger *ledger, uint16_t type);
uint64_t ledger_in_rings(const struct ledger *ledger);

/* Records that expired, of all types and runs. */
uint64_t ledger_expired_sum(const struct ledger *ledger);

/* Calls `lost` for each type and reason with more losses than were told: `count` more. They are told once it returns 0; else they
 * come again at the next call. Returns whether all is told. */
typedef int ledger_lost(void *context, uint16_t type, const char *reason, uint64_t count);
bool ledger_each_loss(struct ledger *ledger, ledger_lost *lost, void *context);

/* All rows as one msgpack map: its size, or 0 when `room` is too small. */
size_t ledger_pack(const struct ledger *ledger, void *room, size_t size);

#endif

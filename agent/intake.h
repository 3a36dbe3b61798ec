/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From ring records and rows to journal records: the one place where an event gets its seq, its identity's texts and its way
 * into the journal or into the ledger as lost.
 */
#ifndef SONDE_INTAKE_H
#define SONDE_INTAKE_H

#include "base/base.h"
#include "decode/schema.h"
#include "identity/cgroup.h"
#include "identity/processes.h"
#include "journal/journal.h"
#include "ledger.h"

enum overflow { OVERFLOW_DROP_OLDEST, OVERFLOW_DROP_NEWEST, OVERFLOW_BLOCK };

struct stack_text;
struct intake; /* opaque */

struct intake_setup {
	const struct schema *schema;
	struct ledger *ledger;
	struct journal *journal;
	struct cgroups *cgroups;     /* NULL: no paths */
	struct processes *processes; /* NULL: no lineage */
	const char *host, *run;
};

int intake_open(struct intake **ret, const struct intake_setup *setup);
void intake_close(struct intake *intake);

/* What the module's events do when the journal is full of what no sink has taken; and whether a sink follows at all. */
void intake_set_overflow(struct intake *intake, const char *module, enum overflow overflow);
void intake_set_followed(struct intake *intake, bool followed);

/* Journals one event whose `type` and `size` are right; counts it as journaled or dropped. Returns 0 or a negative errno. */
int intake_write(struct intake *intake, const struct sonde_event *event, const struct stack_text *stack);

/* Whether events of a module with overflow `block` must wait in that ring now. With intake_end_blocking() nothing waits any more:
 * what does not fit is dropped and counted. */
bool intake_is_blocked(const struct intake *intake, bool priority_ring);
void intake_end_blocking(struct intake *intake);

/* Whether the agent's own events can be written without pushing out what a module's policy keeps. If not, those that can wait
 * should: a ledger is a sum, and losses are told later. */
bool intake_has_room(const struct intake *intake);

/* The map of the last record, until the next one is written. */
const void *intake_last(const struct intake *intake, uint32_t *ret_size);

/* Nanoseconds to add to the boot clock, as in the records. */
int64_t intake_boot_to_epoch(const struct intake *intake);

void intake_update_clock(struct intake *intake);
uint64_t intake_seq(const struct intake *intake); /* of the last record */

#endif

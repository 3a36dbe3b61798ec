/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overflow: what happens when the next record would make the journal give up records that the sink still wants. By the module's
 * policy, drop-newest keeps the new one out; block leaves it in its ring, where the kernel counts what no longer fits; drop-oldest
 * lets the journal give up its oldest segment.
 *
 * Security outlives profiles: once the backlog is over three quarters of the bound and its oldest segment holds events of the
 * priority ring, a bulk event with drop-oldest is kept out too; the last quarter is for priority events. `marks` tells where those are:
 * a ring of slots, one for each chunk of positions, each with the newest position of a priority record in its chunk. It spans
 * twice the bound, so no two chunks of the backlog share a slot. What earlier runs left is taken for priority.
 */
#include "intake.h"

#include <errno.h>
#include <string.h>

#include "encode/plan.h"
#include "stacks/stack_text.h"

#define MARKS           1024
#define BLOCKED_ROOM    (72u << 10) /* the largest ring record, as a map */
#define CHUNKS_IN_BOUND (MARKS / 2)
#define OWN_ROOM        (16u << 10) /* kept for the agent's own last words */
#define OWN_MODULE      "identity"  /* its events are the agent's own */

struct intake {
	struct intake_setup setup;
	struct envelope envelope;
	struct plan *plans[SONDE_TYPES_MAX];
	uint8_t overflow[SONDE_TYPES_MAX]; /* by type */
	bool blocks[2];                    /* by ring (1: priority): a type with overflow `block` uses it */
	bool keeps;                        /* a type has drop-newest or block: nothing that is journaled may go */
	bool followed, blocking;
	uint64_t seq;
	uint64_t first_position; /* of this run */
	uint64_t chunk_bytes;
	uint64_t marks[MARKS]; /* positions + 1; 0: none */
	char lineage[LINEAGE_ROOM];
	const void *last;
	uint32_t last_size;
};

int intake_open(struct intake **ret, const struct intake_setup *setup)
{
	struct intake *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return -ENOMEM;
	s->setup = *setup;
	s->blocking = true;
	s->first_position = journal_end(setup->journal);
	s->chunk_bytes = MAX_OF(journal_bound(setup->journal) / CHUNKS_IN_BOUND, 4096);
	r = envelope_init(&s->envelope, setup->host, setup->run);
	if (r < 0) {
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void intake_close(struct intake *intake)
{
	if (!intake)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(intake->plans); i++)
		plan_free(intake->plans[i]);
	free(intake);
}

void intake_set_overflow(struct intake *intake, const char *module, enum overflow overflow)
{
	intake->blocks[0] = intake->blocks[1] = intake->keeps = false;
	for (size_t i = 0; i < schema_count(intake->setup.schema); i++) {
		const struct event_type *type = schema_type(intake->setup.schema, i);

		if (!strcmp(type->module, module))
			intake->overflow[i] = (uint8_t)overflow;
		intake->blocks[type->priority] |= intake->overflow[i] == OVERFLOW_BLOCK;
		intake->keeps |= intake->overflow[i] != OVERFLOW_DROP_OLDEST;
	}
}

void intake_set_followed(struct intake *intake, bool followed)
{
	intake->followed = followed;
}

void intake_update_clock(struct intake *intake)
{
	envelope_update_clock(&intake->envelope);
}

int64_t intake_boot_to_epoch(const struct intake *intake)
{
	return intake->envelope.boot_to_epoch;
}

uint64_t intake_seq(const struct intake *intake)
{
	return intake->seq;
}

bool intake_is_blocked(const struct intake *intake, bool priority_ring)
{
	return intake->blocks[priority_ring] && intake->followed && intake->blocking &&
	       journal_would_expire(intake->setup.journal, BLOCKED_ROOM);
}

void intake_end_blocking(struct intake *intake)
{
	intake->blocking = false;
}

bool intake_has_room(const struct intake *intake)
{
	return !intake->keeps || !intake->followed || !journal_would_expire(intake->setup.journal, OWN_ROOM);
}

static void mark(struct intake *intake, uint64_t position)
{
	intake->marks[position / intake->chunk_bytes % MARKS] = position + 1;
}

/* Whether a priority record is among the oldest that the sink has not taken: about a segment of them, which would go first. */
static bool oldest_has_priority(const struct intake *intake, uint64_t backlog)
{
	uint64_t from = journal_end(intake->setup.journal) - backlog;
	struct journal_health health;

	if (from < intake->first_position)
		return true;
	journal_health(intake->setup.journal, &health);
	uint64_t to = from + health.bytes / MAX_OF(health.segments, 1);

	for (uint64_t chunk = from / intake->chunk_bytes; chunk <= to / intake->chunk_bytes; chunk++) {
		uint64_t at = intake->marks[chunk % MARKS];

		if (at > from && at <= to)
			return true;
	}
	return false;
}

static bool keeps_out(const struct intake *intake, const struct event_type *type, uint32_t room)
{
	struct journal *journal = intake->setup.journal;
	uint64_t bound, backlog;

	if (!intake->followed)
		return false;
	if (intake->overflow[type->id] != OVERFLOW_DROP_OLDEST)
		return journal_would_expire(journal, room + OWN_ROOM);
	if (type->priority)
		return false;
	bound = journal_bound(journal);
	backlog = journal_backlog(journal);
	return backlog > bound - bound / 4 && oldest_has_priority(intake, backlog);
}

static struct plan *plan_of(struct intake *intake, const struct event_type *type)
{
	if (!intake->plans[type->id])
		plan_compile(&intake->plans[type->id], type);
	return intake->plans[type->id];
}

static void identify(const struct intake *intake, const struct sonde_event *event, struct identity_text *ret)
{
	struct cgroup_name name;

	*ret = (struct identity_text){ 0 };
	if (!intake->setup.cgroups || !event->cgroup)
		return;
	cgroups_find(intake->setup.cgroups, event->flags & SONDE_FLAG_CGROUP_V1 ? 1 : 0, event->cgroup, &name);
	*ret = (struct identity_text){ .cgroup = name.path,
				       .cgroup_length = name.path_length,
				       .container = name.container,
				       .container_length = name.container_length };
}

static void add_lineage(struct intake *intake, const struct event_type *type, const struct sonde_event *event,
			struct identity_text *identity)
{
	if (!type->security || !intake->setup.processes || !event->parent)
		return;
	identity->lineage = intake->lineage;
	identity->lineage_size = (uint32_t)processes_lineage(intake->setup.processes, event->parent, intake->lineage);
}

static void add_stack(const struct stack_text *stack, struct identity_text *identity)
{
	identity->stack = stack->texts;
	identity->stack_size = (uint32_t)stack->size;
	identity->stack_id = stack->id;
	identity->stack_truncated = stack->truncated;
}

static int drop(struct intake *intake, const struct event_type *type, enum ledger_reason reason, int error)
{
	ledger_dropped(intake->setup.ledger, type->id, reason, 1);
	return error;
}

int intake_write(struct intake *intake, const struct sonde_event *event, const struct stack_text *stack)
{
	const struct event_type *type = schema_type(intake->setup.schema, event->type);
	struct plan *plan = plan_of(intake, type);
	struct identity_text identity;
	uint32_t room, size;
	uint8_t *map;

	if (!plan)
		return drop(intake, type, LEDGER_TABLE_FULL, -ENOMEM);
	identify(intake, event, &identity);
	add_lineage(intake, type, event, &identity);
	if (stack)
		add_stack(stack, &identity);
	room = plan_room(plan, event->size,
			 identity.cgroup_length + identity.container_length +
				 IDENTITY_LINEAGE_ROOM(identity.lineage_size) +
				 (stack ? IDENTITY_STACK_ROOM(identity.stack_size) : 0));
	if (keeps_out(intake, type, room))
		return drop(intake, type, LEDGER_JOURNAL_FULL, -ENOBUFS);
	map = journal_reserve(intake->setup.journal, room);
	if (!map)
		return drop(intake, type, errno == EMSGSIZE ? LEDGER_TOO_LARGE : LEDGER_DISK_FULL, -errno);
	size = plan_encode(plan, &intake->envelope, event, intake->seq + 1, &identity, map, room);
	if (!size)
		return drop(intake, type, LEDGER_MALFORMED, -EBADMSG);
	if (type->priority && (type->security || strcmp(type->module, OWN_MODULE)))
		mark(intake, journal_end(intake->setup.journal));
	journal_commit(intake->setup.journal, size, ++intake->seq);
	ledger_journaled(intake->setup.ledger, type->id, 1);
	intake->last = map;
	intake->last_size = size;
	return 0;
}

const void *intake_last(const struct intake *intake, uint32_t *ret_size)
{
	*ret_size = intake->last_size;
	return intake->last;
}

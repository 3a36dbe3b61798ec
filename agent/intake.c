/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overflow. Nothing is refused before the journal's backlog (what the sink has not taken) nears its bound. Then, by the module's
 * policy: drop-newest keeps new events out; block leaves them in their ring, where the kernel counts what no longer fits; drop-oldest
 * lets the journal give up its oldest segment. So that security outlives profiles, the last quarter of the bound is for events of
 * the priority ring: a bulk event with drop-oldest is kept out once the backlog is over three quarters.
 */
#include "intake.h"

#include <errno.h>
#include <string.h>

#include "encode/plan.h"

struct intake {
	struct intake_setup setup;
	struct envelope envelope;
	struct plan *plans[SONDE_TYPES_MAX];
	uint8_t overflow[SONDE_TYPES_MAX]; /* by type */
	bool followed;
	uint64_t seq;
};

int intake_open(struct intake **ret, const struct intake_setup *setup)
{
	struct intake *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return -ENOMEM;
	s->setup = *setup;
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
	for (size_t i = 0; i < schema_count(intake->setup.schema); i++)
		if (!strcmp(schema_type(intake->setup.schema, i)->module, module))
			intake->overflow[i] = (uint8_t)overflow;
}

void intake_set_followed(struct intake *intake, bool followed)
{
	intake->followed = followed;
}

void intake_update_clock(struct intake *intake)
{
	envelope_update_clock(&intake->envelope);
}

uint64_t intake_seq(const struct intake *intake)
{
	return intake->seq;
}

bool intake_is_blocked(const struct intake *intake, bool priority_ring)
{
	uint64_t bound = journal_bound(intake->setup.journal);

	if (!intake->followed || journal_backlog(intake->setup.journal) < bound - bound / 8)
		return false;
	for (size_t i = 0; i < schema_count(intake->setup.schema); i++)
		if (intake->overflow[i] == OVERFLOW_BLOCK &&
		    schema_type(intake->setup.schema, i)->priority == priority_ring)
			return true;
	return false;
}

static bool keeps_out(const struct intake *intake, const struct event_type *type)
{
	uint64_t bound, backlog;

	if (!intake->followed || (type->priority && intake->overflow[type->id] != OVERFLOW_DROP_NEWEST))
		return false;
	bound = journal_bound(intake->setup.journal);
	backlog = journal_backlog(intake->setup.journal);
	return backlog > (type->priority ? bound - bound / 8 : bound - bound / 4);
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
	if (!intake->setup.cgroups || event->flags & SONDE_FLAG_NO_TASK || !event->cgroup)
		return;
	cgroups_find(intake->setup.cgroups, event->flags & SONDE_FLAG_CGROUP_V1 ? 1 : 0, event->cgroup, &name);
	*ret = (struct identity_text){ .cgroup = name.path,
				       .cgroup_length = name.path_length,
				       .container = name.container,
				       .container_length = name.container_length };
}

static int drop(struct intake *intake, const struct event_type *type, enum ledger_reason reason, int error)
{
	ledger_dropped(intake->setup.ledger, type->id, reason, 1);
	return error;
}

int intake_write(struct intake *intake, const struct sonde_event *event)
{
	const struct event_type *type = schema_type(intake->setup.schema, event->type);
	struct plan *plan = plan_of(intake, type);
	struct identity_text identity;
	uint32_t room, size;
	uint8_t *map;

	if (!plan)
		return drop(intake, type, LEDGER_TABLE_FULL, -ENOMEM);
	if (keeps_out(intake, type))
		return drop(intake, type, LEDGER_JOURNAL_FULL, -ENOBUFS);
	identify(intake, event, &identity);
	room = plan_room(plan, event->size, identity.cgroup_length + identity.container_length);
	map = journal_reserve(intake->setup.journal, room);
	if (!map)
		return drop(intake, type, errno == EMSGSIZE ? LEDGER_TOO_LARGE : LEDGER_DISK_FULL, -errno);
	size = plan_encode(plan, &intake->envelope, event, intake->seq + 1, &identity, map, room);
	if (!size)
		return drop(intake, type, LEDGER_MALFORMED, -EBADMSG);
	journal_commit(intake->setup.journal, size, ++intake->seq);
	ledger_journaled(intake->setup.ledger, type->id, 1);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* From the rings to the intake, the identity stage, or the module that an internal type belongs to. */
#include "agent_state.h"

#include <bpf/libbpf.h>
#include "filter.h"

#define BULK_BATCH     256  /* bulk records between two looks at the priority ring */
#define PRIORITY_BATCH 4096 /* and the other way round */

/* The kernel tells of every cgroup as it comes and goes, so that even those that lived for a moment have a name. */
static void take_cgroup(struct agent *a, const struct cgroup_changed *e)
{
	unsigned hierarchy = e->_hierarchy == 0 ? 0 : 1;
	char path[CGROUP_PATH_MAX + 1];

	if (e->_hierarchy != 0 && e->_hierarchy != a->v1_hierarchy)
		return;
	if (e->event.size < sizeof *e || (uint32_t)e->_path.offset + e->_path.length > e->event.size ||
	    e->_path.length > CGROUP_PATH_MAX)
		return;
	memcpy(path, (const char *)e + e->_path.offset, e->_path.length);
	path[e->_path.length] = '\0';
	if (e->_change == CGROUP_REMOVED) {
		cgroups_remove(a->cgroups, hierarchy, e->_id);
		filter_cgroup_removed(a->setup.loader, hierarchy, e->_id);
	} else {
		cgroups_add(a->cgroups, hierarchy, e->_id, path);
		filter_cgroup_made(a->setup.loader, a->setup.config, hierarchy, e->_id, path);
	}
}

struct guest *agent_guest(struct agent *a, const char *module)
{
	for (size_t i = 0; i < ARRAY_SIZE(a->guests); i++)
		if (a->guests[i].module && !strcmp(module_name(a->guests[i].module), module))
			return &a->guests[i];
	return NULL;
}

/* The stack of an event that comes right behind it. */
static void take_stack(struct agent *a, const struct event_type *type, const struct sonde_event *e)
{
	if (event_stacks_sample(a->stacks, e) < 0)
		ledger_dropped(a->ledger, type->id, LEDGER_MALFORMED, 1);
	else
		ledger_journaled(a->ledger, type->id, 1);
}

/* An event whose stack may still be on its way: its number stands at the record's end. */
static void take_with_stack(struct agent *a, const struct sonde_event *e, const void *record, size_t size)
{
	uint64_t number;

	memcpy(&number, (const uint8_t *)record + size - sizeof number, sizeof number);
	event_stacks_hold(a->stacks, number, e);
}

void agent_on_stack(void *context, const struct sonde_event *event, const struct stack_text *stack)
{
	agent_write(context, event, stack, NULL);
}

static void take_internal(struct agent *a, const struct event_type *type, const struct sonde_event *e)
{
	struct guest *guest;

	if (!strcmp(type->record, "sonde_stack_sample")) {
		take_stack(a, type, e);
		return;
	}

	if (!strcmp(type->record, "cgroup_changed")) {
		take_cgroup(a, (const struct cgroup_changed *)e);
		ledger_journaled(a->ledger, type->id, 1);
		return;
	}
	if (!strcmp(type->record, "guard_note")) {
		agent_take_note(a, (const struct guard_note *)e);
		ledger_journaled(a->ledger, type->id, 1);
		return;
	}
	guest = agent_guest(a, type->module);
	if (guest && module_companion(guest->module) && module_companion(guest->module)->record)
		module_companion(guest->module)->record(&guest->host, e);
	else
		ledger_dropped(a->ledger, type->id, LEDGER_MALFORMED, 1);
}

/* What companions watch and complete, anew: one of them came or went. */
void agent_note_watches(struct agent *a)
{
	memset(a->watched, 0, sizeof a->watched);
	memset(a->refiners, 0, sizeof a->refiners);
	for (size_t i = 0; i < ARRAY_SIZE(a->guests); i++) {
		const struct sonde_module *m = a->guests[i].module ? module_companion(a->guests[i].module) : NULL;

		for (size_t t = 0; m && t < schema_count(a->setup.schema); t++) {
			const struct event_type *type = schema_type(a->setup.schema, t);

			a->watched[t] |= m->watches && !strcmp(type->name, m->watches);
			if (m->refines && !strcmp(type->name, m->refines) &&
			    !strcmp(type->module, module_name(a->guests[i].module)))
				a->refiners[t] = &a->guests[i];
		}
	}
}

static void show(struct agent *a, const struct event_type *type, const struct sonde_event *e, uint64_t seq)
{
	for (size_t i = 0; i < ARRAY_SIZE(a->guests); i++) {
		const struct sonde_module *m = a->guests[i].module ? module_companion(a->guests[i].module) : NULL;

		if (m && m->watches && !strcmp(m->watches, type->name))
			m->watched(&a->guests[i].host, e, seq);
	}
}

static bool drain_ring(struct agent *a, struct ring_buffer *ring, bool priority_ring);

/* A program's first event on bulk can come out before the program's own on priority, which then still lies there. */
static void note_process(struct agent *a, const struct event_type *type, const struct sonde_event *e)
{
	unsigned left = a->batch_left;

	if (type->security && !type->priority && e->proc && !processes_find(a->processes, e->proc)) {
		drain_ring(a, a->priority, true);
		a->batch_left = left;
	}
	agent_note_process(a, type, e);
}

/* The event as it is to be written. NULL: it is malformed. */
static const struct sonde_event *refined(struct agent *a, const struct sonde_event *e)
{
	struct guest *guest = a->refiners[e->type];

	return guest ? module_companion(guest->module)->refine(&guest->host, e) : e;
}

static void take_event(struct agent *a, const struct event_type *type, const struct sonde_event *record, size_t size)
{
	const struct sonde_event *e = refined(a, record);
	uint64_t seq = 0;

	if (!e) {
		ledger_dropped(a->ledger, type->id, LEDGER_MALFORMED, 1);
		return;
	}
	note_process(a, type, e);
	if (e->flags & SONDE_FLAG_STACK && size >= sizeof *e + sizeof(uint64_t))
		take_with_stack(a, e, record, size);
	else
		agent_write(a, e, NULL, &seq);
	if (a->watched[type->id])
		show(a, type, e, seq);
}

static void take_record(struct agent *a, const void *data, size_t size)
{
	const struct sonde_event *e = data;
	const struct event_type *type = size >= sizeof *e ? schema_type(a->setup.schema, e->type) : NULL;

	if (!type)
		return; /* its type's count stays open, and becomes unaccounted */
	ledger_received(a->ledger, type->id);
	if (e->size > size || e->size < type->size)
		ledger_dropped(a->ledger, type->id, LEDGER_MALFORMED, 1);
	else if (type->internal)
		take_internal(a, type, e);
	else
		take_event(a, type, e, size);
}

/* Ends a batch early where the next record would have to wait: what a callback was given is taken. */
static int after_record(struct agent *a, bool priority_ring)
{
	return --a->batch_left && !intake_is_blocked(a->intake, priority_ring) ? 0 : -EAGAIN;
}

int agent_on_priority(void *context, void *data, size_t size)
{
	take_record(context, data, size);
	return after_record(context, true);
}

int agent_on_bulk(void *context, void *data, size_t size)
{
	take_record(context, data, size);
	return after_record(context, false);
}

/* Whether there is more. */
static bool drain_ring(struct agent *a, struct ring_buffer *ring, bool priority_ring)
{
	if (intake_is_blocked(a->intake, priority_ring))
		return false;
	a->batch_left = priority_ring ? PRIORITY_BATCH : BULK_BATCH;
	return ring_buffer__consume(ring) == -EAGAIN;
}

/* Only what no thread is needed for: none may begin before the agent has given up its privileges, and stacks want the reader of files. */
void agent_drain_priority(struct agent *a)
{
	for (int rounds = 0; rounds < 64 && drain_ring(a, a->priority, true); rounds++)
		;
}

/* Takes what is there: priority first, then bulk, looking at priority again after each batch. A flood does not keep the loop from
 * its other work. */
void agent_drain(struct agent *a)
{
	uint64_t before = intake_seq(a->intake);
	bool more = true;

	for (int rounds = 0; more && rounds < 64; rounds++) {
		more = drain_ring(a, a->priority, true);
		more |= drain_ring(a, a->bulk, false);
	}
	if (intake_seq(a->intake) != before)
		journal_publish(a->journal);
}

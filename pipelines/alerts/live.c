/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is prepared: for each type of the run, where its keys lie and which rules can fire on it; for each field that the rules ask for, what serves
 * it. An answer is kept for the rest of the event, so that a hundred rules ask for a path once.
 */
#include "alerts/live_state.h"

#include <errno.h>
#include <string.h>

static const char *const key_names[] = {
#define KEY_NAME(name) #name,
	LIVE_KEYS(KEY_NAME)
#undef KEY_NAME
};

/* --- answering --- */

static bool answer(struct live *live, const struct rule_ref *ref, struct rule_value *ret)
{
	const struct served *how = live->by_slot[ref->slot];

	return how && how->get(live, ref, how, ret);
}

static bool first_of(struct rule_event *event, const struct rule_ref *ref, struct rule_value *ret)
{
	struct live *live = (struct live *)event;
	struct memo *memo = &live->memos[ref->slot];

	if (memo->serial != live->serial) {
		memo->value = (struct rule_value){ 0 };
		memo->there = answer(live, ref, &memo->value);
		memo->serial = live->serial;
	}
	if (memo->there)
		*ret = memo->value;
	return memo->there;
}

static bool next_of(struct rule_event *event, const struct rule_ref *ref, struct rule_value *value)
{
	struct live *live = (struct live *)event;
	const struct served *how = live->by_slot[ref->slot];

	if (!how)
		return false;
	if (how->get == get_ancestor)
		return process_next(live, ref, how, value);
	return how->get == get_event && event_next(live, how, value);
}

/* --- preparing --- */

/* The key that says which call it was, of types that rules are about: a row of a profile may have such a key too. Of io_uring, the operation has the name of its
 * call. */
static const struct field *call_of(const struct live_type *t)
{
	if (strcmp(t->type->name, "syscall.compat") == 0)
		return t->keys[KEY_syscall];
	if (strcmp(t->type->name, "uring.op") == 0)
		return t->keys[KEY_op];
	return live_call_names(t->type->name) ? t->keys[KEY_call] : NULL;
}

static void find_keys(struct live_type *t)
{
	for (size_t i = 0; i < t->type->n_fields; i++)
		for (size_t k = 0; k < N_KEYS; k++)
			if (strcmp(t->type->fields[i].key, key_names[k]) == 0)
				t->keys[k] = &t->type->fields[i];
	t->call = call_of(t);
}

static bool runs(const struct live_setup *setup, const struct event_type *type)
{
	return !type->internal && (!setup->runs || setup->runs(setup->context, type->module));
}

static const struct event_type *type_named(const struct live_setup *setup, const char *name)
{
	return schema_find(setup->schema, name, strlen(name));
}

/* Of two types for one system call, the one that says more of it. */
static bool is_covered(const struct live_setup *setup, const struct event_type *type)
{
	const struct event_type *better;

	if (strcmp(type->name, "tcp.connect") && strcmp(type->name, "tcp.accept"))
		return false;
	better = type_named(setup, strcmp(type->name, "tcp.connect") ? "net.accept" : "net.connect");
	return better && runs(setup, better);
}

/* Where records name their call, it is one of the names that there are for it, or any. */
static void types_of(const struct live_type *t, struct event_types *ret)
{
	live_calls(t->type->name, ret);
	if (t->call && t->call->how != FIELD_NAMES)
		event_types_all(ret);
	for (uint32_t i = 0; t->call && i < t->call->n_names; i++) {
		int type = event_type_of(t->call->names[i], strlen(t->call->names[i]));

		if (type >= 0)
			event_types_add(ret, (unsigned)type);
	}
}

static int list_candidates(struct live *live, struct live_type *t)
{
	struct event_types types;

	types_of(t, &types);
	if (!live->setup.rules || !event_types_count(&types) || t->type->internal || is_covered(&live->setup, t->type))
		return 0;
	t->candidates = calloc(MAX_OF(rules_count(live->setup.rules), 1u), sizeof *t->candidates);
	if (!t->candidates)
		return -ENOMEM;
	t->n_candidates = rules_of_types(live->setup.rules, &types, live_category(t->type->name), t->candidates);
	return 0;
}

static int prepare_types(struct live *live)
{
	live->n_types = schema_count(live->setup.schema);
	live->types = calloc(MAX_OF(live->n_types, (size_t)1), sizeof *live->types);
	if (!live->types)
		return -ENOMEM;
	for (size_t i = 0; i < live->n_types; i++) {
		struct live_type *t = &live->types[i];

		t->type = schema_type(live->setup.schema, i);
		find_keys(t);
		t->n_calls = live_list_calls(t->type->name, t->calls);
		if (list_candidates(live, t) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* So much that no text is ever cut: a command line of each process of the chain, exe and cwd of the event's own, and one text for each field that is
 * asked for. Pages that no event needs are never touched. */
static size_t texts_room(uint32_t n_fields)
{
	return (n_fields + 3ul) * TEXT_MAX + CHAIN_MAX * (PROCESS_ARGS_MAX + 32ul);
}

static int prepare_fields(struct live *live)
{
	uint32_t n = live->setup.rules ? rules_refs(live->setup.rules) : 0;

	live->by_slot = calloc(MAX_OF(n, 1u), sizeof *live->by_slot);
	live->memos = calloc(MAX_OF(n, 1u), sizeof *live->memos);
	live->room = texts_room(n);
	live->texts = malloc(live->room);
	if (!live->by_slot || !live->memos || !live->texts)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		live->by_slot[i] = served_of(rules_ref(live->setup.rules, i)->field->name);
	return 0;
}

int live_open(struct live **ret, const struct live_setup *setup)
{
	struct live *live = calloc(1, sizeof *live);
	int r;

	if (!live)
		return -ENOMEM;
	live->event = (struct rule_event){ first_of, next_of };
	live->setup = *setup;
	r = prepare_types(live);
	if (r == 0)
		r = prepare_fields(live);
	if (r < 0) {
		live_close(live);
		return r;
	}
	*ret = live;
	return 0;
}

void live_close(struct live *live)
{
	if (!live)
		return;
	for (size_t i = 0; live->types && i < live->n_types; i++)
		free(live->types[i].candidates);
	free(live->types);
	free(live->by_slot);
	free(live->memos);
	free(live->texts);
	free(live);
}

/* --- matching --- */

bool live_wants(const struct live *live, uint16_t type)
{
	return type < live->n_types && live->types[type].n_candidates > 0;
}

bool live_can_fire(const struct live *live, uint16_t type, uint32_t rule)
{
	for (uint32_t i = 0; type < live->n_types && i < live->types[type].n_candidates; i++)
		if (live->types[type].candidates[i] == rule)
			return true;
	return false;
}

static void begin(struct live *live, const struct sonde_event *event, uint64_t seq, int64_t boot_to_epoch)
{
	live->serial++;
	live->seq = seq;
	live->boot_to_epoch = boot_to_epoch;
	live->record = event;
	live->type = &live->types[event->type];
	live->n_chain = 0;
	live->own_made = live->cgroup_made = live->cut = false;
	live->used = 0;
}

uint32_t live_match(struct live *live, const struct sonde_event *event, uint64_t seq, int64_t boot_to_epoch,
		    uint32_t *matched, uint32_t max)
{
	uint32_t found = 0;

	begin(live, event, seq, boot_to_epoch);
	for (uint32_t i = 0; i < live->type->n_candidates && found < max; i++)
		if (rules_holds(live->setup.rules, live->type->candidates[i], &live->event))
			matched[found++] = live->type->candidates[i];
	return found;
}

size_t live_format(struct live *live, uint32_t rule, char *room, size_t size, bool *ret_cut)
{
	size_t n = rules_format(live->setup.rules, rule, &live->event, room, size, ret_cut);

	if (ret_cut)
		*ret_cut |= live->cut;
	return n;
}

const struct process *live_own(struct live *live, const struct sonde_event *event)
{
	begin(live, event, 0, 0);
	make_own(live);
	return &live->own;
}

struct rule_event *live_event(struct live *live)
{
	return &live->event;
}

static void types_stood_for(const struct live_type *t, struct event_types *ret)
{
	live_calls(t->type->name, ret);
}

/* Whether a module runs that makes such events, among types as `types` has them; if not, one that does not run. */
static bool is_made(const struct live_setup *setup, const struct event_types *wanted,
		    void (*types)(const struct live_type *t, struct event_types *ret), const char **ret_module)
{
	for (size_t i = 0; i < schema_count(setup->schema); i++) {
		struct live_type t = { .type = schema_type(setup->schema, i) };
		struct event_types own;
		bool common = false;

		find_keys(&t);
		types(&t, &own);
		for (unsigned w = 0; w < EVENT_TYPE_WORDS; w++)
			common |= (own.words[w] & wanted->words[w]) != 0;
		if (!common)
			continue;
		if (runs(setup, t.type))
			return true;
		if (!*ret_module)
			*ret_module = t.type->module;
	}
	return false;
}

/* What a type stands for comes first: one whose records name any call (uring.op, syscall.compat) says less of it than a rule asks for. */
bool live_is_served(const struct live_setup *setup, uint32_t rule, const char **ret_module)
{
	const struct event_types *wanted = &rules_at(setup->rules, rule)->types;

	*ret_module = NULL;
	return is_made(setup, wanted, types_stood_for, ret_module) ||
	       (!*ret_module && is_made(setup, wanted, types_of, ret_module));
}

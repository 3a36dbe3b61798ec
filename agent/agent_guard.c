/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules that the kernel side decides (probes/guard), told to it, and what it says that it did.
 *
 * Its table of rules has two halves: the one that is not in force is filled, then one word says that it is. Sets of values have numbers that never come again; those
 * of the old half stay until the next time, since a program may still be at it. Rules have numbers of their own there, by name, which stay the same over a reload: marks of processes keep them.
 */
#include "agent_state.h"

#include <bpf/bpf.h>
#include <netinet/in.h>
#include <stddef.h>

#include "probes/guard/guard.h"
#include "rules/predicate.h"
#include "rules/program.h"

#define GENERATIONS 4096u /* between a marked process and what descends from it, at most */
#define GUARDED     (RESPONSE_BIT(RESPONSE_KILL) | RESPONSE_BIT(RESPONSE_DENY) | RESPONSE_BIT(RESPONSE_BLOCK))

bool agent_wants_guard(const struct config *config)
{
	return responses_wanted(config) & GUARDED;
}

struct module *agent_guard(struct agent *a)
{
	struct guest *guest = agent_guest(a, "guard");

	return guest ? guest->module : NULL;
}

/* ---- names of rules ---- */

/* The number of a name, or -ENOSPC. */
int agent_rule_number(struct agent *a, const char *name)
{
	char *copy;

	for (uint32_t i = 0; i < a->n_rule_names; i++)
		if (!strcmp(a->rule_names[i], name))
			return (int)i;
	copy = a->n_rule_names < RULE_NAMES_MAX ? strdup(name) : NULL;
	if (!copy)
		return -ENOSPC;
	a->rule_names[a->n_rule_names] = copy;
	return (int)a->n_rule_names++;
}

/* ---- telling ---- */

_Static_assert((int)GUARD_CREATES == PREDICATE_CREATES && (int)GUARD_PORT == PREDICATE_PORT &&
		       (int)GUARD_KIND == PREDICATE_KIND && (int)GUARD_BEFORE_CONNECT == PREDICATE_BEFORE_CONNECT,
	       "the kernel side's names for the same");

struct telling {
	struct agent *agent;
	int rules, control, names, paths, networks; /* maps */
	uint32_t first_set;                         /* of the fresh half */
	bool *reads;                                /* by rule: it names each file whose reads it is of */
	struct guard_control fresh;
};

/* Components leaf first, a NUL behind each: as many bytes as the path has, without the slash that a folder ends with. */
static uint16_t turn_path(const char *path, uint32_t length, char text[GUARD_PATH_MAX])
{
	uint32_t end = length - (path[length - 1] == '/'), at = 0;

	for (uint32_t i = end; i-- > 0;) {
		if (path[i] != '/')
			continue;
		memcpy(text + at, path + i + 1, end - i - 1);
		at += end - i - 1;
		text[at++] = '\0';
		end = i;
	}
	return (uint16_t)at;
}

static int add_path(const struct telling *t, uint32_t set, const struct literal *value, uint16_t *ret_length)
{
	struct guard_path key = { .set = set };
	uint8_t one = 1;

	*ret_length = turn_path(value->text, value->length, key.text);
	return bpf_map_update_elem(t->paths, &key, &one, BPF_ANY) < 0 ? -errno : 0;
}

static int add_network(const struct telling *t, uint32_t set, const struct literal *value)
{
	struct guard_network key = { .bits = 32 + value->network.bits, .set = set };
	uint8_t one = 1;

	memcpy(key.address, value->network.address, sizeof key.address);
	return bpf_map_update_elem(t->networks, &key, &one, BPF_ANY) < 0 ? -errno : 0;
}

static void put_number(struct guard_name *key, uint32_t number)
{
	memcpy(key->text, &number, sizeof number);
}

/* A name that is longer than the kernel keeps is nobody's. */
static int add_name(const struct telling *t, uint32_t set, enum predicate_field field, const struct literal *value)
{
	struct guard_name key = { .set = set };
	uint8_t one = 1;

	if (field == PREDICATE_UID || field == PREDICATE_PORT)
		put_number(&key, (uint32_t)value->whole);
	else if (field == PREDICATE_PROTOCOL)
		put_number(&key, value->text[0] == 't' ? IPPROTO_TCP : IPPROTO_UDP);
	else if (field == PREDICATE_KIND)
		key.text[0] = predicate_kind(value);
	else if (value->length < sizeof key.text)
		memcpy(key.text, value->text, value->length);
	else
		return 0;
	return bpf_map_update_elem(t->names, &key, &one, BPF_ANY) < 0 ? -errno : 0;
}

static int add_value(const struct telling *t, enum predicate_field field, const struct literal *value,
		     struct guard_test *test)
{
	switch (field) {
	case PREDICATE_PATH:
	case PREDICATE_PATH_BELOW:
	case PREDICATE_FOLDER:
		return add_path(t, test->set, value, &test->length);
	case PREDICATE_ADDRESS:
		return add_network(t, test->set, value);
	default:
		return add_name(t, test->set, field, value);
	}
}

static int tell_test(const struct telling *t, const struct predicate_test *test, struct guard_test *ret)
{
	int r = 0;

	*ret = (struct guard_test){ .set = t->agent->guard_set++,
				    .field = (uint8_t)test->field,
				    .flags = (uint8_t)((test->negated ? GUARD_NEGATED : 0) |
						       (test->ends ? GUARD_ENDS : 0)) };
	for (uint32_t i = 0; i < test->n_values && r == 0; i++)
		r = add_value(t, test->field, &test->values[i], ret);
	return r;
}

static int tell_rule(struct telling *t, uint32_t rule, unsigned actions, enum predicate_moment moment,
		     const struct predicate *predicate)
{
	const char *name = rules_at(alerts_rules(t->agent->alerts), rule)->name;
	struct guard_rule row = {
		.actions = actions, .n_tests = predicate->n, .moment = (uint16_t)moment, .reads = t->reads[rule]
	};
	uint32_t place = t->fresh.first + t->fresh.n;
	int number = agent_rule_number(t->agent, name), r = 0;

	if (t->fresh.n == GUARD_RULES_MAX || number < 0)
		return -E2BIG;
	row.number = (uint32_t)number;
	for (uint32_t i = 0; i < predicate->n && r == 0; i++)
		r = tell_test(t, &predicate->tests[i], &row.tests[i]);
	if (r == 0 && bpf_map_update_elem(t->rules, &place, &row, BPF_ANY) < 0)
		r = -errno;
	t->fresh.n += r == 0;
	return r;
}

/* The same rule may be there several times, for each moment. `missing`: why the hook is not there; NULL: it is. Without it user space kills, but nobody blocks:
 * as rules are read again one may come that is decided where nothing was as the agent started. */
static void tell_moment(struct telling *t, uint32_t rule, unsigned actions, enum predicate_moment moment,
			const char *missing)
{
	struct agent *a = t->agent;
	const bool blocks = actions == RESPONSE_BIT(RESPONSE_BLOCK);
	struct predicate predicate;
	char text[512];
	int r = actions ? rules_predicate(alerts_rules(a->alerts), rule, moment, &predicate, NULL) : -ENOENT;

	if (r < 0 || (missing && !blocks))
		return; /* user space's; that `block` has a predicate was seen when responses were read */
	r = missing ? -ENOENT : tell_rule(t, rule, actions, moment, &predicate);
	if (r == 0) {
		alerts_set_in_kernel(a->alerts, rule, moment);
		return;
	}
	snprintf(text, sizeof text, "rule '%.100s': its response %s: %s%.200s",
		 rules_at(alerts_rules(a->alerts), rule)->name,
		 blocks ? "block is not taken" : "is taken in user space",
		 missing ? "start the agent anew: " : "the kernel's tables are full", missing ? missing : "");
	agent_say(a, text);
}

/* `at`: where a key has its set. */
static void forget_sets(int map, size_t at, uint32_t before)
{
	char key[sizeof(struct guard_path)], last[sizeof(struct guard_path)];
	void *from = NULL;
	uint32_t set;

	while (bpf_map_get_next_key(map, from, key) == 0) {
		memcpy(&set, key + at, sizeof set);
		if (set < before && bpf_map_delete_elem(map, key) == 0)
			continue; /* the next one behind `last`, which is still there */
		memcpy(last, key, sizeof last);
		from = last;
	}
}

static bool find_maps(struct telling *t, struct module *guard)
{
	t->rules = module_map(guard, "guard_rules");
	t->control = module_map(guard, "guard_control");
	t->names = module_map(guard, "guard_names");
	t->paths = module_map(guard, "guard_paths");
	t->networks = module_map(guard, "guard_networks");
	return t->rules >= 0 && t->control >= 0 && t->names >= 0 && t->paths >= 0 && t->networks >= 0;
}

/* NULL: it is in use; else why it is not. */
static const char *missing(const struct module *guard, const char *measure, struct measure_view room[MEASURES_MAX])
{
	size_t n = guard ? module_measures(guard, room, MEASURES_MAX) : 0;

	for (size_t i = 0; i < n; i++)
		if (!strcmp(room[i].name, measure))
			return room[i].hook ? NULL : room[i].why;
	return "module guard does not run";
}

/* Of a rule that names its files the reads are told, so that it can be decided by them; by others user space sees few (agent_tell_opens). */
static void take_read(void *context, uint32_t rule, const struct rule_path *path)
{
	((bool *)context)[rule] = path != NULL;
}

#define KILLS (RESPONSE_BIT(RESPONSE_KILL) | RESPONSE_BIT(RESPONSE_DENY))

/* What is done at a moment, and what it needs. */
static const struct {
	unsigned actions;
	const char *measure, *name; /* as hooks ask for it: SONDE_WHEN("decides NAME") */
} moments[] = {
	[PREDICATE_AT_EXEC] = { KILLS, "exec", "" },
	[PREDICATE_BEFORE_EXEC] = { RESPONSE_BIT(RESPONSE_BLOCK), "block", "begin" },
	[PREDICATE_AT_OPEN] = { KILLS, "openat", "open" },
	[PREDICATE_AT_CONNECT] = { KILLS, "connected", "connected" },
	[PREDICATE_BEFORE_CONNECT] = { RESPONSE_BIT(RESPONSE_BLOCK), "connect4", "connect" },
};

/* Whether a rule has an action that the kernel side takes then. */
static bool is_decided(const struct agent *a, enum predicate_moment moment)
{
	struct predicate predicate;

	for (uint32_t i = 0; a->alerts && i < rules_count(alerts_rules(a->alerts)); i++)
		if (alerts_actions(a->alerts, i) & moments[moment].actions &&
		    rules_predicate(alerts_rules(a->alerts), i, moment, &predicate, NULL) == 0)
			return true;
	return false;
}

bool agent_decides(void *context, const char *name)
{
	struct agent *a = context;

	if (!strcmp(name, "connect") && responses_want(a->setup.config, "deny"))
		return true;
	for (size_t m = 0; m < ARRAY_SIZE(moments); m++)
		if (!strcmp(name, moments[m].name))
			return is_decided(a, (enum predicate_moment)m);
	return false;
}

/* The rules in force, to the kernel side. */
void agent_tell_guard(struct agent *a)
{
	struct telling t = { .agent = a, .first_set = a->guard_set };
	struct module *guard = agent_guard(a);
	struct measure_view measures[MEASURES_MAX];
	struct guard_control old = { 0 };
	uint32_t zero = 0;

	if (!guard || !find_maps(&t, guard))
		return;
	t.reads = calloc(a->alerts ? rules_count(alerts_rules(a->alerts)) + 1 : 1, sizeof *t.reads);
	if (!t.reads) {
		agent_say(a, "out of memory: the kernel side keeps the rules that it has");
		return;
	}
	if (a->alerts)
		live_opens(alerts_rules(a->alerts), RULES_READS, take_read, t.reads);
	bpf_map_lookup_elem(t.control, &zero, &old);
	t.fresh = (struct guard_control){ .first = old.first ? 0 : GUARD_RULES_MAX,
					  .kill_rate = (uint32_t)config_number(a->setup.config, "rules.kill_rate"),
					  .agent = (uint32_t)getpid() };
	for (size_t m = 0; m < ARRAY_SIZE(moments); m++) {
		const char *why = missing(guard, moments[m].measure, measures);

		for (uint32_t i = 0; a->alerts && i < rules_count(alerts_rules(a->alerts)); i++)
			tell_moment(&t, i, alerts_actions(a->alerts, i) & moments[m].actions, (enum predicate_moment)m,
				    why);
	}
	bpf_map_update_elem(t.control, &zero, &t.fresh, BPF_ANY);
	forget_sets(t.names, offsetof(struct guard_name, set), a->guard_sets_from);
	forget_sets(t.paths, offsetof(struct guard_path, set), a->guard_sets_from);
	forget_sets(t.networks, offsetof(struct guard_network, set), a->guard_sets_from);
	a->guard_sets_from = t.first_set;
	free(t.reads);
}

/* ---- what must be there ---- */

/* A response that nothing would take is no response: better no agent than one that lets pass what it was told to stop. */
int agent_check_guard(struct agent *a, struct fault *fault)
{
	static const struct {
		const char *action, *measure;
		int moment; /* it is asked for only where something is decided then; -1: whenever the action is */
	} needed[] = {
		{ "deny", "connect4", -1 },
		{ "deny", "connect6", -1 },
		{ "deny", "send4", -1 },
		{ "deny", "send6", -1 },
		{ "deny", "inherit", -1 },
		{ "block", "block", PREDICATE_BEFORE_EXEC },
		{ "block", "connect4", PREDICATE_BEFORE_CONNECT },
		{ "block", "connect6", PREDICATE_BEFORE_CONNECT },
	};
	struct module *guard = agent_guard(a);
	struct measure_view measures[MEASURES_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		const char *why;

		if (!responses_want(a->setup.config, needed[i].action) ||
		    (needed[i].moment >= 0 && !is_decided(a, (enum predicate_moment)needed[i].moment)))
			continue;
		why = missing(guard, needed[i].measure, measures);
		if (why)
			return fault_set(fault, -EINVAL, "%s: rules.responses: this kernel cannot %s: %s",
					 config_origin(a->setup.config, "rules.responses"), needed[i].action, why);
	}
	return 0;
}

/* ---- marks ---- */

struct marking {
	struct agent *agent;
	uint64_t proc;
	struct sonde_task_found root;
	uint32_t rule;
	int map, error;
};

static void mark(struct marking *m, const struct sonde_task_found *task)
{
	struct guard_mark value = { .began = task->began, .rule = m->rule };

	if (bpf_map_update_elem(m->map, &task->pid, &value, BPF_ANY) < 0)
		m->error = -errno;
}

/* Whether this is the marked process, in whatever program it was then. */
static bool is_root(const struct marking *m, uint64_t proc)
{
	return proc == m->proc || proc == m->root.proc || loader_is_process(m->agent->setup.loader, &m->root, proc);
}

/* From an execution upwards. */
static bool leads_to_root(const struct marking *m, uint64_t proc)
{
	for (unsigned i = 0; proc && i < GENERATIONS; i++) {
		const struct process *p;

		if (is_root(m, proc))
			return true;
		p = processes_find(m->agent->processes, proc);
		proc = p ? p->parent : 0;
	}
	return false;
}

/* By its parent now; and, as who is an orphan has another one, by who made it. */
static void mark_descendant(void *context, const void *record)
{
	const struct sonde_task_found *task = record;
	struct marking *m = context;
	const struct process *p = processes_find(m->agent->processes, task->proc);

	if (leads_to_root(m, task->parent) || (p && leads_to_root(m, p->parent)))
		mark(m, task);
}

/* The process first: what it makes from then on is marked by the kernel. Then those that it had made. */
int agent_deny(struct agent *a, const struct sonde_event *e, const struct sonde_task_found *task, const char *rule)
{
	struct module *guard = agent_guard(a);
	struct marking m = { .agent = a, .proc = e->proc, .root = *task };
	int number = agent_rule_number(a, rule), r;

	m.map = guard ? module_map(guard, "guard_marks") : -ENOENT;
	if (m.map < 0 || number < 0)
		return m.map < 0 ? m.map : number;
	m.rule = (uint32_t)number;
	mark(&m, task);
	r = loader_tasks(a->setup.loader, mark_descendant, &m);
	return m.error ? m.error : r;
}

/* ---- notes ---- */

static const char *why_not(const struct guard_note *note)
{
	if (!note->error)
		return NULL;
	if (note->action == RESPONSE_KILL && note->error == -EBUSY)
		return "more than rules.kill_rate in a minute";
	if (note->error == -EPERM)
		return "init, the agent and what it begins are never killed, nor denied";
	return strerror(-note->error);
}

/* Of the event that the kernel side decided on; NULL: it was a connect of a process that may not. */
static const char *noted_type(struct agent *a, const struct guard_note *note)
{
	if (note->count)
		return NULL;
	if (note->moment == GUARD_AT_EXEC || note->moment == GUARD_BEFORE_EXEC)
		return "process.exec";
	if (note->moment == GUARD_AT_OPEN)
		return "file.open";
	return agent_guest(a, "net") ? "net.connect" : "tcp.connect";
}

/* The kernel side marks the process, and what it makes from then on; what it had made by then, which a program that just began has not, is marked here. */
static int deny_descendants(struct agent *a, const struct guard_note *note, const char *rule)
{
	struct sonde_task_found task;
	int r;

	if (note->action != RESPONSE_DENY || note->count || note->error || note->moment == GUARD_AT_EXEC)
		return note->error;
	r = loader_task(a->setup.loader, note->event.pid, &task);
	if (r == -ESRCH || r == -ENOENT)
		return 0; /* it has ended by now: nobody can be found as its descendant */
	return r < 0 ? r : agent_deny(a, &note->event, &task, rule);
}

void agent_take_note(struct agent *a, const struct guard_note *note)
{
	const char *rule = note->rule < a->n_rule_names ? a->rule_names[note->rule] : "";

	agent_write_response(a, &(struct response_row){ .event = &note->event,
							.event_type = noted_type(a, note),
							.rule = rule,
							.reason = why_not(note),
							.action = note->action,
							.error = deny_descendants(a, note, rule),
							.count = note->count > 1 ? note->count : 0,
							.kernel = true });
	/* Of these the event comes out of the ring, too. */
	if (note->action != RESPONSE_BLOCK && !note->count)
		agent_response_noted(a, note->event.proc, note->rule, note->action);
}

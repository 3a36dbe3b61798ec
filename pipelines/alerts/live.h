/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules over the events of the agent, as they come out of the rings: each field of a rule is served by keys of the record, by the table of processes,
 * by cgroups and by the host's users. Prepared once for a set of rules and the types of a run; then nothing is allocated.
 */
#ifndef SONDE_LIVE_H
#define SONDE_LIVE_H

#include "decode/schema.h"
#include "identity/cgroup.h"
#include "identity/processes.h"
#include "identity/runtime.h"
#include "identity/users.h"
#include "rules/rules.h"

struct live; /* opaque */

struct live_setup {
	const struct rules *rules; /* NULL: none; live_own() is all that is wanted */
	const struct schema *schema;
	const struct processes *processes;
	const struct users *users;
	struct cgroups *cgroups;   /* NULL: no containers */
	struct runtimes *runtimes; /* NULL: nothing is known of containers but their ids */
	const char *host;
	uint64_t began; /* boot clock */
	/* Whether this module runs. Where two types stand for one system call, the one whose module runs is taken. */
	bool (*runs)(void *context, const char *module);
	void *context;
};

/* All of the setup must outlive it. */
int live_open(struct live **ret, const struct live_setup *setup);
void live_close(struct live *live);

/* Whether any rule can fire on events of this type. */
bool live_wants(const struct live *live, uint16_t type);

/* Whether this rule can fire on events of this type. */
bool live_can_fire(const struct live *live, uint16_t type, uint32_t rule);

/* The rules that the event fulfils: the first `max`, of rules_count() all. `seq` 0: it has none. The event stays the one that live_format() is about until
 * the next call. */
uint32_t live_match(struct live *live, const struct sonde_event *event, uint64_t seq, int64_t boot_to_epoch,
		    uint32_t *matched, uint32_t max);
/* As rules_format(). */
size_t live_format(struct live *live, uint32_t rule, char *room, size_t size, bool *ret_cut);

/* What the record, and the table where it says nothing, have of the process of an event. Valid until the next call. */
const struct process *live_own(struct live *live, const struct sonde_event *event);

/* The event that was matched last, for tests and for other uses of the language. */
struct rule_event *live_event(struct live *live);

/* Whether events that the rule can fire on are made by a module that runs. If not, `ret_module` is one that makes such and does not run; NULL: this
 * build has none. */
bool live_is_served(const struct live_setup *setup, uint32_t rule, const char **ret_module);

/* The system calls or other values of evt.type that events of a type stand for. */
void live_calls(const char *type, struct event_types *ret);

/* As rules_opens(), of the events of opens. */
int live_opens(const struct rules *rules, enum rules_opens which,
	       void (*take)(void *context, uint32_t rule, const struct rule_path *path), void *context);

/* Whether a field is served: by live.h itself, or made of one that is. */
bool live_serves(const struct rule_field *field);

#endif

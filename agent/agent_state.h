/* SPDX-License-Identifier: Apache-2.0 */
/* The agent as its files share it: agent.c has its life and its loop, each of the others one part of the work. */
#ifndef SONDE_AGENT_STATE_H
#define SONDE_AGENT_STATE_H

#include <errno.h>
#include <string.h>

#include "agent.h"
#include "alerts.h"
#include "intake.h"
#include "probes/identity/identity.h"
#include "stacks/event_stacks.h"
#include "stacks/symbols.h"

struct ring_buffer;
struct control;
struct metrics;
struct kafka;
struct sched_clock;

#define MODULES_MAX 64

/* A module that runs, with what the agent does for it. */
struct guest {
	struct sonde_host host;
	struct agent *agent;
	struct module *module;
};

/* What became of a response. */
struct response_row {
	const struct sonde_event *event; /* that the rule fired on */
	const char *event_type;          /* of that event; NULL: it was a connect of a process that may not */
	const char *rule, *reason;       /* reason: why it was not taken; may be NULL */
	uint32_t action;
	int32_t error;
	uint64_t seq, count;
	bool kernel;
};

#define RULE_NAMES_MAX 4096u
#define RESPONSES_OPEN 64u

/* A response that the kernel side is to take, until it says that it did; one that it took, until the event comes out of the ring; or one that it is too early
 * for. */
struct response_open {
	bool used, noted;
	uint64_t due;          /* boot clock */
	uint32_t action, rule; /* rule: number by name */
	uint64_t seq;
	struct sonde_event event;
};

struct agent {
	const struct agent_options *options;
	struct setup setup;
	char host[129], run[17];
	uint64_t attach_ns;
	struct journal *journal;
	struct ledger *ledger;
	struct intake *intake;
	struct cgroups *cgroups;
	int v1_hierarchy;           /* the kernel's number of the chosen v1 hierarchy, or -1 */
	struct perf_opener *opener; /* NULL: it is not needed */
	struct symbols *symbols;
	struct event_stacks *stacks; /* of events: modules.NAME.stack */
	struct sched_clock *clock;
	struct ring_buffer *priority, *bulk;
	struct guest guests[MODULES_MAX];
	bool watched[SONDE_TYPES_MAX];           /* types that a guest wants to see */
	struct guest *refiners[SONDE_TYPES_MAX]; /* who completes the events of a type; NULL: nobody */
	const struct event_type *exec, *fork, *exit, *open, *connect, *tcp_connect; /* NULL: no module declares it */
	struct processes *processes;
	struct users *users;
	struct runtimes *runtimes; /* what is known of containers */
	struct live *reader;       /* of what records say of their process */
	struct alerts *alerts;     /* NULL: no rules */
	uint64_t kill_minute;      /* begin of the minute that kills are counted in */
	uint64_t kills;
	struct response_open open_responses[RESPONSES_OPEN];
	char *rule_names[RULE_NAMES_MAX]; /* of rules with responses, as the kernel side numbers them */
	uint32_t n_rule_names;
	uint32_t guard_set, guard_sets_from; /* the next number of a set; the first of the rules in force */
	struct kafka *kafka;
	uint64_t first_position; /* of this run's records */
	struct control *control;
	struct metrics *metrics;
	int epoll, signals;
	bool stopping;
	unsigned batch_left;
	bool waits[2]; /* by ring (1: priority): not looked at, since it is blocked */
	uint64_t next_tick, next_second, ledger_interval, last_ledger, loss_since;
	uint8_t row[65536]; /* where the agent's own events are put together */
	/* A copy of the map of the event that rules were tried on last, once one fired: its seq and size; 0: none. */
	uint64_t judged_seq;
	uint32_t judged_size;
	uint8_t judged[49152];
};

/* agent_rows.c: the agent's own events */
void agent_write_ledger(struct agent *a, bool final);
void agent_write_start(struct agent *a);
int agent_write_loss(void *context, uint16_t type, const char *reason, uint64_t count);

void agent_write_alert(void *context, const struct alert_row *alert);
void agent_write_response(struct agent *a, const struct response_row *response);

/* agent_alerts.c: the table of processes, and rules */
int agent_open_processes(struct agent *a, struct fault *fault);
void agent_list_processes(struct agent *a);
void agent_note_process(struct agent *a, const struct event_type *type, const struct sonde_event *e);
int agent_load_rules(struct agent *a, struct fault *fault);
/* Which files' opens rules ask for, told to modules. */
void agent_tell_opens(struct agent *a);
/* Which events somebody asks for, and what the kernel side is to decide, told to the loader. */
void agent_tell_asked(struct agent *a);
int agent_write(struct agent *a, const struct sonde_event *e, const struct stack_text *stack, uint64_t *ret_seq);

/* agent_responses.c: what rules ask for beside alerts */
void agent_respond(void *context, const struct response_order *order);
void agent_tell_urgent(struct agent *a);
void agent_response_noted(struct agent *a, uint64_t proc, uint32_t rule, uint32_t action);
void agent_tick_responses(struct agent *a, uint64_t now);

/* agent_guard.c: rules and marks that the kernel side decides by */
struct guard_note;
struct sonde_task_found;
bool agent_wants_guard(const struct config *config);
struct module *agent_guard(struct agent *a);
/* Whether the kernel side is to respond at this moment ("begin", "open", "connect", "connected"): some rule's response can be decided then. */
bool agent_decides(void *context, const char *name);
int agent_rule_number(struct agent *a, const char *name);
void agent_tell_guard(struct agent *a);
int agent_check_guard(struct agent *a, struct fault *fault);
int agent_deny(struct agent *a, const struct sonde_event *e, const struct sonde_task_found *task, const char *rule);
void agent_take_note(struct agent *a, const struct guard_note *note);

/* agent_rings.c: records of the rings */
struct guest *agent_guest(struct agent *a, const char *module);
int agent_on_priority(void *context, void *data, size_t size);
int agent_on_bulk(void *context, void *data, size_t size);
void agent_drain(struct agent *a);
void agent_note_watches(struct agent *a);
void agent_on_stack(void *context, const struct sonde_event *event, const struct stack_text *stack);

/* agent_guests.c: what the agent does for modules */
struct guest *agent_guest_make(struct agent *a, struct module *module);
int agent_ask_module(struct agent *a, const char *request, FILE *out);

/* agent_modules.c: starting and stopping modules */
void agent_stop_module(struct agent *a, struct module *module, int flush_ms);
void agent_detach_module(struct agent *a, struct module *module);
enum overflow agent_overflow_of(const struct config *config, const struct module *module);
bool agent_is_enabled(const struct config *config, const struct module *module);
/* Whether it is enabled, and anybody asks for its events; that nobody does is said. */
bool agent_wants_module(struct agent *a, const struct module *module);
int agent_start_modules(struct agent *a, struct fault *fault);
int agent_start_module(struct agent *a, struct module *module, struct fault *fault);
uint64_t agent_in_rings_of(struct agent *a, const struct module *module);

/* agent_sinks.c: sinks */
void agent_on_expired(void *context, const struct journal_record *record);
int agent_start_kafka(struct agent *a, struct fault *fault);
void agent_stop_kafka(struct agent *a, uint64_t timeout_ns);

/* agent_reload.c: SIGHUP */
void agent_reload(struct agent *a);

/* agent.c */
void agent_say(void *context, const char *text);

#endif

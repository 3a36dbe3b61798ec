/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Events of the identity stage, and the agent's events about itself. */
#ifndef SONDE_IDENTITY_H
#define SONDE_IDENTITY_H

#include "sonde/security.h"
#include "sonde/stack.h"

#define CGROUP_PATH_MAX 1024

enum cgroup_change { CGROUP_MADE, CGROUP_REMOVED };

struct cgroup_changed {
	struct sonde_event event;
	__u64 _id;               /* kernfs id */
	__u32 _change;           /* enum cgroup_change */
	__s32 _hierarchy;        /* the kernel's number of the hierarchy, as in /proc/PID/cgroup */
	struct sonde_text _path; /* below the hierarchy's root */
	__u32 _pad;
};

struct agent_start {
	struct sonde_event event;
	struct sonde_text version SONDE_DOC("version of sonde") SONDE_OTEL("service.version")
		SONDE_ECS("agent.version");
	struct sonde_text kernel SONDE_DOC("kernel release") SONDE_ECS("host.os.kernel");
	struct sonde_text modules SONDE_AS("list") SONDE_DOC("modules that run");
	struct sonde_text hooks SONDE_AS("list") SONDE_DOC("module.measure=hook for each measure in use");
	struct sonde_text config_digest SONDE_DOC("digest of the configuration in force");
	__u32 _pad;
	__u64 attach_ns SONDE_DOC("from the start of the process to everything attached");
};

struct agent_ledger {
	struct sonde_event event;
	struct sonde_text types SONDE_AS("msgpack") SONDE_DOC(
		"map of type to produced, filtered, dropped (map of reason to count), journaled, acknowledged, "
		"pending, "
		"expired (map of reason to count), open (still in a ring or in a window; not yet in produced)");
	struct sonde_text errors SONDE_AS("list")
		SONDE_DOC("kernel helpers that failed (module:line errno count), and runs that the kernel skipped "
			  "(module:measure skipped count)") SONDE_OPTIONAL;
	bool final SONDE_DOC("the last ledger of this run: all is settled but what sinks still hold") SONDE_OPTIONAL;
	__u8 _pad[7];
};

struct agent_loss {
	struct sonde_event header;
	struct sonde_text event SONDE_DOC("the type of which events were lost");
	struct sonde_text reason SONDE_DOC("why: a reason of the ledger");
	__u64 count SONDE_DOC("events lost");
	__u64 from SONDE_AS("time") SONDE_DOC("begin of the span in which they were lost");
	__u64 to SONDE_AS("time") SONDE_DOC("end of the span in which they were lost");
};

/* In the order of enum rule_priority. */
#define ALERT_PRIORITIES "names=emergency|alert|critical|error|warning|notice|informational|debug"

struct alert {
	struct sonde_event header; /* of the event that the rule fired on: its time, process and cgroup */
	struct sonde_text rule SONDE_DOC("name of the rule") SONDE_ECS("rule.name");
	struct sonde_text desc SONDE_DOC("what the rule says of itself") SONDE_ECS("rule.description") SONDE_OPTIONAL;
	struct sonde_text output SONDE_DOC("the rule's output, its fields filled in") SONDE_ECS("message");
	struct sonde_text tags SONDE_AS("list") SONDE_DOC("tags of the rule") SONDE_ECS("tags") SONDE_OPTIONAL;
	struct sonde_text source SONDE_DOC("source of the rule: syscall");
	struct sonde_text event_type SONDE_DOC("type of the event that the rule fired on");
	struct sonde_text event SONDE_AS("msgpack")
		SONDE_DOC("that event, whole, where it is in the stream and not too long") SONDE_OPTIONAL;
	__u32 priority SONDE_AS(ALERT_PRIORITIES) SONDE_DOC("how much it matters, by Falco's names");
	__u64 event_seq SONDE_DOC("seq of that event; absent where it is not in the stream, or not yet") SONDE_OPTIONAL;
	__u64 count SONDE_DOC(
		"how many further times the rule fired for this proc since the alert before; output, event_type "
		"and event_seq are those of the last one") SONDE_OPTIONAL;
};

enum response_action_kind { RESPONSE_KILL, RESPONSE_CAPTURE, RESPONSE_BURST, RESPONSE_DENY, RESPONSE_BLOCK, RESPONSES };

struct response_action {
	struct sonde_event header; /* of the process that it was taken against; its time: when it was taken */
	struct sonde_text rule SONDE_DOC("name of the rule that asks for it") SONDE_ECS("rule.name");
	struct sonde_text event_type SONDE_DOC(
		"type of the event that the rule fired on; absent for a connect that is refused because of "
		"an earlier deny") SONDE_OPTIONAL;
	struct sonde_text reason SONDE_DOC("why it was not taken") SONDE_OPTIONAL SONDE_ECS("error.message");
	__u32 action SONDE_AS("names=kill|capture|burst|deny|block") SONDE_DOC("what was done");
	__s32 error SONDE_AS("errno") SONDE_DOC("why it was not taken") SONDE_OPTIONAL SONDE_OTEL("error.type")
		SONDE_ECS("error.code");
	bool kernel SONDE_DOC("it was taken by the kernel side, within the system call, and not by the agent behind it")
		SONDE_OPTIONAL;
	__u8 _pad[3];
	__u64 latency_ns SONDE_DOC("from the event to the action") SONDE_OPTIONAL SONDE_ECS("event.duration");
	__u64 event_seq SONDE_DOC("seq of the event; absent where it is not in the stream, or not yet") SONDE_OPTIONAL;
	__u64 count SONDE_DOC("connects that were refused since the record before, where it is more than one")
		SONDE_OPTIONAL;
};

/* What the kernel says of each process that runs, by an iterator. */
struct sonde_task_found {
	__u64 proc, parent, began; /* began: boot clock */
	__u64 execs;               /* as they are a part of `proc` */
	__u32 pid, flags;          /* PF_* of the kernel */
	char comm[16];
};

SONDE_INTERNAL_EVENT(cgroup_changed, "cgroup.change", priority, "A cgroup was made, renamed or removed.");
SONDE_INTERNAL_EVENT(sonde_stack_sample, "stack.sample", bulk, "The stack of a thread, for an event that names it.");
SONDE_EVENT(agent_start, "agent.start", 1, priority, "Everything is attached; written once a run.");
SONDE_EVENT(agent_ledger, "agent.ledger", 1, priority, "What became of every event of this run, by type.");
SONDE_EVENT(agent_loss, "agent.loss", 1, priority, "Events of one type were lost, and why.");
SONDE_EVENT(response_action, "response.action", 1, priority, "A rule's response was taken, or could not be.");
SONDE_SECURITY_EVENT(alert, "alert", 1, priority, "A rule fired.");

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Events of the identity stage, and the agent's events about itself. */
#ifndef SONDE_IDENTITY_H
#define SONDE_IDENTITY_H

#include "sonde/event.h"
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

SONDE_INTERNAL_EVENT(cgroup_changed, "cgroup.change", priority, "A cgroup was made, renamed or removed.");
SONDE_INTERNAL_EVENT(sonde_stack_sample, "stack.sample", bulk, "The stack of a thread, for an event that names it.");
SONDE_EVENT(agent_start, "agent.start", 1, priority, "Everything is attached; written once a run.");
SONDE_EVENT(agent_ledger, "agent.ledger", 1, priority, "What became of every event of this run, by type.");
SONDE_EVENT(agent_loss, "agent.loss", 1, priority, "Events of one type were lost, and why.");

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The rules that the agent runs, and what it says when one fires. */
#ifndef SONDE_ALERTS_H
#define SONDE_ALERTS_H

#include "alerts/fold.h"
#include "alerts/live.h"
#include "responses.h"
#include "setup.h"

/* What is to be said, as one event of type `alert`. */
struct alert_row {
	const struct rule_info *rule;
	const struct sonde_event *event; /* that the rule fired on */
	uint64_t seq, count;             /* of that event; of further ones: 0: this is the first */
	const char *output;
	size_t output_size;
	bool cut; /* the output */
};

/* What a rule asks for beside its alert, each time that it fires. */
struct response_order {
	const struct rule_info *rule;
	uint32_t number;  /* of the rule */
	unsigned actions; /* RESPONSE_BIT()s */
	const struct sonde_event *event;
	uint64_t seq;
	bool repeated; /* its alert was folded */
	unsigned
		in_kernel; /* at which moments the kernel side takes its kill and deny, as bits by enum predicate_moment */
};

struct alerts; /* opaque */

struct alerts_setup {
	const struct setup *setup;
	const struct processes *processes;
	const struct users *users;
	struct cgroups *cgroups;
	struct runtimes *runtimes;
	const char *host;
	uint64_t began;
	void (*say)(void *context, const char *sentence);
	void (*write)(void *context, const struct alert_row *row);
	void (*respond)(void *context, const struct response_order *order);
	void *context;
};

/* Loads the files of rules.files in `config`. -EINVAL with the first mistake; all others were said. No files: `ret` is NULL. */
int alerts_open(struct alerts **ret, const struct alerts_setup *setup, const struct config *config,
		struct fault *fault);
void alerts_close(struct alerts *alerts);

/* Whether events of this type are to be judged at all; `alerts` may be NULL. */
bool alerts_wants(const struct alerts *alerts, uint16_t type);
/* `seq` 0: the event is not in the stream, or not yet. */
void alerts_judge(struct alerts *alerts, const struct sonde_event *event, uint64_t seq, int64_t boot_to_epoch);
/* Whether a rule that can fire on this type has a response that the agent has to take. `moments`: at which the kernel side decides on
 * such events, as bits. */
bool alerts_are_urgent(const struct alerts *alerts, uint16_t type, unsigned moments);
const struct rules *alerts_rules(const struct alerts *alerts);
unsigned alerts_actions(const struct alerts *alerts, uint32_t rule);
/* The kernel side takes the rule's kill and deny at this moment (enum predicate_moment). */
void alerts_set_in_kernel(struct alerts *alerts, uint32_t rule, unsigned moment);
void alerts_tick(struct alerts *alerts, uint64_t now);
/* All that is folded goes out. */
void alerts_flush(struct alerts *alerts);

#endif

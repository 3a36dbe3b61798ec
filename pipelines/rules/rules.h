/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rule files in the language of Falco: loaded in order, later ones over earlier ones, compiled into one program, matched against events, and written
 * as text. docs/rules.md says what the language is.
 */
#ifndef SONDE_RULES_H
#define SONDE_RULES_H

#include "rules/event_type.h"
#include "rules/value.h"

/* The newest `required_engine_version` that is served. */
#define RULES_ENGINE_VERSION "0.63.0"

enum rule_priority {
	RULE_EMERGENCY,
	RULE_ALERT,
	RULE_CRITICAL,
	RULE_ERROR,
	RULE_WARNING,
	RULE_NOTICE,
	RULE_INFORMATIONAL,
	RULE_DEBUG,
};

struct rules; /* opaque */

struct rules_file {
	const char *label; /* begins every sentence about it */
	const char *text;
	size_t size;
};

enum rules_level { RULES_ERROR, RULES_WARNING };

struct rules_options {
	bool lenient; /* a rule with an unknown field is left out with a warning */
	/* Each mistake and each warning as "label:line:column: sentence"; may be NULL. */
	void (*report)(void *context, enum rules_level level, const char *sentence);
	void *context;
};

/* What a person may want to know of a rule. */
struct rule_info {
	const char *name, *desc, *source, *label;
	unsigned line, column;
	enum rule_priority priority;
	const char *const *tags;
	size_t n_tags;
	bool enabled;
	const char *skipped; /* why it is not matched although it is enabled; NULL: it is */
	struct event_types types;
	uint32_t tests, cost; /* cost: about nanoseconds where every test is done */
};

/* -EINVAL: there were mistakes; all were reported, and the first is in `fault`. -ENOMEM. The texts may be gone afterwards. */
int rules_load(struct rules **ret, const struct rules_file *files, size_t n, const struct rules_options *options,
	       struct fault *fault);
void rules_free(struct rules *rules);

uint32_t rules_count(const struct rules *rules);
const struct rule_info *rules_at(const struct rules *rules, uint32_t rule);
/* The number of the rule of this name, or -1. */
int64_t rules_find(const struct rules *rules, const char *name);

/* What a source may be asked for, by slot: prepare answers once. */
uint32_t rules_refs(const struct rules *rules);
const struct rule_ref *rules_ref(const struct rules *rules, uint32_t slot);

/* The rules that the event fulfils, in the order of the files: the first `max`, of rules_count() all. Allocates nothing. */
uint32_t rules_match(const struct rules *rules, struct rule_event *event, uint32_t *matched, uint32_t max);

/* Those rules that are matched, and can hold for one of `types` whose evt.category is `category` (NULL: any): their numbers, ascending, into `room`
 * for rules_count() of them. */
uint32_t rules_of_types(const struct rules *rules, const struct event_types *types, const char *category,
			uint32_t *room);
/* One rule alone. */
bool rules_holds(const struct rules *rules, uint32_t rule, struct rule_event *event);

/* The output of a rule for an event, as UTF-8 with control characters escaped, cut at `size` bytes with its NUL; returns its length, and whether it
 * was cut (`ret_cut` may be NULL). A field without a value is <NA>. */
size_t rules_format(const struct rules *rules, uint32_t rule, struct rule_event *event, char *room, size_t size,
		    bool *ret_cut);
/* Each field of the output, once: its name and its text. */
void rules_output_fields(const struct rules *rules, uint32_t rule, struct rule_event *event,
			 void (*take)(void *context, const char *name, const struct rule_value *value), void *context);

/* A file that conditions name, or a folder, for all that lies below it: no slash at its end. */
struct rule_path {
	const char *text;
	uint32_t length;
	bool folder;
};

/* Of which files rules ask for opens, which are either told of few files or of all that rules do not rule out; `types` and `category` are those of
 * the events of opens. `path` NULL: the rule's condition names none. RULES_READS: of opens for reading alone; such a folder as /usr is none, and rules
 * that name no evt.type ask for nothing. RULES_OPENS: of all others. -ENOMEM. */
enum rules_opens { RULES_READS, RULES_OPENS };
int rules_opens(const struct rules *rules, enum rules_opens which, const struct event_types *types,
		const char *category, void (*take)(void *context, uint32_t rule, const struct rule_path *path),
		void *context);

/* The field without which the rule, which is matched, can never fire, and that nothing gives; NULL: there is none. */
const char *rules_lack(const struct rules *rules, uint32_t rule);

/* The types of events that any enabled rule can fire on. */
void rules_event_types(const struct rules *rules, struct event_types *ret);

/* For people: the condition with macros expanded, its types, fields, exceptions, and what it needs. */
void rules_explain(const struct rules *rules, uint32_t rule, FILE *out);

const char *rule_priority_name(enum rule_priority priority);

#endif

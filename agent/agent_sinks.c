/* SPDX-License-Identifier: Apache-2.0 */
/* The sinks, and what they tell the ledger. */
#include "agent_state.h"

#include "encode/record.h"
#include "sinks/kafka.h"

static const struct event_type *type_of_record(struct agent *a, const struct journal_record *record)
{
	const char *name;
	size_t length;

	if (record_type(record->map, record->size, &name, &length) < 0)
		return NULL;
	return schema_find(a->setup.schema, name, length);
}

static void on_acknowledged(void *context, const struct journal_record *record)
{
	struct agent *a = context;
	const struct event_type *type = record->position >= a->first_position ? type_of_record(a, record) : NULL;

	if (type)
		ledger_acknowledged(a->ledger, type->id);
}

static void on_refused(void *context, const struct journal_record *record, const char *reason)
{
	struct agent *a = context;
	const struct event_type *type = record->position >= a->first_position ? type_of_record(a, record) : NULL;

	if (type)
		ledger_expired(a->ledger, type->id, LEDGER_REFUSED);
}

void agent_on_expired(void *context, const struct journal_record *record)
{
	struct agent *a = context;
	const struct event_type *type = a->ledger ? type_of_record(a, record) : NULL;
	bool followed = config_bool(a->setup.config, "sinks.kafka.enabled");

	if (type && record->position >= a->first_position)
		ledger_expired(a->ledger, type->id, followed ? LEDGER_OVERFLOW : LEDGER_RETENTION);
	else if (type && followed)
		ledger_expired_earlier(a->ledger, type->id);
}

static unsigned version_of(void *context, const char *name, size_t length)
{
	struct agent *a = context;
	const struct event_type *type = schema_find(a->setup.schema, name, length);

	return type ? type->version : 1;
}

int agent_start_kafka(struct agent *a, struct fault *fault)
{
	const struct config *c = a->setup.config;
	struct kafka_options options = { .version = version_of, .context = a };
	struct sink_setup setup = { .journal = config_text(c, "journal.path"),
				    .writer = a->journal,
				    .host = a->host,
				    .run = a->run,
				    .acknowledged = on_acknowledged,
				    .refused = on_refused,
				    .notice = agent_say,
				    .context = a };

	if (!config_bool(c, "sinks.kafka.enabled"))
		return 0;
	setup_kafka(c, &options);
	int r = kafka_start(&a->kafka, &options, &setup, fault);

	intake_set_followed(a->intake, r == 0);
	return r;
}

void agent_stop_kafka(struct agent *a, uint64_t timeout_ns)
{
	if (!a->kafka)
		return;
	kafka_stop(a->kafka, (int)(timeout_ns / NS_PER_MS));
	a->kafka = NULL;
	intake_set_followed(a->intake, false);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's own events: put together in one buffer, as any program of the kernel would, and written like all others. */
#include "agent_state.h"

#include <bpf/bpf.h>
#include <sys/utsname.h>

struct row {
	struct sonde_event *event;
	uint32_t at; /* end of what is used */
	bool cut;    /* not all had room */
};

static struct row row_begin(struct agent *a, uint32_t fixed)
{
	struct row row = { .event = (struct sonde_event *)a->row, .at = fixed };

	memset(a->row, 0, fixed);
	row.event->time = now_boottime_ns();
	row.event->flags = SONDE_FLAG_NO_TASK;
	return row;
}

static void row_put(struct agent *a, struct row *row, struct sonde_text *text, const void *bytes, size_t size)
{
	if (!text->length)
		text->offset = (uint16_t)row->at;
	if (row->at + size > UINT16_MAX) {
		row->cut = true;
		return;
	}
	memcpy(a->row + row->at, bytes, size);
	text->length = (uint16_t)(text->length + size);
	row->at += (uint32_t)size;
}

static void row_put_text(struct agent *a, struct row *row, struct sonde_text *text, const char *value)
{
	row_put(a, row, text, value, strlen(value));
}

static void row_put_item(struct agent *a, struct row *row, struct sonde_text *text, const char *value)
{
	row_put(a, row, text, value, strlen(value) + 1);
}

static int row_write(struct agent *a, const struct row *row, const char *record)
{
	const struct event_type *type = schema_find_record(a->setup.schema, "identity", record);

	row->event->type = type->id;
	row->event->size = row->at;
	row->event->flags |= row->cut ? SONDE_FLAG_TRUNCATED : 0;
	ledger_made(a->ledger, type->id, 1);
	return intake_write(a->intake, row->event, NULL);
}

void agent_write_start(struct agent *a)
{
	struct row row = row_begin(a, sizeof(struct agent_start));
	struct agent_start *e = (void *)row.event;
	struct measure_view measures[MEASURES_MAX];
	struct utsname u;
	char text[256];

	uname(&u);
	row_put_text(a, &row, &e->version, SONDE_VERSION);
	row_put_text(a, &row, &e->kernel, u.release);
	config_digest(a->setup.config, text);
	row_put_text(a, &row, &e->config_digest, text);
	for (size_t i = 1; i < loader_count(a->setup.loader); i++)
		if (module_running(loader_module(a->setup.loader, i)))
			row_put_item(a, &row, &e->modules, module_name(loader_module(a->setup.loader, i)));
	for (size_t i = 0; i < loader_count(a->setup.loader); i++) {
		struct module *m = loader_module(a->setup.loader, i);
		size_t n = module_running(m) ? module_measures(m, measures, ARRAY_SIZE(measures)) : 0;

		for (size_t k = 0; k < n; k++) {
			snprintf(text, sizeof text, "%s.%s=%s", module_name(m), measures[k].name,
				 measures[k].hook ? measures[k].hook : "none");
			row_put_item(a, &row, &e->hooks, text);
		}
	}
	e->attach_ns = a->attach_ns = now_boottime_ns() - a->options->began;
	row_write(a, &row, "agent_start");
}

int agent_write_loss(void *context, uint16_t type, const char *reason, uint64_t count)
{
	struct agent *a = context;
	struct row row = row_begin(a, sizeof(struct agent_loss));
	struct agent_loss *e = (void *)row.event;

	e->count = count;
	e->from = a->loss_since;
	e->to = row.event->time;
	row_put_text(a, &row, &e->event, schema_type(a->setup.schema, type)->name);
	row_put_text(a, &row, &e->reason, reason);
	return row_write(a, &row, "agent_loss");
}

/* The event that a rule fired on, as it went into the journal. A second rule on the same event finds the copy. */
static void put_event(struct agent *a, struct row *row, const struct alert_row *alert, struct sonde_text *text)
{
	uint32_t size;
	const void *map = intake_last(a->intake, &size);

	if (!alert->seq || alert->count)
		return;
	if (a->judged_seq != alert->seq) {
		if (intake_seq(a->intake) != alert->seq)
			return; /* it waited for its stack, and others went before */
		if (size > sizeof a->judged) {
			row->cut = true;
			return;
		}
		memcpy(a->judged, map, size);
		a->judged_seq = alert->seq;
		a->judged_size = size;
	}
	row_put(a, row, text, a->judged, a->judged_size);
}

void agent_write_alert(void *context, const struct alert_row *alert)
{
	struct agent *a = context;
	struct row row = row_begin(a, sizeof(struct alert));
	struct alert *e = (void *)row.event;

	e->header = *alert->event;
	e->header.flags &= (uint16_t) ~(SONDE_FLAG_STACK | SONDE_FLAG_TRUNCATED);
	row.cut = alert->cut;
	e->priority = alert->rule->priority;
	e->event_seq = alert->seq;
	e->count = alert->count;
	row_put_text(a, &row, &e->rule, alert->rule->name);
	row_put_text(a, &row, &e->source, alert->rule->source);
	row_put_text(a, &row, &e->event_type, schema_type(a->setup.schema, alert->event->type)->name);
	row_put(a, &row, &e->output, alert->output, alert->output_size);
	for (size_t i = 0; i < alert->rule->n_tags; i++)
		row_put_item(a, &row, &e->tags, alert->rule->tags[i]);
	row_put_text(a, &row, &e->desc, alert->rule->desc);
	put_event(a, &row, alert, &e->event);
	row_write(a, &row, "alert");
}

void agent_write_response(struct agent *a, const struct response_row *response)
{
	struct row row = row_begin(a, sizeof(struct response_action));
	struct response_action *e = (void *)row.event;
	const uint64_t now = row.event->time;

	e->header = *response->event;
	e->header.time = now;
	e->header.flags &= (uint16_t) ~(SONDE_FLAG_STACK | SONDE_FLAG_TRUNCATED);
	e->action = response->action;
	e->error = response->error;
	e->kernel = response->kernel;
	e->count = response->count;
	e->event_seq = response->seq;
	if (response->kernel)
		e->header.time = response->event->time;
	else
		e->latency_ns = now > response->event->time ? now - response->event->time : 0;
	row_put_text(a, &row, &e->rule, response->rule);
	if (response->event_type)
		row_put_text(a, &row, &e->event_type, response->event_type);
	if (response->reason)
		row_put_text(a, &row, &e->reason, response->reason);
	row_write(a, &row, "response_action");
}

static void put_errors(struct agent *a, struct row *row, struct sonde_text *text)
{
	int map = loader_map(a->setup.loader, "sonde_errors");
	struct sonde_error_key key, *last = NULL;
	char line[128];

	for (int i = 0; map >= 0 && i < SONDE_ERRORS_MAX && bpf_map_get_next_key(map, last, &key) == 0;
	     i++, last = &key) {
		uint64_t count;

		if (key.module >= loader_count(a->setup.loader) || bpf_map_lookup_elem(map, &key, &count) < 0)
			continue;
		snprintf(line, sizeof line, "%s:%u %s %llu", module_name(loader_module(a->setup.loader, key.module)),
			 key.line, strerrorname_np(key.error < 0 ? -key.error : key.error), (unsigned long long)count);
		row_put_item(a, row, text, line);
	}
}

/* Runs that the kernel skipped: what the program would have produced is in no counter of its own. */
static void put_misses(struct agent *a, struct row *row, struct sonde_text *text)
{
	struct measure_view measures[MEASURES_MAX];
	char line[128];

	for (size_t i = 0; i < loader_count(a->setup.loader); i++) {
		struct module *m = loader_module(a->setup.loader, i);
		size_t n = module_measures(m, measures, ARRAY_SIZE(measures));

		for (size_t k = 0; k < n; k++) {
			if (!measures[k].misses)
				continue;
			snprintf(line, sizeof line, "%s:%s skipped %llu", module_name(m), measures[k].name,
				 (unsigned long long)measures[k].misses);
			row_put_item(a, row, text, line);
		}
	}
}

void agent_write_ledger(struct agent *a, bool final)
{
	static const uint32_t errors_room = 8192;
	struct row row = row_begin(a, sizeof(struct agent_ledger));
	struct agent_ledger *e = (void *)row.event;
	size_t size;

	put_errors(a, &row, &e->errors);
	put_misses(a, &row, &e->errors);
	size = ledger_pack(a->ledger, a->row + row.at, sizeof a->row - row.at - errors_room);
	e->types = (struct sonde_text){ (uint16_t)row.at, (uint16_t)size };
	row.at += (uint32_t)size;
	e->final = final;
	row_write(a, &row, "agent_ledger");
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop. One thread waits on the rings, the signals, the stack worker and the control socket, at most POLL_MS at a time: the
 * kernel side wakes it only when a ring fills, so a quiet host costs twenty wake-ups a second and a busy one no more.
 *
 * Order of life: journal, symbols' worker (forked while nothing else runs), identity, the tasks that were there before, the
 * other modules, agent.start; then privileges go, then sinks and their threads start, then seccomp closes. The end is the reverse: programs are
 * detached, rings drained, modules flushed, the last ledger written, sinks flushed.
 */
#include "agent.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <time.h>

#include "clock.h"
#include "control.h"
#include "filter.h"
#include "intake.h"
#include "metrics.h"
#include "encode/record.h"
#include "privilege.h"
#include "probes/identity/identity.h"
#include "sinks/kafka.h"
#include "stacks/symbols.h"

#define POLL_MS         50
#define BULK_BATCH      256  /* bulk records between two looks at the priority ring */
#define PRIORITY_BATCH  4096 /* and the other way round */
#define TICK_NS         (100 * NS_PER_MS)
#define RELOAD_FLUSH_NS (300 * NS_PER_MS) /* the rings fill meanwhile */
#define LAST_FLUSH_MS   2000
#define SECOND_NS       NS_PER_SEC
#define MODULES_MAX     64
#define CGROUPS_MAX     16384
#define NOBODY          65534 /* where no user has that name */
#define SYMBOLS_PART    4     /* of agent.memory goes to the agent's symbol tables, and as much to the worker's */

/* A module that runs, with what the agent does for it. */
struct guest {
	struct sonde_host host;
	struct agent *agent;
	struct module *module;
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
	int v1_hierarchy; /* the kernel's number of the chosen v1 hierarchy, or -1 */
	struct symbols *symbols;
	struct sched_clock *clock;
	struct ring_buffer *priority, *bulk;
	struct guest guests[MODULES_MAX];
	struct kafka *kafka;
	uint64_t first_position; /* of this run's records */
	struct control *control;
	struct metrics *metrics;
	int epoll, signals;
	bool stopping;
	unsigned batch_left;
	bool waits[2]; /* by ring (1: priority): not looked at, since it is blocked */
	uint64_t next_tick, next_second, next_ledger, last_ledger, loss_since;
	uint8_t row[65536]; /* where the agent's own events are put together */
};

static void say(void *context, const char *text)
{
	fprintf(stderr, "sonde: %s\n", text);
}

/* ---- the agent's own events ---- */

struct row {
	struct sonde_event *event;
	uint32_t at; /* end of what is used */
};

static struct row row_begin(struct agent *a, uint32_t fixed)
{
	struct row row = { (struct sonde_event *)a->row, fixed };

	memset(a->row, 0, fixed);
	row.event->time = now_boottime_ns();
	row.event->flags = SONDE_FLAG_NO_TASK;
	return row;
}

static void row_put(struct agent *a, struct row *row, struct sonde_text *text, const void *bytes, size_t size)
{
	if (!text->length)
		text->offset = (uint16_t)row->at;
	if (row->at + size > UINT16_MAX)
		return;
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
	ledger_made(a->ledger, type->id);
	return intake_write(a->intake, row->event);
}

static void write_start(struct agent *a)
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

static int write_loss(void *context, uint16_t type, const char *reason, uint64_t count)
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

static void write_ledger(struct agent *a, bool final)
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

/* ---- records of the rings ---- */

/* The kernel tells of every cgroup as it comes and goes, so that even those that lived for a moment have a name. */
static void take_cgroup(struct agent *a, const struct cgroup_changed *e)
{
	unsigned hierarchy = e->_hierarchy == 0 ? 0 : 1;
	char path[CGROUP_PATH_MAX + 1];

	if (e->_hierarchy != 0 && e->_hierarchy != a->v1_hierarchy)
		return;
	if (e->event.size < sizeof *e || (uint32_t)e->_path.offset + e->_path.length > e->event.size ||
	    e->_path.length > CGROUP_PATH_MAX)
		return;
	memcpy(path, (const char *)e + e->_path.offset, e->_path.length);
	path[e->_path.length] = '\0';
	if (e->_change == CGROUP_REMOVED) {
		cgroups_remove(a->cgroups, hierarchy, e->_id);
		filter_cgroup_removed(a->setup.loader, hierarchy, e->_id);
	} else {
		cgroups_add(a->cgroups, hierarchy, e->_id, path);
		filter_cgroup_made(a->setup.loader, a->setup.config, hierarchy, e->_id, path);
	}
}

static struct guest *guest_of(struct agent *a, const char *module)
{
	for (size_t i = 0; i < ARRAY_SIZE(a->guests); i++)
		if (a->guests[i].module && !strcmp(module_name(a->guests[i].module), module))
			return &a->guests[i];
	return NULL;
}

static void take_internal(struct agent *a, const struct event_type *type, const struct sonde_event *e)
{
	struct guest *guest;

	if (!strcmp(type->record, "cgroup_changed")) {
		take_cgroup(a, (const struct cgroup_changed *)e);
		ledger_journaled(a->ledger, type->id, 1);
		return;
	}
	guest = guest_of(a, type->module);
	if (guest && module_companion(guest->module) && module_companion(guest->module)->record)
		module_companion(guest->module)->record(&guest->host, e);
	else
		ledger_dropped(a->ledger, type->id, LEDGER_MALFORMED, 1);
}

static void take_record(struct agent *a, const void *data, size_t size)
{
	const struct sonde_event *e = data;
	const struct event_type *type = size >= sizeof *e ? schema_type(a->setup.schema, e->type) : NULL;

	if (!type)
		return; /* its type's count stays open, and becomes unaccounted */
	ledger_received(a->ledger, type->id);
	if (e->size > size || e->size < type->size)
		ledger_dropped(a->ledger, type->id, LEDGER_MALFORMED, 1);
	else if (type->internal)
		take_internal(a, type, e);
	else
		intake_write(a->intake, e);
}

/* Ends a batch early where the next record would have to wait: what a callback was given is taken. */
static int after_record(struct agent *a, bool priority_ring)
{
	return --a->batch_left && !intake_is_blocked(a->intake, priority_ring) ? 0 : -EAGAIN;
}

static int on_priority(void *context, void *data, size_t size)
{
	take_record(context, data, size);
	return after_record(context, true);
}

static int on_bulk(void *context, void *data, size_t size)
{
	take_record(context, data, size);
	return after_record(context, false);
}

/* Whether there is more. */
static bool drain_ring(struct agent *a, struct ring_buffer *ring, bool priority_ring)
{
	if (intake_is_blocked(a->intake, priority_ring))
		return false;
	a->batch_left = priority_ring ? PRIORITY_BATCH : BULK_BATCH;
	return ring_buffer__consume(ring) == -EAGAIN;
}

/* Takes what is there: priority first, then bulk, looking at priority again after each batch. A flood does not keep the loop from
 * its other work. */
static void drain(struct agent *a)
{
	uint64_t before = intake_seq(a->intake);
	bool more = true;

	for (int rounds = 0; more && rounds < 64; rounds++) {
		more = drain_ring(a, a->priority, true);
		more |= drain_ring(a, a->bulk, false);
	}
	if (intake_seq(a->intake) != before)
		journal_publish(a->journal);
}

/* ---- what the agent does for modules ---- */

static struct guest *guest_from(const struct sonde_host *host)
{
	return (struct guest *)host;
}

static const char *option_key(const struct sonde_host *host, const char *key, char room[128])
{
	snprintf(room, 128, "modules.%s.%s", module_name(guest_from(host)->module), key);
	return room;
}

static uint64_t host_number(const struct sonde_host *host, const char *key)
{
	char room[128];

	return config_number(guest_from(host)->agent->setup.config, option_key(host, key, room));
}

static const char *host_text(const struct sonde_host *host, const char *key)
{
	char room[128];

	return config_text(guest_from(host)->agent->setup.config, option_key(host, key, room));
}

static int host_program(const struct sonde_host *host, const char *name)
{
	return module_program(guest_from(host)->module, name);
}

static int host_map(const struct sonde_host *host, const char *name)
{
	return module_map(guest_from(host)->module, name);
}

static const struct event_type *guest_type(const struct guest *guest, const char *record)
{
	return schema_find_record(guest->agent->setup.schema, module_name(guest->module), record);
}

static int host_emit(struct sonde_host *host, const char *record, void *row)
{
	struct guest *guest = guest_from(host);
	const struct event_type *type = guest_type(guest, record);
	struct sonde_event *e = row;

	if (!type || type->internal || e->size < type->size)
		return -EINVAL;
	e->type = type->id;
	ledger_made(guest->agent->ledger, type->id);
	return intake_write(guest->agent->intake, e);
}

static void host_settled(struct sonde_host *host, const char *record, uint64_t count, const char *reason)
{
	struct guest *guest = guest_from(host);
	const struct event_type *type = guest_type(guest, record);
	enum ledger_reason why = LEDGER_TABLE_FULL;

	if (!type)
		return;
	if (!reason) {
		ledger_journaled(guest->agent->ledger, type->id, count);
		return;
	}
	for (int i = 0; i < LEDGER_REASONS; i++)
		if (!strcmp(ledger_reason_names[i], reason))
			why = (enum ledger_reason)i;
	ledger_dropped(guest->agent->ledger, type->id, why, count);
}

static void host_notice(struct sonde_host *host, const char *text)
{
	fprintf(stderr, "sonde: module %s: %s\n", module_name(guest_from(host)->module), text);
}

static struct guest *guest_make(struct agent *a, struct module *module)
{
	for (size_t i = 0; i < ARRAY_SIZE(a->guests); i++) {
		struct guest *g = &a->guests[i];

		if (g->module)
			continue;
		*g = (struct guest){ .agent = a, .module = module };
		g->host = (struct sonde_host){ .abi = SONDE_MODULE_ABI,
					       .symbols = a->symbols,
					       .window_ns = config_number(a->setup.config, "agent.window"),
					       .number = host_number,
					       .text = host_text,
					       .program = host_program,
					       .map = host_map,
					       .emit = host_emit,
					       .settled = host_settled,
					       .notice = host_notice };
		return g;
	}
	return NULL;
}

/* ---- starting and stopping modules ---- */

static bool is_enabled(const struct config *config, const struct module *module)
{
	char key[128];

	snprintf(key, sizeof key, "modules.%s.enabled", module_name(module));
	return config_bool(config, key);
}

static enum overflow overflow_of(const struct config *config, const struct module *module)
{
	const char *text;
	char key[128];

	snprintf(key, sizeof key, "modules.%s.overflow", module_name(module));
	text = config_text(config, key);
	return !strcmp(text, "drop-newest") ? OVERFLOW_DROP_NEWEST
	       : !strcmp(text, "block")     ? OVERFLOW_BLOCK
					    : OVERFLOW_DROP_OLDEST;
}

static int start_module(struct agent *a, struct module *module, struct fault *fault)
{
	struct guest *guest = guest_make(a, module);
	int r;

	if (!guest)
		return fault_set(fault, -E2BIG, "more than %d modules", MODULES_MAX);
	r = module_start(module, a->setup.config, &guest->host, fault);
	if (r < 0)
		guest->module = NULL;
	else
		intake_set_overflow(a->intake, module_name(module), overflow_of(a->setup.config, module));
	return r;
}

/* Records of the module that are still in the rings: its companion must see them before it goes. */
static uint64_t in_rings_of(struct agent *a, const struct module *module)
{
	uint64_t sum = 0;

	ledger_refresh(a->ledger, false);
	for (uint16_t i = 0; i < schema_count(a->setup.schema); i++)
		if (!strcmp(schema_type(a->setup.schema, i)->module, module_name(module)))
			sum += ledger_in_ring(a->ledger, i);
	return sum;
}

static void stop_module(struct agent *a, struct module *module, int flush_ms)
{
	struct guest *guest = guest_of(a, module_name(module));
	const struct sonde_module *companion = module_companion(module);
	uint64_t until = now_boottime_ns() + SECOND_NS;

	if (!guest)
		return;
	module_detach(module);
	if (companion && companion->stop)
		companion->stop(&guest->host);
	do {
		drain(a);
	} while (in_rings_of(a, module) && now_boottime_ns() < until);
	if (companion && companion->flush)
		companion->flush(&guest->host, flush_ms);
	module_unload(module);
	guest->module = NULL;
}

/* A module that cannot start is said and left out; it stops no other. Without privileges nothing can, so that ends it. */
static int start_modules(struct agent *a, struct fault *fault)
{
	for (size_t i = 1; i < loader_count(a->setup.loader); i++) {
		struct module *m = loader_module(a->setup.loader, i);
		int r = is_enabled(a->setup.config, m) ? start_module(a, m, fault) : 0;

		if (r == -EPERM)
			return r;
		if (r < 0)
			say(a, fault->text);
	}
	return 0;
}

/* ---- the sink ---- */

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

static void on_expired(void *context, const struct journal_record *record)
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

static int start_kafka(struct agent *a, struct fault *fault)
{
	const struct config *c = a->setup.config;
	struct kafka_options options = { .version = version_of, .context = a };
	struct sink_setup setup = { .journal = config_text(c, "journal.path"),
				    .writer = a->journal,
				    .host = a->host,
				    .run = a->run,
				    .acknowledged = on_acknowledged,
				    .refused = on_refused,
				    .notice = say,
				    .context = a };

	if (!config_bool(c, "sinks.kafka.enabled"))
		return 0;
	setup_kafka(c, &options);
	int r = kafka_start(&a->kafka, &options, &setup, fault);

	intake_set_followed(a->intake, r == 0);
	return r;
}

static void stop_kafka(struct agent *a, uint64_t timeout_ns)
{
	if (!a->kafka)
		return;
	kafka_stop(a->kafka, (int)(timeout_ns / NS_PER_MS));
	a->kafka = NULL;
	intake_set_followed(a->intake, false);
}

/* ---- reload ---- */

struct changes {
	bool modules[MODULES_MAX], kafka, filter;
	struct agent *agent;
	const char *fixed; /* a key that only a restart can change */
};

static void note_change(void *context, const char *key, const struct sonde_option *row)
{
	struct changes *c = context;
	struct loader *loader = c->agent->setup.loader;

	if (!strncmp(key, "filter.", 7)) {
		c->filter = true;
		return;
	}
	if (!strncmp(key, "sinks.kafka.", 12)) {
		c->kafka |= !row->live;
		return;
	}
	for (size_t i = 1; i < loader_count(loader) && i < MODULES_MAX; i++) {
		size_t n = strlen(module_name(loader_module(loader, i)));

		if (!strncmp(key, "modules.", 8) && !strncmp(key + 8, module_name(loader_module(loader, i)), n) &&
		    key[8 + n] == '.') {
			c->modules[i] |= !row->live;
			return;
		}
	}
	if (!row->live)
		c->fixed = key;
}

static int restart_changed(struct agent *a, const struct changes *c, struct fault *fault)
{
	int r = 0;

	for (size_t i = 1; i < loader_count(a->setup.loader) && i < MODULES_MAX && r == 0; i++) {
		struct module *m = loader_module(a->setup.loader, i);

		if (c->modules[i]) {
			stop_module(a, m, RELOAD_FLUSH_NS / NS_PER_MS);
			if (is_enabled(a->setup.config, m))
				r = start_module(a, m, fault);
		}
		if (r == 0 && module_running(m))
			intake_set_overflow(a->intake, module_name(m), overflow_of(a->setup.config, m));
	}
	if (r == 0 && c->kafka) {
		stop_kafka(a, RELOAD_FLUSH_NS); /* the next one goes on at the cursor */
		r = start_kafka(a, fault);
	}
	if (r == 0 && c->filter)
		r = filter_apply(a->setup.loader, a->setup.config, fault);
	return r;
}

/* The new configuration is read and checked whole before anything changes; what then cannot be started is taken back. */
static void reload(struct agent *a)
{
	struct config *fresh, *old = a->setup.config;
	struct changes changes = { .agent = a };
	struct fault fault = { 0 };
	int r = setup_reload(&a->setup, a->options->sets, a->options->n_sets, &fresh, &fault);

	if (r == 0) {
		config_diff(old, fresh, note_change, &changes);
		if (changes.fixed)
			r = fault_set(&fault, -EBUSY, "%s cannot change while the agent runs: restart it",
				      changes.fixed);
		if (r < 0)
			config_free(fresh);
	}
	if (r == 0) {
		a->setup.config = fresh;
		r = restart_changed(a, &changes, &fault);
		if (r < 0) {
			struct fault again;

			a->setup.config = old;
			restart_changed(a, &changes, &again);
			config_free(fresh);
		} else {
			config_free(old);
		}
	}
	if (r < 0)
		fprintf(stderr, "sonde: reload: %s%s; the configuration stays as it was\n", fault.text,
			r == -EPERM || r == -EACCES ? " (the agent kept too few privileges for that: restart it)" : "");
	else
		say(a, "configuration reloaded");
}

/* ---- the loop ---- */

static void set_sched_offset(struct agent *a)
{
	int map = loader_map(a->setup.loader, "sonde_settings");
	struct sonde_settings settings;
	uint32_t zero = 0;

	if (!a->clock || bpf_map_lookup_elem(map, &zero, &settings) < 0)
		return;
	settings.sched_offset = sched_clock_offset(a->clock);
	bpf_map_update_elem(map, &zero, &settings, BPF_ANY);
}

static void tick_modules(struct agent *a, uint64_t now)
{
	for (size_t i = 0; i < ARRAY_SIZE(a->guests); i++) {
		struct guest *g = &a->guests[i];
		const struct sonde_module *companion = g->module ? module_companion(g->module) : NULL;

		if (companion && companion->tick)
			companion->tick(&g->host, now);
	}
}

static void report_losses(struct agent *a, uint64_t now)
{
	if (ledger_each_loss(a->ledger, write_loss, a))
		a->loss_since = now;
}

static void view(struct agent *a, struct agent_view *ret, struct sink_health *kafka)
{
	struct symbols_health symbols = { 0 };

	if (a->symbols)
		symbols_health(a->symbols, &symbols);
	if (a->kafka)
		kafka_health(a->kafka, kafka);
	ledger_refresh(a->ledger, false);
	*ret = (struct agent_view){ .schema = a->setup.schema,
				    .loader = a->setup.loader,
				    .ledger = a->ledger,
				    .journal = a->journal,
				    .kafka = a->kafka ? kafka : NULL,
				    .run = a->run,
				    .began = a->options->began,
				    .attach_ns = a->attach_ns,
				    .worker_pid = symbols.worker_pid };
}

static int answer(void *context, const char *request, FILE *out)
{
	struct sink_health kafka = { 0 };
	struct agent_view v;

	view(context, &v, &kafka);
	if (!strcmp(request, "stats"))
		report_stats(out, &v);
	else if (!strcmp(request, "probes"))
		report_probes(out, &v);
	else
		return -EINVAL;
	return 0;
}

static int render_metrics(void *context, FILE *out)
{
	struct sink_health kafka = { 0 };
	struct agent_view v;

	view(context, &v, &kafka);
	report_metrics(out, &v);
	return 0;
}

static void every_second(struct agent *a, uint64_t now)
{
	intake_update_clock(a->intake);
	ledger_refresh(a->ledger, false);
	if (intake_has_room(a->intake))
		report_losses(a, now);
	set_sched_offset(a);
	if (a->metrics)
		metrics_serve(a->metrics);
	journal_publish(a->journal);
}

static void every_interval(struct agent *a, uint64_t now)
{
	uint64_t interval = config_number(a->setup.config, "agent.ledger_interval");

	/* A reload may have made it shorter. */
	a->next_ledger = MIN_OF(a->next_ledger, a->last_ledger + interval);
	if (now < a->next_ledger)
		return;
	ledger_refresh(a->ledger, false);
	if (intake_has_room(a->intake))
		write_ledger(a, false);
	journal_publish(a->journal);
	a->last_ledger = now;
	a->next_ledger = now + interval;
}

static void timers(struct agent *a)
{
	uint64_t now = now_boottime_ns();

	if (now >= a->next_tick) {
		tick_modules(a, now);
		a->next_tick = now + TICK_NS;
	}
	if (now >= a->next_second) {
		every_second(a, now);
		a->next_second = now + SECOND_NS;
	}
	every_interval(a, now);
	if (a->options->duration_ns && now - a->options->began - a->attach_ns >= a->options->duration_ns)
		a->stopping = true;
}

static void take_signal(struct agent *a)
{
	struct signalfd_siginfo info;

	while (read(a->signals, &info, sizeof info) == sizeof info) {
		if (info.ssi_signo == SIGHUP)
			reload(a);
		else
			a->stopping = true;
	}
}

static int watch(struct agent *a, int fd)
{
	struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };

	return fd < 0 ? 0 : epoll_ctl(a->epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

/* A blocked ring stays readable: nobody may wait for that. */
static void watch_rings(struct agent *a)
{
	for (int priority = 0; priority < 2; priority++) {
		bool waits = intake_is_blocked(a->intake, priority);
		int fd = ring_buffer__epoll_fd(priority ? a->priority : a->bulk);
		struct epoll_event e = { .events = waits ? 0 : EPOLLIN, .data.fd = fd };

		if (waits != a->waits[priority] && epoll_ctl(a->epoll, EPOLL_CTL_MOD, fd, &e) == 0)
			a->waits[priority] = waits;
	}
}

static void loop(struct agent *a)
{
	a->last_ledger = now_boottime_ns();
	a->next_ledger = UINT64_MAX;
	while (!a->stopping) {
		struct epoll_event events[8];
		int n = epoll_wait(a->epoll, events, ARRAY_SIZE(events), POLL_MS);

		drain(a);
		watch_rings(a);
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == a->signals)
				take_signal(a);
			else if (a->symbols && events[i].data.fd == symbols_fd(a->symbols))
				symbols_answer(a->symbols);
			else if (a->control && events[i].data.fd == control_fd(a->control))
				control_serve(a->control);
			else if (a->metrics && events[i].data.fd == metrics_fd(a->metrics))
				metrics_serve(a->metrics);
		}
		timers(a);
	}
}

/* ---- begin and end ---- */

static void name_run(struct agent *a)
{
	uint32_t random = 0;
	const char *host = config_text(a->setup.config, "host");
	struct utsname u;

	if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0)
		random = (uint32_t)getpid();
	snprintf(a->run, sizeof a->run, "%08x%08x", (unsigned)(now_realtime_ns() / NS_PER_SEC), random);
	uname(&u);
	snprintf(a->host, sizeof a->host, "%s", *host ? host : u.nodename);
}

static int hierarchy_number(const char *controller)
{
	_cleanup_(free_pointer) char *text = NULL;

	if (!*controller || read_small_file("/proc/self/cgroup", 65536, &text, NULL) < 0)
		return -1;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char names[128];
		int number;

		if (sscanf(line, "%d:%127[^:]:", &number, names) != 2)
			continue;
		for (char *save, *name = strtok_r(names, ",", &save); name; name = strtok_r(NULL, ",", &save))
			if (!strcmp(name, controller))
				return number;
	}
	return -1;
}

static int open_cgroups(struct agent *a, struct fault *fault)
{
	struct cgroup_layout layout;
	int r = cgroup_layout_read("/proc/self/mountinfo", &layout);

	if (r == 0)
		r = cgroups_open(&a->cgroups, &layout, CGROUPS_MAX);
	if (r < 0)
		return fault_set(fault, r, "cgroups cannot be read: %s", strerror(-r));
	loader_set_cgroup_v1(a->setup.loader, layout.v1_controller);
	a->v1_hierarchy = hierarchy_number(layout.v1_controller);
	return 0;
}

static int open_journal(struct agent *a, struct fault *fault)
{
	struct journal_options options = { .path = config_text(a->setup.config, "journal.path"),
					   .size_bytes = config_number(a->setup.config, "journal.size"),
					   .segment_bytes = (uint32_t)config_number(a->setup.config, "journal.segment"),
					   .expired = on_expired,
					   .context = a };
	struct journal_health health;
	struct fault why = { 0 };
	int r = journal_open(&a->journal, &options, &why);

	if (r < 0)
		return fault_set(fault, r, "journal.path: %s", why.text);
	journal_health(a->journal, &health);
	a->first_position = health.end;
	if (health.bad_records || health.torn_bytes)
		fprintf(stderr,
			"sonde: the journal %s was damaged: %llu places skipped, %llu bytes cut at its end; it goes "
			"on\n",
			options.path, (unsigned long long)health.bad_records, (unsigned long long)health.torn_bytes);
	return 0;
}

/* The user that the agent is going to be, or NULL: it stays who it is. */
static const struct passwd *agent_user(const struct agent *a)
{
	const char *name = config_text(a->setup.config, "agent.user");

	return *name ? getpwnam(name) : NULL;
}

/* The worker's user is never the agent's: who reads hostile files can neither signal nor trace the agent. */
static int open_symbols(struct agent *a, struct fault *fault)
{
	uint64_t part = config_number(a->setup.config, "agent.memory") / SYMBOLS_PART;
	const struct passwd *nobody = getpwnam("nobody"), *user;
	struct symbols_options options = { .cache_bytes = part,
					   .worker_bytes = part,
					   .worker_uid = nobody ? nobody->pw_uid : NOBODY };

	user = agent_user(a);
	if (user && user->pw_uid == options.worker_uid)
		return fault_set(fault, -EINVAL, "agent.user: %s is the stack worker's user; name another",
				 user->pw_name);
	return symbols_open(&a->symbols, &options, fault);
}

static int open_rings(struct agent *a, struct fault *fault)
{
	a->priority = ring_buffer__new(loader_map(a->setup.loader, "sonde_priority"), on_priority, a, NULL);
	a->bulk = ring_buffer__new(loader_map(a->setup.loader, "sonde_bulk"), on_bulk, a, NULL);
	if (!a->priority || !a->bulk)
		return fault_set(fault, -errno, "the rings cannot be mapped: %s", strerror(errno));
	return 0;
}

static int open_signals(struct agent *a)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	a->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	a->epoll = epoll_create1(EPOLL_CLOEXEC);
	return a->signals < 0 || a->epoll < 0 ? -errno : 0;
}

static int begin_probes(struct agent *a, struct fault *fault)
{
	struct module *identity = loader_module(a->setup.loader, 0);
	int r = module_start(identity, NULL, NULL, fault);

	if (r == -EPERM || r == -EACCES)
		return fault_set(fault, r,
				 "the kernel refuses to load programs: run as root, or with CAP_BPF and CAP_PERFMON");
	if (r == 0)
		r = ledger_new(&a->ledger, a->setup.schema, loader_map(a->setup.loader, "sonde_counters"));
	if (r < 0)
		return r;
	struct intake_setup setup = { .schema = a->setup.schema,
				      .ledger = a->ledger,
				      .journal = a->journal,
				      .cgroups = a->cgroups,
				      .host = a->host,
				      .run = a->run };

	r = intake_open(&a->intake, &setup);
	if (r < 0)
		return fault_set(fault, r, "host: the name must have at most 128 bytes");
	if (sched_clock_open(&a->clock) == 0)
		set_sched_offset(a);
	r = filter_apply(a->setup.loader, a->setup.config, fault);
	if (r == 0)
		r = open_rings(a, fault);
	return r == 0 ? start_modules(a, fault) : r;
}

/* Another agent's control socket is no reason not to run; a port that is taken is, since it was asked for. */
static int open_service(struct agent *a, struct fault *fault)
{
	const char *control = config_text(a->setup.config, "agent.control"),
		   *listen = config_text(a->setup.config, "agent.listen");
	int r = *control ? control_open(&a->control, control, answer, a, fault) : 0;

	if (r < 0)
		say(a, fault->text);
	r = *listen ? metrics_open(&a->metrics, listen, render_metrics, a, fault) : 0;
	if (r == 0 && a->metrics && metrics_exposed(a->metrics))
		say(a, "agent.listen is an address that other hosts can reach: /metrics has no password");
	return r;
}

static int give_up_privileges(struct agent *a, struct fault *fault)
{
	const char *const paths[] = { config_text(a->setup.config, "journal.path") };
	struct privilege_options options = { .user = config_text(a->setup.config, "agent.user"),
					     .capabilities = PRIVILEGE_BASE,
					     .paths = paths,
					     .n_paths = ARRAY_SIZE(paths) };

	return privilege_drop(&options, NULL, fault);
}

static void say_begin(struct agent *a)
{
	struct sink_health kafka = { 0 };
	struct agent_view v;

	view(a, &v, &kafka);
	report_begin(stderr, &v, config_text(a->setup.config, "journal.path"));
}

static int begin(struct agent *a, struct fault *fault)
{
	int r = setup_make(&a->setup, a->options->file, a->options->sets, a->options->n_sets, say, a, fault);

	if (r < 0)
		return r == -ENOMEM ? r : -EINVAL; /* whatever it is, it lies in the configuration */
	name_run(a);
	if (geteuid() != 0)
		return fault_set(fault, -EPERM,
				 "sonde run must be started by root (uid 0, not %u): it loads programs into the kernel",
				 geteuid());
	r = loader_check_kernel(fault);
	if (r == 0)
		r = open_signals(a);
	if (r == 0)
		r = open_symbols(a, fault);
	if (r == 0)
		r = open_journal(a, fault);
	if (r == 0)
		r = open_cgroups(a, fault);
	if (r == 0)
		r = begin_probes(a, fault);
	if (r == 0)
		r = open_service(a, fault);
	if (r == 0)
		r = give_up_privileges(a, fault);
	if (r == 0)
		r = start_kafka(a, fault);
	if (r == 0)
		r = privilege_seccomp(0, fault);
	if (r < 0)
		return r;
	watch(a, a->signals);
	watch(a, ring_buffer__epoll_fd(a->priority));
	watch(a, ring_buffer__epoll_fd(a->bulk));
	watch(a, symbols_fd(a->symbols));
	if (a->control)
		watch(a, control_fd(a->control));
	if (a->metrics)
		watch(a, metrics_fd(a->metrics));
	a->loss_since = now_boottime_ns();
	write_start(a);
	journal_publish(a->journal);
	say_begin(a);
	return 0;
}

static void detach_modules(struct agent *a)
{
	for (size_t i = 0; i < loader_count(a->setup.loader); i++) {
		struct module *m = loader_module(a->setup.loader, i);
		const struct sonde_module *companion = module_running(m) ? module_companion(m) : NULL;

		if (!module_running(m))
			continue;
		module_detach(m);
		if (companion && companion->stop)
			companion->stop(&guest_of(a, module_name(m))->host);
	}
}

static bool drain_until(struct agent *a, uint64_t until)
{
	for (;;) {
		drain(a);
		ledger_refresh(a->ledger, false);
		if (!ledger_in_rings(a->ledger) || now_boottime_ns() >= until)
			return !ledger_in_rings(a->ledger);
		if (intake_is_blocked(a->intake, true) || intake_is_blocked(a->intake, false))
			nanosleep(&(struct timespec){ .tv_nsec = 5 * NS_PER_MS }, NULL);
	}
}

/* No event begins after the programs are detached; what is in the rings comes out within the bound. What a sink that has fallen behind
 * still blocks by then is dropped by name. */
static void drain_to_the_end(struct agent *a)
{
	uint64_t now = now_boottime_ns();

	detach_modules(a);
	if (drain_until(a, now + config_number(a->setup.config, "agent.drain_timeout")))
		return;
	intake_end_blocking(a->intake);
	drain_until(a, now_boottime_ns() + SECOND_NS);
}

static void settle(struct agent *a)
{
	report_losses(a, now_boottime_ns());
	write_ledger(a, true);
	journal_publish(a->journal);
}

/* Records that the sink held and never delivered may have left the journal meanwhile: that is known once it has ended. */
static void finish(struct agent *a)
{
	struct sink_health kafka = { 0 };
	struct agent_view v;
	uint64_t expired;

	drain_to_the_end(a);
	for (size_t i = loader_count(a->setup.loader); i-- > 1;)
		stop_module(a, loader_module(a->setup.loader, i), LAST_FLUSH_MS);
	ledger_refresh(a->ledger, true);
	settle(a);
	expired = ledger_expired_sum(a->ledger);
	stop_kafka(a, config_number(a->setup.config, "sinks.kafka.flush_timeout"));
	journal_publish(a->journal);
	if (ledger_expired_sum(a->ledger) != expired)
		settle(a);
	view(a, &v, &kafka);
	report_end(stderr, &v);
}

static void close_all(struct agent *a)
{
	metrics_close(a->metrics);
	control_close(a->control);
	stop_kafka(a, 0);
	for (size_t i = 0; a->setup.loader && i < loader_count(a->setup.loader); i++)
		module_unload(loader_module(a->setup.loader, i));
	ring_buffer__free(a->priority);
	ring_buffer__free(a->bulk);
	sched_clock_close(a->clock);
	if (a->symbols)
		symbols_close(a->symbols);
	intake_close(a->intake);
	journal_close(a->journal);
	if (a->cgroups)
		cgroups_close(a->cgroups);
	ledger_free(a->ledger);
	close_fd(&a->signals);
	close_fd(&a->epoll);
	setup_free(&a->setup);
}

int agent_run(const struct agent_options *options, struct fault *fault)
{
	struct agent *a = calloc(1, sizeof *a);
	int r;

	if (!a)
		return -ENOMEM;
	a->options = options;
	a->epoll = a->signals = a->v1_hierarchy = -1;
	r = begin(a, fault);
	if (r == 0) {
		loop(a);
		finish(a);
	}
	close_all(a);
	free(a);
	return r;
}

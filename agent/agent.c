/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop. One thread waits on the rings, the signals, the stack worker and the control socket, at most POLL_MS at a time: the
 * kernel side wakes it only when a ring fills, so a quiet host costs twenty wake-ups a second and a busy one no more.
 *
 * Order of life: journal, symbols' worker (forked while nothing else runs), identity, the tasks that were there before, the
 * other modules, agent.start; then privileges go, then sinks and their threads start, then seccomp closes. The end is the reverse: programs are
 * detached, rings drained, modules flushed, the last ledger written, sinks flushed.
 */
#include "agent_state.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <time.h>

#include "clock.h"
#include "control.h"
#include "filter.h"
#include "metrics.h"
#include "perf_opener.h"
#include "privilege.h"
#include "sinks/kafka.h"

#define POLL_MS       100 /* every turn finds cold caches: seldom is cheap */
#define TICK_NS       (100 * NS_PER_MS)
#define LAST_FLUSH_MS 2000
#define SECOND_NS     NS_PER_SEC
#define CGROUPS_MAX   16384
#define NOBODY        65534      /* where no user has that name */
#define STACKS_BYTES  (4u << 20) /* stacks of events, and the events that wait for them */
#define SYMBOLS_PART  4          /* of agent.memory goes to the agent's symbol tables, and as much to the worker's */

#define DEBUGINFOD_CACHE       "/var/cache/sonde/debuginfod"
#define DEBUGINFOD_CACHE_BYTES (512ull << 20)
#define DEBUGINFOD_TIMEOUT_S   10

void agent_say(void *context, const char *text)
{
	fprintf(stderr, "sonde: %s\n", text);
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
	if (ledger_each_loss(a->ledger, agent_write_loss, a))
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
				    .processes = a->processes,
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
		return agent_ask_module(context, request, out);
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
	/* A reload may have made it shorter. */
	a->ledger_interval = config_number(a->setup.config, "agent.ledger_interval");
	intake_update_clock(a->intake);
	ledger_refresh(a->ledger, false);
	if (intake_has_room(a->intake))
		report_losses(a, now);
	set_sched_offset(a);
	if (a->alerts)
		users_refresh(a->users);
	if (a->metrics)
		metrics_serve(a->metrics);
	journal_publish(a->journal);
}

static void every_interval(struct agent *a, uint64_t now)
{
	if (now < a->last_ledger + a->ledger_interval)
		return;
	ledger_refresh(a->ledger, false);
	if (intake_has_room(a->intake))
		agent_write_ledger(a, false);
	journal_publish(a->journal);
	a->last_ledger = now;
}

static void timers(struct agent *a)
{
	uint64_t now = now_boottime_ns();

	if (now >= a->next_tick) {
		tick_modules(a, now);
		event_stacks_tick(a->stacks, now);
		if (a->alerts)
			alerts_tick(a->alerts, now);
		agent_tick_responses(a, now);
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
			agent_reload(a);
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
	while (!a->stopping) {
		struct epoll_event events[8];
		int n = epoll_wait(a->epoll, events, ARRAY_SIZE(events), POLL_MS);

		agent_drain(a);
		symbols_answer(a->symbols);
		watch_rings(a);
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == a->signals)
				take_signal(a);
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
					   .expired = agent_on_expired,
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
	unsigned uid = nobody ? nobody->pw_uid : NOBODY;
	struct symbols_options options = { .cache_bytes = part,
					   .worker_bytes = part,
					   .java_maps = config_bool(a->setup.config, "agent.java_maps"),
					   .worker_uid = uid,
					   .debuginfod = { .cache = DEBUGINFOD_CACHE,
							   .cache_bytes = DEBUGINFOD_CACHE_BYTES,
							   .timeout_s = DEBUGINFOD_TIMEOUT_S,
							   .uid = uid } };

	options.debuginfod.n_urls = config_list(a->setup.config, "agent.debuginfod", &options.debuginfod.urls);
	user = agent_user(a);
	if (user && user->pw_uid == options.worker_uid)
		return fault_set(fault, -EINVAL, "agent.user: %s is the stack worker's user; name another",
				 user->pw_name);
	return symbols_open(&a->symbols, &options, fault);
}

static int open_stacks(struct agent *a)
{
	const struct event_stacks_options options = {
		.symbols = a->symbols, .bytes = STACKS_BYTES, .context = a, .write = agent_on_stack
	};

	return event_stacks_open(&a->stacks, &options);
}

static int open_rings(struct agent *a, struct fault *fault)
{
	a->priority = ring_buffer__new(loader_map(a->setup.loader, "sonde_priority"), agent_on_priority, a, NULL);
	a->bulk = ring_buffer__new(loader_map(a->setup.loader, "sonde_bulk"), agent_on_bulk, a, NULL);
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
				      .processes = a->processes,
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
	if (r == 0)
		r = agent_start_modules(a, fault);
	if (r == 0)
		r = agent_check_guard(a, fault);
	if (r == 0) {
		agent_tell_guard(a);
		agent_tell_urgent(a);
		agent_tell_opens(a);
	}
	if (r == 0)
		agent_list_processes(a);
	return r;
}

/* Another agent's control socket is no reason not to run; a port that is taken is, since it was asked for. */
static int open_service(struct agent *a, struct fault *fault)
{
	const char *control = config_text(a->setup.config, "agent.control"),
		   *listen = config_text(a->setup.config, "agent.listen");
	int r = *control ? control_open(&a->control, control, answer, a, fault) : 0;

	if (r < 0)
		agent_say(a, fault->text);
	r = *listen ? metrics_open(&a->metrics, listen, render_metrics, a, fault) : 0;
	if (r == 0 && a->metrics && metrics_exposed(a->metrics))
		agent_say(a, "agent.listen is an address that other hosts can reach: /metrics has no password");
	return r;
}

static int give_up_privileges(struct agent *a, struct fault *fault)
{
	const char *const paths[] = { config_text(a->setup.config, "journal.path") };
	struct privilege_options options = { .user = config_text(a->setup.config, "agent.user"),
					     .capabilities = responses_capabilities(a->setup.config),
					     .paths = paths,
					     .n_paths = ARRAY_SIZE(paths) };

	struct privilege_state state = { 0 };
	int r = privilege_drop(&options, &state, fault);

	if (r == 0 && (state.missing || state.user_unknown))
		agent_say(a, state.text);
	return r;
}

static void say_begin(struct agent *a)
{
	struct sink_health kafka = { 0 };
	struct agent_view v;

	view(a, &v, &kafka);
	report_begin(stderr, &v, config_text(a->setup.config, "journal.path"));
}

/* Said once; the agent runs without it. */
static void say_debuginfod(struct agent *a)
{
	struct fault why = { 0 };
	char text[sizeof why.text + 64];

	if (symbols_debuginfod(a->symbols, &why) == 0)
		return;
	snprintf(text, sizeof text, "agent.debuginfod: no server is asked: %s", why.text);
	agent_say(a, text);
}

/* First of all: it has what memory the agent has by then. */
static int start_opener(struct agent *a, struct fault *fault)
{
	int r = geteuid() == 0 && perf_opener_needed() ? perf_opener_start(&a->opener) : 0;

	if (r < 0)
		fault_set(fault, r, "no helper for perf events can be started: %s", strerror(-r));
	return r;
}

static int begin(struct agent *a, struct fault *fault)
{
	int r = start_opener(a, fault);

	if (r < 0)
		return r;
	r = setup_make(&a->setup, a->options->file, a->options->sets, a->options->n_sets, agent_say, a, fault);
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
		r = open_stacks(a);
	if (r == 0)
		r = open_journal(a, fault);
	if (r == 0)
		r = open_cgroups(a, fault);
	if (r == 0)
		r = agent_open_processes(a, fault);
	if (r == 0)
		r = agent_load_rules(a, fault);
	if (r == 0)
		r = begin_probes(a, fault);
	if (r == 0)
		r = open_service(a, fault);
	if (r == 0)
		r = give_up_privileges(a, fault);
	if (r == 0)
		r = agent_start_kafka(a, fault);
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
	agent_write_start(a);
	journal_publish(a->journal);
	say_begin(a);
	say_debuginfod(a);
	return 0;
}

struct detaching {
	struct agent *agent;
	uint64_t say_at; /* 0: it has been said */
};

static void drain_and_say(void *context)
{
	struct detaching *d = context;

	agent_drain(d->agent);
	if (!d->say_at || now_boottime_ns() < d->say_at)
		return;
	d->say_at = 0;
	agent_say(d->agent, "ending: the kernel takes its time to let go of so many hooks; events still come out");
}

static void detach_modules(struct agent *a)
{
	struct detaching d = { a, now_boottime_ns() + SECOND_NS };

	loader_detach(a->setup.loader, drain_and_say, &d);
	for (size_t i = 0; i < loader_count(a->setup.loader); i++) {
		struct module *m = loader_module(a->setup.loader, i);
		const struct sonde_module *companion = module_running(m) ? module_companion(m) : NULL;

		if (companion && companion->stop)
			companion->stop(&agent_guest(a, module_name(m))->host);
	}
}

static bool drain_until(struct agent *a, uint64_t until)
{
	for (;;) {
		agent_drain(a);
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

/* What is written may begin a segment and so push out records of another: these are told too. */
static void settle(struct agent *a)
{
	unsigned times = 0;
	uint64_t expired;

	do {
		expired = ledger_expired_sum(a->ledger);
		report_losses(a, now_boottime_ns());
		agent_write_ledger(a, true);
	} while (ledger_expired_sum(a->ledger) != expired && ++times < 3);
	journal_publish(a->journal);
}

/* Records that the sink held and never delivered may have left the journal meanwhile: that is known once it has ended. */
static void finish(struct agent *a)
{
	struct sink_health kafka = { 0 };
	struct agent_view v;
	uint64_t expired;

	drain_to_the_end(a);
	event_stacks_flush(a->stacks, LAST_FLUSH_MS);
	for (size_t i = loader_count(a->setup.loader); i-- > 1;)
		agent_stop_module(a, loader_module(a->setup.loader, i), LAST_FLUSH_MS);
	if (a->alerts)
		alerts_flush(a->alerts);
	ledger_refresh(a->ledger, true);
	settle(a);
	expired = ledger_expired_sum(a->ledger);
	agent_stop_kafka(a, config_number(a->setup.config, "sinks.kafka.flush_timeout"));
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
	agent_stop_kafka(a, 0);
	for (size_t i = 0; a->setup.loader && i < loader_count(a->setup.loader); i++)
		module_unload(loader_module(a->setup.loader, i));
	ring_buffer__free(a->priority);
	ring_buffer__free(a->bulk);
	sched_clock_close(a->clock);
	event_stacks_close(a->stacks);
	if (a->symbols)
		symbols_close(a->symbols);
	alerts_close(a->alerts);
	live_close(a->reader);
	processes_close(a->processes);
	users_close(a->users);
	runtimes_close(a->runtimes);
	intake_close(a->intake);
	journal_close(a->journal);
	if (a->cgroups)
		cgroups_close(a->cgroups);
	ledger_free(a->ledger);
	for (uint32_t i = 0; i < a->n_rule_names; i++)
		free(a->rule_names[i]);
	close_fd(&a->signals);
	close_fd(&a->epoll);
	setup_free(&a->setup);
	perf_opener_stop(a->opener);
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

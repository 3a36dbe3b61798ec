/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent knows of processes, and the rules that it holds events against. */
#include "agent_state.h"

#include "probes/exec/exec.h"
#include "probes/file/file.h"
#include "probes/net/net.h"
#include "probes/tcp/tcp.h"

#define PROCESSES_PART 8 /* of agent.memory goes to the table of processes */

/* As the module declares them: its header is what they are read by. */
static const struct event_type *type_of(const struct agent *a, const char *module, const char *record, size_t size)
{
	const struct event_type *type = schema_find_record(a->setup.schema, module, record);

	return type && type->size == size ? type : NULL;
}

int agent_open_processes(struct agent *a, struct fault *fault)
{
	int r = processes_open(&a->processes, config_number(a->setup.config, "agent.memory") / PROCESSES_PART);

	if (r == 0)
		r = runtimes_open(&a->runtimes, "");
	if (r == 0)
		r = users_open(&a->users, "/etc/passwd", "/etc/group");
	if (r == 0) {
		const struct live_setup setup = {
			.schema = a->setup.schema, .processes = a->processes, .users = a->users, .host = a->host
		};

		r = live_open(&a->reader, &setup);
	}
	a->exec = type_of(a, "exec", "process_exec", sizeof(struct process_exec));
	a->fork = type_of(a, "exec", "process_fork", sizeof(struct process_fork));
	a->exit = type_of(a, "exec", "process_exit", sizeof(struct process_exit));
	a->tcp_connect = type_of(a, "tcp", "tcp_connect", sizeof(struct tcp_connect));
	a->connect = type_of(a, "net", "net_connect", sizeof(struct net_connect));
	a->open = type_of(a, "file", "file_open", sizeof(struct file_open));
	return r < 0 ? fault_set(fault, r, "out of memory") : 0;
}

static void take_task(void *context, const void *task)
{
	const struct sonde_task_found *found = task;
	struct process process = {
		.proc = found->proc, .parent = found->parent, .began = found->began, .pid = found->pid, .loginuid = -1
	};

	memcpy(process.comm, found->comm, sizeof process.comm);
	processes_found(((struct agent *)context)->processes, &process);
}

/* Only rules ask for more than names. */
static void read_details(struct agent *a)
{
	if (a->alerts)
		processes_read_details(a->processes, "/proc");
}

/* Those that were there before. Without them lineage ends at what began since; that is no reason not to run. */
void agent_list_processes(struct agent *a)
{
	if (loader_tasks(a->setup.loader, take_task, a) < 0)
		agent_say(a, "the processes that run already cannot be listed: lineage ends at those that began since");
	read_details(a);
}

static void note_exec(struct agent *a, const struct sonde_event *e)
{
	struct process process = *live_own(a->reader, e);

	process.began = 0;
	processes_exec(a->processes, &process);
}

static void note_fork(struct agent *a, const struct sonde_event *e)
{
	const struct process_fork *fork = (const struct process_fork *)e;

	processes_fork(a->processes, e->proc, fork->child_proc, fork->child_pid, e->time);
}

/* What its first thread calls itself now. */
static void note_name(struct agent *a, const struct sonde_event *e)
{
	const struct process *known = processes_find(a->processes, e->proc);

	if (known && memcmp(known->comm, e->comm, sizeof e->comm))
		processes_rename(a->processes, e->proc, e->comm);
}

void agent_note_process(struct agent *a, const struct event_type *type, const struct sonde_event *e)
{
	if (type == a->exec)
		note_exec(a, e);
	else if (type == a->fork)
		note_fork(a, e);
	else if (type == a->exit)
		processes_exit(a->processes, e->proc);
	else if (type->security && e->pid == e->tid)
		note_name(a, e);
}

/* Of the configuration in force; the rules before stay where these have a mistake. Which hooks modules have may depend on them. */
int agent_load_rules(struct agent *a, struct fault *fault)
{
	const struct alerts_setup setup = { .setup = &a->setup,
					    .processes = a->processes,
					    .users = a->users,
					    .cgroups = a->cgroups,
					    .runtimes = a->runtimes,
					    .host = a->host,
					    .began = a->options->began,
					    .say = agent_say,
					    .write = agent_write_alert,
					    .respond = agent_respond,
					    .context = a };
	struct alerts *fresh;
	char problem[256];
	int r = alerts_open(&fresh, &setup, a->setup.config, fault);

	if (r < 0)
		return r == -ENOMEM ? r : -EINVAL;
	if (fresh && users_problem(a->users, problem, sizeof problem))
		agent_say(a, problem);
	if (a->alerts)
		alerts_flush(a->alerts);
	alerts_close(a->alerts);
	a->alerts = fresh;
	agent_tell_asked(a);
	return 0;
}

/* ---- what rules ask modules for ---- */

#define ASKED_MAX 1024u

struct asked {
	struct agent *agent;
	char *paths[ASKED_MAX];
	size_t n, n_anywhere, n_missed;
	const char *anywhere; /* the first rule that asks for files that it does not name */
};

static void take_asked(void *context, uint32_t rule, const struct rule_path *path)
{
	struct asked *asked = context;
	bool known = false;
	char *text;

	if (!path) {
		if (!asked->n_anywhere++)
			asked->anywhere = rules_at(alerts_rules(asked->agent->alerts), rule)->name;
		return;
	}
	if (asprintf(&text, "%.*s%s", (int)path->length, path->text, path->folder ? "/" : "") < 0) {
		asked->n_missed++;
		return;
	}
	for (size_t i = 0; i < asked->n; i++)
		known |= !strcmp(asked->paths[i], text);
	if (!known && asked->n < ASKED_MAX) {
		asked->paths[asked->n++] = text;
		return;
	}
	asked->n_missed += !known;
	free(text);
}

static void free_asked(struct asked **asked)
{
	for (size_t i = 0; *asked && i < (*asked)->n; i++)
		free((*asked)->paths[i]);
	free(*asked);
}

/* NULL: there is no memory to say it by. */
static struct asked *ask_rules(struct agent *a, enum rules_opens which)
{
	struct asked *asked = calloc(1, sizeof *asked);

	if (!asked)
		return NULL;
	asked->agent = a;
	if (a->alerts && live_opens(alerts_rules(a->alerts), which, take_asked, asked) < 0)
		free_asked(&asked);
	return asked;
}

static void say_reads(struct agent *a, const struct asked *reads)
{
	char text[320];

	if (reads->n_missed) {
		snprintf(text, sizeof text, "rules ask for reads of more than %u files: %zu paths are left out",
			 ASKED_MAX, reads->n_missed);
		agent_say(a, text);
	}
	if (!reads->n_anywhere)
		return;
	snprintf(text, sizeof text,
		 "%zu rule%s of reads of files that no path of its own names, '%.120s'%s: of these only reads that "
		 "modules.file.watch names are seen",
		 reads->n_anywhere, reads->n_anywhere > 1 ? "s are" : " is", reads->anywhere,
		 reads->n_anywhere > 1 ? " first" : "");
	agent_say(a, text);
}

static void tell_reads(struct agent *a)
{
	_cleanup_(free_asked) struct asked *reads = ask_rules(a, RULES_READS);
	bool told = false;

	if (!reads) {
		agent_say(a, "out of memory: which reads rules ask for is not known");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(a->guests); i++) {
		struct guest *g = &a->guests[i];
		const struct sonde_module *companion = g->module ? module_companion(g->module) : NULL;

		if (!companion || !companion->reads)
			continue;
		companion->reads(&g->host, (const char *const *)reads->paths, reads->n);
		told = true;
	}
	if (told)
		say_reads(a, reads);
}

static void say_opens(struct agent *a, const struct asked *opens, bool all)
{
	char text[320];

	if (all && !opens->n_anywhere)
		snprintf(text, sizeof text,
			 "opens for writing are told of all files: those that rules name are too many, or their paths "
			 "too long");
	else if (all)
		snprintf(text, sizeof text,
			 "opens for writing are told of all files: no path names those that '%.120s' is about%s",
			 opens->anywhere, opens->n_anywhere > 1 ? ", and other rules" : "");
	else
		snprintf(text, sizeof text,
			 "opens for writing are told of files alone that rules name by %zu path%s (rules.only)",
			 opens->n, opens->n == 1 ? "" : "s");
	agent_say(a, text);
}

/* With rules.only, where each rule on opens names its files. */
static void tell_opens(struct agent *a)
{
	bool only = config_bool(a->setup.config, "rules.only"), told = false;
	_cleanup_(free_asked) struct asked *opens = only ? ask_rules(a, RULES_OPENS) : NULL;
	bool all = !opens || opens->n_anywhere || opens->n_missed;

	if (only && !opens)
		agent_say(a,
			  "out of memory: which opens rules ask for is not known, and those for writing are all told");
	for (size_t i = 0; i < ARRAY_SIZE(a->guests); i++) {
		struct guest *g = &a->guests[i];
		const struct sonde_module *companion = g->module ? module_companion(g->module) : NULL;

		if (!companion || !companion->opens)
			continue;
		all |= !companion->opens(&g->host, all ? NULL : (const char *const *)opens->paths, all ? 0 : opens->n);
		told = true;
	}
	if (told && opens && (all || opens->n))
		say_opens(a, opens, all);
}

void agent_tell_opens(struct agent *a)
{
	tell_reads(a);
	tell_opens(a);
}

/* One event into the journal, and what rules say of it behind it. An alert does not depend on whether there was room for its event. `ret_seq` (may be NULL):
 * of the event; 0: it was not written. */
int agent_write(struct agent *a, const struct sonde_event *e, const struct stack_text *stack, uint64_t *ret_seq)
{
	int r = intake_write(a->intake, e, stack);
	uint64_t seq = r == 0 ? intake_seq(a->intake) : 0;

	if (ret_seq)
		*ret_seq = seq;
	if (alerts_wants(a->alerts, e->type))
		alerts_judge(a->alerts, e, seq, intake_boot_to_epoch(a->intake));
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Responses: what a rule asks for beside its alert. Whatever is done, or cannot be, is a row of type response.action.
 *
 * A process is named by its execution, of which pid, start time and count of programs are parts. Before it is killed, it is held by a pidfd and then asked for
 * by the kernel side: what has another start time is another process, and what was recycled behind the pidfd is not what the pidfd is.
 * A process that began another program meanwhile is still the one that the rule fired on.
 */
#include "agent_state.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "connections.h"
#include "probes/file/file.h"
#include "probes/net/net.h"
#include "rules/predicate.h"

#define MINUTE_NS   (60 * NS_PER_SEC)
#define ANCESTORS   64u              /* of the agent's own processes, at most so deep */
#define KERNEL_TASK 0x00200000u      /* PF_KTHREAD, include/linux/sched.h */
#define WAIT_NS     (20 * NS_PER_MS) /* for the kernel's note of what it did */
#define YOUNG_NS    (150 * NS_PER_MS)
#define BURST_HZ    999
#define BURST_NS    (10 * NS_PER_SEC)

/* ---- who ---- */

static uint32_t parent_of(uint32_t pid)
{
	_cleanup_(free_pointer) char *text = NULL;
	unsigned parent = 0;
	char path[48];
	const char *at;

	snprintf(path, sizeof path, "/proc/%u/stat", pid);
	if (read_small_file(path, 4096, &text, NULL) < 0)
		return 0;
	at = strrchr(text, ')');
	return at && sscanf(at + 1, " %*c %u", &parent) == 1 ? parent : 0;
}

/* The agent, its workers and helpers. */
static bool is_own(uint32_t pid)
{
	for (unsigned i = 0; pid > 1 && i < ANCESTORS; i++, pid = parent_of(pid))
		if (pid == (uint32_t)getpid())
			return true;
	return false;
}

/* Why the process may not be touched; NULL: it may. What cannot be found any more is no such reason. */
static const char *protection_of(const struct sonde_task_found *task)
{
	if (task->pid == 1)
		return "init is never killed";
	if (task->flags & KERNEL_TASK)
		return "threads of the kernel are never killed";
	return is_own(task->pid) ? "the agent and its workers are never killed" : NULL;
}

/* The process of the event, if it still runs. */
static int find_process(struct agent *a, const struct sonde_event *e, struct sonde_task_found *ret)
{
	int r;

	if (e->flags & SONDE_FLAG_NO_TASK || !e->pid || !e->proc)
		return -ESRCH;
	r = loader_task(a->setup.loader, e->pid, ret);
	if (r == 0 && !loader_is_process(a->setup.loader, ret, e->proc))
		return -ESRCH;
	return r;
}

/* Why find_process() or /proc has none. */
static const char *why_gone(int error)
{
	return error == -ESRCH || error == -ENOENT || error == -EINVAL ? "the process has ended" : strerror(-error);
}

/* ---- kill ---- */

static bool may_kill(struct agent *a)
{
	uint64_t now = now_boottime_ns();

	if (now - a->kill_minute >= MINUTE_NS) {
		a->kill_minute = now;
		a->kills = 0;
	}
	return a->kills < config_number(a->setup.config, "rules.kill_rate");
}

static int kill_process(struct agent *a, const struct sonde_event *e, const char **ret_reason)
{
	struct sonde_task_found task;
	_cleanup_(close_fd) int process = (int)syscall(SYS_pidfd_open, (int)e->pid, 0);
	int r = process < 0 ? -errno : find_process(a, e, &task);

	if (r < 0) {
		*ret_reason = why_gone(r);
		return r == -EINVAL || r == -ENOENT ? -ESRCH : r;
	}
	*ret_reason = protection_of(&task);
	if (*ret_reason)
		return -EPERM;
	if (!may_kill(a)) {
		*ret_reason = "more than rules.kill_rate in a minute";
		return -EBUSY;
	}
	if (syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0) < 0) {
		r = -errno;
		*ret_reason = r == -ESRCH ? "the process has ended" : "the kernel refuses the signal";
		return r;
	}
	a->kills++;
	return 0;
}

/* ---- what modules do on request ---- */

/* 0, or why the module refuses, with its sentence. */
static int ask(struct agent *a, const char *request, char *reason, size_t size)
{
	_cleanup_(free_pointer) char *answer = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&answer, &n);
	const char *at;
	int r;

	if (!out)
		return -ENOMEM;
	r = agent_ask_module(a, request, out);
	fclose(out);
	at = answer ? strstr(answer, "\"error\":\"") : NULL;
	if (r == 0 && at) {
		at += strlen("\"error\":\"");
		snprintf(reason, size, "%.*s", (int)strcspn(at, "\""), at);
		return -EAGAIN;
	}
	return r;
}

struct capturing {
	struct agent *agent;
	unsigned flows, refused; /* that were written, and that were not */
	int error;
	char *reason;
	size_t size;
};

static void capture_one(void *context, const struct connection_ends *ends)
{
	struct capturing *c = context;
	char request[192];
	int r;

	snprintf(request, sizeof request, "capture flow %s %u %s %u", ends->laddr, ends->lport, ends->raddr,
		 ends->rport);
	r = ask(c->agent, request, c->reason, c->size);
	if (r == 0)
		c->flows++;
	else {
		c->refused++;
		c->error = r;
	}
}

/* What was written of a process is all, or the record says that it is not. */
static int judge_capture(const struct capturing *c, bool more, char *reason, size_t size)
{
	char why[128];

	if (!c->flows && !c->refused) {
		snprintf(reason, size, "the process has no TCP connection");
		return -ENOTCONN;
	}
	if (!c->flows)
		return c->error;
	if (!c->refused && !more)
		return 0;
	snprintf(why, sizeof why, "%.120s", c->refused ? reason : "the process has more than are looked at");
	snprintf(reason, size, "only %u of %u%s connections were written: %s", c->flows, c->flows + c->refused,
		 more ? " and more" : "", why);
	return c->refused ? c->error : -E2BIG;
}

/* Of the connection that the event names; where it names none, of those that its process has open. */
static int capture(struct agent *a, const struct sonde_event *e, char *reason, size_t size)
{
	struct capturing c = { .agent = a, .reason = reason, .size = size };
	struct sonde_task_found task;
	struct connection_ends ends;
	int r;

	if (connection_of_event(schema_type(a->setup.schema, e->type), e, &ends)) {
		capture_one(&c, &ends);
		return c.error;
	}
	r = find_process(a, e, &task);
	r = r < 0 ? r : connections_of_process(e->pid, capture_one, &c);
	if (r < 0) {
		snprintf(reason, size, "%s", why_gone(r));
		return r;
	}
	return judge_capture(&c, r, reason, size);
}

static int burst(struct agent *a, const struct sonde_event *e, char *reason, size_t size)
{
	struct sonde_task_found task;
	char request[96];
	int r = find_process(a, e, &task);

	if (r < 0) {
		snprintf(reason, size, "%s", why_gone(r));
		return r;
	}
	snprintf(request, sizeof request, "cpu burst %u %d %llu", e->pid, BURST_HZ, (unsigned long long)BURST_NS);
	return ask(a, request, reason, size);
}

static int deny(struct agent *a, const struct response_order *order, char *reason, size_t size)
{
	struct sonde_task_found task;
	int r = find_process(a, order->event, &task);
	const char *why = r < 0 ? why_gone(r) : protection_of(&task);

	if (why) {
		snprintf(reason, size, "%s", why);
		return r < 0 ? r : -EPERM;
	}
	r = agent_deny(a, order->event, &task, order->rule->name);
	if (r < 0)
		snprintf(reason, size, "not all of its processes are marked: %s", strerror(-r));
	return r;
}

/* ---- orders ---- */

static void take(struct agent *a, const struct response_order *order, unsigned action)
{
	char room[256] = "";
	const char *reason = NULL;
	int r = 0;

	switch (action) {
	case RESPONSE_CAPTURE:
		r = capture(a, order->event, room, sizeof room);
		break;
	case RESPONSE_BURST:
		r = burst(a, order->event, room, sizeof room);
		break;
	case RESPONSE_DENY:
		r = deny(a, order, room, sizeof room);
		break;
	case RESPONSE_KILL:
		r = kill_process(a, order->event, &reason);
		break;
	default: /* block: what is blocked makes no event, or one that says so */
		r = is_own(order->event->pid) ? -EPERM : -EAGAIN;
		reason = r == -EPERM ? "the agent and its workers are never blocked" : "it was not refused as it began";
	}
	if (action == RESPONSE_KILL && r == -ESRCH && order->repeated)
		return; /* the first time it was killed, or that was said */
	if (r < 0 && !reason)
		reason = room[0] ? room : strerror(-r);
	agent_write_response(
		a, &(struct response_row){ .event = order->event,
					   .event_type = schema_type(a->setup.schema, order->event->type)->name,
					   .rule = order->rule->name,
					   .reason = r < 0 ? reason : NULL,
					   .action = action,
					   .error = r,
					   .seq = order->seq });
}

/* ---- what the kernel side takes ---- */

static struct response_open *find_open(struct agent *a, uint64_t proc, uint32_t rule, uint32_t action)
{
	for (size_t i = 0; i < RESPONSES_OPEN; i++) {
		struct response_open *o = &a->open_responses[i];

		if (o->used && o->event.proc == proc && o->rule == rule && o->action == action)
			return o;
	}
	return NULL;
}

static struct response_open *free_open(struct agent *a)
{
	for (size_t i = 0; i < RESPONSES_OPEN; i++)
		if (!a->open_responses[i].used)
			return &a->open_responses[i];
	return NULL;
}

/* The event and the kernel's note of what it did may come in either order. */
void agent_response_noted(struct agent *a, uint64_t proc, uint32_t rule, uint32_t action)
{
	struct response_open *o = find_open(a, proc, rule, action);

	if (o) {
		o->used = false;
		return;
	}
	o = free_open(a);
	if (o)
		*o = (struct response_open){ .used = true,
					     .noted = true,
					     .due = now_boottime_ns() + WAIT_NS,
					     .action = action,
					     .rule = rule,
					     .event.proc = proc };
}

/* Until `due`; false: there is no room, so it must be taken now. */
static bool put_off(struct agent *a, const struct response_order *order, uint32_t rule, uint32_t action, uint64_t due)
{
	struct response_open *o = free_open(a);

	if (o)
		*o = (struct response_open){ .used = true,
					     .due = due,
					     .action = action,
					     .rule = rule,
					     .seq = order->seq,
					     .event = *order->event };
	return o;
}

/* At which moments the kernel side may decide on events of a type, as bits. */
static unsigned moments_of(const struct agent *a, const struct event_type *type)
{
	return !type                                          ? 0
	       : type == a->exec                              ? 1u << PREDICATE_AT_EXEC
	       : type == a->open                              ? 1u << PREDICATE_AT_OPEN
	       : type == a->connect || type == a->tcp_connect ? 1u << PREDICATE_AT_CONNECT
							      : 0;
}

static bool is_connected(const struct net_connect *e)
{
	return (!e->error || e->error == -EINPROGRESS) && (e->family == AF_INET || e->family == AF_INET6);
}

/* Whether the kernel side has decided on this event: it does not on calls that failed. */
static bool is_kernels(const struct agent *a, const struct response_order *order)
{
	const struct event_type *type = schema_type(a->setup.schema, order->event->type);

	if (!(order->in_kernel & moments_of(a, type)))
		return false;
	if (type == a->connect)
		return is_connected((const struct net_connect *)order->event);
	return type != a->open || ((const struct file_open *)order->event)->fd >= 0;
}

/* Whether the response is the kernel's: it was taken, or is waited for. */
static bool leave_to_kernel(struct agent *a, const struct response_order *order, unsigned action)
{
	int rule = is_kernels(a, order) ? agent_rule_number(a, order->rule->name) : -1;
	struct response_open *o;

	if (rule < 0)
		return false;
	o = find_open(a, order->event->proc, (uint32_t)rule, action);
	if (o) {
		o->used = false;
		return true;
	}
	return put_off(a, order, (uint32_t)rule, action, now_boottime_ns() + WAIT_NS);
}

/* A burst takes in no thread that began just before it (probes/cpu/burst.c). */
static bool is_too_young(struct agent *a, const struct response_order *order)
{
	struct sonde_task_found task;
	int rule = agent_rule_number(a, order->rule->name);

	return rule >= 0 && find_process(a, order->event, &task) == 0 && now_boottime_ns() - task.began < YOUNG_NS &&
	       put_off(a, order, (uint32_t)rule, RESPONSE_BURST, task.began + YOUNG_NS);
}

/* What it was too early for; and what the kernel side should have decided and says nothing of: it could not look, or its note found the ring full. */
void agent_tick_responses(struct agent *a, uint64_t now)
{
	for (size_t i = 0; i < RESPONSES_OPEN; i++) {
		struct response_open *o = &a->open_responses[i];

		if (!o->used || now < o->due)
			continue;
		o->used = false;
		if (!o->noted) {
			const struct rule_info rule = { .name = a->rule_names[o->rule] };

			take(a, &(struct response_order){ .rule = &rule, .event = &o->event, .seq = o->seq },
			     o->action);
		}
	}
}

/* A connect that was refused is an event, and its note is the record of that; the begin of a program that was refused is none. */
static bool was_blocked(const struct agent *a, const struct response_order *order)
{
	return schema_type(a->setup.schema, order->event->type) == a->connect &&
	       ((const struct net_connect *)order->event)->error == -EPERM;
}

/* What looks at the process comes before what ends it. Of a rule that fires again on one execution only the kill is tried again. */
void agent_respond(void *context, const struct response_order *order)
{
	static const unsigned in_order[] = { RESPONSE_CAPTURE, RESPONSE_BURST, RESPONSE_DENY, RESPONSE_BLOCK,
					     RESPONSE_KILL };
	struct agent *a = context;

	for (size_t i = 0; i < ARRAY_SIZE(in_order); i++) {
		unsigned action = in_order[i];

		if (!(order->actions & RESPONSE_BIT(action)) || (order->repeated && action != RESPONSE_KILL))
			continue;
		if ((action == RESPONSE_KILL || action == RESPONSE_DENY) && leave_to_kernel(a, order, action))
			continue;
		if (action == RESPONSE_BLOCK && was_blocked(a, order))
			continue;
		if (action == RESPONSE_BURST && is_too_young(a, order))
			continue;
		take(a, order, action);
	}
}

/* ---- waking ---- */

/* Which types the kernel side is to wake the agent for. */
void agent_tell_urgent(struct agent *a)
{
	int map = loader_map(a->setup.loader, "sonde_settings");
	struct sonde_settings settings;
	uint32_t zero = 0;

	if (bpf_map_lookup_elem(map, &zero, &settings) < 0)
		return;
	memset(settings.urgent, 0, sizeof settings.urgent);
	for (uint16_t i = 0; i < schema_count(a->setup.schema); i++)
		if (alerts_are_urgent(a->alerts, i, moments_of(a, schema_type(a->setup.schema, i))))
			settings.urgent[i / 64] |= 1ull << i % 64;
	bpf_map_update_elem(map, &zero, &settings, BPF_ANY);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One array of entries, two hash tables of chains through it, by proc and by pid, and two lists in order of age: those that live and those that
 * ended. proc is a hash already, salted by the boot, so nobody can choose where an entry goes.
 *
 * Invariants: an entry in use is in the chain of its proc and in exactly one of the lists; at most one entry of a pid is current, and in the chain of
 * that pid; `text_bytes` is the sum of all texts.
 */
#include "identity/processes_state.h"

#include <errno.h>
#include <string.h>

#define ENTRIES_LEAST 64u
#define LOOK_AT_MOST  64u /* ended ones with children that are passed over before one goes all the same */

static uint32_t slot_of_proc(const struct processes *p, uint64_t proc)
{
	return (uint32_t)(proc ^ proc >> 32) & p->mask;
}

static uint32_t slot_of_pid(const struct processes *p, uint32_t pid)
{
	return (pid * 2654435761u >> 7) & p->mask;
}

/* --- lists --- */

static void list_take(struct processes *p, struct process_list *list, uint32_t i)
{
	struct process_entry *e = &p->entries[i];

	if (e->before == NO_ENTRY)
		list->first = e->behind;
	else
		p->entries[e->before].behind = e->behind;
	if (e->behind == NO_ENTRY)
		list->last = e->before;
	else
		p->entries[e->behind].before = e->before;
}

static void list_put(struct processes *p, struct process_list *list, uint32_t i)
{
	struct process_entry *e = &p->entries[i];

	e->before = list->last;
	e->behind = NO_ENTRY;
	if (list->last == NO_ENTRY)
		list->first = i;
	else
		p->entries[list->last].behind = i;
	list->last = i;
}

static struct process_list *list_of(struct processes *p, const struct process_entry *e)
{
	return e->process.ended ? &p->ended : &p->living;
}

/* --- chains --- */

static uint32_t find(const struct processes *p, uint64_t proc)
{
	uint32_t i = proc ? p->by_proc[slot_of_proc(p, proc)] : NO_ENTRY;

	while (i != NO_ENTRY && p->entries[i].process.proc != proc)
		i = p->entries[i].next_by_proc;
	return i;
}

static uint32_t find_pid(const struct processes *p, uint32_t pid)
{
	uint32_t i = pid ? p->by_pid[slot_of_pid(p, pid)] : NO_ENTRY;

	while (i != NO_ENTRY && p->entries[i].process.pid != pid)
		i = p->entries[i].next_by_pid;
	return i;
}

static void leave_pid(struct processes *p, uint32_t i)
{
	struct process_entry *e = &p->entries[i];
	uint32_t *at = &p->by_pid[slot_of_pid(p, e->process.pid)];

	if (!e->current)
		return;
	while (*at != i)
		at = &p->entries[*at].next_by_pid;
	*at = e->next_by_pid;
	e->current = false;
}

static void leave_proc(struct processes *p, uint32_t i)
{
	uint32_t *at = &p->by_proc[slot_of_proc(p, p->entries[i].process.proc)];

	while (*at != i)
		at = &p->entries[*at].next_by_proc;
	*at = p->entries[i].next_by_proc;
}

/* --- texts --- */

static void drop_text(struct processes *p, struct process_entry *e)
{
	if (e->text && --e->text->refs == 0) {
		p->text_bytes -= e->text->size;
		free(e->text);
	}
	e->text = NULL;
	e->process.exe = e->process.cwd = e->process.args = "";
	e->process.exe_length = e->process.cwd_length = e->process.args_length = 0;
}

static void copy_text(const char *from, uint32_t length, char **at, const char **ret, uint32_t *ret_length)
{
	if (length)
		memcpy(*at, from, length);
	*ret = *at;
	*ret_length = length;
	*at += length;
}

static bool evict(struct processes *p, uint32_t spared);

/* `from` may have texts of the table, even of this entry: they are copied before anything goes. */
bool process_set_text(struct processes *p, struct process_entry *e, const struct process *from)
{
	uint32_t exe = MIN_OF(from->exe_length, PROCESS_PATH_MAX), cwd = MIN_OF(from->cwd_length, PROCESS_PATH_MAX),
		 args = MIN_OF(from->args_length, PROCESS_ARGS_MAX);
	uint32_t size = (uint32_t)sizeof(struct process_text) + exe + cwd + args;
	struct process_text *text = malloc(size);
	struct process copy;
	char *at;

	if (!text) {
		p->health.lost++;
		return false;
	}
	text->refs = 1;
	text->size = size;
	at = text->bytes;
	copy_text(from->exe, exe, &at, &copy.exe, &copy.exe_length);
	copy_text(from->cwd, cwd, &at, &copy.cwd, &copy.cwd_length);
	copy_text(from->args, args, &at, &copy.args, &copy.args_length);
	drop_text(p, e);
	while (p->text_bytes + size > p->text_room)
		if (!evict(p, (uint32_t)(e - p->entries))) {
			free(text);
			p->health.lost++;
			return false;
		}
	p->text_bytes += size;
	e->text = text;
	e->process.exe = copy.exe;
	e->process.cwd = copy.cwd;
	e->process.args = copy.args;
	e->process.exe_length = exe;
	e->process.cwd_length = cwd;
	e->process.args_length = args;
	return true;
}

/* --- coming and going --- */

static void count_child(struct processes *p, uint64_t parent, int change)
{
	uint32_t i = find(p, parent);

	if (i == NO_ENTRY)
		return;
	if (change > 0)
		p->entries[i].children++;
	else if (p->entries[i].children)
		p->entries[i].children--;
}

static void remove_entry(struct processes *p, uint32_t i)
{
	struct process_entry *e = &p->entries[i];

	list_take(p, list_of(p, e), i);
	leave_pid(p, i);
	leave_proc(p, i);
	count_child(p, e->process.parent, -1);
	drop_text(p, e);
	e->used = false;
	e->next_by_proc = p->unused;
	p->unused = i;
	p->n_used--;
}

/* Makes room; false: there is nothing but `spared`. Those with children get behind the others once. */
static bool evict(struct processes *p, uint32_t spared)
{
	uint32_t i = p->ended.first;

	for (unsigned n = 0; n < LOOK_AT_MOST && i != NO_ENTRY && (p->entries[i].children || i == spared); n++) {
		list_take(p, &p->ended, i);
		list_put(p, &p->ended, i);
		i = p->ended.first;
	}
	if (i == NO_ENTRY || i == spared) {
		i = p->living.first;
		if (i == spared)
			i = p->entries[i].behind;
		if (i == NO_ENTRY)
			return false;
		p->health.lost++;
	} else {
		p->health.evicted++;
	}
	remove_entry(p, i);
	return true;
}

static uint32_t add(struct processes *p, uint64_t proc, uint64_t parent)
{
	uint32_t i, slot = slot_of_proc(p, proc);

	while (p->unused == NO_ENTRY)
		if (!evict(p, find(p, parent))) {
			p->health.lost++;
			return NO_ENTRY;
		}
	i = p->unused;
	p->unused = p->entries[i].next_by_proc;
	p->n_used++;
	p->entries[i] = (struct process_entry){
		.process = { .proc = proc, .parent = parent, .loginuid = -1, .exe = "", .cwd = "", .args = "" },
		.next_by_proc = p->by_proc[slot],
		.used = true
	};
	p->by_proc[slot] = i;
	list_put(p, &p->living, i);
	count_child(p, parent, 1);
	return i;
}

static void end(struct processes *p, uint32_t i)
{
	if (p->entries[i].process.ended)
		return;
	list_take(p, &p->living, i);
	p->entries[i].process.ended = true;
	list_put(p, &p->ended, i);
}

/* What the list of tasks found was followed, in order of time, by what the ring still held. */
static void revive(struct processes *p, uint32_t i)
{
	if (!p->entries[i].process.ended)
		return;
	list_take(p, &p->ended, i);
	p->entries[i].process.ended = false;
	list_put(p, &p->living, i);
}

/* The execution that the pid is from now on; the one before has ended. */
static void become_current(struct processes *p, uint32_t i, uint32_t pid)
{
	uint32_t before = find_pid(p, pid), slot = slot_of_pid(p, pid);

	if (before != NO_ENTRY && before != i) {
		leave_pid(p, before);
		end(p, before);
	}
	leave_pid(p, i);
	revive(p, i);
	p->entries[i].process.pid = pid;
	p->entries[i].next_by_pid = p->by_pid[slot];
	p->entries[i].current = true;
	p->by_pid[slot] = i;
}

/* --- what happens --- */

int processes_open(struct processes **ret, size_t bytes)
{
	size_t each = sizeof(struct process_entry) + 2 * sizeof(uint32_t) * 2;
	struct processes *p = calloc(1, sizeof *p);

	if (!p)
		return -ENOMEM;
	p->room = (uint32_t)MAX_OF(bytes / 2 / each, ENTRIES_LEAST);
	p->text_room = bytes / 2;
	p->mask = ENTRIES_LEAST - 1;
	while (p->mask + 1 < p->room)
		p->mask = p->mask * 2 + 1;
	p->entries = calloc(p->room, sizeof *p->entries);
	p->by_proc = malloc((p->mask + 1ul) * sizeof *p->by_proc);
	p->by_pid = malloc((p->mask + 1ul) * sizeof *p->by_pid);
	if (!p->entries || !p->by_proc || !p->by_pid) {
		processes_close(p);
		return -ENOMEM;
	}
	memset(p->by_proc, 0xff, (p->mask + 1ul) * sizeof *p->by_proc);
	memset(p->by_pid, 0xff, (p->mask + 1ul) * sizeof *p->by_pid);
	for (uint32_t i = 0; i < p->room; i++)
		p->entries[i].next_by_proc = i + 1 < p->room ? i + 1 : NO_ENTRY;
	p->living = p->ended = (struct process_list){ NO_ENTRY, NO_ENTRY };
	*ret = p;
	return 0;
}

void processes_close(struct processes *p)
{
	if (!p)
		return;
	for (uint32_t i = 0; p->entries && i < p->room; i++)
		if (p->entries[i].used)
			drop_text(p, &p->entries[i]);
	free(p->entries);
	free(p->by_proc);
	free(p->by_pid);
	free(p);
}

const struct process *processes_find(const struct processes *p, uint64_t proc)
{
	uint32_t i = find(p, proc);

	return i == NO_ENTRY ? NULL : &p->entries[i].process;
}

const struct process *processes_of_pid(const struct processes *p, uint32_t pid)
{
	uint32_t i = find_pid(p, pid);

	return i == NO_ENTRY ? NULL : &p->entries[i].process;
}

/* A child is what its parent is, but for its names. */
static void inherit(struct process_entry *child, const struct process_entry *parent)
{
	const struct process own = child->process;

	child->process = parent->process;
	child->process.proc = own.proc;
	child->process.parent = own.parent;
	child->process.pid = own.pid;
	child->process.ns_pid = 0;
	child->process.ended = own.ended;
	child->text = parent->text;
	if (child->text)
		child->text->refs++;
}

void processes_fork(struct processes *p, uint64_t parent, uint64_t child, uint32_t pid, uint64_t time)
{
	uint32_t i = find(p, child), above;

	if (i != NO_ENTRY || !child)
		return; /* its program's event was there first, and says more */
	i = add(p, child, parent);
	if (i == NO_ENTRY)
		return;
	above = find(p, parent);
	if (above != NO_ENTRY)
		inherit(&p->entries[i], &p->entries[above]);
	p->entries[i].process.began = time;
	become_current(p, i, pid);
}

/* Everything but its place in the tables (proc, pid, parent, ended) and its texts. */
static void take_values(struct process *to, const struct process *from)
{
	const struct process own = *to;

	*to = *from;
	to->proc = own.proc;
	to->pid = own.pid;
	to->parent = own.parent;
	to->ended = own.ended;
	to->exe = own.exe;
	to->cwd = own.cwd;
	to->args = own.args;
	to->exe_length = own.exe_length;
	to->cwd_length = own.cwd_length;
	to->args_length = own.args_length;
	to->comm[sizeof to->comm - 1] = to->tty[sizeof to->tty - 1] = '\0';
}

void processes_exec(struct processes *p, const struct process *process)
{
	uint32_t i = find(p, process->proc), before = find_pid(p, process->pid);
	struct process was = { 0 };

	if (!process->proc)
		return;
	if (before != NO_ENTRY)
		was = p->entries[before].process;
	if (i == NO_ENTRY)
		i = add(p, process->proc, process->parent);
	if (i == NO_ENTRY)
		return;
	take_values(&p->entries[i].process, process);
	if (was.parent == process->parent) { /* the same process */
		struct process *now = &p->entries[i].process;

		now->began = now->began ? now->began : was.began;
		now->sid = now->sid ? now->sid : was.sid;
		now->pgid = now->pgid ? now->pgid : was.pgid;
		now->loginuid = now->loginuid >= 0 ? now->loginuid : was.loginuid;
	}
	become_current(p, i, process->pid);
	process_set_text(p, &p->entries[i], process);
}

void processes_exit(struct processes *p, uint64_t proc)
{
	uint32_t i = find(p, proc);

	if (i != NO_ENTRY)
		end(p, i);
}

void processes_found(struct processes *p, const struct process *process)
{
	uint32_t i = find(p, process->proc);

	if (i != NO_ENTRY || !process->proc)
		return;
	i = add(p, process->proc, process->parent);
	if (i == NO_ENTRY)
		return;
	take_values(&p->entries[i].process, process);
	p->entries[i].process.pid = process->pid;
	if (find_pid(p, process->pid) == NO_ENTRY)
		become_current(p, i, process->pid);
}

void processes_rename(struct processes *p, uint64_t proc, const char comm[16])
{
	uint32_t i = find(p, proc);

	if (i != NO_ENTRY)
		memcpy(p->entries[i].process.comm, comm, 15);
}

size_t processes_lineage(const struct processes *p, uint64_t parent, char room[LINEAGE_ROOM])
{
	size_t used = 0;

	for (unsigned depth = 0; depth < LINEAGE_DEPTH; depth++) {
		const struct process *process = processes_find(p, parent);
		size_t length = process ? strlen(process->comm) + 1 : 0;

		if (!process)
			break;
		memcpy(room + used, process->comm, length);
		used += length;
		parent = process->parent;
	}
	return used;
}

void processes_health(const struct processes *p, struct processes_health *ret)
{
	*ret = p->health;
	ret->held = p->n_used;
	ret->text_bytes = p->text_bytes;
	ret->ended = 0;
	for (uint32_t i = p->ended.first; i != NO_ENTRY; i = p->entries[i].behind)
		ret->ended++;
}

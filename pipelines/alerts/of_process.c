/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of the process, its ancestors, its user and its container. What the record says of its process goes before what the table has of it. */
#include "alerts/live_state.h"

#include <string.h>

/* --- the process of the event --- */

static void take_text_key(struct live *live, enum live_key key, const char **ret, uint32_t *ret_length)
{
	struct rule_value v;

	if (!record_key(live, key, &v) || v.kind != RULE_TEXT)
		return;
	*ret = v.text;
	*ret_length = v.length;
}

static void take_id(struct live *live, enum live_key key, uint32_t *ret)
{
	int64_t number;

	if (record_number(live, key, &number))
		*ret = (uint32_t)number;
}

static void take_truth(struct live *live, enum live_key key, bool *ret)
{
	int64_t number;

	if (record_number(live, key, &number))
		*ret = number != 0;
}

/* 4294967295, as the kernel has it, is nobody. */
static void take_login(struct live *live, struct process *own)
{
	int64_t number;

	if (record_number(live, KEY_loginuid, &number))
		own->loginuid = (int32_t)number;
}

/* The argument vector as it is, its NULs kept. */
static void take_args(struct live *live, struct process *own)
{
	uint32_t length;
	const char *items = record_items(live, KEY_args, &length);

	own->args = items ? items : "";
	own->args_length = length;
}

/* Of a program that begins, the record says all. */
static void take_program(struct live *live, struct process *own)
{
	const struct field *tty = live->type->keys[KEY_tty];
	int64_t number;

	take_text_key(live, KEY_exe, &own->exe, &own->exe_length);
	take_text_key(live, KEY_cwd, &own->cwd, &own->cwd_length);
	take_args(live, own);
	if (record_number(live, KEY_ino, &number))
		own->ino = (uint64_t)number;
	if (tty && tty->how == FIELD_CHARS)
		memcpy(own->tty, (const char *)live->record + tty->offset, MIN_OF(tty->size, sizeof own->tty - 1));
	take_truth(live, KEY_memfd, &own->memfd);
	take_truth(live, KEY_writable, &own->writable);
	take_truth(live, KEY_upper, &own->upper);
	own->file_known = live->type->keys[KEY_writable] != NULL;
	own->detailed = true;
}

void make_own(struct live *live)
{
	const struct sonde_event *e = live->record;
	const struct process *known;
	struct process *own = &live->own;

	if (live->own_made)
		return;
	live->own_made = true;
	known = processes_find(live->setup.processes, e->proc);
	*own = known ? *known : (struct process){ .loginuid = -1, .exe = "", .cwd = "", .args = "" };
	own->proc = e->proc;
	own->parent = e->parent;
	own->pid = e->pid;
	if (!known || e->pid == e->tid) {
		memcpy(own->comm, e->comm, sizeof own->comm - 1);
		own->comm[sizeof own->comm - 1] = '\0';
	}
	take_id(live, KEY_uid, &own->uid);
	take_id(live, KEY_euid, &own->euid);
	take_id(live, KEY_gid, &own->gid);
	take_id(live, KEY_egid, &own->egid);
	take_id(live, KEY_ns_pid, &own->ns_pid);
	take_id(live, KEY_sid, &own->sid);
	take_id(live, KEY_pgid, &own->pgid);
	take_login(live, own);
	if (live->type->keys[KEY_euid])
		own->detailed = true;
	if (live->type->keys[KEY_exe] && live->type->keys[KEY_args])
		take_program(live, own);
}

uint32_t make_chain(struct live *live)
{
	if (live->n_chain)
		return live->n_chain;
	make_own(live);
	live->chain[0] = &live->own;
	live->n_chain = 1;
	while (live->n_chain < CHAIN_MAX) {
		const struct process *above =
			processes_find(live->setup.processes, live->chain[live->n_chain - 1]->parent);

		if (!above)
			break;
		live->lines[live->n_chain].kind = RULE_ABSENT;
		live->chain[live->n_chain++] = above;
	}
	live->lines[0].kind = RULE_ABSENT;
	return live->n_chain;
}

/* --- arguments --- */

/* The argument of this number; false: there are fewer. */
static bool argument_at(const struct process *p, int64_t number, const char **ret, uint32_t *ret_length)
{
	const char *at = p->args, *end = p->args + p->args_length;

	for (; at < end; number--) {
		const char *stop = memchr(at, 0, (size_t)(end - at));
		const char *item_end = stop ? stop : end;

		if (number == 0) {
			*ret = at;
			*ret_length = (uint32_t)(item_end - at);
			return true;
		}
		at = item_end + 1;
	}
	return false;
}

/* All arguments behind the first one, NULs between. */
static const char *further(const struct process *p, uint32_t *ret_length)
{
	const char *end = p->args + p->args_length, *stop = p->args_length ? memchr(p->args, 0, p->args_length) : NULL;

	*ret_length = stop ? (uint32_t)(end - (stop + 1)) : 0;
	if (*ret_length && !end[-1])
		--*ret_length;
	return stop ? stop + 1 : end;
}

static void copy(struct live *live, struct rule_value *v, const char *text, size_t length)
{
	size_t room;
	char *at = texts_take(live, length, &room);

	for (size_t i = 0; i < room; i++)
		at[i] = text[i] ? text[i] : ' ';
	v->length += (uint32_t)room;
}

/* `first` and the further arguments, with spaces between. */
static bool give_line(struct live *live, const struct process *p, const char *first, size_t length,
		      struct rule_value *ret)
{
	uint32_t n;
	const char *rest = further(p, &n);

	give_text(ret, live->texts + live->used, 0);
	copy(live, ret, first, length);
	if (n && length)
		copy(live, ret, " ", 1);
	copy(live, ret, rest, n);
	return true;
}

/* Asked for often, and long: made once for each process of the chain. */
static bool give_command_line(struct live *live, const struct process *p, uint32_t depth, struct rule_value *ret)
{
	if (depth >= live->n_chain)
		return give_line(live, p, p->comm, strlen(p->comm), ret);
	if (live->lines[depth].kind == RULE_ABSENT)
		give_line(live, p, p->comm, strlen(p->comm), &live->lines[depth]);
	*ret = live->lines[depth];
	return true;
}

static bool give_first(const struct process *p, struct rule_value *ret)
{
	const char *text;
	uint32_t length;

	return argument_at(p, 0, &text, &length) && give_text(ret, text, length);
}

static bool give_exe_line(struct live *live, const struct process *p, struct rule_value *ret)
{
	struct rule_value first;

	return give_first(p, &first) && give_line(live, p, first.text, first.length, ret);
}

static bool give_argument(const struct process *p, int64_t index, struct rule_value *ret)
{
	const char *text;
	uint32_t length;

	return argument_at(p, index + 1, &text, &length) && give_text(ret, text, length);
}

static uint32_t count_further(const struct process *p, uint32_t *ret_bytes)
{
	uint32_t n, count = 0;
	const char *rest = further(p, &n);

	*ret_bytes = n;
	for (uint32_t i = 0; i < n; i++)
		if (!rest[i]) {
			count++;
			--*ret_bytes;
		}
	return p->args_length && argument_at(p, 1, &rest, &n) ? count + 1 : 0;
}

/* --- a process --- */

/* The number of a terminal, of its kernel's name: pts3, tty1, ttyS0. */
static int64_t terminal_number(const char *name)
{
	static const struct {
		const char *prefix;
		int64_t first;
	} kinds[] = { { "pts", 136 << 8 }, { "ttyS", (4 << 8) + 64 }, { "tty", 4 << 8 } };

	if (!*name)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t n = strlen(kinds[i].prefix);

		if (!strncmp(name, kinds[i].prefix, n) && name[n] >= '0' && name[n] <= '9')
			return kinds[i].first + atoi(name + n);
	}
	return 5 << 8; /* one that has no number: /dev/tty's */
}

static bool is_shell(const char *comm)
{
	static const char *const shells[] = { "sh", "bash", "dash", "zsh", "ksh", "csh", "tcsh", "fish", "ash" };

	for (size_t i = 0; i < ARRAY_SIZE(shells); i++)
		if (!strcmp(comm, shells[i]))
			return true;
	return false;
}

static bool give_login_shell(struct live *live, struct rule_value *ret)
{
	for (uint32_t i = make_chain(live); i-- > 0;)
		if (is_shell(live->chain[i]->comm))
			return give_number(ret, live->chain[i]->pid);
	return false;
}

static bool give_count(const struct process *p, int what, struct rule_value *ret)
{
	uint32_t bytes, count = count_further(p, &bytes);

	return p->detailed && give_number(ret, what == W_ARGS_COUNT ? count : bytes);
}

static bool give_since(const struct live *live, const struct process *p, int what, struct rule_value *ret)
{
	if (!p->began)
		return false;
	if (what == W_BEGAN)
		return give_number(ret, (__int128)p->began + live->boot_to_epoch);
	return give_number(ret, live->record->time > p->began ? live->record->time - p->began : 0);
}

static bool give_some(uint64_t number, struct rule_value *ret)
{
	return number && give_number(ret, (__int128)number);
}

/* One value of one process; `depth`: how far above the event's own it is. */
static bool give_of(struct live *live, const struct process *p, uint32_t depth, int what, struct rule_value *ret)
{
	switch (what) {
	case W_NAME:
		return *p->comm && give_text(ret, p->comm, strlen(p->comm));
	case W_PID:
		return give_some(p->pid, ret);
	case W_EXE:
		return give_first(p, ret);
	case W_EXEPATH:
		return p->exe_length && give_text(ret, p->exe, p->exe_length);
	case W_CMDLINE:
		return *p->comm && give_command_line(live, p, depth, ret);
	case W_EXELINE:
		return give_exe_line(live, p, ret);
	case W_ARGS:
		return p->detailed && give_line(live, p, "", 0, ret);
	case W_ARGS_COUNT:
	case W_ARGS_BYTES:
		return give_count(p, what, ret);
	case W_CWD:
		return p->cwd_length && give_text(ret, p->cwd, p->cwd_length);
	case W_TTY:
		return p->detailed && give_number(ret, terminal_number(p->tty));
	case W_INO:
		return give_some(p->ino, ret);
	case W_SID:
		return give_some(p->sid, ret);
	case W_PGID:
		return give_some(p->pgid, ret);
	case W_SID_LEADER:
		return p->sid && give_truth(ret, p->sid == p->pid);
	case W_PGID_LEADER:
		return p->pgid && give_truth(ret, p->pgid == p->pid);
	case W_NS_PID:
		return give_some(p->ns_pid, ret);
	case W_BEGAN:
	case W_DURATION:
		return give_since(live, p, what, ret);
	default:
		return false;
	}
}

/* What the module says of a program's file; a module that does not say it leaves it open. */
static bool give_file_truth(const struct process *p, int what, struct rule_value *ret)
{
	if (what == W_MEMFD)
		return p->detailed &&
		       give_truth(ret, p->memfd || (p->exe_length >= 7 && !memcmp(p->exe, "/memfd:", 7)));
	return p->file_known && give_truth(ret, what == W_WRITABLE ? p->writable : p->upper);
}

static bool give_caps(struct live *live, struct rule_value *ret)
{
	int64_t set;

	return (record_number(live, KEY_cap_eff, &set) || record_number(live, KEY_caps, &set)) &&
	       give_capabilities(live, (uint64_t)set, ret);
}

static const struct cgroup_name *cgroup_of(struct live *live)
{
	const struct sonde_event *e = live->record;

	if (!live->setup.cgroups || !e->cgroup)
		return NULL;
	if (!live->cgroup_made)
		cgroups_find(live->setup.cgroups, e->flags & SONDE_FLAG_CGROUP_V1 ? 1 : 0, e->cgroup, &live->cgroup);
	live->cgroup_made = true;
	return &live->cgroup;
}

static bool give_cgroup(struct live *live, struct rule_value *ret)
{
	const struct cgroup_name *name = cgroup_of(live);

	return name && give_text(ret, name->path, name->path_length);
}

static bool give_thread(struct live *live, int what, struct rule_value *ret)
{
	const struct sonde_event *e = live->record;

	if (e->flags & SONDE_FLAG_NO_TASK)
		return false;
	if (what == W_TID)
		return give_number(ret, e->tid);
	if (what == W_IS_MAIN)
		return give_truth(ret, e->tid == e->pid);
	return give_made(live, ret, "%.*s:%u", (int)strnlen(e->comm, sizeof e->comm), e->comm, e->tid);
}

/* The whole, or one variable. Only the event that a program begins with has it. */
static bool give_env(struct live *live, const struct rule_ref *ref, struct rule_value *ret)
{
	uint32_t length;
	const char *at = record_items(live, KEY_env, &length), *end = at ? at + length : NULL;
	size_t name = ref->argument ? strlen(ref->argument) : 0;

	if (!ref->argument)
		return record_key(live, KEY_env, ret);
	while (at && at < end) {
		size_t n = strnlen(at, (size_t)(end - at));

		if (n > name && !memcmp(at, ref->argument, name) && at[name] == '=')
			return give_text(ret, at + name + 1, n - name - 1);
		at += n + 1;
	}
	return false;
}

bool get_process(struct live *live, const struct rule_ref *ref, const struct served *how, struct rule_value *ret)
{
	if ((uint32_t)how->depth >= make_chain(live))
		return false;
	switch (how->what) {
	case W_ARGS:
		if (ref->index >= 0)
			return give_argument(live->chain[how->depth], ref->index, ret);
		break;
	case W_MEMFD:
	case W_WRITABLE:
	case W_UPPER:
		return give_file_truth(live->chain[0], how->what, ret);
	case W_CAPS:
		return give_caps(live, ret);
	case W_ENV:
		return give_env(live, ref, ret);
	case W_STDIN:
		return record_key(live, KEY_stdin, ret);
	case W_STDOUT:
		return record_key(live, KEY_stdout, ret);
	case W_STDERR:
		return record_key(live, KEY_stderr, ret);
	case W_CGROUP:
		return give_cgroup(live, ret);
	case W_TID:
	case W_IS_MAIN:
	case W_NAME_TID:
		return give_thread(live, how->what, ret);
	case W_LOGIN_SHELL:
		return give_login_shell(live, ret);
	}
	return give_of(live, live->chain[how->depth], (uint32_t)how->depth, how->what, ret);
}

/* --- ancestors --- */

/* The next ancestor from `depth` on that has the value. */
static bool give_from(struct live *live, uint32_t depth, int what, struct rule_value *ret)
{
	for (; depth < make_chain(live); depth++)
		if (give_of(live, live->chain[depth], depth, what, ret)) {
			ret->list = true;
			ret->left = depth;
			ret->count = live->n_chain - 1;
			return true;
		}
	return false;
}

/* With a number, that ancestor; without one, all of them. */
bool get_ancestor(struct live *live, const struct rule_ref *ref, const struct served *how, struct rule_value *ret)
{
	if (ref->index < 0)
		return give_from(live, 1, how->what, ret);
	return ref->index < make_chain(live) &&
	       give_of(live, live->chain[ref->index], (uint32_t)ref->index, how->what, ret);
}

bool process_next(struct live *live, const struct rule_ref *ref, const struct served *how, struct rule_value *value)
{
	return give_from(live, value->left + 1, how->what, value);
}

/* --- leaders of session and group --- */

/* `depth` 0: of the session, 1: of the process group. */
bool get_leader(struct live *live, const struct rule_ref *ref, const struct served *how, struct rule_value *ret)
{
	const struct process *leader;
	uint32_t pid;

	make_chain(live);
	pid = how->depth ? live->own.pgid : live->own.sid;
	if (!pid)
		return false;
	leader = pid == live->own.pid ? &live->own : processes_of_pid(live->setup.processes, pid);
	return leader && give_of(live, leader, leader == &live->own ? 0 : CHAIN_MAX, how->what, ret);
}

/* --- users --- */

/* Whom the host has no name for, which is most of whom containers are, is "<NA>" to rules, and not without a value: `user.name != root` is true of it. */
static bool give_user(const struct user *user, int64_t id, int what, struct rule_value *ret)
{
	static const struct user nameless = { .name = "<NA>", .home = "<NA>", .shell = "<NA>" },
				 root = { .name = "root", .home = "/root", .shell = "<NA>" };
	const struct user *known = user ? user : id == 0 ? &root : &nameless;
	const char *text = what == W_HOME ? known->home : what == W_SHELL ? known->shell : known->name;

	return give_text(ret, *text ? text : "<NA>", strlen(*text ? text : "<NA>"));
}

bool get_user(struct live *live, const struct rule_ref *ref, const struct served *how, struct rule_value *ret)
{
	const struct users *users = live->setup.users;
	const struct process *own = &live->own;

	make_own(live);
	if (how->what == W_LOGINUID)
		return own->detailed && give_number(ret, own->loginuid);
	if (how->what == W_LOGINNAME)
		return own->detailed && give_user(own->loginuid < 0 ? NULL : users_find(users, (uint32_t)own->loginuid),
						  own->loginuid, W_USER, ret);
	if (!own->detailed)
		return false;
	switch (how->what) {
	case W_UID:
		return give_number(ret, own->euid);
	case W_GID:
		return give_number(ret, own->egid);
	case W_GROUP:
		return give_user(users_find_group(users, own->egid), own->egid, W_USER, ret);
	default:
		return give_user(users_find(users, own->euid), own->euid, how->what, ret);
	}
}

/* --- containers --- */

static bool give_container_type(const struct cgroup_name *name, struct rule_value *ret)
{
	static const struct {
		const char *part, *type;
	} kinds[] = { { "docker", "docker" },
		      { "crio", "cri-o" },
		      { "cri-containerd", "containerd" },
		      { "libpod", "podman" },
		      { "containerd", "containerd" },
		      { "lxc", "lxc" },
		      { "machine", "systemd-nspawn" },
		      { "kubepods", "cri" } };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (memmem(name->path, name->path_length, kinds[i].part, strlen(kinds[i].part)))
			return give_text(ret, kinds[i].type, strlen(kinds[i].type));
	return false;
}

static bool give_pod(struct live *live, const struct cgroup_name *name, struct rule_value *ret)
{
	char uid[37], path[4096];
	size_t n = MIN_OF(name->path_length, sizeof path - 1);

	memcpy(path, name->path, n);
	path[n] = '\0';
	n = cgroup_pod(path, uid);
	return n && give_made(live, ret, "%.*s", (int)n, uid);
}

static bool give_maybe(struct rule_value *ret, const char *text)
{
	return text && give_text(ret, text, strlen(text));
}

/* "docker.io/library/nginx:1.25@sha256:...": repository, tag and digest; each may be missing. */
static bool give_image_part(const char *image, enum what what, struct rule_value *ret)
{
	const char *at = image ? strchr(image, '@') : NULL, *slash, *colon;
	size_t named = image ? at ? (size_t)(at - image) : strlen(image) : 0;

	if (what == W_CONTAINER_DIGEST)
		return at && give_maybe(ret, at + 1);
	if (!named || !strncmp(image, "sha256:", 7))
		return false;
	slash = memrchr(image, '/', named);
	colon = memrchr(image, ':', named);
	if (colon && slash && colon < slash) /* of a registry's port */
		colon = NULL;
	if (what == W_CONTAINER_REPOSITORY)
		return give_text(ret, image, colon ? (size_t)(colon - image) : named);
	return colon && give_text(ret, colon + 1, (size_t)(image + named - colon - 1));
}

static bool give_label(const struct runtime_info *info, const struct rule_ref *ref, struct rule_value *ret)
{
	for (uint32_t i = 0; ref->argument && i < info->n_labels; i++)
		if (!strcmp(info->labels[i].key, ref->argument))
			return give_maybe(ret, info->labels[i].value);
	return false;
}

static bool give_labels(struct live *live, const struct runtime_info *info, struct rule_value *ret)
{
	char text[RUNTIME_TEXT_MAX + 2 * RUNTIME_LABELS_MAX];
	size_t used = 0;

	for (uint32_t i = 0; i < info->n_labels; i++)
		used += (size_t)snprintf(text + used, sizeof text - used, "%s%s:%s", i ? ", " : "", info->labels[i].key,
					 info->labels[i].value);
	return used && give_made(live, ret, "%s", text);
}

/* What its runtime has written of it. */
static bool give_of_runtime(struct live *live, const struct cgroup_name *name, const struct rule_ref *ref,
			    enum what what, struct rule_value *ret)
{
	const struct runtime_info *info = live->setup.runtimes
						  ? runtimes_find(live->setup.runtimes, name->container,
								  name->container_length, now_boottime_ns())
						  : NULL;

	if (!info)
		return false;
	switch (what) {
	case W_CONTAINER_NAME:
		return give_maybe(ret, info->name);
	case W_CONTAINER_IMAGE:
		return give_maybe(ret, info->image);
	case W_CONTAINER_IMAGE_ID:
		return give_maybe(ret, info->image_id);
	case W_CONTAINER_PRIVILEGED:
		return info->privileged_known && give_truth(ret, info->privileged);
	case W_CONTAINER_LABEL:
		return give_label(info, ref, ret);
	case W_CONTAINER_LABELS:
		return give_labels(live, info, ret);
	case W_POD_NAME:
		return give_maybe(ret, info->pod);
	case W_POD_NAMESPACE:
		return give_maybe(ret, info->namespace);
	case W_POD_SANDBOX:
		return give_maybe(ret, info->sandbox);
	case W_POD_SANDBOX_SHORT:
		return info->sandbox && give_text(ret, info->sandbox, MIN_OF(strlen(info->sandbox), (size_t)12));
	default:
		return give_image_part(info->image, what, ret);
	}
}

bool get_container(struct live *live, const struct rule_ref *ref, const struct served *how, struct rule_value *ret)
{
	const struct cgroup_name *name = cgroup_of(live);

	if (how->what == W_POD)
		return name && give_pod(live, name, ret);
	if (!name || !name->container_length)
		return how->what == W_CONTAINER_NAME || how->what == W_CONTAINER || how->what == W_CONTAINER_FULL ||
				       how->what == W_CONTAINER_TYPE
			       ? give_text(ret, "host", 4)
			       : false;
	switch (how->what) {
	case W_CONTAINER:
		return give_text(ret, name->container, MIN_OF(name->container_length, 12));
	case W_CONTAINER_FULL:
		return give_text(ret, name->container, name->container_length);
	case W_CONTAINER_TYPE:
		return give_container_type(name, ret);
	default:
		return give_of_runtime(live, name, ref, how->what, ret);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of the event itself: which call it was, when, how it ended, and its arguments by the names that rules have for them. */
#include "alerts/arguments.h"
#include "alerts/live_state.h"

#include <ctype.h>
#include <signal.h>
#include <string.h>

/* --- which call --- */

/* The call that the record names. The kernel's name of umount2(2) is umount: it is both. */
static bool give_named_call(struct live *live, uint32_t number, struct rule_value *ret)
{
	static const char umount[] = "umount";

	if (!record_value(live, live->type->call, ret) || ret->kind != RULE_TEXT)
		return false;
	if (ret->length != strlen(umount) || memcmp(ret->text, umount, ret->length))
		return number == 0;
	give_text(ret, number ? umount : "umount2", strlen(number ? umount : "umount2"));
	ret->list = true;
	ret->left = number;
	ret->count = 2;
	return number < 2;
}

/* The record says it, or all that its type stands for are meant. */
static bool give_call(struct live *live, uint32_t number, struct rule_value *ret)
{
	const struct live_type *type = live->type;
	const char *name;

	if (type->call)
		return give_named_call(live, number, ret);
	if (number >= type->n_calls)
		return false;
	name = event_type_name(type->calls[number]);
	give_text(ret, name, strlen(name));
	ret->list = true;
	ret->left = number;
	ret->count = type->n_calls;
	return true;
}

static bool is_system_call(const struct live *live)
{
	return live->type->call || (live->type->n_calls && event_type_is_call(live->type->calls[0]));
}

static bool give_is_type(struct live *live, const struct rule_ref *ref, struct rule_value *ret)
{
	struct rule_value call;
	bool is = false;

	for (uint32_t i = 0; ref->argument && give_call(live, i, &call); i++)
		is |= strlen(ref->argument) == call.length && !memcmp(ref->argument, call.text, call.length);
	return give_number(ret, is);
}

const char *live_category(const char *type)
{
	static const struct {
		const char *class, *category;
	} classes[] = { { "file.", "file" },       { "mount.", "file" },    { "net.", "net" },
			{ "tcp.", "net" },         { "udp.", "net" },       { "dns.", "net" },
			{ "process.", "process" }, { "memory.", "memory" }, { "cred.", "user" },
			{ "ns.", "process" },      { "module.", "system" }, { "bpf.", "system" },
			{ "kernel.", "system" },   { "perf.", "system" },   { "uring.", "IO-other" },
			{ "profile.", "profile" } };

	for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
		if (!strncmp(type, classes[i].class, strlen(classes[i].class)))
			return classes[i].category;
	return "other";
}

static bool give_category(const struct live *live, struct rule_value *ret)
{
	const char *category = live_category(live->type->type->name);

	return give_text(ret, category, strlen(category));
}

/* --- how it ended --- */

/* Types whose call returned the descriptor in `fd`; where it is another's it is what the call was about. */
static bool returns_descriptor(const char *type)
{
	static const char *const types[] = { "file.open", "net.socket",     "net.accept",
					     "net.dup",   "process.fd_get", "uring.create" };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(types[i], type))
			return true;
	return false;
}

static int64_t result_of(const struct live *live)
{
	int64_t value = 0;

	if (record_number(live, KEY_error, &value) && value)
		return value < 0 ? value : -value;
	if (record_number(live, KEY_ret, &value) && value)
		return value;
	return returns_descriptor(live->type->type->name) && record_number(live, KEY_fd, &value) ? value : 0;
}

static bool give_error(struct live *live, struct rule_value *ret)
{
	return record_key(live, KEY_error, ret);
}

static bool give_result(struct live *live, struct rule_value *ret)
{
	return give_error(live, ret) || give_text(ret, "SUCCESS", 7);
}

/* --- its arguments --- */

/* "packet" as AF_PACKET, "attach" as PTRACE_ATTACH, whatever the event's own notation is. */
static bool give_prefixed(struct live *live, enum live_key key, const char *prefix, struct rule_value *ret)
{
	struct rule_value v;
	size_t n, length = strlen(prefix);
	char *at;

	if (!record_key(live, key, &v))
		return false;
	if (v.kind != RULE_TEXT || (v.length >= length && !strncasecmp(v.text, prefix, length))) {
		*ret = v;
		return true;
	}
	at = texts_take(live, length + v.length, &n);
	if (n < length + v.length)
		return false;
	memcpy(at, prefix, length);
	for (uint32_t i = 0; i < v.length; i++)
		at[length + i] = (char)toupper((unsigned char)v.text[i]);
	return give_text(ret, at, n);
}

static bool give_signal(struct live *live, struct rule_value *ret)
{
	const char *name;

	if (!record_key(live, KEY_signal, ret))
		return false;
	if (ret->kind != RULE_NUMBER)
		return true;
	name = ret->number > 0 && ret->number < NSIG ? sigabbrev_np((int)ret->number) : NULL;
	return name ? give_made(live, ret, "SIG%s", name) : true;
}

/* What a program was begun as, by the names that rules have for it. */
static bool give_exe_flags(struct live *live, struct rule_value *ret)
{
	make_own(live);
	if (!live->own.memfd && !live->own.writable && !live->own.upper)
		return give_text(ret, "0", 1);
	return give_made(live, ret, "%s%s%s", live->own.writable ? "EXE_WRITABLE " : "",
			 live->own.upper ? "EXE_UPPER_LAYER " : "", live->own.memfd ? "EXE_FROM_MEMFD" : "");
}

static bool give_flags(struct live *live, struct rule_value *ret)
{
	const char *type = live->type->type->name;
	int64_t flags;

	if (!strcmp(type, "process.exec"))
		return give_exe_flags(live, ret);
	if (!record_number(live, KEY_flags, &flags))
		return record_key(live, KEY_flags, ret);
	if (!strcmp(type, "file.open"))
		return give_open_flags(live, (uint64_t)flags, ret);
	if (!strcmp(type, "process.fork") || !strncmp(type, "ns.", 3))
		return give_bits_of(live, BITS_CLONE, (uint64_t)flags, ret);
	if (!strcmp(type, "memory.exec"))
		return give_bits_of(live, BITS_MAP, (uint64_t)flags, ret);
	if (!strcmp(type, "mount.attach"))
		return give_bits_of(live, BITS_MOUNT, (uint64_t)flags, ret);
	return record_key(live, KEY_flags, ret);
}

static bool give_bpf_command(struct live *live, struct rule_value *ret)
{
	const char *type = live->type->type->name;

	if (!strcmp(type, "bpf.load"))
		return give_text(ret, "BPF_PROG_LOAD", strlen("BPF_PROG_LOAD"));
	if (!strcmp(type, "bpf.map"))
		return give_text(ret, "BPF_MAP_CREATE", strlen("BPF_MAP_CREATE"));
	return give_prefixed(live, KEY_op, "BPF_", ret);
}

/* The names that rules have for arguments, and what has them here: the first key that the event has. Of a chown, whose the file becomes before whose the process
 * is. */
static const struct alias {
	const char *name;
	enum live_key key;
} aliases[] = { { "name", KEY_path },        { "filename", KEY_path },  { "pathname", KEY_path },
		{ "fullpath", KEY_path },    { "linkpath", KEY_path },  { "oldpath", KEY_path },
		{ "newpath", KEY_new_path }, { "newfd", KEY_fd },       { "proto", KEY_protocol },
		{ "type", KEY_sock_type },   { "type", KEY_fs_type },   { "dir", KEY_path },
		{ "dev", KEY_source },       { "sport", KEY_lport },    { "dport", KEY_rport },
		{ "ptid", KEY_target_pid },  { "pid", KEY_target_pid }, { "gid", KEY_group },
		{ "gid", KEY_gid },          { "uid", KEY_owner },      { "uid", KEY_uid } };

static bool give_alias(struct live *live, const char *name, struct rule_value *ret)
{
	const struct field *field;

	if (!strcmp(name, "res"))
		return give_error(live, ret) || give_made(live, ret, "%lld", (long long)result_of(live));
	if (!strcmp(name, "cmd"))
		return give_bpf_command(live, ret);
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++)
		if (!strcmp(aliases[i].name, name) && record_key(live, aliases[i].key, ret))
			return true;
	if (!strcmp(name, "tuple") || !strcmp(name, "addr"))
		return give_connection(live, ret);
	field = record_field(live, name);
	return field && record_value(live, field, ret);
}

static bool give_named(struct live *live, const char *name, struct rule_value *ret)
{
	int64_t mode, rights;

	if (!strcmp(name, "flags"))
		return give_flags(live, ret);
	if (!strcmp(name, "mode") && record_number(live, KEY_mode, &mode))
		return give_bits_of(live, BITS_MODE, (uint64_t)mode, ret);
	if (!strcmp(name, "prot") && record_number(live, KEY_prot, &rights))
		return give_bits_of(live, BITS_MEMORY, (uint64_t)rights, ret);
	if (!strcmp(name, "sig"))
		return give_signal(live, ret);
	if (!strcmp(name, "domain"))
		return give_prefixed(live, KEY_family, "AF_", ret);
	if (!strcmp(name, "request"))
		return give_prefixed(live, KEY_request_name, "PTRACE_", ret);
	return give_alias(live, name, ret);
}

/* A number is the place in the call's own list; of several calls that a type stands for, the likeliest one's. */
static bool give_argument(struct live *live, const struct rule_ref *ref, struct rule_value *ret)
{
	const char *name = ref->argument;
	struct rule_value call;

	if (!name)
		return false;
	if (ref->index >= 0)
		name = give_call(live, 0, &call) ? argument_name(call.text, call.length, ref->index) : NULL;
	return name && give_named(live, name, ret);
}

static bool give_raw_argument(struct live *live, const struct rule_ref *ref, struct rule_value *ret)
{
	static const struct alias numbers[] = { { "flags", KEY_flags }, { "mode", KEY_mode },
						{ "sig", KEY_signal },  { "domain", KEY_family },
						{ "prot", KEY_prot },   { "request", KEY_request } };
	int64_t number;

	if (ref->argument && !strcmp(ref->argument, "res"))
		return give_number(ret, result_of(live));
	for (size_t i = 0; ref->argument && i < ARRAY_SIZE(numbers); i++)
		if (!strcmp(numbers[i].name, ref->argument) && record_number(live, numbers[i].key, &number))
			return give_number(ret, number);
	return give_argument(live, ref, ret);
}

/* "key=value key=value" */
static bool give_all_arguments(struct live *live, struct rule_value *ret)
{
	const struct event_type *type = live->type->type;
	size_t got, used = 0;
	char *at = texts_take(live, TEXT_MAX, &got);

	for (size_t i = 0; i < type->n_fields; i++) {
		struct rule_value v;
		const char *text;
		char small[64];
		size_t n;
		int written;

		if (!record_value(live, &type->fields[i], &v))
			continue;
		n = rule_value_text(&v, small, &text);
		written = snprintf(at + used, got - used, "%s%s=%.*s", used ? " " : "", type->fields[i].key, (int)n,
				   text);
		if (written < 0 || (size_t)written >= got - used) {
			live->cut = true;
			break;
		}
		used += (size_t)written;
	}
	texts_give_back(live, got - used);
	return give_text(ret, at, used);
}

bool event_next(struct live *live, const struct served *how, struct rule_value *value)
{
	return (how->what == W_EVENT_TYPE || how->what == W_CALL) && give_call(live, value->left + 1, value);
}

bool get_event(struct live *live, const struct rule_ref *ref, const struct served *how, struct rule_value *ret)
{
	const struct sonde_event *e = live->record;
	int64_t number;

	switch (how->what) {
	case W_EVENT_TYPE:
		return give_call(live, 0, ret);
	case W_CALL:
		return is_system_call(live) && give_call(live, 0, ret);
	case W_IS_TYPE:
		return give_is_type(live, ref, ret);
	case W_CATEGORY:
		return give_category(live, ret);
	case W_TIME:
		return give_number(ret, (__int128)e->time + live->boot_to_epoch);
	case W_RUN_TIME:
		return give_number(ret, e->time > live->setup.began ? e->time - live->setup.began : 0);
	case W_NUMBER:
		return live->seq && give_number(ret, live->seq);
	case W_SOURCE:
		return give_text(ret, "syscall", 7);
	case W_DIRECTION:
		return give_text(ret, "<", 1);
	case W_HOST:
		return give_text(ret, live->setup.host, strlen(live->setup.host));
	case W_ONE:
		return give_number(ret, 1);
	case W_NEVER:
		return give_truth(ret, false);
	case W_RESULT:
		return give_result(live, ret);
	case W_RAW_RESULT:
		return give_number(ret, result_of(live));
	case W_FAILED_COUNT:
		return result_of(live) < 0 && give_number(ret, 1);
	case W_LATENCY:
		return record_number(live, KEY_latency_ns, &number) && give_number(ret, number);
	default:
		return give_all_arguments(live, ret);
	}
}

bool get_argument(struct live *live, const struct rule_ref *ref, const struct served *how, struct rule_value *ret)
{
	return how->what == W_ARGUMENT ? give_argument(live, ref, ret) : give_raw_argument(live, ref, ret);
}

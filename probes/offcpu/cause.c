/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The key of a sum holds the cause as numbers and the file as text, so that causes are compared without a look at any table; names of
 * system calls come in when the row is written. Paths come as components, leaf first, as the kernel side walked them.
 */
#include "probes/offcpu/cause.h"

#include <errno.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>

#define CUT "..."

size_t offcpu_key_size(const struct offcpu_key *key)
{
	return offsetof(struct offcpu_key, file) + key->cause.path_size;
}

/* Where the component that ends at `end` begins. */
static size_t component_begin(const char *path, size_t end)
{
	while (end > 0 && path[end - 1])
		end--;
	return end;
}

/* How many bytes of leading components (the path's last) fit with their slashes into `room`. */
static size_t fitting(const char *path, size_t size, size_t room)
{
	size_t used = 0, at = 0;

	while (at < size) {
		size_t n = strnlen(path + at, size - at);

		if (used + n + 1 > room)
			break;
		used += n + 1;
		at += n + 1;
	}
	return MIN_OF(at, size);
}

/* Components as a path; the root's own is "/". What does not fit is left out at the root's end, as the kernel side does. */
static size_t write_path(const char *path, size_t size, char *to, size_t room)
{
	size_t fits, n = 0;

	if (!size || path[size - 1])
		return 0;
	if (size == 2 && *path == '/')
		return (size_t)snprintf(to, room, "/");
	fits = fitting(path, size, room - sizeof "/" CUT);
	if (fits < size)
		n = (size_t)snprintf(to, room, "/" CUT);
	for (size_t end = fits; end > 0;) {
		size_t begin = component_begin(path, end - 1);

		to[n++] = '/';
		memcpy(to + n, path + begin, end - 1 - begin);
		n += end - 1 - begin;
		end = begin;
	}
	to[n] = 0;
	return n;
}

static bool has_address(const struct sonde_ip *ip)
{
	static const struct sonde_ip none;

	return memcmp(ip, &none, sizeof none) != 0;
}

static size_t write_file(const struct offcpu_sample *s, char *to, size_t room)
{
	const struct offcpu_cause *c = &s->_cause;

	switch (c->kind) {
	case OFFCPU_PIPE:
		return (size_t)snprintf(to, room, "pipe:[%llu]", (unsigned long long)c->ino);
	case OFFCPU_SOCKET: /* one with addresses is told by them */
		if (has_address(&c->laddr) || has_address(&c->raddr))
			return 0;
		return (size_t)snprintf(to, room, "socket:[%llu]", (unsigned long long)c->ino);
	case OFFCPU_FILE:
		return write_path(s->_path, c->path_size, to, room);
	case OFFCPU_ANONYMOUS: /* one component, [eventfd] */
		return (size_t)MIN_OF(
			snprintf(to, room, "anon_inode:%.*s", (int)strnlen(s->_path, c->path_size), s->_path),
			(int)room - 1);
	default:
		return 0;
	}
}

int offcpu_key_make(const struct offcpu_sample *sample, struct offcpu_key *ret)
{
	const struct offcpu_cause *c = &sample->_cause;

	if (c->kind > OFFCPU_ANONYMOUS || c->state > OFFCPU_BLOCKED || c->path_size > sizeof sample->_path)
		return -EBADMSG;
	ret->cause = *c;
	ret->cause.path_size = (uint16_t)write_file(sample, ret->file, sizeof ret->file);
	return 0;
}

static void write_syscall(int number, char *to, size_t room)
{
	_cleanup_(free_pointer) char *name = NULL;

	if (number < 0)
		return;
	name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
	if (name)
		snprintf(to, room, "%s", name);
	else
		snprintf(to, room, "%d", number);
}

void offcpu_key_write(const struct offcpu_key *key, size_t size, struct profile_offcpu *row)
{
	const struct offcpu_cause *c = &key->cause;
	size_t text = size - offsetof(struct offcpu_key, file);

	row->state = c->state;
	row->futex = c->futex;
	row->futex_holder = c->futex_holder;
	row->laddr = c->laddr;
	row->raddr = c->raddr;
	row->lport = c->lport;
	row->rport = c->rport;
	row->dev = c->dev;
	row->waker_tid = c->waker_tid;
	memcpy(row->waker_comm, c->waker_comm, sizeof row->waker_comm);
	memcpy(row->file, key->file, MIN_OF(text, sizeof row->file - 1));
	write_syscall(c->syscall, row->syscall, sizeof row->syscall);
}

/* Names of the scheduler's own functions, and beginnings of them where they end with '*'. */
static const char *const scheduler[] = { "__schedule",          "schedule",        "schedule_*",    "io_schedule*",
					 "preempt_schedule*",   "__cond_resched*", "__traceiter_*", "wait_woken",
					 "finish_task_switch*", "__switch_to*" };

static bool is_scheduler(const char *name, size_t length)
{
	for (size_t i = 0; i < ARRAY_SIZE(scheduler); i++) {
		size_t n = strlen(scheduler[i]);

		if (scheduler[i][n - 1] == '*' ? length >= n - 1 && !strncmp(name, scheduler[i], n - 1)
					       : length == n && !strncmp(name, scheduler[i], n))
			return true;
	}
	return false;
}

void offcpu_wait_function(const char *frames, size_t size, char *ret, size_t room)
{
	static const char kernel[] = "([k])";

	*ret = 0;
	for (size_t at = 0, n; at < size; at += n + 1) {
		size_t name;

		n = strnlen(frames + at, size - at);
		if (n < sizeof kernel || memcmp(frames + at + n - (sizeof kernel - 1), kernel, sizeof kernel - 1))
			return; /* the program's frames begin */
		name = strcspn(frames + at, "+ ");
		if (name >= n || !strncmp(frames + at, "0x", 2) || is_scheduler(frames + at, name))
			continue;
		snprintf(ret, room, "%.*s", (int)name, frames + at);
		return;
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What /proc says of those that were there before. A process may end, or begin another program, while it is read: what was read is then of nobody, or of
 * the program that follows, whose own event corrects it. */
#include "identity/processes_state.h"

#include <fcntl.h>
#include <string.h>

#define STATUS_MAX 16384u

static uint32_t read_link(int folder, const char *name, char *room, size_t size)
{
	static const char gone[] = " (deleted)";
	const size_t suffix = sizeof gone - 1;
	ssize_t n = readlinkat(folder, name, room, size);

	if (n > (ssize_t)suffix && memcmp(room + n - suffix, gone, suffix) == 0)
		n -= (ssize_t)suffix;
	return n > 0 ? (uint32_t)n : 0;
}

static uint32_t read_file(int folder, const char *name, char *room, size_t size)
{
	_cleanup_(close_fd) int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t n = fd < 0 ? 0 : 1;

	while (n > 0 && used < size) {
		n = read(fd, room + used, size - used);
		used += n > 0 ? (size_t)n : 0;
	}
	return (uint32_t)used;
}

/* The four numbers behind "Uid:" or "Gid:", of which the first two are real and effective. */
static bool take_ids(const char *status, const char *key, uint32_t *ret_real, uint32_t *ret_effective)
{
	const char *at = strstr(status, key);

	return at && sscanf(at + strlen(key), "%u %u", ret_real, ret_effective) == 2;
}

/* The last number behind "NSpid:": the pid in the innermost namespace. */
static uint32_t inner_pid(const char *status)
{
	const char *at = strstr(status, "\nNSpid:"), *end = at ? strchr(at + 1, '\n') : NULL;

	while (end && end > at && end[-1] >= '0' && end[-1] <= '9')
		end--;
	return end ? (uint32_t)strtoul(end, NULL, 10) : 0;
}

/* Group, session and terminal are the 5th to the 7th value; the name, the 2nd, may hold anything. */
static void take_stat(const char *stat, struct process *ret)
{
	const char *behind = strrchr(stat, ')');
	unsigned pgid, sid, tty;
	char state;
	int ppid;

	if (!behind || sscanf(behind + 1, " %c %d %u %u %u", &state, &ppid, &pgid, &sid, &tty) != 5)
		return;
	ret->pgid = pgid;
	ret->sid = sid;
	if (tty >> 8 == 136)
		snprintf(ret->tty, sizeof ret->tty, "pts%u", tty & 0xff);
	else if (tty >> 8 == 4)
		snprintf(ret->tty, sizeof ret->tty, (tty & 0xff) < 64 ? "tty%u" : "ttyS%u",
			 (tty & 0xff) < 64 ? tty & 0xff : (tty & 0xff) - 64);
	else if (tty)
		snprintf(ret->tty, sizeof ret->tty, "tty");
}

static bool read_one(struct processes *p, struct process_entry *e, int folder)
{
	static char exe[PROCESS_PATH_MAX], cwd[PROCESS_PATH_MAX], args[PROCESS_ARGS_MAX];
	char text[STATUS_MAX + 1];
	struct process read = { .exe = exe, .cwd = cwd, .args = args };

	read.args_length = read_file(folder, "cmdline", args, sizeof args);
	read.exe_length = read_link(folder, "exe", exe, sizeof exe);
	read.cwd_length = read_link(folder, "cwd", cwd, sizeof cwd);
	text[read_file(folder, "status", text, STATUS_MAX)] = '\0';
	if (!take_ids(text, "\nUid:", &e->process.uid, &e->process.euid) ||
	    !take_ids(text, "\nGid:", &e->process.gid, &e->process.egid))
		return false; /* it has ended: nobody's ids would be root's */
	e->process.ns_pid = inner_pid(text);
	text[read_file(folder, "stat", text, STATUS_MAX)] = '\0';
	take_stat(text, &e->process);
	text[read_file(folder, "loginuid", text, STATUS_MAX)] = '\0';
	if (text[0])
		e->process.loginuid = (int32_t)strtoul(text, NULL, 10);
	e->process.detailed = true;
	return process_set_text(p, e, &read);
}

size_t processes_read_details(struct processes *p, const char *root)
{
	size_t n = 0;

	for (uint32_t i = 0; i < p->room; i++) {
		struct process_entry *e = &p->entries[i];
		char path[256];
		_cleanup_(close_fd) int folder = -1;

		if (!e->used || !e->current || e->process.ended || e->process.detailed)
			continue;
		snprintf(path, sizeof path, "%s/%u", root, e->process.pid);
		folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (folder >= 0)
			n += read_one(p, e, folder);
	}
	return n;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "alerts/arguments.h"

#include <string.h>

#include "base/base.h"

#define ARGUMENTS_MOST 7

static const struct {
	const char *call, *names[ARGUMENTS_MOST];
} calls[] = {
	{ "open", { "fd", "name", "flags", "mode", "dev", "ino" } },
	{ "openat", { "fd", "dirfd", "name", "flags", "mode", "dev", "ino" } },
	{ "openat2", { "fd", "dirfd", "name", "flags", "mode" } },
	{ "creat", { "fd", "name", "mode", "dev", "ino" } },
	{ "unlink", { "res", "path" } },
	{ "unlinkat", { "res", "dirfd", "name", "flags" } },
	{ "rmdir", { "res", "path" } },
	{ "mkdir", { "res", "path" } },
	{ "mkdirat", { "res", "dirfd", "path", "mode" } },
	{ "rename", { "res", "oldpath", "newpath" } },
	{ "renameat", { "res", "olddirfd", "oldpath", "newdirfd", "newpath" } },
	{ "renameat2", { "res", "olddirfd", "oldpath", "newdirfd", "newpath", "flags" } },
	{ "link", { "res", "oldpath", "newpath" } },
	{ "linkat", { "res", "olddirfd", "oldpath", "newdirfd", "newpath", "flags" } },
	{ "symlink", { "res", "target", "linkpath" } },
	{ "symlinkat", { "res", "target", "linkdirfd", "linkpath" } },
	{ "chmod", { "res", "filename", "mode" } },
	{ "fchmod", { "res", "fd", "mode" } },
	{ "fchmodat", { "res", "dirfd", "filename", "mode" } },
	{ "chown", { "res", "path", "uid", "gid" } },
	{ "lchown", { "res", "path", "uid", "gid" } },
	{ "fchown", { "res", "fd", "uid", "gid" } },
	{ "fchownat", { "res", "dirfd", "pathname", "uid", "gid", "flags" } },
	{ "chroot", { "res", "path" } },
	{ "mount", { "res", "dev", "dir", "type", "flags" } },
	{ "umount", { "res", "name" } },
	{ "umount2", { "res", "name", "flags" } },
	{ "socket", { "fd", "domain", "type", "proto" } },
	{ "connect", { "res", "tuple", "fd", "addr" } },
	{ "bind", { "res", "addr", "fd" } },
	{ "listen", { "res", "fd", "backlog" } },
	{ "accept", { "fd", "tuple" } },
	{ "accept4", { "fd", "tuple" } },
	{ "setuid", { "res", "uid" } },
	{ "setgid", { "res", "gid" } },
	{ "kill", { "res", "pid", "sig" } },
	{ "tkill", { "res", "tid", "sig" } },
	{ "tgkill", { "res", "pid", "tid", "sig" } },
	{ "memfd_create", { "fd", "name", "flags" } },
	{ "unshare", { "res", "flags" } },
	{ "execve", { "res", "exe", "args", "tid", "pid", "ptid", "cwd" } },
	{ "execveat", { "res", "exe", "args", "tid", "pid", "ptid", "cwd" } },
};

const char *argument_name(const char *call, size_t length, int64_t index)
{
	if (index < 0 || index >= ARGUMENTS_MOST)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if (strlen(calls[i].call) == length && !memcmp(calls[i].call, call, length))
			return calls[i].names[index];
	return NULL;
}

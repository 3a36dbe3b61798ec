/* SPDX-License-Identifier: Apache-2.0 */
/* Which system calls, by the names of evt.type, the events of a type stand for. */
#include "alerts/live_state.h"

#include <string.h>

/* The likeliest first: it is what an output says. */
static const struct {
	const char *type, *calls;
} stands_for[] = {
	{ "process.exec", "execve execveat" },
	{ "process.exec_failed", "execve execveat" },
	{ "process.fork", "clone clone3 fork vfork" },
	{ "process.exit", "procexit" },
	{ "process.ptrace", "ptrace" },
	{ "process.memory_write", "process_vm_writev" },
	{ "process.fd_get", "pidfd_getfd" },
	{ "process.signal", "kill tkill tgkill" },
	{ "process.chroot", "chroot" },
	{ "process.personality", "personality" },
	{ "file.open", "openat open openat2 creat open_by_handle_at" },
	{ "file.rename", "rename renameat renameat2" },
	{ "file.link", "link linkat" },
	{ "file.symlink", "symlink symlinkat" },
	{ "file.unlink", "unlinkat unlink rmdir" },
	{ "file.mkdir", "mkdir mkdirat" },
	{ "file.mknod", "mknod mknodat" },
	{ "file.chmod", "fchmodat chmod fchmod" },
	{ "file.chown", "fchownat chown fchown lchown" },
	{ "file.truncate", "truncate ftruncate" },
	{ "file.setxattr", "setxattr lsetxattr fsetxattr" },
	{ "file.removexattr", "removexattr lremovexattr fremovexattr" },
	{ "mount.attach", "mount move_mount fsmount open_tree" },
	{ "mount.move", "mount move_mount" },
	{ "mount.detach", "umount2 umount" },
	{ "mount.setattr", "mount_setattr mount" },
	{ "mount.create", "fsmount open_tree" },
	{ "mount.pivot_root", "pivot_root" },
	{ "ns.unshare", "unshare" },
	{ "ns.enter", "setns" },
	{ "ns.create", "clone clone3 unshare" },
	{ "cred.change",
	  "setuid setresuid setreuid setfsuid setgid setresgid setregid setfsgid setgroups capset prctl" },
	{ "memory.exec", "mprotect mmap pkey_mprotect" },
	{ "memory.memfd", "memfd_create" },
	{ "memory.userfaultfd", "userfaultfd" },
	{ "module.load", "finit_module init_module" },
	{ "module.unload", "delete_module" },
	{ "kernel.kexec", "kexec_file_load kexec_load" },
	{ "bpf.load", "bpf" },
	{ "bpf.map", "bpf" },
	{ "bpf.attach", "bpf" },
	{ "perf.open", "perf_event_open" },
	{ "keys.ctl", "keyctl add_key request_key" },
	{ "net.socket", "socket" },
	{ "net.bind", "bind" },
	{ "net.listen", "listen" },
	{ "net.connect", "connect" },
	{ "net.accept", "accept4 accept" },
	{ "net.dup", "dup2 dup dup3 fcntl" },
	{ "tcp.connect", "connect" },
	{ "tcp.accept", "accept4 accept" },
	{ "uring.create", "io_uring_setup" },
	{ "uring.op", "io_uring_enter" },
	{ "uring.done", "io_uring_enter" },
	{ "profile.cpu", "profile" },
	{ "profile.offcpu", "profile" },
};

/* NULL: rules know nothing of the kind. */
const char *live_call_names(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(stands_for); i++)
		if (strcmp(stands_for[i].type, type) == 0)
			return stands_for[i].calls;
	return NULL;
}

uint32_t live_list_calls(const char *type, uint16_t ret[CALLS_MAX])
{
	const char *at = live_call_names(type);
	uint32_t count = 0;

	while (at && *at && count < CALLS_MAX) {
		size_t n = strcspn(at, " ");
		int call = event_type_of(at, n);

		if (call >= 0)
			ret[count++] = (uint16_t)call;
		at += n + (at[n] == ' ');
	}
	return count;
}

void live_calls(const char *type, struct event_types *ret)
{
	uint16_t calls[CALLS_MAX];
	uint32_t n = live_list_calls(type, calls);

	memset(ret, 0, sizeof *ret);
	for (uint32_t i = 0; i < n; i++)
		event_types_add(ret, calls[i]);
}

int live_opens(const struct rules *rules, enum rules_opens which,
	       void (*take)(void *context, uint32_t rule, const struct rule_path *path), void *context)
{
	struct event_types types;

	live_calls("file.open", &types);
	return rules_opens(rules, which, &types, live_category("file.open"), take, context);
}

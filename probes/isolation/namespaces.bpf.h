/* SPDX-License-Identifier: GPL-2.0-only */
/* Namespaces: those of a thread before and after a call, and those of a child beside its maker's. */
#ifndef SONDE_ISOLATION_NAMESPACES_BPF_H
#define SONDE_ISOLATION_NAMESPACES_BPF_H

#include "sonde/syscall.bpf.h"
#include "sonde/task.bpf.h"
#include "isolation.h"

/* CLONE_NEW*: time, mnt, cgroup, uts, ipc, user, pid, net. */
#define CLONE_NEW (0x80 | 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000)

struct namespaces {
	__u32 mnt, user, pid, net, uts, ipc, cgroup, time;
};

sonde_inline void read_namespaces(struct namespaces *to, struct task_struct *task)
{
	struct nsproxy *ns = BPF_CORE_READ(task, nsproxy);

	to->user = BPF_CORE_READ(task, cred, user_ns, ns.inum);
	to->mnt = BPF_CORE_READ(ns, mnt_ns, ns.inum);
	to->pid = BPF_CORE_READ(ns, pid_ns_for_children, ns.inum);
	to->net = BPF_CORE_READ(ns, net_ns, ns.inum);
	to->uts = BPF_CORE_READ(ns, uts_ns, ns.inum);
	to->ipc = BPF_CORE_READ(ns, ipc_ns, ns.inum);
	to->cgroup = BPF_CORE_READ(ns, cgroup_ns, ns.inum);
	to->time = BPF_CORE_READ(ns, time_ns_for_children, ns.inum);
}

#define NS_CHANGED(e, was, now, kind)                                                                                  \
	((e)->kind##_ns = (was)->kind != (now)->kind ? (now)->kind : 0,                                                \
	 (e)->old_##kind##_ns = (was)->kind != (now)->kind ? (was)->kind : 0)

#define put_namespaces(e, was, now)                                                                                    \
	({                                                                                                             \
		NS_CHANGED(e, was, now, mnt);                                                                          \
		NS_CHANGED(e, was, now, user);                                                                         \
		NS_CHANGED(e, was, now, pid);                                                                          \
		NS_CHANGED(e, was, now, net);                                                                          \
		NS_CHANGED(e, was, now, uts);                                                                          \
		NS_CHANGED(e, was, now, ipc);                                                                          \
		NS_CHANGED(e, was, now, cgroup);                                                                       \
		NS_CHANGED(e, was, now, time);                                                                         \
	})

/* Those of a thread as its call began. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct namespaces);
} ns_before SEC(".maps");

sonde_inline int call_begins(void)
{
	struct namespaces *own =
		bpf_task_storage_get(&ns_before, bpf_get_current_task_btf(), NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (own)
		read_namespaces(own, bpf_get_current_task_btf());
	else
		sonde_failed(-12);
	return 0;
}

/* Of a call that had begun before the agent all counts as unchanged. */
sonde_inline void read_before(struct namespaces *was, const struct namespaces *now)
{
	struct namespaces *known = bpf_task_storage_get(&ns_before, bpf_get_current_task_btf(), NULL, 0);

	*was = known ? *known : *now;
}

SEC("tracepoint/syscalls/sys_enter_unshare")
SONDE_FOR("ns.unshare")
int unshare_begin__tracepoint(void *ctx)
{
	return call_begins();
}

SEC("tracepoint/syscalls/sys_exit_unshare")
SONDE_FOR("ns.unshare")
int unshare__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	__u64 flags = sonde_argument(0);
	struct namespaces was, now;
	struct ns_unshare *e;

	read_namespaces(&now, bpf_get_current_task_btf());
	read_before(&was, &now);
	if (!(flags & CLONE_NEW))
		return 0;
	e = sonde_reserve(ns_unshare, sizeof *e);
	if (!e)
		return 0;
	sonde_fill_credentials(e);
	sonde_fill_result(e, ctx->ret);
	e->flags = flags;
	put_namespaces(e, &was, &now);
	sonde_submit(ns_unshare, e, sizeof *e);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_setns")
SONDE_FOR("ns.enter")
int setns_begin__tracepoint(void *ctx)
{
	return call_begins();
}

SEC("tracepoint/syscalls/sys_exit_setns")
SONDE_FOR("ns.enter")
int setns__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct namespaces was, now;
	struct ns_enter *e;

	read_namespaces(&now, bpf_get_current_task_btf());
	read_before(&was, &now);
	e = sonde_reserve(ns_enter, sizeof *e);
	if (!e)
		return 0;
	e->fd = (__u32)sonde_argument(0);
	sonde_fill_credentials(e);
	sonde_fill_result(e, ctx->ret);
	sonde_fill_target(e, sonde_task_of_pidfd((__s32)e->fd));
	e->flags = (__u32)sonde_argument(1);
	e->_pad = 0;
	put_namespaces(e, &was, &now);
	sonde_submit(ns_enter, e, sizeof *e);
	return 0;
}

SEC("tp_btf/task_newtask")
SONDE_FOR("ns.create")
int BPF_PROG(clone__tp_btf, struct task_struct *child, __u64 clone_flags)
{
	struct namespaces was, now;
	struct ns_create *e;

	if (!(clone_flags & CLONE_NEW))
		return 0;
	e = sonde_reserve(ns_create, sizeof *e);
	if (!e)
		return 0;
	read_namespaces(&was, bpf_get_current_task_btf());
	read_namespaces(&now, child);
	sonde_fill_credentials(e);
	e->flags = clone_flags;
	e->child_proc = sonde_proc_copied(child);
	e->child_pid = (__u32)child->tgid;
	e->_pad = 0;
	put_namespaces(e, &was, &now);
	sonde_submit(ns_create, e, sizeof *e);
	return 0;
}

#endif

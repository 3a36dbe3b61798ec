/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The other process that a system call is about: by its number in the caller's pid namespace, or by a pidfd. What is found is an address to
 * copy from, 0 where there is none; events that have SONDE_TARGET are filled from it.
 */
#ifndef SONDE_TASK_BPF_H
#define SONDE_TASK_BPF_H

#include "sonde/syscall.bpf.h"

#define SONDE_XA_LEVELS   6          /* of 6 bits each: more than 32 */
#define SONDE_PIDFS_MAGIC 0x50494446 /* include/uapi/linux/magic.h */

/* The first task of a struct pid, if it is one. What it is not would hardly be named by the task that it leads to. */
sonde_inline __u64 sonde_task_of(struct pid *pid)
{
	__u64 node = (__u64)BPF_CORE_READ(pid, tasks[0].first), task;

	if (!node)
		return 0;
	task = node - bpf_core_field_offset(struct task_struct, pid_links);
	return BPF_CORE_READ((struct task_struct *)task, thread_pid) == pid ? task : 0;
}

/* What a tree of numbers has for `nr`. Source: lib/xarray.c xas_load(): an inner node's address has its second bit set. */
sonde_inline __u64 sonde_xa_load(struct xarray *array, __u32 nr)
{
	__u64 entry = (__u64)BPF_CORE_READ(array, xa_head);

	for (int i = 0; i < SONDE_XA_LEVELS && (entry & 3) == 2; i++) {
		struct xa_node *node = (void *)(entry - 2);
		__u32 at = nr >> (BPF_CORE_READ(node, shift) & 31);

		if (!i && at > 63)
			return 0;
		bpf_probe_read_kernel(&entry, sizeof entry,
				      (void *)node + bpf_core_field_offset(struct xa_node, slots) +
					      (at & 63) * sizeof entry);
	}
	return entry & 3 ? 0 : entry;
}

/* The task whose number is `nr` in the pid namespace of the thread that runs. */
__attribute__((weak, noinline)) __u64 sonde_task_numbered(__u32 nr)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct pid *own = BPF_CORE_READ(task, thread_pid), *pid;
	__u32 level = BPF_CORE_READ(own, level) & 31;
	const __u32 numbers = bpf_core_field_offset(struct pid, numbers), size = bpf_core_type_size(struct upid);
	struct pid_namespace *ns = BPF_CORE_READ((struct upid *)((void *)own + numbers + level * size), ns);
	struct upid *upid;

	pid = (void *)sonde_xa_load(&ns->idr.idr_rt, nr);
	if (!pid)
		return 0;
	upid = (void *)pid + numbers + level * size;
	return (__u32)BPF_CORE_READ(upid, nr) == nr && BPF_CORE_READ(upid, ns) == ns ? sonde_task_of(pid) : 0;
}

/* The task that a descriptor of the running thread holds, 0 of what is no pidfd. The inode has the struct pid since Linux 6.9
 * (torvalds/linux cb12fd8e0dab), before that the file itself. */
__attribute__((weak, noinline)) __u64 sonde_task_of_pidfd(__s32 fd)
{
	struct file *file = sonde_file_of(fd);
	struct pid *pid = NULL;

	if (!file)
		return 0;
	if (BPF_CORE_READ(file, f_inode, i_sb, s_magic) == SONDE_PIDFS_MAGIC)
		pid = BPF_CORE_READ(file, f_inode, i_private);
	else if (sonde_is_anonymous(file, "[pidfd]"))
		pid = BPF_CORE_READ(file, private_data);
	return pid ? sonde_task_of(pid) : 0;
}

/* Of an event that has SONDE_TARGET. */
#define sonde_fill_target(e, address)                                                                                  \
	({                                                                                                             \
		struct task_struct *_task = (void *)(address);                                                         \
		(e)->target_proc = 0;                                                                                  \
		(e)->target_pid = 0;                                                                                   \
		(e)->_pad_target = 0;                                                                                  \
		(e)->target_comm[0] = '\0';                                                                            \
		if (_task) {                                                                                           \
			(e)->target_proc = sonde_proc_copied(_task);                                                   \
			(e)->target_pid = BPF_CORE_READ(_task, tgid);                                                  \
			bpf_probe_read_kernel_str((e)->target_comm, sizeof(e)->target_comm, &_task->comm);             \
		}                                                                                                      \
	})

#endif

// SPDX-License-Identifier: GPL-2.0-only
/*
 * process.exec, process.fork, process.exit, each from one tracepoint. All values come from the kernel's own copies; the
 * arguments from the new image's stack, after exec and before its first instruction, so nobody can have changed them.
 */
#include "sonde/probe.bpf.h"
#include "exec.h"

#define ARGS_MAX 32768 /* bytes of argument vector; more is cut, with the true length in args_bytes */

/* Size classes of process.exec: what does not fit one is tried in the next. */
#define CLASS_SMALL  1024
#define CLASS_MEDIUM 4096
#define CLASS_LARGE  (sizeof(struct process_exec) + ARGS_MAX + 2 * 4352)

#define PF_IO_WORKER      0x00000010 /* include/linux/sched.h */
#define PF_USER_WORKER    0x00004000 /* since 6.4, torvalds/linux 54e6842d0775 */
#define CLONE_THREAD      0x00010000
#define SIGNAL_GROUP_EXIT 0x00000004 /* include/linux/sched/signal.h */

/* Kernel device numbers are major:12 minor:20; stat(2) shows new_encode_dev(). Source: include/linux/kdev_t.h. */
sonde_inline __u64 device_number(__u32 dev)
{
	__u32 major = dev >> 20, minor = dev & 0xfffff;

	return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
}

sonde_inline void fill_credentials(struct process_exec *e, struct task_struct *task)
{
	const struct cred *cred = task->cred;

	e->uid = cred->uid.val;
	e->gid = cred->gid.val;
	e->euid = cred->euid.val;
	e->egid = cred->egid.val;
	e->user_ns = cred->user_ns->ns.inum;
	/* Two 32-bit words before 6.3 (torvalds/linux f122a08b197d), one of 64 since: the same eight bytes. */
	e->caps = 0;
	bpf_probe_read_kernel(&e->caps, sizeof e->caps,
			      (void *)cred + bpf_core_field_offset(struct cred, cap_effective));
}

sonde_inline void fill_namespaces(struct process_exec *e, struct task_struct *task)
{
	struct nsproxy *ns = task->nsproxy;
	struct pid *pid = task->thread_pid;
	__u64 level = pid->level;

	/* MAX_PID_NS_LEVEL; 6.1's verifier adds only a bounded number to a kernel pointer. */
	if (level > 32)
		level = 32;
	barrier_var(level);

	void *own = (void *)pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);

	e->mnt_ns = BPF_CORE_READ(ns, mnt_ns, ns.inum);
	e->net_ns = BPF_CORE_READ(ns, net_ns, ns.inum);
	e->uts_ns = BPF_CORE_READ(ns, uts_ns, ns.inum);
	e->ipc_ns = BPF_CORE_READ(ns, ipc_ns, ns.inum);
	e->cgroup_ns = BPF_CORE_READ(ns, cgroup_ns, ns.inum);
	e->ns_pid = BPF_CORE_READ((struct upid *)own, nr);
	e->pid_ns = BPF_CORE_READ((struct upid *)own, ns, ns.inum);
}

sonde_inline void fill_file(struct process_exec *e, struct task_struct *task, struct file *file)
{
	struct inode *inode = file->f_inode;
	struct tty_struct *tty = task->signal->tty;

	e->ino = inode->i_ino;
	e->dev = device_number(inode->i_sb->s_dev);
	e->tty[0] = 0;
	if (tty)
		bpf_probe_read_kernel_str(e->tty, sizeof e->tty, &tty->name);
}

SONDE_PATH_WALKER(walk_small, CLASS_SMALL);
SONDE_PATH_WALKER(walk_medium, CLASS_MEDIUM);
SONDE_PATH_WALKER(walk_large, CLASS_LARGE);

/* One path into `text`; `at` moves behind it. 0, or -1 when it did not fit. */
sonde_inline long fill_path(struct process_exec *e, const __u32 room, __u32 *at, struct sonde_text *text,
			    struct path *path)
{
	__u64 dentry = (__u64)BPF_CORE_READ(path, dentry), mnt = (__u64)BPF_CORE_READ(path, mnt);
	int end;

	if (room == CLASS_SMALL)
		end = walk_small((void *)e, *at, dentry, mnt);
	else if (room == CLASS_MEDIUM)
		end = walk_medium((void *)e, *at, dentry, mnt);
	else
		end = walk_large((void *)e, *at, dentry, mnt);
	text->offset = (__u16)*at;
	text->length = 0;
	if (end < 0)
		return -1;
	text->length = (__u16)(end - *at);
	*at = (__u32)end;
	return 0;
}

/* The variable parts, into a record of `room` bytes: 0 with `*ret_used`, or -1 when they did not fit. */
sonde_inline long fill_texts(struct process_exec *e, const __u32 room, const __u32 args_room, struct task_struct *task,
			     struct file *file, __u32 *ret_used)
{
	__u64 begin = task->mm->arg_start, length = task->mm->arg_end - begin;
	__u32 used = sizeof *e;
	long cut = 0;

	e->args.offset = (__u16)used;
	e->args.length = 0;
	e->args_bytes = 0;
	if (length > args_room) {
		e->args_bytes = length;
		length = args_room;
		cut = -1;
	}
	if (length) {
		if (bpf_probe_read_user((void *)e + sizeof *e, length, (void *)begin) == 0) {
			e->args.length = (__u16)length;
			used += (__u32)length;
		} else {
			sonde_failed(-14);
			e->event.flags |= SONDE_FLAG_TRUNCATED;
		}
	}
	cut |= fill_path(e, room, &used, &e->exe, (void *)file + bpf_core_field_offset(struct file, f_path));
	cut |= fill_path(e, room, &used, &e->cwd, (void *)task->fs + bpf_core_field_offset(struct fs_struct, pwd));
	*ret_used = used;
	return cut;
}

enum outcome { SENT, LOST, NEXT_CLASS };

/* One try in one size class of `room` bytes; with `last`, what fits is sent. */
sonde_inline enum outcome try_class(const __u64 room, const __u32 args_room, bool last, struct task_struct *task,
				    struct file *file, const struct sonde_owner *owner)
{
	struct process_exec *e = bpf_ringbuf_reserve(&sonde_priority, room, 0);
	__u32 used = sizeof *e;

	if (!e)
		return LOST;
	sonde_fill_header(&e->event, process_exec_type.id, owner);
	if (fill_texts(e, room, args_room, task, file, &used)) {
		if (!last) {
			bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
			return NEXT_CLASS;
		}
		e->event.flags |= SONDE_FLAG_TRUNCATED;
	}
	fill_credentials(e, task);
	fill_namespaces(e, task);
	fill_file(e, task, file);
	sonde_submit(process_exec, e, used);
	return SENT;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(exec__tp_btf, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	struct sonde_counts *counts = sonde_counts_of(process_exec_type.id);
	struct file *file = bprm->file;
	struct sonde_owner owner;
	enum outcome outcome;

	if (!counts)
		return 0;
	__sync_fetch_and_add(&counts->produced, 1);
	sonde_owner_current(&owner);
	if (owner.filtered) {
		__sync_fetch_and_add(&counts->filtered, 1);
		return 0;
	}
	outcome = try_class(CLASS_SMALL, 256, false, task, file, &owner);
	if (outcome == NEXT_CLASS)
		outcome = try_class(CLASS_MEDIUM, 2048, false, task, file, &owner);
	if (outcome == NEXT_CLASS)
		outcome = try_class(CLASS_LARGE, ARGS_MAX, true, task, file, &owner);
	if (outcome == LOST)
		__sync_fetch_and_add(&counts->dropped[SONDE_DROP_RING_FULL], 1);
	return 0;
}

SEC("tp_btf/task_newtask")
int BPF_PROG(fork__tp_btf, struct task_struct *child, __u64 clone_flags)
{
	struct process_fork *e;

	if (clone_flags & CLONE_THREAD || child->flags & (PF_USER_WORKER | PF_IO_WORKER))
		return 0;
	e = sonde_reserve(process_fork, sizeof *e);
	if (!e)
		return 0;
	e->child_pid = child->tgid;
	e->child_proc = sonde_proc_of(child);
	e->flags = clone_flags;
	sonde_submit(process_fork, e, sizeof *e);
	return 0;
}

/* CPU time that the scheduler has not yet added up: since it last brought this task's clock forward. */
sonde_inline __u64 unsettled_cpu_ns(struct task_struct *task)
{
	__u32 zero = 0;
	struct sonde_settings *s = bpf_map_lookup_elem(&sonde_settings, &zero);
	__u64 since = task->se.exec_start, arrived = task->sched_info.last_arrival, now;

	if (!s || !s->sched_offset)
		return 0;
	if (arrived > since) /* the task clock runs behind where interrupt time is taken out of it */
		since = arrived;
	now = bpf_ktime_get_boot_ns() + s->sched_offset;
	return now > since && now - since < 1000000000ull ? now - since : 0;
}

/* Whether this is the process's last thread; true for exactly one: two threads that end together may both find `live`
 * at 0. */
sonde_inline bool last_thread(struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct sonde_task *known;

	if (task->signal->live.counter > 0)
		return false;
	known = bpf_task_storage_get(&sonde_tasks, leader, NULL, 0);
	if (!known)
		return task == leader;
	return __sync_val_compare_and_swap(&known->ended, 0, 1) == 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(exit__tp_btf, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct signal_struct *signal = task->signal;
	struct process_exit *e;
	__u32 code;

	if (!last_thread(task))
		return 0;
	e = sonde_reserve(process_exit, sizeof *e);
	if (!e)
		return 0;
	/* Source: kernel/exit.c wait_task_zombie(). */
	code = signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code : leader->exit_code;
	e->exit_code = code >> 8 & 0xff;
	e->signal = code & 0x7f;
	e->core_dumped = code & 0x80;
	e->run_ns = e->event.time - leader->start_boottime;
	e->cpu_ns = signal->sum_sched_runtime + task->se.sum_exec_runtime + unsettled_cpu_ns(task);
	if (leader != task)
		e->cpu_ns += leader->se.sum_exec_runtime;
	e->peak_rss_bytes = (__u64)signal->maxrss * sonde_page_bytes;
	sonde_submit(process_exit, e, sizeof *e);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

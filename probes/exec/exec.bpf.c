// SPDX-License-Identifier: GPL-2.0-only
/*
 * process.exec, process.fork, process.exit, each from one tracepoint. All values come from the kernel's own copies; the
 * arguments from the new image's stack, after exec and before its first instruction, so nobody can have changed them.
 */
#include "sonde/probe.bpf.h"
#include "sonde/inode.bpf.h"
#include "exec.h"

#define ARGS_MAX 32768 /* bytes of argument vector; more is cut, with the true length in args_bytes */

/* Size classes of process.exec: what does not fit one is tried in the next. */
#define CLASS_SMALL  1024
#define ARGS_SMALL   256
#define CLASS_MEDIUM 4096
#define ARGS_MEDIUM  2048
#define CLASS_LARGE  (sizeof(struct process_exec) + ARGS_MAX + 2 * 4352)

#define PF_IO_WORKER      0x00000010 /* include/linux/sched.h */
#define PF_USER_WORKER    0x00004000 /* since 6.4, torvalds/linux 54e6842d0775 */
#define CLONE_THREAD      0x00010000
#define SIGNAL_GROUP_EXIT 0x00000004 /* include/linux/sched/signal.h */

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

sonde_inline void fill_pid(struct process_exec *e, struct task_struct *task)
{
	struct pid *pid = task->thread_pid;
	__u64 level = pid->level;
	struct upid *own;

	if (!level) {
		e->ns_pid = task->tgid;
		e->pid_ns = pid->numbers[0].ns->ns.inum;
		return;
	}
	/* MAX_PID_NS_LEVEL; 6.1's verifier adds only a bounded number to a kernel pointer. */
	if (level > 32)
		level = 32;
	barrier_var(level);
	own = (void *)pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);
	e->ns_pid = BPF_CORE_READ(own, nr);
	e->pid_ns = BPF_CORE_READ(own, ns, ns.inum);
}

sonde_inline void fill_namespaces(struct process_exec *e, struct task_struct *task)
{
	struct nsproxy *ns = task->nsproxy;

	e->mnt_ns = ns->mnt_ns->ns.inum;
	e->net_ns = ns->net_ns->ns.inum;
	e->uts_ns = ns->uts_ns->ns.inum;
	e->ipc_ns = ns->ipc_ns->ns.inum;
	e->cgroup_ns = ns->cgroup_ns->ns.inum;
	fill_pid(e, task);
}

sonde_inline void fill_file(struct process_exec *e, struct task_struct *task, struct file *file)
{
	struct inode *inode = file->f_inode;
	struct tty_struct *tty = task->signal->tty;

	e->ino = inode->i_ino;
	e->dev = sonde_device_number(inode->i_sb->s_dev);
	e->tty[0] = 0;
	if (tty)
		bpf_probe_read_kernel_str(e->tty, sizeof e->tty, &tty->name);
}

SONDE_PATH_WALKER(walk_small, CLASS_SMALL, 24);
SONDE_PATH_WALKER(walk_medium, CLASS_MEDIUM, 48);
SONDE_PATH_WALKER(walk_large, CLASS_LARGE, 128);

/* One path into `text`; `at` moves behind it. 0, or -1 when not all of it fitted. */
sonde_inline long fill_path(struct process_exec *e, const __u32 room, __u32 *at, struct sonde_text *text,
			    const void *place)
{
	struct {
		__u64 mnt, dentry;
	} path;
	int end;

	/* struct path has been these two since 2.6. */
	bpf_probe_read_kernel(&path, sizeof path, place);
	if (room == CLASS_SMALL)
		end = walk_small((void *)e, *at, path.dentry, path.mnt);
	else if (room == CLASS_MEDIUM)
		end = walk_medium((void *)e, *at, path.dentry, path.mnt);
	else
		end = walk_large((void *)e, *at, path.dentry, path.mnt);
	text->offset = (__u16)*at;
	text->length = 0;
	if (end == -1)
		return -1;
	text->length = (__u16)((end < 0 ? -end : end) - *at);
	*at += text->length;
	return end < 0 ? -1 : 0;
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
				    struct file *file, const struct sonde_owner *owner, __u64 stack)
{
	struct process_exec *e = bpf_ringbuf_reserve(&sonde_priority, room + sizeof stack, 0);
	__u32 used = sizeof *e;

	if (!e)
		return LOST;
	sonde_fill_header(&e->event, process_exec_type.id, owner);
	sonde_name_stack(&e->event, room, stack);
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

/* Who asked for a program is known before it is loaded only: the number of that stack, by thread. What failed leaves its number behind. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} exec_stacks SEC(".maps");

sonde_inline int exec_begins(void)
{
	struct sonde_owner owner;
	__u64 stack;

	sonde_owner_current(&owner);
	stack = sonde_take_stack(&sonde_priority, &owner);
	if (stack)
		bpf_map_update_elem(&exec_stacks, &owner.tid, &stack, BPF_ANY);
	return 0;
}

SEC("tp_btf/sched_prepare_exec")
SONDE_WHEN("stack")
int BPF_PROG(caller__tp_btf)
{
	return exec_begins();
}

SEC("tracepoint/syscalls/sys_enter_execve")
SONDE_WHEN("stack")
int caller__tracepoint(void *ctx)
{
	return exec_begins();
}

/* The other of two system calls, where one tracepoint does not serve both. */
SEC("tracepoint/syscalls/sys_enter_execveat")
SONDE_WHEN("stack")
SONDE_COVERED_BY("caller__tp_btf")
int caller_at__tracepoint(void *ctx)
{
	return exec_begins();
}

/* Of the thread that ran the program, which may have had another number before: that of the thread that called exec. */
sonde_inline __u64 caller_of(__u32 tid)
{
	__u64 *known = sonde_stack_wanted ? bpf_map_lookup_elem(&exec_stacks, &tid) : NULL, stack;

	if (!known)
		return 0;
	stack = *known;
	bpf_map_delete_elem(&exec_stacks, &tid);
	return stack;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(exec__tp_btf, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	struct sonde_counts *counts = sonde_counts_of(process_exec_type.id);
	struct file *file = bprm->file;
	__u64 args = task->mm->arg_end - task->mm->arg_start;
	enum outcome outcome = NEXT_CLASS;
	struct sonde_owner owner;
	__u64 stack;

	if (!counts)
		return 0;
	__sync_fetch_and_add(&counts->produced, 1);
	sonde_owner_current(&owner);
	if (owner.filtered) {
		__sync_fetch_and_add(&counts->filtered, 1);
		return 0;
	}
	stack = caller_of((__u32)old_pid);
	if (args <= ARGS_SMALL)
		outcome = try_class(CLASS_SMALL, ARGS_SMALL, false, task, file, &owner, stack);
	if (outcome == NEXT_CLASS && args <= ARGS_MEDIUM)
		outcome = try_class(CLASS_MEDIUM, ARGS_MEDIUM, false, task, file, &owner, stack);
	if (outcome == NEXT_CLASS)
		outcome = try_class(CLASS_LARGE, ARGS_MAX, true, task, file, &owner, stack);
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

struct cpu_time {
	__u64 sum, sum_at_arrival, exec_start, arrived;
};

/* CPU time of a task that runs now which the scheduler has not yet added up. Two bounds are known, and each is it where
 * the other is too wide: what passed on the boot clock since the task's sum was last brought forward (`exec_start`, which lies too far
 * back where the task clock runs behind the scheduler's: time of interrupts, or stolen by the host, is left out of it), and
 * what passed since the task got its CPU, less what was added since. Source: kernel/sched/fair.c update_curr(),
 * set_next_entity(). */
sonde_inline __u64 unsettled_cpu_ns(__u64 now, const struct cpu_time *t)
{
	__u64 by_sum = now - t->exec_start, by_arrival = now - t->arrived - (t->sum - t->sum_at_arrival);

	if (by_arrival < by_sum) /* a wrapped one is huge, and is none */
		by_sum = by_arrival;
	return by_sum < 1000000000ull ? by_sum : 0;
}

sonde_inline __u64 scheduler_now(__u64 boot)
{
	__u32 zero = 0;
	struct sonde_settings *s = bpf_map_lookup_elem(&sonde_settings, &zero);

	return s && s->sched_offset ? boot + s->sched_offset : 0; /* 0: in no bound, so nothing is unsettled */
}

sonde_inline __u64 task_cpu_ns(struct task_struct *task, __u64 now)
{
	struct cpu_time t = { .sum = task->se.sum_exec_runtime,
			      .sum_at_arrival = task->se.prev_sum_exec_runtime,
			      .exec_start = task->se.exec_start,
			      .arrived = task->sched_info.last_arrival };

	return t.sum + unsettled_cpu_ns(now, &t);
}

#define THREADS_MAX 32 /* threads that are on their way out at one time */

/* The thread behind `t` on its process's list; the list's head is in between, and no thread. */
sonde_inline struct task_struct *next_thread(struct task_struct *t)
{
	return (void *)BPF_CORE_READ(t, thread_node.next) - bpf_core_field_offset(struct task_struct, thread_node);
}

sonde_inline struct task_struct *list_head_of(struct task_struct *t)
{
	return (void *)BPF_CORE_READ(t, signal) + bpf_core_field_offset(struct signal_struct, thread_head) -
	       bpf_core_field_offset(struct task_struct, thread_node);
}

/* CPU time of the threads of a process beside `address` that the kernel has not yet taken into the process's sum. These two are no
 * static functions, so that the verifier follows them once and by themselves; a task comes as a number. */
__attribute__((noinline)) __u64 other_threads_cpu_ns(__u64 address, __u64 now)
{
	struct task_struct *task = (void *)address, *t = task, *head = list_head_of(task);
	__u64 sum = 0;

	for (int i = 0; i < THREADS_MAX; i++) {
		struct cpu_time time;

		t = next_thread(t);
		if (t == head)
			continue;
		if (t == task)
			break;
		time.sum = BPF_CORE_READ(t, se.sum_exec_runtime);
		time.sum_at_arrival = BPF_CORE_READ(t, se.prev_sum_exec_runtime);
		time.exec_start = BPF_CORE_READ(t, se.exec_start);
		time.arrived = BPF_CORE_READ(t, sched_info.last_arrival);
		sum += time.sum + unsettled_cpu_ns(now, &time) * !!BPF_CORE_READ(t, on_cpu);
	}
	return sum;
}

/* CPU time of the whole process, `task` being its last thread. Others may still be on their way from their own list into
 * the process's sum: taken again when that happened meanwhile. Source: kernel/sched/cputime.c thread_group_cputime(). */
sonde_inline __u64 process_cpu_ns(struct task_struct *task, __u64 now)
{
	struct signal_struct *signal = task->signal;
	__u64 sum = 0;

	for (int i = 0; i < 3; i++) {
		__u32 sequence = *(volatile __u32 *)&signal->stats_lock.seqcount.seqcount.sequence;

		sum = signal->sum_sched_runtime + task_cpu_ns(task, now);
		if (signal->nr_threads == 1)
			break;
		sum += other_threads_cpu_ns(bpf_get_current_task(), now);
		if (!(sequence & 1) && sequence == *(volatile __u32 *)&signal->stats_lock.seqcount.seqcount.sequence)
			break;
	}
	return sum;
}

/* Whether another thread of the process still has its memory. */
__attribute__((noinline)) int others_alive(__u64 address)
{
	struct task_struct *task = (void *)address, *t = task, *head = list_head_of(task);

	for (int i = 0; i < THREADS_MAX; i++) {
		t = next_thread(t);
		if (t == head)
			continue;
		if (t == task)
			break;
		if (BPF_CORE_READ(t, mm))
			return 1;
	}
	return 0;
}

/* Whether `task` is the thread with which its process ends; true for exactly one. Newer kernels say so
 * themselves. Before that, several that end together may find `live` at 0; there a thread comes here without its memory, so
 * the last that gave it up finds all others without, and no figure of the process changes any more: of those that find that,
 * one takes it. */
sonde_inline bool last_thread(const __u64 *ctx, struct task_struct *task)
{
	struct signal_struct *signal = task->signal;
	struct sonde_task *known;

	if (bpf_core_field_exists(struct trace_event_raw_sched_process_exit, group_dead))
		return *(const volatile __u64 *)&ctx[1] & 0xff;
	if (signal->live.counter > 0)
		return false;
	if (signal->nr_threads > 1 && others_alive(bpf_get_current_task()))
		return false;
	/* Also when it is alone by now: another may have reported just before it went. */
	known = bpf_task_storage_get(&sonde_tasks, task->group_leader, NULL, 0);
	if (!known)
		return task == task->group_leader;
	return __sync_val_compare_and_swap(&known->ended, 0, 1) == 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(exit__tp_btf, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct signal_struct *signal = task->signal;
	struct process_exit *e;
	__u32 code;

	if (!last_thread(ctx, task))
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
	e->cpu_ns = process_cpu_ns(task, scheduler_now(e->event.time));
	e->peak_rss_bytes = (__u64)signal->maxrss * sonde_page_bytes;
	sonde_submit(process_exit, e, sizeof *e);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

// SPDX-License-Identifier: GPL-2.0-only
/*
 * process.exec, process.fork, process.exit, each from one tracepoint; process.exec_failed from the exits of the two system calls. All
 * values come from the kernel's own copies; arguments and environment from the new image's stack, after exec and before its first
 * instruction, so nobody can have changed them.
 */
#include "sonde/path.bpf.h"
#include "sonde/syscall.bpf.h"
#include "exec.h"
#include "file.bpf.h"

#define ARGS_MAX 32768 /* bytes of argument vector; more is cut, with the true length in args_bytes */

/* Size classes of process.exec, and how much of them arguments and environment may take: what does not fit one is tried in the next. */
#define CLASS_SMALL   1152
#define VECTOR_SMALL  256
#define CLASS_MEDIUM  2304
#define VECTOR_MEDIUM 1408
#define CLASS_BIG     5120
#define VECTOR_BIG    4096
#define VECTOR_LARGE  (ARGS_MAX + 8192)
#define CLASS_LARGE   (sizeof(struct process_exec) + VECTOR_LARGE + 3 * SONDE_PATH_ROOM)

#define PF_IO_WORKER      0x00000010 /* include/linux/sched.h */
#define PF_USER_WORKER    0x00004000 /* since 6.4, torvalds/linux 54e6842d0775 */
#define CLONE_THREAD      0x00010000
#define SIGNAL_GROUP_EXIT 0x00000004 /* include/linux/sched/signal.h */
#define PIDTYPE_PGID      2          /* include/linux/pid_types.h */
#define PIDTYPE_SID       3

__u32 exec_environment SEC(".data") = 0; /* set by the module: variables are wanted */

sonde_inline void fill_credentials(struct process_exec *e, struct task_struct *task)
{
	const struct cred *cred = task->cred;

	e->uid = cred->uid.val;
	e->gid = cred->gid.val;
	e->euid = cred->euid.val;
	e->egid = cred->egid.val;
	e->user_ns = cred->user_ns->ns.inum;
	e->caps = sonde_capabilities((void *)cred + bpf_core_field_offset(struct cred, cap_effective));
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

sonde_inline void fill_session(struct process_exec *e, struct task_struct *task)
{
	struct signal_struct *signal = task->signal;
	struct tty_struct *tty = signal->tty;

	e->pgid = (__u32)signal->pids[PIDTYPE_PGID]->numbers[0].nr;
	e->sid = (__u32)signal->pids[PIDTYPE_SID]->numbers[0].nr;
	e->loginuid = EXEC_LOGINUID_NONE;
	if (bpf_core_field_exists(task->loginuid))
		e->loginuid = task->loginuid.val;
	e->tty[0] = 0;
	if (tty)
		bpf_probe_read_kernel_str(e->tty, sizeof e->tty, &tty->name);
}

/* All that is of a fixed size, but for what only `bprm` tells. No static function, so that the verifier follows it once and by itself,
 * not for each size class: each pointer that it follows costs it about a millisecond. */
__attribute__((noinline)) int fill_numbers(struct process_exec *e)
{
	struct task_struct *task = SONDE_READS(task_struct, bpf_get_current_task_btf());

	if (!e)
		return -1;
	fill_credentials(e, task);
	fill_namespaces(e, task);
	fill_session(e, task);
	fill_file(e, task);
	e->stdin = (__u8)stream_of_descriptor(0);
	e->stdout = (__u8)stream_of_descriptor(1);
	e->stderr = (__u8)stream_of_descriptor(2);
	e->_pad[0] = e->_pad[1] = 0;
	return 0;
}

SONDE_PATH_WALKER(walk_small, CLASS_SMALL, 24);
SONDE_PATH_WALKER(walk_medium, CLASS_MEDIUM, 48);
SONDE_PATH_WALKER(walk_big, CLASS_BIG, 48);
SONDE_PATH_WALKER(walk_large, CLASS_LARGE, 128);

/*
 * Variable parts are put one behind the other. Where the next one goes, and whether one was cut, is kept in the record itself, as its size so far and
 * its flag: what comes from memory is any number to the verifier, so that the ways through one part do not multiply with those through
 * the next.
 */

sonde_inline void cut(struct process_exec *e)
{
	e->event.flags |= SONDE_FLAG_TRUNCATED;
}

sonde_inline void fill_path(struct process_exec *e, const __u32 room, struct sonde_text *text, const void *place)
{
	__u32 at = e->event.size;
	struct {
		__u64 mnt, dentry;
	} path;
	int end;

	/* struct path has been these two since 2.6. */
	bpf_probe_read_kernel(&path, sizeof path, place);
	if (room == CLASS_SMALL)
		end = walk_small((void *)e, at, path.dentry, path.mnt);
	else if (room == CLASS_MEDIUM)
		end = walk_medium((void *)e, at, path.dentry, path.mnt);
	else if (room == CLASS_BIG)
		end = walk_big((void *)e, at, path.dentry, path.mnt);
	else
		end = walk_large((void *)e, at, path.dentry, path.mnt);
	e->event.size = sonde_path_end(&e->event, text, at, end);
}

/* Where the variable parts come from, and what only the tracepoint's arguments tell: read once, before the ways part by size class.
 * Arguments and environment lie one behind the other. Source: fs/binfmt_elf.c create_elf_tables(). */
struct sources {
	__u64 begin, args, env; /* bytes of each of the two */
	const void *exe, *cwd;  /* a struct path each */
	__u64 script;           /* a text; 0: none */
	bool cleared, secure;
};

/* A script's path is the kernel's own copy of what was asked for, where something else is what it runs. Source: fs/binfmt_script.c,
 * fs/exec.c bprm_change_interp(). */
sonde_inline void find_sources(struct sources *s, struct task_struct *runs, struct linux_binprm *ran)
{
	struct task_struct *task = SONDE_READS(task_struct, runs);
	struct linux_binprm *bprm = SONDE_READS(linux_binprm, ran);
	struct mm_struct *mm = task->mm;
	__u64 end = mm->arg_end, name = (__u64)bprm->filename;

	s->begin = mm->arg_start;
	s->args = end - s->begin;
	s->env = exec_environment && mm->env_start == end ? mm->env_end - end : 0;
	s->exe = (void *)bprm->file + bpf_core_field_offset(struct file, f_path);
	s->cwd = (void *)task->fs + bpf_core_field_offset(struct fs_struct, pwd);
	s->script = name == (__u64)bprm->interp ? 0 : name;
	s->cleared = bprm->per_clear;
	s->secure = BPF_CORE_READ_BITFIELD(bprm, secureexec);
}

/* Arguments and environment in one copy, at the record's variable part. */
sonde_inline void fill_vectors(struct process_exec *e, const __u32 room, const struct sources *s)
{
	__u64 args = s->args, length = args + s->env;

	/* Its bound is checked here, and not taken for granted from where the class was chosen. */
	barrier_var(length);
	e->args.offset = sizeof *e;
	e->args_bytes = e->env_bytes = 0;
	if (args > ARGS_MAX) {
		e->args_bytes = args;
		args = length = ARGS_MAX;
		cut(e);
	}
	if (length > room)
		length = room;
	if (args > length)
		args = length;
	if (length && bpf_probe_read_user((void *)e + sizeof *e, length, (void *)s->begin)) {
		sonde_failed(-14);
		args = length = 0;
		cut(e);
	}
	if (length - args < s->env) {
		e->env_bytes = s->env;
		cut(e);
	}
	e->args.length = (__u16)args;
	e->env.offset = (__u16)(sizeof *e + args);
	e->env.length = (__u16)(length - args);
	e->event.size = (__u32)(sizeof *e + length);
}

sonde_inline void fill_script(struct process_exec *e, const __u32 room, const __u32 vector_room, __u64 script)
{
	const long most = room == CLASS_LARGE ? SONDE_PATH_ROOM - SONDE_NAME_ROOM : SONDE_NAME_ROOM;
	__u32 at = e->event.size;
	long n;

	e->script.offset = (__u16)at;
	e->script.length = 0;
	if (!script || at > sizeof *e + vector_room)
		return;
	n = bpf_probe_read_kernel_str((void *)e + at, (__u32)most, (void *)script);
	if (n < 1 || n > most) {
		sonde_failed(n < 0 ? n : -14);
		return;
	}
	if (n == most)
		cut(e);
	e->script.length = (__u16)(n - 1);
	e->event.size = at + (__u32)n;
}

enum outcome { SENT, LOST, NEXT_CLASS };

/* One try in one size class of `room` bytes; with `last`, what fits is sent. */
sonde_inline enum outcome try_class(const __u64 room, const __u32 vector_room, bool last, const struct sources *sources,
				    const struct sonde_owner *owner, __u64 stack)
{
	struct process_exec *e = sonde_room_of(&sonde_priority, process_exec_type.id, room, owner, stack);

	if (!e)
		return LOST;
	fill_vectors(e, vector_room, sources);
	fill_script(e, room, vector_room, sources->script);
	fill_path(e, room, &e->exe, sources->exe);
	fill_path(e, room, &e->cwd, sources->cwd);
	if (!last && e->event.flags & SONDE_FLAG_TRUNCATED) {
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		return NEXT_CLASS;
	}
	fill_numbers(e);
	e->gained = has_gained(sources->cleared, sources->secure, e->setuid || e->setgid);
	sonde_submit(process_exec, e, e->event.size);
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
	if (stack && bpf_map_update_elem(&exec_stacks, &owner.tid, &stack, BPF_ANY))
		sonde_failed(-12);
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
	struct sonde_counts *counts;
	struct sources sources;
	__u64 length;
	enum outcome outcome = NEXT_CLASS;
	struct sonde_owner owner;
	__u64 stack;

	sonde_owner_called(&owner);
	counts = sonde_count_event(process_exec_type.id, &owner);
	if (!counts)
		return 0;
	stack = caller_of((__u32)old_pid);
	find_sources(&sources, task, bprm);
	length = sources.args + sources.env;
	if (length <= VECTOR_SMALL)
		outcome = try_class(CLASS_SMALL, VECTOR_SMALL, false, &sources, &owner, stack);
	if (outcome == NEXT_CLASS && length <= VECTOR_MEDIUM)
		outcome = try_class(CLASS_MEDIUM, VECTOR_MEDIUM, false, &sources, &owner, stack);
	if (outcome == NEXT_CLASS && length <= VECTOR_BIG)
		outcome = try_class(CLASS_BIG, VECTOR_BIG, false, &sources, &owner, stack);
	if (outcome == NEXT_CLASS)
		outcome = try_class(CLASS_LARGE, VECTOR_LARGE, true, &sources, &owner, stack);
	if (outcome == LOST)
		__sync_fetch_and_add(&counts->dropped[SONDE_DROP_RING_FULL], 1);
	return 0;
}

/* ---- what failed ---- */

#define FAILED_SMALL 256  /* bytes of path */
#define FAILED_LARGE 4104 /* PATH_MAX and eight: what fills it was cut */
#define AT_FDCWD     -100

struct failure {
	long error;
	__u64 path;
	int fd;
	__u32 flags;
};

/* One try with room for a path of `most` bytes; with `last`, what fits is sent. */
sonde_inline enum outcome try_failed(const long most, bool last, const struct failure *f,
				     const struct sonde_owner *owner, __u64 stack)
{
	const __u64 room = sizeof(struct process_exec_failed) + (__u64)most;
	struct process_exec_failed *e = sonde_room_of(&sonde_bulk, process_exec_failed_type.id, room, owner, stack);
	long n;

	if (!e)
		return LOST;
	n = bpf_probe_read_user_str(e + 1, (__u32)most, (void *)f->path);
	if (n == most && !last) {
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		return NEXT_CLASS;
	}
	if (n == most)
		e->event.flags |= SONDE_FLAG_TRUNCATED;
	if (n < 1 || n > most) /* no path: that may be why it failed */
		n = 1;
	e->path_given.offset = sizeof *e;
	e->path_given.length = (__u16)(n - 1);
	sonde_fill_credentials(e);
	sonde_fill_result(e, f->error);
	e->fd = f->fd;
	e->flags = f->flags;
	e->_pad = 0;
	sonde_submit(process_exec_failed, e, sizeof *e + (__u32)n);
	return SENT;
}

sonde_inline int exec_failed(const struct failure *f)
{
	struct sonde_counts *counts;
	struct sonde_owner owner;
	enum outcome outcome;
	__u64 stack;

	sonde_owner_current(&owner);
	counts = sonde_count_event(process_exec_failed_type.id, &owner);
	if (!counts)
		return 0;
	stack = sonde_take_stack(&sonde_bulk, &owner);
	outcome = try_failed(FAILED_SMALL, false, f, &owner, stack);
	if (outcome == NEXT_CLASS)
		outcome = try_failed(FAILED_LARGE, true, f, &owner, stack);
	if (outcome == LOST)
		__sync_fetch_and_add(&counts->dropped[SONDE_DROP_RING_FULL], 1);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_execve")
SONDE_WHEN("failed")
int execve__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct failure f = { .error = ctx->ret, .fd = AT_FDCWD };

	if (f.error >= 0)
		return 0;
	f.path = sonde_argument(0);
	return exec_failed(&f);
}

SEC("tracepoint/syscalls/sys_exit_execveat")
SONDE_WHEN("failed")
int execveat__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct failure f = { .error = ctx->ret };

	if (f.error >= 0)
		return 0;
	f.fd = (int)sonde_argument(0);
	f.path = sonde_argument(1);
	f.flags = (__u32)sonde_argument(4);
	return exec_failed(&f);
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

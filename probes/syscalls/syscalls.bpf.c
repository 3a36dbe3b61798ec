// SPDX-License-Identifier: GPL-2.0-only
/*
 * syscall.compat: the tracepoints of single system calls leave those of 32 bits out, so all exits are looked at, and all but these
 * left after one look at the thread's status. syscall.stats: entry and exit of all system calls, summed in the kernel.
 */
#include "probes/kernel/path.bpf.h"
#include "syscalls.h"

/* ---- of 32 bits ---- */

#if defined(__TARGET_ARCH_arm64)
#define TIF_32BIT 22 /* arch/arm64/include/asm/thread_info.h */

enum { COMPAT_OPEN = 5, COMPAT_CREAT = 8, COMPAT_OPENAT = 322, COMPAT_BY_HANDLE = 371, COMPAT_OPENAT2 = 437 };

sonde_inline bool is_compat(struct task_struct *task)
{
	return task->thread_info.flags >> TIF_32BIT & 1;
}

sonde_inline __u32 number_of(struct pt_regs *regs)
{
	return (__u32)regs->syscallno;
}

#define COMPAT_ARGUMENT(regs, n) ((n) == 0 ? (__u32)(regs)->orig_x0 : (__u32)(regs)->user_regs.regs[n])
#else
#define TS_COMPAT 2 /* arch/x86/include/asm/thread_info.h */

enum { COMPAT_OPEN = 5, COMPAT_CREAT = 8, COMPAT_OPENAT = 295, COMPAT_BY_HANDLE = 342, COMPAT_OPENAT2 = 437 };

sonde_inline bool is_compat(struct task_struct *task)
{
	return task->thread_info.status & TS_COMPAT;
}

sonde_inline __u32 number_of(struct pt_regs *regs)
{
	return (__u32)regs->orig_ax;
}

#define COMPAT_ARGUMENT(regs, n)                                                                                       \
	((n) == 0   ? (__u32)(regs)->bx                                                                                \
	 : (n) == 1 ? (__u32)(regs)->cx                                                                                \
	 : (n) == 2 ? (__u32)(regs)->dx                                                                                \
	 : (n) == 3 ? (__u32)(regs)->si                                                                                \
	 : (n) == 4 ? (__u32)(regs)->di                                                                                \
		    : (__u32)(regs)->bp)
#endif

sonde_inline bool opens(__u32 nr)
{
	return nr == COMPAT_OPEN || nr == COMPAT_CREAT || nr == COMPAT_OPENAT || nr == COMPAT_BY_HANDLE ||
	       nr == COMPAT_OPENAT2;
}

sonde_inline int say(const __u32 room, struct pt_regs *regs, struct file *file, const struct place *place, long ret)
{
	__u32 used = sizeof(struct syscall_compat);
	struct sonde_owner owner = {};
	struct syscall_compat *e;

	sonde_owner_called(&owner);
	e = sonde_reserve_with(syscall_compat, room, &owner, 0);
	if (!e)
		return 0;
	sonde_fill_credentials(e);
	sonde_fill_result(e, ret);
	e->syscall.offset = (__u16)used; /* the module knows the name */
	e->syscall.length = 0;
	e->nr = number_of(regs);
	e->arg0 = COMPAT_ARGUMENT(regs, 0);
	e->arg1 = COMPAT_ARGUMENT(regs, 1);
	e->arg2 = COMPAT_ARGUMENT(regs, 2);
	e->arg3 = COMPAT_ARGUMENT(regs, 3);
	e->arg4 = COMPAT_ARGUMENT(regs, 4);
	e->arg5 = COMPAT_ARGUMENT(regs, 5);
	e->_pad = 0;
	fill_inode(e, file);
	fill_place(e, room, &used, &e->path, place);
	sonde_submit(syscall_compat, e, used);
	return 0;
}

SEC("tp_btf/sys_exit")
SONDE_WHEN("compat")
int BPF_PROG(compat__tp_btf, struct pt_regs *regs, long ret)
{
	struct file *file = NULL;
	struct place place;

	if (!is_compat(bpf_get_current_task_btf()))
		return 0;
	/* What a 32-bit call returns is sign-extended from 32 bits. */
	ret = (__s32)ret;
	if (ret >= 0 && opens(number_of(regs)))
		file = sonde_file_of(ret);
	place = place_of(file);
	return in_room_of(&place, say, regs, file, &place, ret);
}

/* ---- statistics ---- */

struct call {
	__u64 begin; /* monotonic clock; 0: none is under way */
	__u64 proc, execs;
	__u32 nr;
	bool compat;
	__u8 _pad[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call);
} syscalls_calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SYSCALLS_ROWS);
	__type(key, struct syscalls_key);
	__type(value, struct syscalls_sums);
} syscalls_table SEC(".maps");

/* All zeros, to begin sums with: no stack holds as much. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct syscalls_sums);
} syscalls_blank SEC(".maps");

__u32 syscalls_window SEC(".data") = 0; /* set by the module */

SEC("tp_btf/sys_enter")
SONDE_WHEN("stats")
int BPF_PROG(enter__tp_btf, struct pt_regs *regs, long id)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct call *c = bpf_task_storage_get(&syscalls_calls, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!c) {
		sonde_lost(syscall_stats, SONDE_DROP_MAP_FULL);
		return 0;
	}
	c->nr = (__u32)id;
	c->compat = is_compat(task);
	c->begin = bpf_ktime_get_ns();
	return 0;
}

sonde_inline void fill_owner(struct syscalls_sums *sums)
{
	struct sonde_owner owner = {};

	sonde_owner_called(&owner);
	sums->parent = owner.parent;
	sums->cgroup = owner.cgroup;
	sums->flags = owner.flags;
	sums->filtered = owner.filtered;
	__builtin_memcpy(sums->comm, owner.comm, sizeof sums->comm);
	sums->pid = owner.pid;
}

/* Rare, and by itself: its owner shall not lie on its callers' stacks. */
static __noinline struct syscalls_sums *begin_sums(struct syscalls_key *key)
{
	struct syscalls_key rest = { .nr = ~0u, .window = key->window };
	struct syscalls_sums *blank, *sums;
	__u32 zero = 0;

	blank = bpf_map_lookup_elem(&syscalls_blank, &zero);
	if (!blank)
		return NULL;
	bpf_map_update_elem(&syscalls_table, key, blank, BPF_NOEXIST);
	sums = bpf_map_lookup_elem(&syscalls_table, key);
	if (!sums)
		return bpf_map_lookup_elem(&syscalls_table, &rest);
	fill_owner(sums);
	return sums;
}

sonde_inline void add_error(struct syscalls_sums *sums, __u32 error)
{
	__sync_fetch_and_add(&sums->errors, 1);
	for (int i = 0; i < (int)SYSCALLS_ERRORS; i++) {
		__u32 known = __sync_val_compare_and_swap(&sums->errnos[i], 0, error);

		if (known && known != error)
			continue;
		__sync_fetch_and_add(&sums->by_errno[i], 1);
		return;
	}
}

sonde_inline void add_time(struct syscalls_sums *sums, __u64 ns)
{
	__u64 bucket = syscalls_bucket(ns);

	barrier_var(bucket); /* what is compared shall be what is added: 6.1's verifier knows no copies of 32 bits */
	__sync_fetch_and_add(&sums->count, 1);
	__sync_fetch_and_add(&sums->sum_ns, ns);
	if (bucket < SYSCALLS_BUCKETS)
		__sync_fetch_and_add(&sums->buckets[bucket], 1);
	for (int i = 0; i < 4; i++) {
		__u64 max = sums->max_ns;

		if (ns <= max || __sync_val_compare_and_swap(&sums->max_ns, max, ns) == max)
			break;
	}
}

/* The execution that the task is: after an exec it is another. */
sonde_inline __u64 proc_of(struct call *c, struct task_struct *task)
{
	if (!c->proc || c->execs != task->self_exec_id) {
		c->proc = sonde_proc_of(task);
		c->execs = task->self_exec_id;
	}
	return c->proc;
}

SEC("tp_btf/sys_exit")
SONDE_WHEN("stats")
int BPF_PROG(leave__tp_btf, struct pt_regs *regs, long ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct call *c = bpf_task_storage_get(&syscalls_calls, task, NULL, 0);
	struct syscalls_key key = {};
	struct syscalls_sums *sums;
	__u64 ns;

	if (!c || !c->begin)
		return 0;
	ns = bpf_ktime_get_ns() - c->begin;
	c->begin = 0;
	key.proc = proc_of(c, task);
	key.nr = c->nr;
	key.compat = c->compat;
	key.window = syscalls_window & 1;
	sums = bpf_map_lookup_elem(&syscalls_table, &key);
	if (!sums)
		sums = begin_sums(&key);
	if (!sums) {
		sonde_lost(syscall_stats, SONDE_DROP_MAP_FULL);
		return 0;
	}
	add_time(sums, ns);
	if (c->compat)
		ret = (__s32)ret;
	if (ret < 0 && ret >= -4095)
		add_error(sums, (__u32)-ret);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

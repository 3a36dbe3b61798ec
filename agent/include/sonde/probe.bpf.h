/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel side of a module: include this first, then the header that declares the events.
 *
 *	struct tcp_connect *e = sonde_reserve(tcp_connect, sizeof *e);
 *	if (!e)
 *		return 0;			// counted already: filtered, or the ring was full
 *	e->lport = ...;
 *	sonde_submit(e, sizeof *e);
 *
 * A program is named MEASURE__HOOK: programs of one MEASURE are alternatives, of which the agent loads the first that
 * the kernel takes, tp_btf before raw_tp before tracepoint before fentry/fexit before kprobe before cgroup. SONDE_PREFERRED before a
 * program puts it before all others of its measure; SONDE_COVERED_BY("PROGRAM") says that while that other program is in
 * use this one has nothing to do; SONDE_WHEN("OPTION") that it is there for an option of the module that is on, or SONDE_WHEN("response ACTION") for
 * an action that rules.responses ask for, SONDE_WHEN("decides open") for what some rule's response can be decided by (begin: before a program does, open, connect: before it, connected); SONDE_FOR("TYPE TYPE") that it is there for events of these types alone, so that it can stay out where nobody
 * asks for any of them (rules.only); SONDE_KEPT that others go on to it, so that it is loaded even then. On new kernels tracepoint programs may be preempted: never keep per-CPU scratch over a
 * call; build the event in the ring.
 */
#ifndef SONDE_PROBE_BPF_H
#define SONDE_PROBE_BPF_H

#include "sonde/vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "sonde/shared.h"

extern void *bpf_rdonly_cast(const void *address, __u32 type) __ksym __attribute__((weak));

/* What a pointer leads to, for reading: no helper takes the result. Of a pointer that the verifier trusts, it asks for each pointer that is loaded through
 * it whether that can be trusted too, and to answer searches all types of the kernel by name, most of a millisecond of the
 * agent's start. Linux 6.2, where the question is new too. */
#define SONDE_CAN_CAST(record) bpf_core_enum_value_exists(enum sonde_type_id, SONDE_TYPE_##record)
#define SONDE_CAST(record, address)                                                                                    \
	((struct record *)bpf_rdonly_cast((address), bpf_core_enum_value(enum sonde_type_id, SONDE_TYPE_##record)))
#define SONDE_READS(record, pointer) (SONDE_CAN_CAST(record) ? SONDE_CAST(record, pointer) : (pointer))

/* Programs of the same kind that do the same are checked and loaded once: SONDE_ONWARD(NAME) names one of them (which needs SONDE_KEPT if it has
 * SONDE_FOR), to which the others go on by SONDE_GOES_ON(ctx, NAME). It finds out by `ctx` for which hook it runs. */
#define SONDE_ONWARD(program)                                                                                          \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                                                 \
		__uint(max_entries, 1);                                                                                \
		__type(key, __u32);                                                                                    \
		__type(value, __u32);                                                                                  \
	} program##__onward SEC(".maps")
#define SONDE_GOES_ON(ctx, program) bpf_tail_call((ctx), &program##__onward, 0)

#include "sonde/stack.bpf.h"

/* Set by the agent before load. */
const volatile __u64 sonde_boot __attribute__((section(".rodata"))) = 0; /* salt of `proc`: this boot of this host */
const volatile __u32 sonde_module_number __attribute__((section(".rodata"))) = 0;
const volatile __u32 sonde_page_bytes __attribute__((section(".rodata"))) = 4096;
const volatile __u32 sonde_tick_ns __attribute__((section(".rodata"))) = 0;    /* of jiffies */
const volatile __s32 sonde_cgroup_v1 __attribute__((section(".rodata"))) = -1; /* index of the chosen v1 controller */
/* An eighth of each ring, in bytes. */
const volatile __u32 sonde_wake_priority __attribute__((section(".rodata"))) = 0;
const volatile __u32 sonde_wake_bulk __attribute__((section(".rodata"))) = 0;
/* modules.NAME.stack: events carry the stack of the thread that did it; and the type of the records that bring it. */
const volatile __u32 sonde_stack_wanted __attribute__((section(".rodata"))) = 0;
const volatile __u32 sonde_stack_type __attribute__((section(".rodata"))) = 0;

/* Whether any rule has a response (rules.responses): then settings.urgent is looked at. */
const volatile __u32 sonde_responds __attribute__((section(".rodata"))) = 0;

/* Shared by all objects: the agent makes each once. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} sonde_priority SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 23);
} sonde_bulk SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SONDE_TYPES_MAX);
	__type(key, __u32);
	__type(value, struct sonde_counts);
} sonde_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SONDE_ERRORS_MAX);
	__type(key, struct sonde_error_key);
	__type(value, __u64);
} sonde_errors SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sonde_settings);
} sonde_settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sonde_task);
} sonde_tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SONDE_FILTERS_MAX);
	__type(key, __u64);
	__type(value, __u8);
} sonde_filter_cgroup SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SONDE_FILTERS_MAX);
	__type(key, __u32);
	__type(value, __u8);
} sonde_filter_user SEC(".maps");

struct sonde_comm {
	char text[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SONDE_FILTERS_MAX);
	__type(key, struct sonde_comm);
	__type(value, __u8);
} sonde_filter_comm SEC(".maps");

#define SONDE_PREFERRED           SONDE_TAG("preferred")
#define SONDE_COVERED_BY(program) SONDE_TAG("covered=" program)
#define SONDE_WHEN(option)        SONDE_TAG("when=" option)
#define SONDE_FOR(types)          SONDE_TAG("for=" types)
#define SONDE_KEPT                SONDE_TAG("kept")

/* At most `most` in a second; two CPUs that begin a second together may let one too many pass. */
struct sonde_rate {
	__u64 second, n;
};

sonde_inline bool sonde_rate_allows(struct sonde_rate *rate, __u64 now_ns, __u64 most)
{
	__u64 second = now_ns / 1000000000ull;

	if (rate->second != second) {
		rate->second = second;
		rate->n = 0;
	}
	return __sync_fetch_and_add(&rate->n, 1) < most;
}

/* Counts a failed helper by place; returns `error` so that it can stand inside an expression. */
#define sonde_failed(error) sonde_count_error((error), __LINE__)
sonde_inline long sonde_count_error(long error, __u32 line)
{
	struct sonde_error_key key = { .module = sonde_module_number, .line = line, .error = (__s32)error };
	__u64 one = 1, *count = bpf_map_lookup_elem(&sonde_errors, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&sonde_errors, &key, &one, BPF_NOEXIST);
	return error;
}

/* ---- identity: which execution is this, and which one forked it ---- */

/* Names an execution: the process (its pid, and when its first thread began) and how many programs it and its forebears
 * ran. A thread that calls exec takes over the leader's start time, so the name stays the process's. Source: fs/exec.c
 * de_thread(), begin_new_exec(). */
sonde_inline __u64 sonde_proc_number(__u32 tgid, __u64 start, __u64 execs)
{
	__u64 h = sonde_boot ^ start;

	h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93ull;
	h ^= ((__u64)tgid << 32) ^ execs;
	h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93ull;
	h ^= h >> 32;
	return h ? h : 1;
}

/* A task here is always one as the verifier knows it: its members are loaded, not copied by a helper, at a tenth of the
 * cost. What went meanwhile reads as 0. */
sonde_inline __u64 sonde_proc_of(struct task_struct *task)
{
	return sonde_proc_number(task->tgid, SONDE_READS(task_struct, task)->group_leader->start_boottime,
				 task->self_exec_id);
}

/* The same for rare ways: for each pointer that a load follows the verifier searches all types of the kernel, about a
 * millisecond of the agent's start. */
sonde_inline __u64 sonde_proc_copied(struct task_struct *task)
{
	return sonde_proc_number(BPF_CORE_READ(task, tgid), BPF_CORE_READ(task, group_leader, start_boottime),
				 BPF_CORE_READ(task, self_exec_id));
}

/* Whose doing an event is. Can be kept (with a socket, say) for events that come when another task runs. */
struct sonde_owner {
	__u64 proc, parent;
	__u64 cgroup;
	__u32 pid, tid;
	char comm[16];
	__u16 flags;    /* SONDE_FLAG_* */
	__u16 filtered; /* the filters leave it out */
	__u32 uid;
};

/* The cgroup that names the task: of v2, or of the chosen v1 hierarchy where v2 holds nothing but its root. */
sonde_inline struct cgroup *sonde_cgroup_of(struct task_struct *task, __u16 *flags)
{
	struct css_set *set = SONDE_READS(task_struct, task)->cgroups;
	struct cgroup *cgroup = set->dfl_cgrp;
	struct cgroup_subsys_state **states;

	if (sonde_cgroup_v1 < 0 || cgroup->level)
		return cgroup;
	*flags |= SONDE_FLAG_CGROUP_V1;
	states = (void *)set + bpf_core_field_offset(struct css_set, subsys);
	return states[sonde_cgroup_v1]->cgroup; /* the verifier knows the index: it is read-only data */
}

#define SONDE_CGROUP_DEPTH 32 /* levels of cgroups that filter.cgroup looks up from a task's own */

/* Whether filter.cgroup names this cgroup or one above it. Rare, so by copies. */
sonde_inline bool sonde_cgroup_selected(struct cgroup *cgroup, __u16 flags)
{
	__u64 hierarchy = flags & SONDE_FLAG_CGROUP_V1 ? SONDE_FILTER_CGROUP_V1 : 0;

	for (int i = 0; i < SONDE_CGROUP_DEPTH; i++) {
		__u64 key = BPF_CORE_READ(cgroup, kn, id) | hierarchy;
		struct cgroup_subsys_state *above;

		if (bpf_map_lookup_elem(&sonde_filter_cgroup, &key))
			return true;
		above = BPF_CORE_READ(cgroup, self.parent);
		if (!above)
			return false;
		cgroup = BPF_CORE_READ(above, cgroup);
	}
	return false;
}

sonde_inline bool sonde_is_filtered(const struct sonde_owner *owner, const struct sonde_task *task,
				    struct cgroup *cgroup)
{
	__u32 zero = 0;
	struct sonde_settings *s = bpf_map_lookup_elem(&sonde_settings, &zero);

	if (!s || !s->filters)
		return false;
	if ((s->filters & SONDE_FILTER_PID) && !(task && (task->flags & s->selected)))
		return true;
	if ((s->filters & SONDE_FILTER_CGROUP) && !sonde_cgroup_selected(cgroup, owner->flags))
		return true;
	if ((s->filters & SONDE_FILTER_USER) && !bpf_map_lookup_elem(&sonde_filter_user, &owner->uid))
		return true;
	return (s->filters & SONDE_FILTER_COMM) && !bpf_map_lookup_elem(&sonde_filter_comm, owner->comm);
}

/* Up to the first NUL and zeros behind it, which older kernels do not see to: a name is a key of filter.comm. As two words: the helper costs as much as all the rest of an owner. */
sonde_inline void sonde_copy_comm(char *comm, struct task_struct *task)
{
	const __u64 ones = 0x0101010101010101ull;
	__u64 *to = (__u64 *)comm, end;

	to[0] = *(__u64 *)&task->comm[0];
	to[1] = *(__u64 *)&task->comm[8];
	end = (to[0] - ones) & ~to[0] & ones << 7; /* its lowest bit lies in the first byte that is 0 */
	if (end) {
		to[0] &= ((end & -end) >> 7) - 1;
		to[1] = 0;
		return;
	}
	end = (to[1] - ones) & ~to[1] & ones << 7;
	to[1] &= ((end & -end) >> 7) - 1;
}

/* The owner of what `task`, one that the verifier knows, does; `known`: what is kept with it, NULL where a program cannot look. */
sonde_inline void sonde_owner_known(struct sonde_owner *owner, struct task_struct *task, struct sonde_task *known)
{
	struct cgroup *cgroup;

	owner->pid = (__u32)task->tgid;
	owner->tid = (__u32)task->pid;
	owner->flags = 0;
	owner->uid = SONDE_READS(task_struct, task)->cred->uid.val;
	sonde_copy_comm(owner->comm, task);
	if (known && known->proc) {
		owner->proc = known->proc;
		owner->parent = known->parent;
	} else {
		owner->proc = sonde_proc_copied(task);
		owner->parent = sonde_proc_copied(BPF_CORE_READ(task, real_parent));
	}
	cgroup = sonde_cgroup_of(task, &owner->flags);
	owner->cgroup = cgroup->kn->id;
	owner->filtered = sonde_is_filtered(owner, known, cgroup);
}

sonde_inline void sonde_owner_of(struct sonde_owner *owner, struct task_struct *task)
{
	sonde_owner_known(owner, task, bpf_task_storage_get(&sonde_tasks, task, NULL, 0));
}

/* The owner of what the task that runs now does. */
sonde_inline void sonde_owner_current(struct sonde_owner *owner)
{
	sonde_owner_of(owner, bpf_get_current_task_btf());
}

/* The same as a function that the verifier checks once and by itself, for what is seldom done: each pointer that it follows costs about a
 * millisecond of the agent's start, on each way that leads there. Built on the stack: before Linux 6.2 nothing else that a function is
 * given can be the key of a map, as the user is for filters. */
__attribute__((weak, noinline)) int sonde_owner_called(struct sonde_owner *ret)
{
	struct sonde_owner owner;

	if (!ret)
		return -1;
	sonde_owner_current(&owner);
	*ret = owner;
	return 0;
}

/* Whether there are filters by task. What cannot be said to be any task's doing is not what they ask for. */
sonde_inline bool sonde_filters_set(void)
{
	__u32 zero = 0;
	struct sonde_settings *s = bpf_map_lookup_elem(&sonde_settings, &zero);

	return s && s->filters;
}

/* The owner of what cannot be said to be any task's doing. */
sonde_inline void sonde_owner_none(struct sonde_owner *owner)
{
	__builtin_memset(owner, 0, sizeof *owner);
	owner->flags = SONDE_FLAG_NO_TASK;
	owner->filtered = sonde_filters_set();
}

/* ---- events ---- */

sonde_inline struct sonde_counts *sonde_counts_of(__u32 type)
{
	return bpf_map_lookup_elem(&sonde_counters, &type);
}

/* An event of `record`'s type happened but is lost, for a reason other than the ring. */
#define sonde_lost(record, why) sonde_count_lost(record##_type.id, why)
sonde_inline void sonde_count_lost(__u32 type, enum sonde_drop why)
{
	struct sonde_counts *counts = sonde_counts_of(type);

	if (!counts)
		return;
	__sync_fetch_and_add(&counts->produced, 1);
	__sync_fetch_and_add(&counts->dropped[why], 1);
}

/* An event of `record`'s type happened that is filtered, and nothing was reserved for it. */
#define sonde_left_out(record) sonde_count_left_out(record##_type.id)
sonde_inline void sonde_count_left_out(__u32 type)
{
	struct sonde_counts *counts = sonde_counts_of(type);

	if (!counts)
		return;
	__sync_fetch_and_add(&counts->produced, 1);
	__sync_fetch_and_add(&counts->filtered, 1);
}

sonde_inline void sonde_fill_header(struct sonde_event *e, __u32 type, const struct sonde_owner *owner)
{
	e->type = (__u16)type;
	e->flags = owner->flags;
	e->time = bpf_ktime_get_boot_ns();
	e->proc = owner->proc;
	e->parent = owner->parent;
	e->cgroup = owner->cgroup;
	e->pid = owner->pid;
	e->tid = owner->tid;
	__builtin_memcpy(e->comm, owner->comm, sizeof e->comm);
}

/* Whether a rule that may fire on this type has a response. */
sonde_inline bool sonde_is_urgent(__u32 type)
{
	__u32 zero = 0;
	struct sonde_settings *s = sonde_responds ? bpf_map_lookup_elem(&sonde_settings, &zero) : NULL;

	return s && s->urgent[type >> 6 & (SONDE_TYPES_MAX / 64 - 1)] >> (type & 63) & 1;
}

#define SONDE_WAKE_BAND 2048
sonde_inline void sonde_end(void *ring, struct sonde_event *e, __u32 used)
{
	__u64 wake = ring == (void *)&sonde_priority ? sonde_wake_priority : sonde_wake_bulk;
	__u64 waiting = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA);

	e->size = used;
	if (sonde_is_urgent(e->type))
		waiting = wake;
	bpf_ringbuf_submit(e, waiting >= wake && (waiting & (wake - 1)) < SONDE_WAKE_BAND ? BPF_RB_FORCE_WAKEUP
											  : BPF_RB_NO_WAKEUP);
}

/* ---- stacks of events ---- */

#define SONDE_EVENT_SLICE 16384u /* bytes of the program's stack, at most */

/* Written where it is sent from: a program's own stack has no room for all registers, up to Linux 6.12. `room` is a constant. 0: there was no room,
 * counted. */
sonde_inline __u64 sonde_write_stack(void *ring, const struct sonde_owner *owner, const struct sonde_extent *x,
				     const bool user, const __u32 room)
{
	const __u32 kernel_bytes = SONDE_STACK_KERNEL_MAX * sizeof(__u64);
	struct sonde_counts *counts = sonde_counts_of(sonde_stack_type);
	struct task_struct *task = bpf_get_current_task_btf();
	struct sonde_stack_sample *s;
	__u64 number;
	long got;

	if (!counts)
		return 0;
	__sync_fetch_and_add(&counts->produced, 1);
	s = bpf_ringbuf_reserve(ring, sizeof *s + kernel_bytes + room + SONDE_STACK_PAGE, 0);
	if (!s) {
		__sync_fetch_and_add(&counts->dropped[SONDE_DROP_RING_FULL], 1);
		return 0;
	}
	sonde_fill_header(&s->event, sonde_stack_type, owner);
	/* No two threads have the same moment and number. */
	number = (s->event.time << 22 ^ owner->tid) | 1;
	s->number = number;
	__builtin_memset(&s->stack, 0, sizeof s->stack);
	if (user) {
		struct pt_regs *saved = (struct pt_regs *)bpf_task_pt_regs(task);

		s->stack.flags = SONDE_STACK_USER;
		sonde_take_registers(&s->stack, SONDE_PT_REGS(saved));
	}
	got = bpf_get_task_stack(task, s + 1, kernel_bytes, 0);
	sonde_end(ring, &s->event, sizeof *s + sonde_fill_stack(&s->stack, x, got, room));
	return number;
}

/* The stack of the thread that runs now, as a record of its own ahead of the event that names it. 0: there is none. */
sonde_inline __u64 sonde_take_stack(void *ring, const struct sonde_owner *owner)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct sonde_extent x = {};
	struct pt_regs *saved;

	if (!sonde_stack_wanted || owner->filtered || owner->tid != (__u32)bpf_get_current_pid_tgid())
		return 0;
	if (!sonde_is_program(task))
		return sonde_write_stack(ring, owner, &x, false, 0);
	saved = (struct pt_regs *)bpf_task_pt_regs(task);
	sonde_measure_stack(task, SONDE_PT_REGS(saved)->sp, SONDE_EVENT_SLICE, &x);
	if (x.wanted <= 2048)
		return sonde_write_stack(ring, owner, &x, true, 2048);
	return sonde_write_stack(ring, owner, &x, true, SONDE_EVENT_SLICE);
}

/* In a record of `room` bytes (a constant) and eight more, whose header is filled. */
sonde_inline void sonde_name_stack(struct sonde_event *e, const __u64 room, __u64 stack)
{
	if (!stack)
		return;
	e->flags |= SONDE_FLAG_STACK;
	*(__u64 *)((void *)e + room) = stack;
}

/* An event of the type happened: counted. NULL: it is filtered, counted too. */
sonde_inline struct sonde_counts *sonde_count_event(__u32 type, const struct sonde_owner *owner)
{
	struct sonde_counts *counts = sonde_counts_of(type);

	if (!counts)
		return NULL;
	__sync_fetch_and_add(&counts->produced, 1);
	if (!owner->filtered)
		return counts;
	__sync_fetch_and_add(&counts->filtered, 1);
	return NULL;
}

/* Room for `bytes` (a constant) with the header filled, for an event that is counted already; NULL: there is none, which is left to the caller
 * to count: it may try another size. `stack`: number of the event's stack, 0: none. */
sonde_inline void *sonde_room_of(void *ring, __u32 type, const __u64 bytes, const struct sonde_owner *owner,
				 __u64 stack)
{
	struct sonde_event *e = bpf_ringbuf_reserve(ring, (bytes + 7) / 8 * 8 + sizeof stack, 0);

	if (!e)
		return NULL;
	sonde_fill_header(e, type, owner);
	sonde_name_stack(e, (bytes + 7) / 8 * 8, stack);
	return e;
}

sonde_inline void *sonde_begin_with(void *ring, __u32 type, const __u64 bytes, const struct sonde_owner *owner,
				    __u64 stack)
{
	struct sonde_counts *counts = sonde_count_event(type, owner);
	void *e;

	if (!counts)
		return NULL;
	e = sonde_room_of(ring, type, bytes, owner, stack);
	if (!e)
		__sync_fetch_and_add(&counts->dropped[SONDE_DROP_RING_FULL], 1);
	return e;
}

sonde_inline void *sonde_begin_owned(void *ring, __u32 type, const __u64 bytes, const struct sonde_owner *owner)
{
	return sonde_begin_with(ring, type, bytes, owner, sonde_take_stack(ring, owner));
}

sonde_inline void *sonde_begin(void *ring, __u32 type, const __u64 bytes)
{
	struct sonde_owner owner;

	sonde_owner_current(&owner);
	return sonde_begin_owned(ring, type, bytes, &owner);
}

/* Room for one event of `record`'s type and its variable parts, `bytes` (a constant) in all; the header is filled and
 * the event counted. NULL: filtered or lost, counted. Members are not cleared. Every room must be submitted. */
#define sonde_reserve(record, bytes) ((struct record *)sonde_begin(record##_ring(), record##_type.id, (bytes)))
/* With a stack that sonde_take_stack() took before, for what ends in another thread than it began in. */
#define sonde_reserve_with(record, bytes, owner, stack)                                                                \
	((struct record *)sonde_begin_with(record##_ring(), record##_type.id, (bytes), (owner), (stack)))
#define sonde_reserve_owned(record, bytes, owner)                                                                      \
	((struct record *)sonde_begin_owned(record##_ring(), record##_type.id, (bytes), (owner)))

/* Hands the event over; `used` bytes of it count. The reader looks by its own clock, and is woken early each time the
 * ring has filled by another eighth (`wake`, a power of two): a wake-up for every event would cost more than the event. */
#define sonde_submit(record, e, used) sonde_end(record##_ring(), &(e)->event, (used))

/* ---- variable parts ---- */

#define SONDE_NAME_ROOM 256 /* one path component and its NUL: NAME_MAX + 1 */

/* What one step of a path needs of a dentry and of a mount. Both lie together in the kernel's structs, and one copy
 * takes them; where they should not, the second of each pair is copied by itself. */
struct sonde_dentry {
	struct dentry *parent;
	__u64 hash_and_length;
	const unsigned char *name;
};

struct sonde_mount {
	struct mount *above;
	struct dentry *point, *top;
};

sonde_inline void sonde_read_dentry(struct sonde_dentry *to, struct dentry *dentry)
{
	const __u32 parent = bpf_core_field_offset(struct dentry, d_parent),
		    name = bpf_core_field_offset(struct dentry, d_name) + bpf_core_field_offset(struct qstr, name);

	bpf_probe_read_kernel(to, sizeof *to, (void *)dentry + parent); /* what cannot be read is cleared */
	if (name != parent + 16)
		bpf_probe_read_kernel(&to->name, sizeof to->name, (void *)dentry + name);
}

sonde_inline void sonde_read_mount(struct sonde_mount *to, struct mount *mount)
{
	const __u32 above = bpf_core_field_offset(struct mount, mnt_parent),
		    point = bpf_core_field_offset(struct mount, mnt_mountpoint),
		    top = bpf_core_field_offset(struct mount, mnt) + bpf_core_field_offset(struct vfsmount, mnt_root);

	bpf_probe_read_kernel(to, sizeof *to, (void *)mount + above);
	if (point != above + 8)
		bpf_probe_read_kernel(&to->point, sizeof to->point, (void *)mount + point);
	if (top != above + 16)
		bpf_probe_read_kernel(&to->top, sizeof to->top, (void *)mount + top);
}

/* What stands for the beginning of a path of which only the end was taken: a component "...". */
sonde_inline int sonde_cut_path(void *record, const __u32 room, __u32 at)
{
	if (at > room - 4)
		return -1;
	__builtin_memcpy(record + at, "...", 4);
	return -(int)(at + 4);
}

/* Appends the components of a path, leaf first, at `at` in a record of `room` bytes (a constant), crossing mounts up to the root of the path's mount namespace.
 * One step is a function: the kernel calls it (bpf_loop(), Linux 5.17), and the verifier follows one of them, not each of a path's depth, which was most of the
 * time that a module with paths took to start. Source: fs/d_path.c prepend_path(). */
struct sonde_walk {
	void *record;
	struct dentry *dentry;
	struct mount *own;
	struct sonde_mount mount;
	__u16 at;
	bool begun;
	int end; /* where the next part can begin; negated, when not all of it fitted and "..." is its last component; 0: it goes on */
};

sonde_inline long sonde_walk_step(struct sonde_walk *w, const __u32 room)
{
	struct sonde_dentry d;
	__u32 at = w->at;
	long n;

	if (w->dentry == w->mount.top && w->mount.above != w->own) {
		w->own = w->mount.above;
		w->dentry = w->mount.point;
		sonde_read_mount(&w->mount, w->own);
		return 0;
	}
	if (at > room - SONDE_NAME_ROOM) {
		w->end = sonde_cut_path(w->record, room, at);
		return 1;
	}
	w->end = (int)at;
	if (w->dentry == w->mount.top) {
		if (w->begun)
			return 1;
		__builtin_memcpy(w->record + at, "/", 2);
		w->end = (int)(at + 2);
		return 1;
	}
	sonde_read_dentry(&d, w->dentry);
	if (w->dentry == d.parent && w->begun) /* moved out of what is mounted: there is no more above it */
		return 1;
	n = bpf_probe_read_kernel_str(w->record + at, SONDE_NAME_ROOM, d.name);
	if (n < 1 || n > SONDE_NAME_ROOM) {
		w->end = sonde_cut_path(w->record, room, at);
		return 1;
	}
	at = (at + (__u32)n) & 0xffff;
	w->at = (__u16)at;
	w->begun = true;
	w->end = 0;
	if (w->dentry == d.parent) { /* a file of no folder, such as a memfd */
		w->end = (int)at;
		return 1;
	}
	w->dentry = d.parent;
	return 0;
}

#define SONDE_HAS_LOOP bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_loop)

/* Defines `name`, that walk for records of `room` bytes and paths of `depth` components (mounts crossed count), as a function that the verifier checks once and by
 * itself: paths of one walk do not multiply with those of the next. Addresses come as numbers (BPF_CORE_READ gives
 * them). */
#define SONDE_PATH_WALKER(name, room, depth)                                                                           \
	struct name##_room {                                                                                           \
		char bytes[room];                                                                                      \
	};                                                                                                             \
	static __noinline long name##_step(__u32 i, struct sonde_walk *walk)                                           \
	{                                                                                                              \
		return sonde_walk_step(walk, (room));                                                                  \
	}                                                                                                              \
	__attribute__((noinline)) int name(struct name##_room *record, __u32 at, __u64 dentry, __u64 vfsmount)         \
	{                                                                                                              \
		struct sonde_walk walk = { .record = record,                                                           \
					   .dentry = (struct dentry *)dentry,                                          \
					   .own = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt),         \
					   .at = (__u16)at };                                                          \
                                                                                                                       \
		if (!record)                                                                                           \
			return -1;                                                                                     \
		sonde_read_mount(&walk.mount, walk.own);                                                               \
		if (SONDE_HAS_LOOP)                                                                                    \
			bpf_loop((depth), name##_step, &walk, 0);                                                      \
		else                                                                                                   \
			for (__u32 i = 0; i < (depth) && !name##_step(i, &walk); i++)                                  \
				;                                                                                      \
		return walk.end ? walk.end : sonde_cut_path(record, sizeof *record, walk.at);                          \
	}                                                                                                              \
	_Static_assert(sizeof(struct name##_room) == (room), "")

#endif

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Always loaded, and attached before all others: keeps with every task the name of its execution and of the execution
 * that forked it, so that any program of any module has both for one lookup, with no order of events to respect and
 * none to lose.
 */
#include "sonde/probe.bpf.h"
#include "identity.h"

#define CLONE_THREAD 0x00010000

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SONDE_FILTERS_MAX);
	__type(key, __u32);
	__type(value, __u8);
} sonde_filter_pid SEC(".maps");

sonde_inline struct sonde_task *task_make(struct task_struct *task)
{
	struct sonde_task *t = bpf_task_storage_get(&sonde_tasks, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!t)
		sonde_failed(-12);
	return t;
}

/* A thread shares its process's names; a child begins a new one, with the forker (not the reaper it may get) as parent.
 */
SEC("tp_btf/task_newtask")
int BPF_PROG(fork__tp_btf, struct task_struct *child, __u64 clone_flags)
{
	struct task_struct *forker = bpf_get_current_task_btf();
	struct sonde_task *from = bpf_task_storage_get(&sonde_tasks, forker, NULL, 0), *to = task_make(child);
	__u64 forker_proc = from ? from->proc : sonde_proc_of(forker);

	if (!to)
		return 0;
	to->ended = 0;
	to->flags = from ? from->flags : 0;
	if (clone_flags & CLONE_THREAD) {
		to->proc = forker_proc;
		to->parent = from ? from->parent : sonde_proc_of(forker->real_parent);
	} else {
		to->proc = sonde_proc_of(child);
		to->parent = forker_proc;
	}
	return 0;
}

/* Another program is another execution, of the same parent. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(exec__tp_btf, struct task_struct *task)
{
	struct sonde_task *t = bpf_task_storage_get(&sonde_tasks, task, NULL, 0);

	if (!t) {
		t = task_make(task);
		if (!t)
			return 0;
		t->parent = sonde_proc_of(task->real_parent);
	}
	t->proc = sonde_proc_of(task);
	return 0;
}

__u64 tasks_selected = 0; /* grows as long as another pass over the tasks could mark more */

/* The mark that is not in use. */
sonde_inline __u32 next_mark(void)
{
	__u32 zero = 0;
	struct sonde_settings *s = bpf_map_lookup_elem(&sonde_settings, &zero);

	return s && s->selected == SONDE_TASK_SELECTED ? SONDE_TASK_SELECTED2 : SONDE_TASK_SELECTED;
}

/* The tasks that were there before: run once after the programs above are attached, and again until no more descendants
 * of filter.pid are found. What a program above wrote meanwhile is newer, and stays. */
SEC("iter/task")
int snapshot__iter(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task, *parent;
	__u32 mark = next_mark(), tgid;
	struct sonde_task *t, *above;

	if (!task)
		return 0;
	t = task_make(task);
	if (!t)
		return 0;
	parent = task->real_parent;
	if (!t->proc) {
		__sync_val_compare_and_swap(&t->parent, 0, parent->pid ? sonde_proc_of(parent) : 0);
		__sync_val_compare_and_swap(&t->proc, 0, sonde_proc_of(task));
	}
	if (t->flags & mark)
		return 0;
	tgid = task->tgid;
	above = bpf_task_storage_get(&sonde_tasks, parent, NULL, 0);
	if (bpf_map_lookup_elem(&sonde_filter_pid, &tgid) || (above && above->flags & mark)) {
		t->flags |= mark;
		tasks_selected++;
	}
	return 0;
}

/* The same, told to user space: once, for its table of processes. */
SEC("iter/task")
int tasks__iter(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct sonde_task_found found = { 0 };
	struct sonde_task *t;

	if (!task || task->pid != task->tgid)
		return 0;
	t = bpf_task_storage_get(&sonde_tasks, task, NULL, 0);
	found.proc = t && t->proc ? t->proc : sonde_proc_of(task);
	found.parent = t ? t->parent : 0;
	found.began = task->start_boottime;
	found.execs = task->self_exec_id;
	found.pid = task->tgid;
	found.flags = task->flags;
	bpf_probe_read_kernel_str(found.comm, sizeof found.comm, task->comm);
	bpf_seq_write(ctx->meta->seq, &found, sizeof found);
	return 0;
}

/* Before filter.pid changes: nobody has the mark that is not in use. */
SEC("iter/task")
int unselect__iter(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct sonde_task *t = task ? bpf_task_storage_get(&sonde_tasks, task, NULL, 0) : NULL;

	if (t)
		t->flags &= ~next_mark();
	return 0;
}

sonde_inline int cgroup_event(struct cgroup *cgroup, const char *path, enum cgroup_change change)
{
	/* Whose doing it was says nothing here, and looking it up would take a third of these programs' time to load. */
	struct sonde_owner nobody = { .flags = SONDE_FLAG_NO_TASK };
	struct cgroup_changed *e = sonde_reserve_owned(cgroup_changed, sizeof *e + CGROUP_PATH_MAX, &nobody);
	long n;

	if (!e)
		return 0;
	e->_id = cgroup->kn->id;
	e->_hierarchy = cgroup->root->hierarchy_id;
	e->_change = change;
	n = bpf_probe_read_kernel_str((void *)e + sizeof *e, CGROUP_PATH_MAX, path);
	if (n < 1)
		n = 1;
	e->_path.offset = sizeof *e;
	e->_path.length = (__u16)(n - 1);
	/* Read at once: until the agent has seen it, a new cgroup that filter.cgroup or filter.container means is not in the table. */
	e->event.size = (__u32)(sizeof *e + n);
	bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_made__tp_btf, struct cgroup *cgroup, const char *path)
{
	return cgroup_event(cgroup, path, CGROUP_MADE);
}

SEC("tp_btf/cgroup_rename")
int BPF_PROG(cgroup_renamed__tp_btf, struct cgroup *cgroup, const char *path)
{
	return cgroup_event(cgroup, path, CGROUP_MADE);
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_removed__tp_btf, struct cgroup *cgroup, const char *path)
{
	return cgroup_event(cgroup, path, CGROUP_REMOVED);
}

char LICENSE[] SEC("license") = "GPL";

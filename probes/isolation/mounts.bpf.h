/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Mounts. What mount(2) was given are two strings in the program's memory, of which the kernel keeps no copy. What it made of them it keeps:
 * the mounts that are in the caller's namespace as the call ends and were not as it began. Each of these is told, with its place and file system as the
 * kernel has them. Where two threads mount in one namespace at the same time, each is said to have made what both did: nothing is hidden.
 *
 * A mount of a descriptor is known as it is.
 */
#ifndef SONDE_ISOLATION_MOUNTS_BPF_H
#define SONDE_ISOLATION_MOUNTS_BPF_H

#include "sonde/path.bpf.h"
#include "sonde/syscall.bpf.h"
#include "isolation.h"

#define MS_REMOUNT     32
#define MS_MOVE        8192
#define MS_PROPAGATION (1 << 17 | 1 << 18 | 1 << 19 | 1 << 20) /* unbindable, private, slave, shared */
#define MS_MGC_MSK     0xffff0000
#define MS_MGC_VAL     0xc0ed0000

#define OPEN_TREE_CLONE         1
#define MOVE_MOUNT_F_EMPTY_PATH 4
#define AT_EMPTY_PATH           0x1000

#define NEW_MOST    32   /* mounts of one call that are told */
#define LOST_MOST   1024 /* that are counted behind these */
#define TREE_LEVELS 32

/* Where the texts lie: all but the path, which comes last, have a place of one size. What does not fit the small class is tried in the large. */
#define SMALL_TEXT 96
#define SMALL_ROOM (sizeof(struct mount_attach) + 3 * SMALL_TEXT + 640)
#define LARGE_TEXT 4096
#define LARGE_ROOM (sizeof(struct mount_attach) + 3 * LARGE_TEXT + SONDE_PATH_ROOM)

SONDE_PATH_WALKER(walk_small, SMALL_ROOM, 24);
SONDE_PATH_WALKER(walk_large, LARGE_ROOM, 128);

/* What is to be told. */
struct told {
	__u64 mount;                    /* struct mount, or 0 */
	__u64 source_given, path_given; /* in the program's memory, or 0 */
	__u64 flags;
	__s64 ret;
	__u32 type, call;
};

sonde_inline bool put_text(struct mount_attach *e, struct sonde_text *text, __u32 at, const __u32 room, __u64 from,
			   bool user)
{
	long n = 0;

	text->offset = (__u16)at;
	text->length = 0;
	if (!from)
		return true;
	n = user ? bpf_probe_read_user_str((void *)e + at, room, (void *)from)
		 : bpf_probe_read_kernel_str((void *)e + at, room, (void *)from);
	if (n > 1)
		text->length = (__u16)(n - 1);
	return n >= 0 && n < (long)room;
}

sonde_inline void put_mount(struct mount_attach *e, struct mount *mount)
{
	struct super_block *sb = BPF_CORE_READ(mount, mnt.mnt_sb);

	bpf_probe_read_kernel_str(e->fs_type, sizeof e->fs_type, BPF_CORE_READ(sb, s_type, name));
	e->dev = sonde_device_number(BPF_CORE_READ(sb, s_dev));
	e->ino = BPF_CORE_READ(mount, mnt.mnt_root, d_inode, i_ino);
	e->mount_id = (__u32)BPF_CORE_READ(mount, mnt_id);
}

/* One try, in a record of `room` bytes; false: not all of it fitted. */
sonde_inline bool fill_told(struct mount_attach *e, const struct told *t, const bool large, __u32 *ret_used)
{
	const __u32 text = large ? LARGE_TEXT : SMALL_TEXT, at = sizeof *e + 3 * text;
	struct mount *mount = (void *)t->mount;
	bool whole;

	sonde_fill_credentials(e);
	sonde_fill_result(e, t->ret);
	e->flags = t->flags;
	e->call = t->call;
	e->mnt_ns = BPF_CORE_READ(bpf_get_current_task_btf(), nsproxy, mnt_ns, ns.inum);
	e->fs_type[0] = '\0';
	e->dev = e->ino = 0;
	e->mount_id = e->_pad = 0;
	e->path.offset = (__u16)at;
	e->path.length = 0;
	whole = put_text(e, &e->source, sizeof *e, text, mount ? (__u64)BPF_CORE_READ(mount, mnt_devname) : 0, false);
	whole &= put_text(e, &e->source_given, sizeof *e + text, text, t->source_given, true);
	whole &= put_text(e, &e->path_given, sizeof *e + 2 * text, text, t->path_given, true);
	*ret_used = at;
	if (mount) {
		__u64 top = (__u64)BPF_CORE_READ(mount, mnt.mnt_root),
		      mnt = t->mount + bpf_core_field_offset(struct mount, mnt);

		put_mount(e, mount);
		*ret_used = large ? sonde_put_path(e, path, walk_large, at, top, mnt)
				  : sonde_put_path(e, path, walk_small, at, top, mnt);
	}
	if (!whole)
		e->event.flags |= SONDE_FLAG_TRUNCATED;
	return !(e->event.flags & SONDE_FLAG_TRUNCATED);
}

/* A function that the verifier checks by itself. */
__attribute__((noinline)) int tell(struct told *t)
{
	struct sonde_counts *counts;
	struct sonde_owner owner;
	struct mount_attach *e;
	__u32 used = 0, type;
	__u64 stack;

	if (!t)
		return 0;
	type = t->type;
	counts = sonde_counts_of(type);
	if (!counts)
		return 0;
	__sync_fetch_and_add(&counts->produced, 1);
	sonde_owner_current(&owner);
	if (owner.filtered) {
		__sync_fetch_and_add(&counts->filtered, 1);
		return 0;
	}
	stack = sonde_take_stack(&sonde_priority, &owner);
	e = bpf_ringbuf_reserve(&sonde_priority, SMALL_ROOM + sizeof stack, 0);
	if (e) {
		sonde_fill_header(&e->event, type, &owner);
		sonde_name_stack(&e->event, SMALL_ROOM, stack);
		if (fill_told(e, t, false, &used)) {
			sonde_end(&sonde_priority, &e->event, used);
			return 0;
		}
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
	}
	e = bpf_ringbuf_reserve(&sonde_priority, LARGE_ROOM + sizeof stack, 0);
	if (!e) {
		__sync_fetch_and_add(&counts->dropped[SONDE_DROP_RING_FULL], 1);
		return 0;
	}
	sonde_fill_header(&e->event, type, &owner);
	sonde_name_stack(&e->event, LARGE_ROOM, stack);
	fill_told(e, t, true, &used);
	sonde_end(&sonde_priority, &e->event, used);
	return 0;
}

/* ---- which mounts are new ---- */

/* What was the newest as a thread's call began: a number, or before Linux 6.8 (torvalds/linux 2eea9ce4310d) the mount itself. A call that had begun
 * before the agent has made the newest. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} mount_newest SEC(".maps");

sonde_inline struct mnt_namespace *own_mounts(void)
{
	return BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), nsproxy, mnt_ns);
}

/* By number in a tree; before, in a list in the order of their coming. */
sonde_inline bool has_tree(void)
{
	return bpf_core_field_exists(struct mount, mnt_node) && bpf_core_field_exists(struct mount, mnt_id_unique);
}

sonde_inline struct mount *mount_of_node(__u64 node)
{
	return (void *)(node - bpf_core_field_offset(struct mount, mnt_node));
}

/* In the tree, the mount with the least number above `after`, or 0. */
sonde_inline __u64 next_in_tree(struct mnt_namespace *ns, __u64 after)
{
	__u64 node = (__u64)BPF_CORE_READ(ns, mounts.rb_node), found = 0;

	for (int i = 0; i < TREE_LEVELS && node; i++) {
		struct mount *mount = mount_of_node(node);

		if (BPF_CORE_READ(mount, mnt_id_unique) > after) {
			found = (__u64)mount;
			node = (__u64)BPF_CORE_READ(mount, mnt_node.rb_left);
		} else {
			node = (__u64)BPF_CORE_READ(mount, mnt_node.rb_right);
		}
	}
	return found;
}

sonde_inline __u64 newest_in_tree(struct mnt_namespace *ns)
{
	__u64 node = (__u64)BPF_CORE_READ(ns, mounts.rb_node), found = 0;

	for (int i = 0; i < TREE_LEVELS && node; i++) {
		found = node;
		node = (__u64)BPF_CORE_READ(mount_of_node(node), mnt_node.rb_right);
	}
	return found ? (__u64)mount_of_node(found) : 0;
}

sonde_inline struct mount *mount_of_link(struct list_head *link)
{
	return (void *)link - bpf_core_field_offset(struct mount, mnt_list);
}

sonde_inline struct list_head *list_of(struct mnt_namespace *ns)
{
	return (void *)ns + bpf_core_field_offset(struct mnt_namespace___list, list);
}

/* In the list, the mount behind `after`, or 0. One that went meanwhile is on no list. */
sonde_inline __u64 next_in_list(struct mnt_namespace *ns, __u64 after)
{
	struct list_head *link = BPF_CORE_READ((struct mount *)after, mnt_list.next);
	struct mount *mount = mount_of_link(link);

	if (link == list_of(ns) || BPF_CORE_READ(mount, mnt_ns) != ns)
		return 0;
	return (__u64)mount;
}

sonde_inline __u64 newest_in_list(struct mnt_namespace *ns)
{
	return (__u64)mount_of_link(BPF_CORE_READ(list_of(ns), prev));
}

sonde_inline __u64 newest(struct mnt_namespace *ns)
{
	return has_tree() ? newest_in_tree(ns) : newest_in_list(ns);
}

/* What stands for a mount in the table above. A function of its own, as else the compiler looks up the place of a member before the loop that needs
 * it, and so also where the kernel has no such member and refuses that. */
__attribute__((noinline)) __u64 mark_of(__u64 mount)
{
	return has_tree() ? BPF_CORE_READ((struct mount *)mount, mnt_id_unique) : mount;
}

__attribute__((noinline)) __u64 next_mount(__u64 after)
{
	struct mnt_namespace *ns = own_mounts();

	return has_tree() ? next_in_tree(ns, after) : next_in_list(ns, after);
}

/* ---- mount(2) ---- */

SEC("tracepoint/syscalls/sys_enter_mount")
SONDE_FOR("mount.attach mount.move mount.setattr")
int mount_begin__tracepoint(void *ctx)
{
	__u64 *known =
		bpf_task_storage_get(&mount_newest, bpf_get_current_task_btf(), NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	__u64 mark = newest(own_mounts());

	if (known)
		*known = mark ? mark_of(mark) : 0;
	else
		sonde_failed(-12);
	return 0;
}

sonde_inline void tell_new(struct told *t, __u64 after)
{
	for (int i = 0; i < NEW_MOST; i++) {
		t->mount = next_mount(after);
		if (!t->mount) {
			if (!i) /* it is gone again */
				tell(t);
			return;
		}
		tell(t);
		after = mark_of(t->mount);
	}
	for (int i = 0; i < LOST_MOST && (t->mount = next_mount(after)); i++) {
		sonde_lost(mount_attach, SONDE_DROP_TOO_LARGE);
		after = mark_of(t->mount);
	}
}

/* What is told of a call that made mounts. */
sonde_inline void tell_attached(struct told *t)
{
	__u64 *known = bpf_task_storage_get(&mount_newest, bpf_get_current_task_btf(), NULL, 0);

	if (known) {
		tell_new(t, *known);
		return;
	}
	t->mount = newest(own_mounts());
	tell(t);
}

SEC("tracepoint/syscalls/sys_exit_mount")
SONDE_FOR("mount.attach mount.move mount.setattr")
int mount__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct told t = { .call = MOUNT_CALL_MOUNT, .ret = ctx->ret };

	t.source_given = sonde_argument(0);
	t.path_given = sonde_argument(1);
	t.flags = sonde_argument(3);
	if ((t.flags & MS_MGC_MSK) == MS_MGC_VAL)
		t.flags &= ~(__u64)MS_MGC_MSK;
	if (t.flags & (MS_REMOUNT | MS_PROPAGATION)) {
		t.type = mount_setattr_type.id;
		tell(&t);
	} else if (t.flags & MS_MOVE) {
		t.type = mount_move_type.id;
		tell(&t);
	} else {
		t.type = mount_attach_type.id;
		if (t.ret < 0)
			tell(&t);
		else
			tell_attached(&t);
	}
	return 0;
}

/* ---- the other calls ---- */

/* The mount that a descriptor lies on. */
sonde_inline __u64 mount_of_fd(__s32 fd)
{
	struct file *file = sonde_file_of(fd);
	__u64 mnt = file ? (__u64)BPF_CORE_READ(file, f_path.mnt) : 0;

	return mnt ? mnt - bpf_core_field_offset(struct mount, mnt) : 0;
}

SEC("tracepoint/syscalls/sys_exit_umount")
SONDE_FOR("mount.detach")
int umount__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct told t = { .type = mount_detach_type.id, .call = MOUNT_CALL_UMOUNT, .ret = ctx->ret };

	t.path_given = sonde_argument(0);
	t.flags = sonde_argument(1);
	tell(&t);
	return 0;
}

/* Of a descriptor that was mounted nowhere, it is what mount(2) does at once. */
SEC("tracepoint/syscalls/sys_exit_move_mount")
SONDE_FOR("mount.move mount.attach")
int move_mount__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct told t = { .type = mount_move_type.id, .call = MOUNT_CALL_MOVE_MOUNT, .ret = ctx->ret };

	t.source_given = sonde_argument(1);
	t.path_given = sonde_argument(3);
	t.flags = sonde_argument(4);
	if (t.flags & MOVE_MOUNT_F_EMPTY_PATH) {
		t.type = mount_attach_type.id;
		t.mount = t.ret < 0 ? 0 : mount_of_fd((__s32)sonde_argument(0));
	}
	tell(&t);
	return 0;
}

sonde_inline int open_tree(long ret)
{
	struct told t = { .type = mount_create_type.id, .call = MOUNT_CALL_OPEN_TREE, .ret = ret };

	t.source_given = sonde_argument(1);
	t.flags = sonde_argument(2);
	if (!(t.flags & OPEN_TREE_CLONE))
		return 0;
	t.mount = mount_of_fd((__s32)ret);
	tell(&t);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_open_tree")
SONDE_FOR("mount.create")
int open_tree__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	return open_tree(ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_open_tree_attr")
SONDE_FOR("mount.create")
int open_tree_attr__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	return open_tree(ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_fsmount")
SONDE_FOR("mount.create")
int fsmount__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct told t = { .type = mount_create_type.id, .call = MOUNT_CALL_FSMOUNT, .ret = ctx->ret };

	t.flags = sonde_argument(2);
	t.mount = mount_of_fd((__s32)ctx->ret);
	tell(&t);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_mount_setattr")
SONDE_FOR("mount.setattr")
int mount_setattr__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct told t = { .type = mount_setattr_type.id, .call = MOUNT_CALL_MOUNT_SETATTR, .ret = ctx->ret };

	t.path_given = sonde_argument(1);
	t.flags = sonde_argument(2);
	if (t.flags & AT_EMPTY_PATH)
		t.mount = mount_of_fd((__s32)sonde_argument(0));
	tell(&t);
	return 0;
}

/* The root of the namespace is what was asked for, if it was done. */
SEC("tracepoint/syscalls/sys_exit_pivot_root")
SONDE_FOR("mount.pivot_root")
int pivot_root__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct told t = { .type = mount_pivot_type.id, .call = MOUNT_CALL_PIVOT_ROOT, .ret = ctx->ret };
	struct task_struct *task = bpf_get_current_task_btf();

	t.source_given = sonde_argument(0);
	t.path_given = sonde_argument(1);
	if (t.ret == 0)
		t.mount = (__u64)BPF_CORE_READ(task, fs, root.mnt) - bpf_core_field_offset(struct mount, mnt);
	tell(&t);
	return 0;
}

#endif

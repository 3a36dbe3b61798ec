// SPDX-License-Identifier: GPL-2.0-only
/* Mounts, roots and namespaces: what processes are held apart by, and how they come to other places. */
#include "mounts.bpf.h"
#include "namespaces.bpf.h"

#define ROOT_SMALL 1024
#define ROOT_LARGE (sizeof(struct process_chroot) + SONDE_PATH_ROOM)

SONDE_PATH_WALKER(walk_root_small, ROOT_SMALL, 24);
SONDE_PATH_WALKER(walk_root, ROOT_LARGE, 128);

/* Its root is what the kernel made of the name: nobody but the thread, and those that share its root, could have changed it since. */
sonde_inline __u32 put_root(struct process_chroot *e, const bool large)
{
	struct fs_struct *fs = BPF_CORE_READ(bpf_get_current_task_btf(), fs);
	struct dentry *root = BPF_CORE_READ(fs, root.dentry);
	struct vfsmount *mnt = BPF_CORE_READ(fs, root.mnt);

	e->ino = BPF_CORE_READ(root, d_inode, i_ino);
	e->dev = sonde_device_number(BPF_CORE_READ(root, d_inode, i_sb, s_dev));
	return large ? sonde_put_path(e, path, walk_root, sizeof *e, root, mnt)
		     : sonde_put_path(e, path, walk_root_small, sizeof *e, root, mnt);
}

sonde_inline __u32 put_given(struct process_chroot *e, const __u32 room, __u64 given)
{
	long n = bpf_probe_read_user_str((void *)e + sizeof *e, room - sizeof *e, (void *)given);

	e->ino = e->dev = 0;
	if (n > 1)
		e->path_given.length = (__u16)(n - 1);
	if (n < 0 || n == (long)(room - sizeof *e))
		e->event.flags |= SONDE_FLAG_TRUNCATED;
	return sizeof *e + e->path_given.length;
}

/* One try, in a record of one class; false: the next one is to be tried. */
sonde_inline bool try_root(const bool large, const struct sonde_owner *owner, __u64 stack, long ret)
{
	const __u32 room = large ? ROOT_LARGE : ROOT_SMALL;
	struct process_chroot *e = sonde_room_of(&sonde_priority, process_chroot_type.id, room, owner, stack);
	__u32 used;

	if (!e)
		return false;
	sonde_fill_credentials(e);
	sonde_fill_result(e, ret);
	e->path.offset = e->path_given.offset = sizeof *e;
	e->path.length = e->path_given.length = 0;
	used = ret < 0 ? put_given(e, room, sonde_argument(0)) : put_root(e, large);
	if (!large && e->event.flags & SONDE_FLAG_TRUNCATED) {
		bpf_ringbuf_discard(e, BPF_RB_NO_WAKEUP);
		return false;
	}
	sonde_submit(process_chroot, e, used);
	return true;
}

SEC("tracepoint/syscalls/sys_exit_chroot")
SONDE_FOR("process.chroot")
int chroot__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct sonde_counts *counts;
	struct sonde_owner owner;
	long ret = ctx->ret;
	__u64 stack;

	sonde_owner_current(&owner);
	counts = sonde_count_event(process_chroot_type.id, &owner);
	if (!counts)
		return 0;
	stack = sonde_take_stack(&sonde_priority, &owner);
	if (!try_root(false, &owner, stack, ret) && !try_root(true, &owner, stack, ret))
		__sync_fetch_and_add(&counts->dropped[SONDE_DROP_RING_FULL], 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

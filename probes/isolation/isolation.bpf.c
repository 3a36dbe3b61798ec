// SPDX-License-Identifier: GPL-2.0-only
/* Mounts, roots and namespaces: what processes are held apart by, and how they come to other places. */
#include "mounts.bpf.h"
#include "namespaces.bpf.h"

SONDE_PATH_WALKER(walk_root, sizeof(struct process_chroot) + SONDE_PATH_ROOM, 128);

/* Its root is what the kernel made of the name: nobody but the thread, and those that share its root, could have changed it since. */
sonde_inline __u32 put_root(struct process_chroot *e)
{
	struct fs_struct *fs = BPF_CORE_READ(bpf_get_current_task_btf(), fs);
	struct dentry *root = BPF_CORE_READ(fs, root.dentry);

	e->ino = BPF_CORE_READ(root, d_inode, i_ino);
	e->dev = sonde_device_number(BPF_CORE_READ(root, d_inode, i_sb, s_dev));
	return sonde_put_path(e, path, walk_root, sizeof *e, root, BPF_CORE_READ(fs, root.mnt));
}

sonde_inline __u32 put_given(struct process_chroot *e, __u64 given)
{
	long n = bpf_probe_read_user_str((void *)e + sizeof *e, SONDE_PATH_ROOM, (void *)given);

	e->ino = e->dev = 0;
	e->path_given.offset = sizeof *e;
	if (n > 1)
		e->path_given.length = (__u16)(n - 1);
	return sizeof *e + e->path_given.length;
}

SEC("tracepoint/syscalls/sys_exit_chroot")
int chroot__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct process_chroot *e = sonde_reserve(process_chroot, sizeof *e + SONDE_PATH_ROOM);
	__u32 used;

	if (!e)
		return 0;
	sonde_fill_credentials(e);
	sonde_fill_result(e, ctx->ret);
	e->path.offset = e->path_given.offset = sizeof *e;
	e->path.length = e->path_given.length = 0;
	used = ctx->ret < 0 ? put_given(e, sonde_argument(0)) : put_root(e);
	sonde_submit(process_chroot, e, used);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What process.exec tells of the program file, of what it gave the process, and of the descriptors that the program begins with.
 */
#ifndef SONDE_EXEC_FILE_BPF_H
#define SONDE_EXEC_FILE_BPF_H

#include "sonde/inode.bpf.h"
#include "exec.h"

#define OVERLAYFS_SUPER_MAGIC 0x794c7630 /* include/uapi/linux/magic.h */

#define S_ISUID 0004000 /* include/uapi/linux/stat.h */
#define S_ISGID 0002000

/* The kernel's own device numbers, major:12 minor:20. Source: include/linux/kdev_t.h, include/uapi/linux/major.h. */
#define DEV_NULL (1u << 20 | 3)

/* The inode's time of change, in ns; where it is kept changed with 6.6 (torvalds/linux 13bc24457850) and 6.11 (3aa63a569c64). */
sonde_inline __u64 changed_at(struct inode *inode)
{
	struct inode___6_6 *middle = (void *)inode;
	struct inode___5 *old = (void *)inode;

	/* Since 6.13 the highest bit says that somebody asked for it. */
	if (bpf_core_field_exists(inode->i_ctime_sec))
		return (__u64)inode->i_ctime_sec * 1000000000ull + (inode->i_ctime_nsec & 0x7fffffff);
	if (bpf_core_field_exists(middle->__i_ctime))
		return (__u64)BPF_CORE_READ(middle, __i_ctime.tv_sec) * 1000000000ull +
		       (BPF_CORE_READ(middle, __i_ctime.tv_nsec) & 0x7fffffff);
	return (__u64)BPF_CORE_READ(old, i_ctime.tv_sec) * 1000000000ull + (__u64)BPF_CORE_READ(old, i_ctime.tv_nsec);
}

/* Whether a file of an overlay is one of its upper layer. Where overlayfs is a module, its struct may be unknown: the pointer has come right
 * behind the inode since 4.13 (torvalds/linux 09d8b586731b). Source: fs/overlayfs/ovl_entry.h. */
sonde_inline bool is_upper(struct inode *inode)
{
	__u64 at = bpf_core_type_size(struct inode);
	struct dentry *upper = NULL;

	if (inode->i_sb->s_magic != OVERLAYFS_SUPER_MAGIC)
		return false;
	if (bpf_core_type_exists(struct ovl_inode))
		at = bpf_core_field_offset(struct ovl_inode, __upperdentry) -
		     bpf_core_field_offset(struct ovl_inode, vfs_inode);
	bpf_probe_read_kernel(&upper, sizeof upper, (void *)inode + at);
	return upper != NULL;
}

#define GROUPS_MAX 64 /* supplementary groups that are looked at */

/* Whether the running thread has the group beside its own one. */
__attribute__((noinline)) int in_groups(__u32 gid)
{
	struct group_info *groups = bpf_get_current_task_btf()->cred->group_info;
	__u32 count = (__u32)groups->ngroups;

	for (__u32 i = 0; i < GROUPS_MAX && i < count; i++) {
		__u32 found = 0;

		bpf_probe_read_kernel(&found, sizeof found,
				      (void *)groups + bpf_core_field_offset(struct group_info, gid) +
					      i * sizeof found);
		if (found == gid)
			return 1;
	}
	return 0;
}

/* By the mode alone, as access(2) takes it: of the owner's bits, the group's and those of all others one set counts. */
sonde_inline bool may_write(struct inode *inode, const struct cred *cred, __u32 mode)
{
	__u32 uid = cred->uid.val, group = inode->i_gid.val;

	if (!uid)
		return mode & 2;
	if (uid == inode->i_uid.val)
		return mode & 0200;
	if (!(mode & 022))
		return false;
	if (group == cred->gid.val || in_groups(group))
		return mode & 020;
	return mode & 2;
}

/* Whether the file gave rights: `per_clear` is set by its set-user-id and set-group-id bits where they count, and by capabilities that the
 * process did not have; `secureexec` where its real user is not who it is now, or it is not root and has capabilities. A root that only
 * takes back its own has no such bits. Source: fs/exec.c bprm_fill_uid(), security/commoncap.c cap_bprm_creds_from_file(). */
sonde_inline bool has_gained(bool cleared, bool secure, bool has_bits)
{
	return cleared && (secure || !has_bits);
}

sonde_inline __u8 device_stream(struct inode *inode)
{
	__u32 dev = BPF_CORE_READ(inode, i_rdev);

	if (dev == DEV_NULL)
		return EXEC_STREAM_NULL;
	return sonde_is_terminal(dev) ? EXEC_STREAM_TTY : EXEC_STREAM_DEVICE;
}

sonde_inline __u8 stream_of(struct file *file)
{
	struct inode *inode;

	if (!file)
		return EXEC_STREAM_NONE;
	inode = BPF_CORE_READ(file, f_inode);
	switch (BPF_CORE_READ(inode, i_mode) & SONDE_S_IFMT) {
	case SONDE_S_IFREG:
		return EXEC_STREAM_FILE;
	case SONDE_S_IFDIR:
		return EXEC_STREAM_FOLDER;
	case SONDE_S_IFSOCK:
		return EXEC_STREAM_SOCKET;
	case SONDE_S_IFIFO:
		return EXEC_STREAM_PIPE;
	case SONDE_S_IFCHR:
		return device_stream(inode);
	default:
		return EXEC_STREAM_OTHER;
	}
}

/* No static function, so that the verifier follows it once and by itself: its ways would multiply. */
__attribute__((noinline)) int stream_of_descriptor(__u32 fd)
{
	struct file *file = NULL;

	/* The smallest table has 64 places. */
	if (fd < 3)
		bpf_probe_read_kernel(&file, sizeof file, bpf_get_current_task_btf()->files->fdt->fd + fd);
	return stream_of(file);
}

/* The program file is known to the process before the tracepoint: fs/exec.c begin_new_exec(). */
sonde_inline void fill_file(struct process_exec *e, struct task_struct *task)
{
	struct file *file = task->mm->exe_file;
	struct inode *inode = file->f_inode;
	struct dentry *dentry = file->f_path.dentry;
	__u32 mode = inode->i_mode;

	e->ino = inode->i_ino;
	e->dev = sonde_device_number(inode->i_sb->s_dev);
	e->_changed = changed_at(inode);
	e->_file_bytes = (__u64)inode->i_size;
	e->_start_stack = task->mm->start_stack;
	e->memfd = dentry == dentry->d_parent; /* a file that is a root is of no folder */
	e->deleted = !e->memfd && !inode->i_nlink;
	e->upper = is_upper(inode);
	e->writable = may_write(inode, task->cred, mode);
	e->setuid = mode & S_ISUID;
	e->setgid = mode & S_ISGID;
}

#endif

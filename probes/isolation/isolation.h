/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What holds processes apart: mounts, roots, namespaces. */
#ifndef SONDE_ISOLATION_H
#define SONDE_ISOLATION_H

#include "sonde/event.h"
#include "sonde/security.h"

/* In the order of the names of `call` below. */
enum mount_call_name {
	MOUNT_CALL_MOUNT,
	MOUNT_CALL_UMOUNT,
	MOUNT_CALL_MOVE_MOUNT,
	MOUNT_CALL_OPEN_TREE,
	MOUNT_CALL_FSMOUNT,
	MOUNT_CALL_MOUNT_SETATTR,
	MOUNT_CALL_PIVOT_ROOT,
};

/* All events about mounts are laid out the same, and filled by the same code. */
#define MOUNT_FIELDS                                                                                                   \
	struct sonde_event event;                                                                                      \
	SONDE_CREDENTIALS;                                                                                             \
	SONDE_RESULT;                                                                                                  \
	struct sonde_text path SONDE_AS("path")                                                                        \
		SONDE_DOC("where it is mounted, as the kernel has it, in the process's mount namespace")               \
			SONDE_OPTIONAL;                                                                                \
	struct sonde_text path_given SONDE_DOC("where to, as the program gave it; it can have been changed meanwhile") \
		SONDE_OPTIONAL;                                                                                        \
	struct sonde_text source SONDE_DOC("what the mount says it comes from, such as its device") SONDE_OPTIONAL;    \
	struct sonde_text source_given SONDE_DOC(                                                                      \
		"where from, as the program gave it; it can have been changed meanwhile") SONDE_OPTIONAL;              \
	char fs_type[16] SONDE_DOC("file system") SONDE_OPTIONAL;                                                      \
	__u64 flags SONDE_DOC("flags of the call, as numbers of it") SONDE_OPTIONAL;                                   \
	__u64 dev SONDE_DOC("device of the file system, as stat(2) numbers it") SONDE_OPTIONAL;                        \
	__u64 ino SONDE_DOC("inode number of what is at the mount's top") SONDE_OPTIONAL;                              \
	__u32 mount_id SONDE_DOC("number of the mount, as /proc/PID/mountinfo has it") SONDE_OPTIONAL;                 \
	__u32 mnt_ns SONDE_DOC("inode number of the process's mount namespace");                                       \
	__u32 call SONDE_AS("names=mount|umount|move_mount|open_tree|fsmount|mount_setattr|pivot_root")                \
		SONDE_DOC("system call that did it, or failed to");                                                    \
	__u32 _pad

struct mount_attach {
	MOUNT_FIELDS;
};

struct mount_detach {
	MOUNT_FIELDS;
};

struct mount_move {
	MOUNT_FIELDS;
};

struct mount_setattr {
	MOUNT_FIELDS;
};

struct mount_create {
	MOUNT_FIELDS;
};

struct mount_pivot {
	MOUNT_FIELDS;
};

struct process_chroot {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	struct sonde_text path SONDE_AS("path") SONDE_DOC("its root now, in its mount namespace") SONDE_OPTIONAL;
	struct sonde_text path_given SONDE_DOC("as the program gave it; it can have been changed meanwhile")
		SONDE_OPTIONAL;
	__u64 ino SONDE_DOC("inode number of its root now") SONDE_OPTIONAL;
	__u64 dev SONDE_DOC("device of its root now, as stat(2) numbers it") SONDE_OPTIONAL;
};

/* Inode numbers of namespaces, as far as they are others than before. */
#define NS_FIELDS                                                                                                      \
	__u32 mnt_ns SONDE_DOC("mount namespace that it has now, where it is another than before") SONDE_OPTIONAL;     \
	__u32 old_mnt_ns SONDE_DOC("mount namespace before") SONDE_OPTIONAL;                                           \
	__u32 user_ns SONDE_DOC("user namespace that it has now, likewise") SONDE_OPTIONAL;                            \
	__u32 old_user_ns SONDE_DOC("user namespace before") SONDE_OPTIONAL;                                           \
	__u32 pid_ns SONDE_DOC("pid namespace of the children that it has from now on, likewise") SONDE_OPTIONAL;      \
	__u32 old_pid_ns SONDE_DOC("pid namespace of its children before") SONDE_OPTIONAL;                             \
	__u32 net_ns SONDE_DOC("network namespace that it has now, likewise") SONDE_OPTIONAL;                          \
	__u32 old_net_ns SONDE_DOC("network namespace before") SONDE_OPTIONAL;                                         \
	__u32 uts_ns SONDE_DOC("UTS namespace that it has now, likewise") SONDE_OPTIONAL;                              \
	__u32 old_uts_ns SONDE_DOC("UTS namespace before") SONDE_OPTIONAL;                                             \
	__u32 ipc_ns SONDE_DOC("IPC namespace that it has now, likewise") SONDE_OPTIONAL;                              \
	__u32 old_ipc_ns SONDE_DOC("IPC namespace before") SONDE_OPTIONAL;                                             \
	__u32 cgroup_ns SONDE_DOC("cgroup namespace that it has now, likewise") SONDE_OPTIONAL;                        \
	__u32 old_cgroup_ns SONDE_DOC("cgroup namespace before") SONDE_OPTIONAL;                                       \
	__u32 time_ns SONDE_DOC("time namespace of the children that it has from now on, likewise") SONDE_OPTIONAL;    \
	__u32 old_time_ns SONDE_DOC("time namespace of its children before") SONDE_OPTIONAL

struct ns_unshare {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	__u64 flags SONDE_DOC("CLONE_* of sched.h that it asked for");
	NS_FIELDS;
};

struct ns_enter {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	SONDE_TARGET;
	__u64 flags SONDE_DOC("CLONE_NEW* of sched.h: kinds that it asked for; 0: whatever it is") SONDE_OPTIONAL;
	__u32 fd SONDE_DOC("descriptor that it entered by: a namespace's, or a pidfd of target_pid");
	__u32 _pad;
	NS_FIELDS;
};

struct ns_create {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	__u64 flags SONDE_DOC("CLONE_* of sched.h that the child was made with");
	__u64 child_proc SONDE_AS("id") SONDE_DOC("execution that the child begins with");
	__u32 child_pid SONDE_DOC("pid of the child, in the initial pid namespace");
	__u32 _pad;
	NS_FIELDS;
};

SONDE_EVENT(mount_attach, "mount.attach", 1, priority, "A file system, or a part of one, was mounted, or was not.");
SONDE_EVENT(mount_detach, "mount.detach", 1, priority, "A mount was taken away, or was not.");
SONDE_EVENT(mount_move, "mount.move", 1, priority, "A mount was moved to another place, or was not.");
SONDE_EVENT(mount_setattr, "mount.setattr", 1, priority,
	    "How something is mounted was changed, or was not: read-only, nosuid, propagation ...");
SONDE_EVENT(mount_create, "mount.create", 1, priority,
	    "A mount was made that is nowhere yet, or was not: fsmount, open_tree.");
SONDE_EVENT(mount_pivot, "mount.pivot_root", 1, priority, "The root of a mount namespace was replaced, or was not.");
SONDE_EVENT(process_chroot, "process.chroot", 1, priority, "A process changed its root, or was refused to.");
SONDE_EVENT(ns_unshare, "ns.unshare", 1, priority, "A process left namespaces for new ones, or was refused to.");
SONDE_EVENT(ns_enter, "ns.enter", 1, priority, "A process entered namespaces that are there, or was refused to.");
SONDE_EVENT(ns_create, "ns.create", 1, priority, "A process was made in new namespaces.");

#ifndef __bpf__
_Static_assert(sizeof(struct mount_attach) == 64 + 24 + 16 + 16 + 16 + 24 + 16, "no holes");
_Static_assert(sizeof(struct ns_enter) == 64 + 24 + 16 + 32 + 8 + 8 + 64, "no holes");
_Static_assert(sizeof(struct ns_create) == 64 + 24 + 24 + 64, "no holes");
#endif

#endif

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The path of a file in an event, in one of three sizes of record: it is measured first, so that a short one, as nearly all are, takes little of the
 * ring, and none takes least.
 *
 *	struct place place = place_of(file);
 *	return in_room_of(&place, say, ...);	// say(room, ...): room is a constant; fill_place(e, room, &used, &e->path, &place)
 */
#ifndef SONDE_KERNEL_PATH_BPF_H
#define SONDE_KERNEL_PATH_BPF_H

#include "sonde/path.bpf.h"
#include "sonde/syscall.bpf.h"

#define RECORD_FIXED 448u /* of it, what stands before the paths, at most */
#define PATH_SHORT   320u
#define PATH_MOST    4096u
#define RECORD_BARE  (RECORD_FIXED + 64u)
#define RECORD_SMALL 1024u
#define RECORD_LARGE (RECORD_FIXED + PATH_MOST + SONDE_NAME_ROOM)
#ifndef PATH_DEPTH
#define PATH_DEPTH 128 /* components, mounts crossed count */
#endif
#define PATH_SHORT_DEPTH 20

_Static_assert(RECORD_FIXED + PATH_SHORT + SONDE_NAME_ROOM <= RECORD_SMALL, "a short path fits a small record");

SONDE_PATH_WALKER(path_walk_small, RECORD_SMALL, PATH_SHORT_DEPTH);
SONDE_PATH_WALKER(path_walk_large, RECORD_LARGE, PATH_DEPTH);

/* A struct path, as numbers. */
struct place {
	__u64 mnt, dentry;
};

sonde_inline struct place place_at(const void *path)
{
	struct place place = {};

	if (path)
		bpf_probe_read_kernel(&place, sizeof place, path);
	return place;
}

sonde_inline struct place place_of(struct file *file)
{
	return place_at(file ? (void *)file + bpf_core_field_offset(struct file, f_path) : NULL);
}

/* Bytes that the path takes, each component with its NUL, up to what is no longer short. The same steps as sonde_walk_path(). */
__attribute__((noinline)) int path_bytes(__u64 dentry_number, __u64 vfsmount)
{
	struct dentry *dentry = (void *)dentry_number;
	struct mount *own = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt);
	struct sonde_mount mount;
	__u32 bytes = 0;

	sonde_read_mount(&mount, own);
	for (int i = 0; i < PATH_SHORT_DEPTH && bytes <= PATH_SHORT; i++) {
		struct sonde_dentry d;

		if (dentry == mount.top && mount.above != own) {
			own = mount.above;
			dentry = mount.point;
			sonde_read_mount(&mount, own);
			continue;
		}
		if (dentry == mount.top)
			return (int)bytes;
		sonde_read_dentry(&d, dentry);
		bytes += (__u32)(d.hash_and_length >> 32) + 1;
		barrier_var(bytes);
		if (dentry == d.parent)
			return (int)bytes;
		dentry = d.parent;
	}
	return PATH_SHORT + 1;
}

/* The call with the room that the path needs. */
#define in_room_of(place, call, ...)                                                                                   \
	(!(place)->dentry                                                 ? call(RECORD_BARE, __VA_ARGS__)             \
	 : (__u32)path_bytes((place)->dentry, (place)->mnt) <= PATH_SHORT ? call(RECORD_SMALL, __VA_ARGS__)            \
									  : call(RECORD_LARGE, __VA_ARGS__))

/* The path into `text` of a record of `room` bytes (a constant); `at` moves behind it. Without a place there is none. */
sonde_inline void fill_place(void *e, const __u32 room, __u32 *at, struct sonde_text *text, const struct place *place)
{
	int end = (int)*at;

	if (room != RECORD_BARE && place->dentry)
		end = room == RECORD_SMALL ? path_walk_small(e, *at, place->dentry, place->mnt)
					   : path_walk_large(e, *at, place->dentry, place->mnt);
	*at = sonde_path_end(e, text, *at, end);
}

/* sonde_reserve() by sonde_owner_called(), for what is seldom done. */
#define reserve_called(record, bytes)                                                                                  \
	({                                                                                                             \
		struct sonde_owner _owner = {};                                                                        \
		sonde_owner_called(&_owner);                                                                           \
		sonde_reserve_owned(record, bytes, &_owner);                                                           \
	})

/* Of an event that has `ino` and `dev`, those of a file. */
#define fill_inode(e, whose)                                                                                           \
	({                                                                                                             \
		struct file *_file = (whose);                                                                          \
		(e)->ino = _file ? BPF_CORE_READ(_file, f_inode, i_ino) : 0;                                           \
		(e)->dev = _file ? sonde_device_number(BPF_CORE_READ(_file, f_inode, i_sb, s_dev)) : 0;                \
	})

#endif

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A path of an event with one variable part: of a file, or of a place in the tree.
 *
 *	SONDE_PATH_WALKER(walk_path, sizeof(struct process_chroot) + SONDE_PATH_ROOM, 128);
 *	...
 *	e = sonde_reserve(process_chroot, sizeof *e + SONDE_PATH_ROOM);
 *	used = sonde_put_path(e, path, walk_path, sizeof *e, dentry, mnt);
 */
#ifndef SONDE_PATH_BPF_H
#define SONDE_PATH_BPF_H

#include "sonde/inode.bpf.h"

#define SONDE_PATH_ROOM 4352 /* PATH_MAX and the room of one component more */

/* What a walker said, as the text that it wrote at `at`; returns where the next part can begin. */
sonde_inline __u32 sonde_path_end(struct sonde_event *e, struct sonde_text *text, __u32 at, int end)
{
	text->offset = (__u16)at;
	text->length = 0;
	if (end < 0) {
		e->flags |= SONDE_FLAG_TRUNCATED;
		end = end == -1 ? (int)at : -end;
	}
	text->length = (__u16)((__u32)end - at);
	return (__u32)end;
}

#define sonde_put_path(e, member, walker, at, dentry, mnt)                                                             \
	sonde_path_end(&(e)->event, &(e)->member, (at), walker((void *)(e), (at), (__u64)(dentry), (__u64)(mnt)))

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is done through io_uring, where no system call tells it. */
#ifndef SONDE_URING_H
#define SONDE_URING_H

#include "probes/net/socket.h"

/* Source: include/uapi/linux/io_uring.h enum io_uring_op. */
#define URING_OPS                                                                                                      \
	"names=nop|readv|writev|fsync|read_fixed|write_fixed|poll_add|poll_remove|sync_file_range|sendmsg|recvmsg|"    \
	"timeout|timeout_remove|accept|async_cancel|link_timeout|connect|fallocate|openat|close|files_update|statx|"   \
	"read|write|fadvise|madvise|send|recv|openat2|epoll_ctl|splice|provide_buffers|remove_buffers|tee|shutdown|"   \
	"renameat|unlinkat|mkdirat|symlinkat|linkat|msg_ring|fsetxattr|setxattr|fgetxattr|getxattr|socket|uring_cmd|"  \
	"send_zc|sendmsg_zc|read_multishot|waitid|futex_wait|futex_wake|futex_waitv|fixed_fd_install|ftruncate|bind|"  \
	"listen|recv_zc|epoll_wait|readv_fixed|writev_fixed|pipe"

struct uring_create {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	__s32 fd SONDE_DOC("descriptor of the ring");
	__u32 sq_entries SONDE_DOC("requests that its queue holds");
	__u32 cq_entries SONDE_DOC("results that its queue holds");
	__u32 flags SONDE_DOC("IORING_SETUP_*; 2: a kernel thread takes requests without a system call") SONDE_OPTIONAL;
};

struct uring_op {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	__u64 id SONDE_AS("id") SONDE_DOC("the uring.done of the same request has it too");
	__u32 op SONDE_AS(URING_OPS) SONDE_DOC("operation");
	__s32 fd SONDE_DOC("descriptor, or index of a fixed file, that it is about; absent also: 0") SONDE_OPTIONAL;
	struct sonde_text
		name SONDE_DOC("file that it is about, from the kernel's own copy of the name, which nobody can "
			       "change: not resolved; of symlinkat the text of the link") SONDE_OPTIONAL;
	struct sonde_text dir SONDE_AS("path") SONDE_DOC("folder where a name that is not absolute begins")
		SONDE_OPTIONAL;
	struct sonde_text new_name SONDE_DOC("renameat, linkat, symlinkat: the new name, likewise; setxattr, "
					     "fsetxattr: name of the attribute") SONDE_OPTIONAL;
	struct sonde_text new_dir SONDE_AS("path") SONDE_DOC("folder where new_name begins, where it is another one")
		SONDE_OPTIONAL;
	__u64 flags SONDE_DOC(
		"of the operation: O_*, AT_*, RENAME_*, XATTR_*; of accept SOCK_*; of socket SOCK_* beside the type")
		SONDE_OPTIONAL;
	__u64 mode SONDE_DOC("of a file that is made") SONDE_OPTIONAL;
	__u32 family SONDE_AS(NET_FAMILIES) SONDE_DOC("socket: address family") SONDE_OPTIONAL;
	__u32 sock_type SONDE_AS(NET_TYPES) SONDE_DOC("socket: type") SONDE_OPTIONAL;
	__u32 protocol SONDE_DOC("socket: protocol within the family") SONDE_OPTIONAL;
	__u32 cmd_op SONDE_DOC("uring_cmd: number of the command, the driver's own") SONDE_OPTIONAL;
	__s32 backlog SONDE_DOC("listen: connections that may wait") SONDE_OPTIONAL;
	__u32 _pad;
};

struct uring_done {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	NET_KEYS_OF("file that was opened, resolved; of a unix socket its address: the peer's of connect",
		    SONDE_OPTIONAL);
	__u64 id SONDE_AS("id") SONDE_DOC("of the uring.op with what was asked for");
	__u32 op SONDE_AS(URING_OPS) SONDE_DOC("operation");
	__u32 _pad;
	__u64 ino SONDE_DOC("inode number of the file that was opened") SONDE_OPTIONAL SONDE_ECS("file.inode");
	__u64 dev SONDE_DOC("device of that file, as stat(2) numbers it") SONDE_OPTIONAL;
	__u64 latency_ns SONDE_DOC("from the request to its result") SONDE_ECS("event.duration");
};

SONDE_SECURITY_EVENT(uring_create, "uring.create", 1, priority, "A ring of io_uring was made.");
SONDE_SECURITY_EVENT(uring_op, "uring.op", 1, bulk,
		     "io_uring was asked for an operation on a file's name or a socket.");
SONDE_SECURITY_EVENT(uring_done, "uring.done", 1, bulk, "Such an operation of io_uring has ended.");

#endif

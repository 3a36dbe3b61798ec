/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a thread waits for, by the arguments of the system call that it is in. A descriptor is followed to the kernel's own file, a socket to
 * its addresses: nothing here is read from the program's memory. The thread may close the descriptor meanwhile: all is copied, and what
 * went reads as 0.
 */
#ifndef SONDE_OFFCPU_CAUSE_H
#define SONDE_OFFCPU_CAUSE_H

#define AF_INET  2
#define AF_INET6 10

#define MODE_TYPE   0170000
#define MODE_SOCKET 0140000
#define MODE_FILE   0100000
#define MODE_FOLDER 0040000
#define MODE_BLOCK  0060000
#define MODE_CHAR   0020000
#define MODE_PIPE   0010000

#define FUTEX_COMMAND     127
#define FUTEX_WAIT        0
#define FUTEX_LOCK_PI     6
#define FUTEX_WAIT_BITSET 9
#define FUTEX_REQUEUE_PI  11
#define FUTEX_LOCK_PI2    13

SONDE_PATH_WALKER(offcpu_walk, sizeof(struct offcpu_sample), 24);

/* Kernel device numbers are major:12 minor:20; stat(2) shows new_encode_dev(). Source: include/linux/kdev_t.h. */
sonde_inline __u64 device_number(__u32 dev)
{
	__u32 major = dev >> 20, minor = dev & 0xfffff;

	return (minor & 0xff) | (major << 8) | (__u64)(minor & ~0xffu) << 12;
}

sonde_inline void fill_socket(struct offcpu_cause *to, struct file *file)
{
	struct socket *socket = BPF_CORE_READ(file, private_data);
	struct sock *sk = BPF_CORE_READ(socket, sk);
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	if (family == AF_INET) {
		__u32 ends[2][4] = { { 0, 0, 0xffff0000, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr) },
				     { 0, 0, 0xffff0000, BPF_CORE_READ(sk, __sk_common.skc_daddr) } };

		__builtin_memcpy(&to->laddr, ends[0], sizeof to->laddr);
		__builtin_memcpy(&to->raddr, ends[1], sizeof to->raddr);
	} else if (family == AF_INET6 && bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
		bpf_probe_read_kernel(&to->laddr, sizeof to->laddr, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(&to->raddr, sizeof to->raddr, &sk->__sk_common.skc_v6_daddr);
	} else {
		return;
	}
	to->lport = BPF_CORE_READ(sk, __sk_common.skc_num);
	to->rport = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (!to->rport) /* a listening socket has no peer */
		__builtin_memset(&to->raddr, 0, sizeof to->raddr);
}

sonde_inline void fill_path(struct offcpu_sample *s, struct file *file)
{
	const __u32 at = __builtin_offsetof(struct offcpu_sample, _path);
	int end = offcpu_walk((void *)s, at, (__u64)BPF_CORE_READ(file, f_path.dentry),
			      (__u64)BPF_CORE_READ(file, f_path.mnt));

	if (end == -1)
		return;
	s->_cause.path_size = (__u16)((end < 0 ? -end : end) - at);
}

sonde_inline void fill_file(struct offcpu_sample *s, struct task_struct *task, __u32 fd)
{
	struct offcpu_cause *to = &s->_cause;
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **slot, *file = NULL;
	struct inode *inode;
	__u32 mode;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return;
	slot = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof file, slot + fd);
	if (!file)
		return;
	inode = BPF_CORE_READ(file, f_inode);
	to->ino = BPF_CORE_READ(inode, i_ino);
	mode = BPF_CORE_READ(inode, i_mode) & MODE_TYPE;
	if (mode == MODE_SOCKET) {
		to->kind = OFFCPU_SOCKET;
		fill_socket(to, file);
	} else if (mode == MODE_PIPE) {
		to->kind = OFFCPU_PIPE;
	} else if (mode == MODE_FILE || mode == MODE_FOLDER || mode == MODE_BLOCK || mode == MODE_CHAR) {
		to->kind = OFFCPU_FILE;
		if (mode == MODE_BLOCK)
			to->dev = device_number(BPF_CORE_READ(inode, i_rdev));
		else if (mode != MODE_CHAR)
			to->dev = device_number(BPF_CORE_READ(inode, i_sb, s_dev));
		fill_path(s, file);
	} else {
		to->kind = OFFCPU_ANONYMOUS;
		fill_path(s, file);
	}
}

sonde_inline bool futex_waits(const struct call *call)
{
	__u32 command = call->arguments[1] & FUTEX_COMMAND;

	return command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET || command == FUTEX_LOCK_PI ||
	       command == FUTEX_LOCK_PI2 || command == FUTEX_REQUEUE_PI;
}

/* Whether a futex wait is one for a mutex of glibc or musl: they wait for a lock word of 2, locked and waited for. */
#define MUTEX_WAITED 2
sonde_inline bool waits_for_mutex(const struct call *call)
{
	__u32 command = call->arguments[1] & FUTEX_COMMAND;

	return call->number == CALL_FUTEX && (__u32)call->arguments[2] == MUTEX_WAITED &&
	       (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET);
}

/* Fills the cause and the path of a sample whose header is filled. */
sonde_inline void fill_cause(struct offcpu_sample *s, struct task_struct *task, const struct call *call, __u32 state)
{
	__builtin_memset(&s->_cause, 0, sizeof s->_cause);
	s->_cause.syscall = call->number;
	s->_cause.state = (__u8)state;
	if (call->number == CALL_FUTEX && futex_waits(call))
		s->_cause.futex = call->arguments[0];
	else if (call_has_file(call->number))
		fill_file(s, task, (__u32)call->arguments[0]);
}

#endif

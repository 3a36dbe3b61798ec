/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For programs on the exit of a system call: what it was given, what it returned, and the files that its descriptors are.
 *
 *	SEC("tracepoint/syscalls/sys_exit_fchmod")
 *	int fchmod__tracepoint(struct trace_event_raw_sys_exit *ctx)
 *	{
 *		struct file *file = sonde_file_of(sonde_argument(0));
 *
 * Arguments are the values that the registers had at the entry: numbers and descriptors in them are what the kernel was given. Memory
 * that they point to is the program's, which may have changed it meanwhile: what is read there is never more than a hint.
 */
#ifndef SONDE_SYSCALL_BPF_H
#define SONDE_SYSCALL_BPF_H

#include "sonde/probe.bpf.h"
#include "sonde/security.h"

/* Argument `n`, 0 to 5 (a constant), of the system call that the thread is in. */
sonde_inline __u64 sonde_argument(const int n)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());

#if defined(__TARGET_ARCH_arm64)
	return n == 0 ? BPF_CORE_READ(regs, orig_x0) : BPF_CORE_READ(regs, user_regs.regs[n]);
#else
	switch (n) {
	case 0:
		return BPF_CORE_READ(regs, di);
	case 1:
		return BPF_CORE_READ(regs, si);
	case 2:
		return BPF_CORE_READ(regs, dx);
	case 3:
		return BPF_CORE_READ(regs, r10);
	case 4:
		return BPF_CORE_READ(regs, r8);
	default:
		return BPF_CORE_READ(regs, r9);
	}
#endif
}

/* What the call returned. Read where this stands: the compiler would move it behind a branch, with an address that the verifier does not take. */
sonde_inline long sonde_returned(struct trace_event_raw_sys_exit *ctx)
{
	long ret = ctx->ret;

	barrier_var(ret);
	return ret;
}

/* Which call it was. The kernel's own type is a long, of which it fills an int: the rest is what lay on its stack, unless it was built to clear
 * that. Source: kernel/trace/trace_syscalls.c perf_call_bpf_exit(). */
sonde_inline __s32 sonde_called(struct trace_event_raw_sys_exit *ctx)
{
	long id = ctx->id;

	barrier_var(id);
	return (__s32)id;
}

/* The file that descriptor `fd` of the running thread is now, or NULL. What another thread may do to the descriptor in between, it
 * could as well have done before the call. */
sonde_inline struct file *sonde_file_of(long fd)
{
	struct fdtable *table;
	struct file *file = NULL;

	if (fd < 0)
		return NULL;
	table = BPF_CORE_READ(bpf_get_current_task_btf(), files, fdt);
	if ((__u64)fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof file, BPF_CORE_READ(table, fd) + fd);
	return file;
}

#define SONDE_ANONYMOUS_MAGIC 0x09041934 /* include/uapi/linux/magic.h */
#define SONDE_SOCKFS_MAGIC    0x534f434b

/* Whether `file` is the kernel's own that it names `name` (a constant): what private_data is then, nobody else can have made. */
#define sonde_is_anonymous(file, name) sonde_has_name((file), (name), sizeof(name))
sonde_inline bool sonde_has_name(struct file *file, const char *name, const __u32 bytes)
{
	char found[24] = {};

	if (!file || BPF_CORE_READ(file, f_inode, i_sb, s_magic) != SONDE_ANONYMOUS_MAGIC)
		return false;
	if (bpf_probe_read_kernel_str(found, sizeof found, BPF_CORE_READ(file, f_path.dentry, d_name.name)) != bytes)
		return false;
	for (__u32 i = 0; i < bytes && i < sizeof found; i++)
		if (found[i] != name[i])
			return false;
	return true;
}

/* The socket that a file is, or NULL. */
sonde_inline struct sock *sonde_socket_of(struct file *file)
{
	struct socket *socket;

	if (!file || BPF_CORE_READ(file, f_inode, i_sb, s_magic) != SONDE_SOCKFS_MAGIC)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

/* Two 32-bit words before 6.3 (torvalds/linux f122a08b197d), one of 64 since: the same eight bytes. */
sonde_inline __u64 sonde_capabilities(const void *set)
{
	__u64 caps = 0;

	bpf_probe_read_kernel(&caps, sizeof caps, set);
	return caps;
}

/* Of an event that has SONDE_CREDENTIALS, those of the thread that runs. */
#define sonde_fill_credentials(e)                                                                                      \
	({                                                                                                             \
		const struct cred *_cred = SONDE_READS(task_struct, bpf_get_current_task_btf())->cred;                 \
		(e)->uid = _cred->uid.val;                                                                             \
		(e)->euid = _cred->euid.val;                                                                           \
		(e)->gid = _cred->gid.val;                                                                             \
		(e)->egid = _cred->egid.val;                                                                           \
		(e)->cap_eff = sonde_capabilities((void *)_cred + bpf_core_field_offset(struct cred, cap_effective));  \
	})

/* Of an event that has SONDE_RESULT. */
#define sonde_fill_result(e, returned)                                                                                 \
	({                                                                                                             \
		long _ret = (returned);                                                                                \
		(e)->ret = _ret < 0 ? 0 : _ret;                                                                        \
		(e)->error = _ret < 0 ? (__s32)_ret : 0;                                                               \
		(e)->_pad_result = 0;                                                                                  \
	})

#endif

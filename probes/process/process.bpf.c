// SPDX-License-Identifier: GPL-2.0-only
/*
 * What processes do to each other. The target is found by the number that the kernel was given, in the caller's pid namespace, or by the
 * pidfd; it is the process that has this number as the call ends. What pokes comes by the thousand: it goes by the bulk ring.
 */
#include "sonde/path.bpf.h"
#include "sonde/syscall.bpf.h"
#include "sonde/task.bpf.h"
#include <bpf/bpf_endian.h>
#include "process.h"

#define PTRACE_TRACEME          0
#define PTRACE_POKETEXT         4
#define PTRACE_POKEDATA         5
#define PTRACE_POKEUSER         6
#define PTRACE_KILL             8
#define PTRACE_SETREGS          13
#define PTRACE_SETFPREGS        15
#define PTRACE_ATTACH           16
#define PTRACE_DETACH           17
#define PTRACE_SETSIGINFO       0x4203
#define PTRACE_SETREGSET        0x4205
#define PTRACE_SEIZE            0x4206
#define PTRACE_SET_SYSCALL_INFO 0x4212

#define AF_INET  2
#define AF_INET6 10

/* ---- ptrace ---- */

sonde_inline enum process_request request_of(__u64 request)
{
	switch (request) {
	case PTRACE_TRACEME:
		return PROCESS_REQUEST_TRACEME;
	case PTRACE_POKETEXT:
		return PROCESS_REQUEST_POKETEXT;
	case PTRACE_POKEDATA:
		return PROCESS_REQUEST_POKEDATA;
	case PTRACE_POKEUSER:
		return PROCESS_REQUEST_POKEUSER;
	case PTRACE_KILL:
		return PROCESS_REQUEST_KILL;
#if !defined(__TARGET_ARCH_arm64)
	case PTRACE_SETREGS:
		return PROCESS_REQUEST_SETREGS;
	case PTRACE_SETFPREGS:
		return PROCESS_REQUEST_SETFPREGS;
#endif
	case PTRACE_ATTACH:
		return PROCESS_REQUEST_ATTACH;
	case PTRACE_DETACH:
		return PROCESS_REQUEST_DETACH;
	case PTRACE_SETSIGINFO:
		return PROCESS_REQUEST_SETSIGINFO;
	case PTRACE_SETREGSET:
		return PROCESS_REQUEST_SETREGSET;
	case PTRACE_SEIZE:
		return PROCESS_REQUEST_SEIZE;
	case PTRACE_SET_SYSCALL_INFO:
		return PROCESS_REQUEST_SET_SYSCALL_INFO;
	default:
		return PROCESS_REQUEST_NONE;
	}
}

sonde_inline bool is_poke(enum process_request name)
{
	return name >= PROCESS_REQUEST_POKETEXT;
}

sonde_inline void fill_ptrace(struct process_ptrace *e, enum process_request name, __u32 request, long ret)
{
	__u64 target = name == PROCESS_REQUEST_TRACEME ? bpf_get_current_task()
						       : sonde_task_numbered((__u32)sonde_argument(1));

	sonde_fill_credentials(e);
	sonde_fill_result(e, ret);
	sonde_fill_target(e, target);
	e->target_tid = target ? BPF_CORE_READ((struct task_struct *)target, pid) : 0;
	e->request_name = name;
	e->request = request;
	e->address = name >= PROCESS_REQUEST_POKETEXT && name <= PROCESS_REQUEST_POKEUSER ? sonde_argument(2) : 0;
	e->_pad = 0;
}

/* `ring`: which of the two must be plain to the verifier. */
#define SEND_PTRACE(ring, name, request, ret)                                                                          \
	do {                                                                                                           \
		struct process_ptrace *_e = sonde_begin_owned(ring, process_ptrace_type.id, sizeof *_e, &owner);       \
		if (!_e)                                                                                               \
			return 0;                                                                                      \
		fill_ptrace(_e, name, request, ret);                                                                   \
		sonde_end(ring, &_e->event, sizeof *_e);                                                               \
	} while (0)

SEC("tracepoint/syscalls/sys_exit_ptrace")
SONDE_FOR("process.ptrace")
int ptrace__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	__u64 request = sonde_argument(0);
	enum process_request name = request_of(request);
	struct sonde_owner owner;

	if (name == PROCESS_REQUEST_NONE || sonde_owner_called(&owner))
		return 0;
	if (is_poke(name))
		SEND_PTRACE(&sonde_bulk, name, (__u32)request, ctx->ret);
	else
		SEND_PTRACE(&sonde_priority, name, (__u32)request, ctx->ret);
	return 0;
}

/* ---- memory ---- */

SEC("tracepoint/syscalls/sys_exit_process_vm_writev")
SONDE_FOR("process.memory_write")
int memory_write__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	__u64 target = sonde_task_numbered((__u32)sonde_argument(0));
	struct process_memory_write *e;

	/* Into its own memory is no matter. */
	if (target && BPF_CORE_READ((struct task_struct *)target, tgid) == (int)(bpf_get_current_pid_tgid() >> 32))
		return 0;
	e = sonde_reserve(process_memory_write, sizeof *e);
	if (!e)
		return 0;
	sonde_fill_credentials(e);
	sonde_fill_result(e, ctx->ret);
	sonde_fill_target(e, target);
	e->parts = sonde_argument(4);
	sonde_submit(process_memory_write, e, sizeof *e);
	return 0;
}

/* ---- files ---- */

SONDE_PATH_WALKER(walk_path, sizeof(struct process_fd_get) + SONDE_PATH_ROOM, 128);

sonde_inline void copy_address(struct sonde_ip *ip, struct sock *sk, __u16 family, bool local)
{
	__u32 words[4] = { 0, 0, bpf_htonl(0xffff), 0 };

	if (family == AF_INET6) {
		if (local)
			BPF_CORE_READ_INTO(&words, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32);
		else
			BPF_CORE_READ_INTO(&words, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
	} else {
		words[3] =
			local ? BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr) : BPF_CORE_READ(sk, __sk_common.skc_daddr);
		if (!words[3])
			words[2] = 0;
	}
	__builtin_memcpy(ip, words, sizeof words);
}

sonde_inline void fill_socket(struct process_fd_get *e, struct sock *sk)
{
	e->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (e->family != AF_INET && e->family != AF_INET6)
		return;
	copy_address(&e->laddr, sk, e->family, true);
	copy_address(&e->raddr, sk, e->family, false);
	e->lport = BPF_CORE_READ(sk, __sk_common.skc_num);
	e->rport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
}

sonde_inline void clear_file(struct process_fd_get *e)
{
	e->fd = 0;
	e->ino = e->dev = 0;
	e->path.offset = sizeof *e;
	e->path.length = 0;
	e->family = e->lport = e->rport = 0;
	__builtin_memset(&e->laddr, 0, sizeof e->laddr);
	__builtin_memset(&e->raddr, 0, sizeof e->raddr);
	__builtin_memset(e->_pad, 0, sizeof e->_pad);
}

/* What the caller got; returns the bytes used. */
sonde_inline __u32 fill_file(struct process_fd_get *e, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct sock *sk = sonde_socket_of(file);

	e->ino = BPF_CORE_READ(inode, i_ino);
	e->dev = sonde_device_number(BPF_CORE_READ(inode, i_sb, s_dev));
	if (sk) {
		fill_socket(e, sk);
		return sizeof *e;
	}
	if (!BPF_CORE_READ(file, f_path.dentry, d_name.len)) /* a pipe */
		return sizeof *e;
	return sonde_put_path(e, path, walk_path, sizeof *e, BPF_CORE_READ(file, f_path.dentry),
			      BPF_CORE_READ(file, f_path.mnt));
}

SEC("tracepoint/syscalls/sys_exit_pidfd_getfd")
SONDE_FOR("process.fd_get")
int fd_get__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct sonde_owner owner;
	struct process_fd_get *e;
	__u32 used = sizeof *e;
	struct file *got;

	if (sonde_owner_called(&owner))
		return 0;
	e = sonde_reserve_owned(process_fd_get, sizeof *e + SONDE_PATH_ROOM, &owner);
	if (!e)
		return 0;
	sonde_fill_credentials(e);
	sonde_fill_result(e, ctx->ret);
	sonde_fill_target(e, sonde_task_of_pidfd((__s32)sonde_argument(0)));
	clear_file(e);
	e->target_fd = (__u32)sonde_argument(1);
	got = sonde_file_of(ctx->ret);
	if (got) {
		e->fd = (__u32)ctx->ret;
		used = fill_file(e, got);
	}
	sonde_submit(process_fd_get, e, used);
	return 0;
}

/* ---- signals ---- */

#define BIT(signal) (1ull << ((signal)-1))
/* HUP INT QUIT ILL TRAP ABRT BUS FPE KILL SEGV TERM STOP TSTP SYS: not those that programs keep for themselves. */
#define WATCHED                                                                                                        \
	(BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(9) | BIT(11) | BIT(15) |          \
	 BIT(19) | BIT(20) | BIT(31))

#define SI_USER  0
#define SI_TKILL -6

/* Whether the thread is in a call that takes a siginfo: rt_sigqueueinfo, rt_tgsigqueueinfo, or pidfd_send_signal. Those of 32 bits count as
 * well: what else has such a number sends nothing. */
sonde_inline bool gives_siginfo(void)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());

#if defined(__TARGET_ARCH_arm64)
	__u32 number = (__u32)BPF_CORE_READ(regs, syscallno);

	return number == 138 || number == 240 || number == 424 || number == 178 || number == 363;
#else
	__u32 number = (__u32)BPF_CORE_READ(regs, orig_ax) & ~0x40000000u; /* of x32 */

	return number == 129 || number == 297 || number == 424 || number == 178 || number == 335 || number == 524 ||
	       number == 536;
#endif
}

/* How a program sent it, or -1: the kernel did. Its own have no siginfo but a small number, or another code. Of a siginfo of its own a
 * program may choose any code below 0 but SI_TKILL, those of the kernel's timers and queues too. Source: kernel/signal.c do_rt_sigqueueinfo(). */
sonde_inline int sender_code(struct kernel_siginfo *info)
{
	__s32 code;

	if ((__u64)info < 4096)
		return -1;
	if (bpf_probe_read_kernel(&code, sizeof code,
				  (void *)info + bpf_core_field_offset(struct kernel_siginfo, si_code)))
		return (int)sonde_failed(-14);
	if (code == SI_USER)
		return 0;
	if (code == SI_TKILL)
		return 2;
	return code < 0 && gives_siginfo() ? 1 : -1;
}

SEC("tp_btf/signal_generate")
SONDE_FOR("process.signal")
int signal__tp_btf(__u64 *ctx)
{
	__u32 signal = (__u32)ctx[0], group = (__u32)ctx[3];
	struct process_signal *e;
	__u64 target;
	int code;

	if (signal - 1 > 30 || !(WATCHED & BIT(signal)))
		return 0;
	code = sender_code((void *)ctx[1]);
	target = ctx[2];
	if (code < 0 || BPF_CORE_READ((struct task_struct *)target, tgid) == (int)(bpf_get_current_pid_tgid() >> 32))
		return 0;
	e = sonde_reserve(process_signal, sizeof *e);
	if (!e)
		return 0;
	sonde_fill_credentials(e);
	sonde_fill_target(e, target);
	e->signal = signal;
	e->target_tid = group ? 0 : BPF_CORE_READ((struct task_struct *)target, pid);
	e->code = code;
	e->result = (__u32)ctx[4];
	sonde_submit(process_signal, e, sizeof *e);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

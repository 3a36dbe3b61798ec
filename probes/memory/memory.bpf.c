// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that becomes code. mmap and mprotect are frequent, and nearly all of them ask for no PROT_EXEC: that is the first thing looked at, in a register.
 * What is left is judged by the mapping itself, as the kernel has it when the call has ended.
 *
 * Compilers at run time do this all the time, and each is like the one before: of each process, kind and file one event a second goes out, with how many
 * there were since the last. What was not told when a thread of it ends, or before it becomes another program, is told then. The sums lie with the
 * first thread of the process.
 */
#include "sonde/inode.bpf.h"
#include "sonde/syscall.bpf.h"
#include "memory.h"

#define PROT_WRITE    2
#define PROT_EXEC     4
#define MAP_ANONYMOUS 0x20
#define VM_SHARED     8
#define S_IFREG       0100000
#define NAME_ROOM     256
#define QUIET_NS      1000000000ull

#define READ_IMPLIES_EXEC  0x0400000
#define ADDR_NO_RANDOMIZE  0x0040000
#define PERSONALITY_ASKING 0xffffffffu /* changes nothing */

/* ---- one event for many ---- */

struct folded {
	struct {
		__u64 told, count;
		__u64 file; /* that was told: file_number() */
	} kinds[MEMORY_KINDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct folded);
} memory_folded SEC(".maps");

/* Inode numbers alone are those of one file system. */
sonde_inline __u64 file_number(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);

	return file ? BPF_CORE_READ(inode, i_ino) ^ (__u64)BPF_CORE_READ(inode, i_sb, s_dev) << 32 : 0;
}

/* How many this event stands for; 0: it is counted for the next. */
sonde_inline __u64 take_count(__u32 kind, __u64 file)
{
	struct task_struct *leader = bpf_get_current_task_btf()->group_leader;
	struct folded *f = bpf_task_storage_get(&memory_folded, leader, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	__u64 now = bpf_ktime_get_boot_ns(), told;

	if (!f || kind >= MEMORY_KINDS)
		return 1;
	told = f->kinds[kind].told;
	if (told && now - told < QUIET_NS && f->kinds[kind].file == file) {
		__sync_fetch_and_add(&f->kinds[kind].count, 1);
		return 0;
	}
	if (__sync_val_compare_and_swap(&f->kinds[kind].told, told, now) != told) {
		__sync_fetch_and_add(&f->kinds[kind].count, 1);
		return 0;
	}
	f->kinds[kind].file = file;
	return 1 + __sync_lock_test_and_set(&f->kinds[kind].count, 0);
}

/* ---- memory.exec ---- */

/* What a mapping is. */
struct found {
	__u32 kind;
	__u64 file; /* struct file, or 0 */
};

struct asked {
	__u64 address, length;
	__s64 ret;
	__u32 call, prot, flags;
};

sonde_inline void put_file(struct memory_exec *e, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);

	e->name[0] = '\0';
	e->ino = e->dev = 0;
	if (!file)
		return;
	e->ino = BPF_CORE_READ(inode, i_ino);
	e->dev = sonde_device_number(BPF_CORE_READ(inode, i_sb, s_dev));
	bpf_probe_read_kernel_str(e->name, sizeof e->name, BPF_CORE_READ(file, f_path.dentry, d_name.name));
	if (BPF_CORE_READ(file, f_path.dentry, d_name.len) >= sizeof e->name)
		e->event.flags |= SONDE_FLAG_TRUNCATED;
}

sonde_inline void send(const struct asked *a, const struct found *f, __u64 count)
{
	struct memory_exec *e = sonde_reserve(memory_exec, sizeof *e);

	if (!e)
		return;
	sonde_fill_credentials(e);
	sonde_fill_result(e, a->ret);
	e->ret = 0;
	e->call = a->call;
	e->kind = f->kind;
	e->prot = a->prot;
	e->flags = a->flags;
	e->address = a->address;
	e->length_bytes = a->length;
	e->count = count;
	put_file(e, (struct file *)f->file);
	sonde_submit(memory_exec, e, sizeof *e);
}

sonde_inline bool is_nameless(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);

	return (BPF_CORE_READ(inode, i_mode) & SONDE_S_IFMT) == S_IFREG && !BPF_CORE_READ(inode, i_nlink);
}

static long look(struct task_struct *task, struct vm_area_struct *area, struct found *f)
{
	struct vm_area_struct *vma = SONDE_READS(vm_area_struct, area);
	struct file *file = vma->vm_file;

	f->file = (__u64)BPF_CORE_READ(vma, vm_file);
	if (!file)
		f->kind = MEMORY_KIND_ANONYMOUS;
	else if (is_nameless((void *)f->file))
		f->kind = MEMORY_KIND_NAMELESS;
	else if (vma->anon_vma && !(vma->vm_flags & VM_SHARED))
		f->kind = MEMORY_KIND_FILE;
	else
		f->kind = MEMORY_KINDS; /* the file as it is */
	return 0;
}

/* What of it can be written counts in any case. A mapping that another thread works on is not looked at, and is unknown. */
__attribute__((noinline)) int judge(struct asked *asked)
{
	struct asked a;
	struct found f = {};
	__u64 count;

	if (!asked)
		return 0;
	a = *asked;
	if (a.ret >= 0)
		bpf_find_vma(bpf_get_current_task_btf(), a.address, look, &f, 0);
	if (f.kind == MEMORY_KINDS) {
		if (!(a.prot & PROT_WRITE))
			return 0;
		f.kind = MEMORY_KIND_FILE;
	}
	count = take_count(f.kind, file_number((void *)f.file));
	if (count)
		send(&a, &f, count);
	return 0;
}

/* As sonde_argument(), but loaded: it stands on the way of every call. */
sonde_inline __u32 asked_prot(void)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());

#if defined(__TARGET_ARCH_arm64)
	return (__u32)regs->user_regs.regs[2];
#else
	return (__u32)regs->dx;
#endif
}

/* A file that is mapped to be run is one that has a name; what is written nobody sees in fresh memory that is not writable. */
SEC("tracepoint/syscalls/sys_exit_mmap")
SONDE_FOR("memory.exec")
int mmap__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct asked a = { .call = MEMORY_CALL_MMAP };
	struct file *file;

	a.prot = asked_prot();
	if (!(a.prot & PROT_EXEC))
		return 0;
	a.flags = (__u32)sonde_argument(3);
	if (!(a.prot & PROT_WRITE)) {
		file = a.flags & MAP_ANONYMOUS ? NULL : sonde_file_of((__s32)sonde_argument(4));
		if (!file || !is_nameless(file))
			return 0;
	}
	a.ret = ctx->ret;
	/* The upper half is no program's: an error. */
	a.address = a.ret < 0 ? sonde_argument(0) : (__u64)a.ret;
	a.length = sonde_argument(1);
	judge(&a);
	return 0;
}

#if defined(__TARGET_ARCH_arm64)
#define NR_MPROTECT 226
#else
#define NR_MPROTECT 10
#endif

SONDE_ONWARD(mprotect__tracepoint);

SEC("tracepoint/syscalls/sys_exit_mprotect")
SONDE_FOR("memory.exec")
SONDE_KEPT
int mprotect__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct asked a = {};

	a.prot = asked_prot();
	if (!(a.prot & PROT_EXEC))
		return 0;
	a.call = sonde_called(ctx) == NR_MPROTECT ? MEMORY_CALL_MPROTECT : MEMORY_CALL_PKEY_MPROTECT;
	a.ret = ctx->ret;
	a.address = sonde_argument(0);
	a.length = sonde_argument(1);
	judge(&a);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_pkey_mprotect")
SONDE_FOR("memory.exec")
int pkey_mprotect__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	SONDE_GOES_ON(ctx, mprotect__tracepoint);
	return 0;
}

/* Functions that the verifier checks by themselves. */
__attribute__((noinline)) int tell_count(__u32 kind, __u64 count)
{
	const struct asked nothing = { .call = MEMORY_CALL_NONE };
	const struct found what = { .kind = kind };

	send(&nothing, &what, count);
	return 0;
}

__attribute__((noinline)) int tell_rest(void)
{
	struct task_struct *leader = bpf_get_current_task_btf()->group_leader;
	struct folded *f = bpf_task_storage_get(&memory_folded, leader, NULL, 0);

	if (!f)
		return 0;
	for (__u32 kind = 0; kind < MEMORY_KINDS; kind++) {
		__u64 count = f->kinds[kind].count ? __sync_lock_test_and_set(&f->kinds[kind].count, 0) : 0;

		if (count)
			tell_count(kind, count);
	}
	return 0;
}

SEC("tp_btf/sched_process_exit")
SONDE_FOR("memory.exec")
int rest__tp_btf(void *ctx)
{
	return tell_rest();
}

/* What the program did is told while the process is still that program, and its first thread there to be asked. */
SEC("tp_btf/sched_prepare_exec")
SONDE_FOR("memory.exec")
int rest_before__tp_btf(void *ctx)
{
	return tell_rest();
}

SEC("tracepoint/syscalls/sys_enter_execve")
SONDE_FOR("memory.exec")
int rest_before__tracepoint(void *ctx)
{
	return tell_rest();
}

SEC("tracepoint/syscalls/sys_enter_execveat")
SONDE_FOR("memory.exec")
SONDE_COVERED_BY("rest_before__tp_btf")
int rest_before_at__tracepoint(void *ctx)
{
	return tell_rest();
}

/* ---- the others ---- */

sonde_inline __u32 put_name(struct memory_memfd *e, struct file *file)
{
	const unsigned char *name = BPF_CORE_READ(file, f_path.dentry, d_name.name);
	long n = bpf_probe_read_kernel_str((void *)e + sizeof *e, NAME_ROOM, name);

	e->ino = BPF_CORE_READ(file, f_inode, i_ino);
	e->name.length = n > 1 ? (__u16)(n - 1) : 0;
	return sizeof *e + e->name.length;
}

SEC("tracepoint/syscalls/sys_exit_memfd_create")
SONDE_FOR("memory.memfd")
int memfd__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct memory_memfd *e = sonde_reserve(memory_memfd, sizeof *e + NAME_ROOM);
	__u32 used = sizeof *e;
	struct file *file;

	if (!e)
		return 0;
	file = sonde_file_of(ctx->ret);
	sonde_fill_credentials(e);
	sonde_fill_result(e, ctx->ret);
	e->flags = (__u32)sonde_argument(1);
	e->ino = 0;
	e->name.offset = sizeof *e;
	e->name.length = 0;
	if (file)
		used = put_name(e, file);
	sonde_submit(memory_memfd, e, used);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_userfaultfd")
SONDE_FOR("memory.userfaultfd")
int userfaultfd__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	struct memory_userfaultfd *e = sonde_reserve(memory_userfaultfd, sizeof *e);

	if (!e)
		return 0;
	sonde_fill_credentials(e);
	sonde_fill_result(e, ctx->ret);
	e->flags = (__u32)sonde_argument(0);
	e->_pad = 0;
	sonde_submit(memory_userfaultfd, e, sizeof *e);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_personality")
SONDE_FOR("process.personality")
int personality__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	__u32 persona = (__u32)sonde_argument(0), old = (__u32)ctx->ret;
	struct process_personality *e;

	if (persona == PERSONALITY_ASKING || !(persona & ~old & (READ_IMPLIES_EXEC | ADDR_NO_RANDOMIZE)))
		return 0;
	e = sonde_reserve(process_personality, sizeof *e);
	if (!e)
		return 0;
	sonde_fill_credentials(e);
	sonde_fill_result(e, 0);
	e->persona = persona;
	e->old_persona = old;
	sonde_submit(process_personality, e, sizeof *e);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

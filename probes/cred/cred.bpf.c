// SPDX-License-Identifier: GPL-2.0-only
/*
 * cred.change. Each thread's rights, as they were seen last, are kept with the thread, and compared where they may change: at the end of
 * the system calls that do that, at exec, and at fork. Whoever has others without having been there got them in another way. That is found
 * at the next of these places, before an exec among them, as what an exploit does next is mostly to run a shell; and once a second a
 * reading of all threads compares each, which costs nobody's system calls anything.
 *
 * Beside who did it stands whether anybody could: a system call gives ids that the thread holds or has the capability to take, and
 * capabilities out of its permitted set. What is beyond that is a jump, whatever call it is found at.
 *
 * A reading sees threads in the midst of a call that has changed their rights and not yet come to its end: a difference counts when the
 * next reading finds the same. It reads `real_cred`, which the kernel does not replace while it acts in another's name (overlayfs, io_uring).
 */
#include "state.bpf.h"

#define PF_IO_WORKER   0x00000010 /* include/linux/sched.h */
#define PF_USER_WORKER 0x00004000 /* since 6.4 */
#define PF_KTHREAD     0x00200000

#define PR_SET_KEEPCAPS     8
#define PR_CAPBSET_DROP     24
#define PR_SET_SECUREBITS   28
#define PR_SET_NO_NEW_PRIVS 38
#define PR_CAP_AMBIENT      47

struct kept {
	struct cred_state state;
	__u64 doubt; /* of the last reading: what it found instead, hashed; 0: nothing */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct kept);
} cred_kept SEC(".maps");

sonde_inline bool is_program(struct task_struct *task)
{
	return !(task->flags & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER));
}

sonde_inline struct kept *kept_of(struct task_struct *task)
{
	return bpf_task_storage_get(&cred_kept, task, NULL, 0);
}

sonde_inline void keep(struct task_struct *task, const struct cred_state *now)
{
	struct kept *k = bpf_task_storage_get(&cred_kept, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!k) {
		sonde_failed(-12);
		return;
	}
	k->state = *now;
	k->doubt = 0;
}

sonde_inline bool is_possible_in(const struct cred_state *was, const struct cred_state *now, const struct cred *cred)
{
	void *ns = BPF_CORE_READ(cred, user_ns); /* copied: a function cannot be given a pointer as a number */

	return is_possible(was, now, ns + bpf_core_field_offset(struct user_namespace, uid_map),
			   ns + bpf_core_field_offset(struct user_namespace, gid_map));
}

/* Whether what happened says something, and how it came about. */
struct found {
	__u32 call, option;
	__s64 ret;
	bool jump;
};

/* A function that the verifier checks by itself. */
__attribute__((noinline)) int send(struct found *f, struct cred_state *was, struct cred_state *now,
				   struct sonde_owner *owner)
{
	struct cred_change *e;

	if (!f || !was || !now || !owner)
		return 0;
	e = sonde_reserve_owned(cred_change, sizeof *e + CRED_CHANGED_ROOM, owner);
	if (!e)
		return 0;
	put_new(e, now);
	put_old(e, was, now);
	sonde_fill_result(e, f->ret);
	e->ret = 0;
	e->call = f->call;
	e->option = f->option;
	e->jump = f->jump;
	e->_pad[0] = e->_pad[1] = 0;
	put_changed(e, was, now);
	sonde_submit(cred_change, e, sizeof *e + e->changed.length);
	return 0;
}

/* Of the thread that runs. A thread that is seen for the first time has no past: what it has is kept. `mode`: of the file that it runs, in
 * an exec. A function that the verifier checks by itself, once for all that call it. */
__attribute__((noinline)) int compare(__u32 call, __u32 option, __s64 ret, __u32 mode)
{
	struct task_struct *task = bpf_get_current_task_btf();
	const struct cred *cred = SONDE_READS(task_struct, task)->cred;
	struct found f = { .call = call, .option = option, .ret = ret };
	struct kept *k = kept_of(task);
	struct sonde_owner owner;
	struct cred_state now;

	read_state(&now, cred, task);
	if (!k) {
		keep(task, &now);
		return 0;
	}
	if (is_same(&k->state, &now) && ret >= 0)
		return 0;
	if (call == CRED_CALL_EXECVE)
		f.jump = exec_jumps(&k->state, &now, mode);
	else
		f.jump = !is_possible_in(&k->state, &now, cred);
	sonde_owner_of(&owner, task);
	send(&f, &k->state, &now, &owner);
	k->state = now;
	k->doubt = 0;
	return 0;
}

/* ---- system calls that change rights ---- */

/* Their numbers, x86-64's and arm64's. The last three leave the thread as it was, mostly, also when they fail; what setfsuid and setfsgid return is the id
 * that was, as the program's namespace has it, and nothing else. */
#define CALLS(X)                                                                                                       \
	X(setuid, SETUID, 105, 146, ret)                                                                               \
	X(setgid, SETGID, 106, 144, ret)                                                                               \
	X(setreuid, SETREUID, 113, 145, ret)                                                                           \
	X(setregid, SETREGID, 114, 143, ret)                                                                           \
	X(setgroups, SETGROUPS, 116, 159, ret)                                                                         \
	X(setresuid, SETRESUID, 117, 147, ret)                                                                         \
	X(setresgid, SETRESGID, 119, 149, ret)                                                                         \
	X(setfsuid, SETFSUID, 122, 151, 0)                                                                             \
	X(setfsgid, SETFSGID, 123, 152, 0)                                                                             \
	X(add_key, ADD_KEY, 248, 217, 0)                                                                               \
	X(request_key, REQUEST_KEY, 249, 218, 0)                                                                       \
	X(unshare, UNSHARE, 272, 97, 0)                                                                                \
	X(setns, SETNS, 308, 268, 0)

#if defined(__TARGET_ARCH_arm64)
#define NUMBER(x86, arm) arm
#else
#define NUMBER(x86, arm) x86
#endif
#define NR_KEYCTL NUMBER(250, 219)
#define NR_PRCTL  NUMBER(157, 167)

SONDE_ONWARD(capset__tracepoint);

SEC("tracepoint/syscalls/sys_exit_capset")
int capset__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	__u32 call = CRED_CALL_CAPSET, option = 0;
	long ret = sonde_returned(ctx);

	switch (sonde_called(ctx)) {
#define CALL(name, call_named, x86, arm, returned)                                                                     \
	case NUMBER(x86, arm):                                                                                         \
		call = CRED_CALL_##call_named;                                                                         \
		ret = returned;                                                                                        \
		break;
		CALLS(CALL)
#undef CALL
	case NR_KEYCTL:
		call = CRED_CALL_KEYCTL;
		option = (__u32)sonde_argument(0);
		ret = 0;
		break;
	case NR_PRCTL:
		call = CRED_CALL_PRCTL;
		option = (__u32)sonde_argument(0);
		if (option == PR_CAP_AMBIENT && ret == -22)
			ret = 0; /* questions for what there is not are refused too */
		break;
	}
	compare(call, option, ret, 0);
	return 0;
}

#define ON_EXIT(name, ...)                                                                                             \
	SEC("tracepoint/syscalls/sys_exit_" #name)                                                                     \
	int name##__tracepoint(struct trace_event_raw_sys_exit *ctx)                                                   \
	{                                                                                                              \
		SONDE_GOES_ON(ctx, capset__tracepoint);                                                                \
		return 0;                                                                                              \
	}
CALLS(ON_EXIT)
ON_EXIT(keyctl)

SEC("tracepoint/syscalls/sys_exit_prctl")
int prctl__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	__u32 option = (__u32)sonde_argument(0);

	if (option == PR_SET_KEEPCAPS || option == PR_CAPBSET_DROP || option == PR_SET_SECUREBITS ||
	    option == PR_SET_NO_NEW_PRIVS || option == PR_CAP_AMBIENT)
		SONDE_GOES_ON(ctx, capset__tracepoint);
	return 0;
}

/* ---- exec ---- */

/* Before the program gets its rights: those of the thread shall still be the ones that are kept. */
SEC("tp_btf/sched_prepare_exec")
int before__tp_btf(void *ctx)
{
	compare(CRED_CALL_NONE, 0, 0, 0);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_execve")
int before__tracepoint(void *ctx)
{
	compare(CRED_CALL_NONE, 0, 0, 0);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_execveat")
SONDE_COVERED_BY("before__tp_btf")
int before_at__tracepoint(void *ctx)
{
	compare(CRED_CALL_NONE, 0, 0, 0);
	return 0;
}

/* With a handler of binfmt_misc that has flag C, it is the file that it handles whose mode counts. */
SEC("tp_btf/sched_process_exec")
int exec__tp_btf(__u64 *ctx)
{
	struct linux_binprm *bprm = (void *)ctx[2];

	compare(CRED_CALL_EXECVE, 0, 0,
		BPF_CORE_READ(bprm, file, f_inode, i_mode) | BPF_CORE_READ(bprm, executable, f_inode, i_mode));
	return 0;
}

/* ---- fork ---- */

/* With a stack of its own: Linux 6.1 adds up those of a program and of all that it calls. */
static __attribute__((noinline)) int tell_child(struct task_struct *child, struct kept *k, struct cred_state *now)
{
	struct found f = { .call = CRED_CALL_CLONE };
	struct sonde_owner owner;

	f.jump = !is_possible_in(&k->state, now, child->cred);
	sonde_owner_of(&owner, child);
	send(&f, &k->state, now, &owner);
	return 0;
}

static __attribute__((noinline)) int is_as_forker(struct task_struct *child)
{
	struct kept *k = kept_of(bpf_get_current_task_btf());
	struct cred_state now;

	read_state(&now, SONDE_READS(task_struct, child)->cred, child);
	return k && is_same(&k->state, &now);
}

static __attribute__((noinline)) int take_child(struct task_struct *child)
{
	struct kept *k = kept_of(bpf_get_current_task_btf());
	struct cred_state now;

	read_state(&now, SONDE_READS(task_struct, child)->cred, child);
	if (k && !is_same(&k->state, &now))
		tell_child(child, k, &now);
	keep(child, &now);
	return 0;
}

/* The child has what the forker has, but for a user namespace of its own; so the forker need not be read if the child is as it should be. The
 * identity of the child is known by now. */
SEC("tp_btf/task_newtask")
int BPF_PROG(fork__tp_btf, struct task_struct *child, __u64 clone_flags)
{
	if (!is_program(child))
		return 0;
	if (!is_as_forker(child))
		compare(CRED_CALL_NONE, 0, 0, 0);
	return take_child(child);
}

/* ---- all threads ---- */

sonde_inline __u64 hash_of(const struct cred_state *s)
{
	const __u64 *words = (const __u64 *)s;
	__u64 hash = 0;

	for (unsigned i = 0; i < sizeof *s / sizeof *words; i++)
		hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15ull;
	return hash | 1;
}

/* What others than the thread itself change with full right: its keyring (KEYCTL_SESSION_TO_PARENT), and no_new_privs (seccomp's TSYNC). */
sonde_inline void take_over(struct kept *k, const struct cred_state *now)
{
	k->state.session = now->session;
	k->state.no_new_privs |= now->no_new_privs;
}

SEC("iter/task")
int threads__iter(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	const struct cred *cred;
	struct found f = {};
	struct sonde_owner owner;
	struct cred_state now;
	struct kept *k;
	__u64 hash;

	if (!task || !is_program(task) || task->in_execve)
		return 0;
	cred = task->real_cred;
	read_state(&now, cred, task);
	k = kept_of(task);
	if (!k) {
		keep(task, &now);
		return 0;
	}
	hash = is_same(&k->state, &now) ? 0 : hash_of(&now);
	if (!hash || hash != k->doubt) {
		k->doubt = hash;
		return 0;
	}
	k->doubt = 0;
	take_over(k, &now);
	if (is_same(&k->state, &now))
		return 0;
	f.jump = !is_possible_in(&k->state, &now, cred);
	sonde_owner_of(&owner, task);
	send(&f, &k->state, &now, &owner);
	k->state = now;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

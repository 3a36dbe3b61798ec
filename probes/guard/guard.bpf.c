// SPDX-License-Identifier: GPL-2.0-only
/*
 * Responses in the kernel: where the condition of a rule can be decided as a program begins (pipelines/rules/predicate.h), the program is killed before its first
 * instruction, or not even begun; where it can be as a file is opened or a socket connected, who does that is killed before the call returns, or may not connect; and processes that are marked, with all that they make, may not connect.
 *
 * Nothing here depends on user space being quick, on room in a ring, or on a scratch buffer that somebody else may need: the path of a program is walked into memory
 * that is the program's alone. Where even that is not to be had, nothing is done here, and user space does it.
 */
#include "sonde/probe.bpf.h"
#include "sonde/syscall.bpf.h"
#include <bpf/bpf_endian.h>
#include "guard.h"
#include "predicate.bpf.h"

#define AF_INET      2
#define AF_INET6     10
#define EINPROGRESS  115
#define CLONE_THREAD 0x00010000
#define SIGKILL      9
#define ALLOW        1
#define REFUSE       0 /* EPERM */
#define MINUTE_NS    60000000000ull
#define BLOCKS_TOLD  1000          /* refused connects, in a second at most */
#define TELL_NS      1000000000ull /* refused connects of one process: a record a second at most, and one as it ends */

/* As enum response_action_kind of identity.h. */
enum { ACTION_KILL, ACTION_CAPTURE, ACTION_BURST, ACTION_DENY, ACTION_BLOCK };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, GUARD_MARKS_MAX);
	__type(key, __u32);
	__type(value, struct guard_mark);
} guard_marks SEC(".maps");

__u64 guard_minute = 0;
__u32 guard_kills = 0;
struct sonde_rate guard_blocks = {};

/* ---- telling ---- */

/* Without the storage of tasks, which not all of these programs may look at. */
sonde_inline void tell(const struct sonde_owner *owner, __u32 rule, __u32 action, __s32 error, __u32 moment,
		       __u32 count)
{
	struct sonde_counts *counts = sonde_counts_of(guard_note_type.id);
	struct guard_note *note;

	if (!counts)
		return;
	__sync_fetch_and_add(&counts->produced, 1);
	note = bpf_ringbuf_reserve(&sonde_priority, sizeof *note, 0);
	if (!note) {
		__sync_fetch_and_add(&counts->dropped[SONDE_DROP_RING_FULL], 1);
		return;
	}
	sonde_fill_header(&note->event, guard_note_type.id, owner);
	note->event.size = sizeof *note;
	note->rule = rule;
	note->action = action;
	note->error = error;
	note->count = count;
	note->moment = moment;
	note->_pad = 0;
	bpf_ringbuf_submit(note, BPF_RB_FORCE_WAKEUP);
}

/* ---- a program begins ---- */

/* What rules are tried on: a file, or the far end of a connect. */
struct subject {
	__u64 file;
	__u32 place;
	bool reads; /* of an open for reading: only rules that are asked of reads */
	const struct guard_end *end;
};

/* The number of the first rule that has the action and fits, or NO_RULE. */
sonde_inline __u32 rule_that_fits(const struct subject *s, __u32 action, __u32 moment)
{
	__u32 zero = 0;
	struct guard_control *control = bpf_map_lookup_elem(&guard_control, &zero);
	/* In one load: never of one half where the rules begin, and of the other how many there are. */
	__u64 half = control ? *(const volatile __u64 *)control : 0;
	struct guard_rule *rule;

	for (__u32 i = 0; i < GUARD_RULES_MAX; i++) {
		__u32 number = (__u32)half + i;

		if (i >= half >> 32)
			break;
		rule = bpf_map_lookup_elem(&guard_rules, &number);
		if (!rule || rule->moment != moment || !(rule->actions & 1u << action) || (s->reads && !rule->reads))
			continue;
		if (s->end ? guard_end_holds(s->end, number) : guard_rule_holds(s->file, s->place, number))
			return rule->number;
	}
	return NO_RULE;
}

/* Two that begin a minute together may count one kill too few. */
sonde_inline bool may_kill(const struct guard_control *control)
{
	__u64 now = bpf_ktime_get_boot_ns();

	if (now - guard_minute >= MINUTE_NS) {
		guard_minute = now;
		guard_kills = 0;
	}
	return __sync_fetch_and_add(&guard_kills, 1) < control->kill_rate;
}

/* init, the agent and what it begins: nothing is done to these. */
sonde_inline bool is_protected(struct task_struct *task, const struct guard_control *control)
{
	return task->tgid == 1 || (__u32)task->tgid == control->agent ||
	       (__u32)BPF_CORE_READ(task, real_parent, tgid) == control->agent;
}

/* 0, or why it was not killed. */
sonde_inline long kill_task(struct task_struct *task)
{
	__u32 zero = 0;
	struct guard_control *control = bpf_map_lookup_elem(&guard_control, &zero);

	if (!control || is_protected(task, control))
		return -1;                                         /* EPERM */
	return may_kill(control) ? bpf_send_signal(SIGKILL) : -16; /* EBUSY */
}

sonde_inline long mark_task(struct task_struct *task, __u32 rule)
{
	struct guard_mark mark = { .began = task->group_leader->start_boottime, .rule = rule };
	__u32 pid = task->tgid;
	long error = bpf_map_update_elem(&guard_marks, &pid, &mark, BPF_ANY);

	return error ? sonde_failed(error) : 0;
}

/* 0, or why it was not marked. */
sonde_inline long deny_task(struct task_struct *task, __u32 rule)
{
	__u32 zero = 0;
	struct guard_control *control = bpf_map_lookup_elem(&guard_control, &zero);

	return !control || is_protected(task, control) ? -1 : mark_task(task, rule); /* EPERM */
}

/* Denies and kills the running task, as a rule says. */
sonde_inline void respond(__u32 denies, __u32 kills, __u32 moment)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct sonde_owner owner;

	if ((denies == NO_RULE && kills == NO_RULE) || sonde_owner_called(&owner) < 0 || owner.filtered)
		return;
	if (denies != NO_RULE)
		tell(&owner, denies, ACTION_DENY, (__s32)deny_task(task, denies), moment, 0);
	if (kills != NO_RULE)
		tell(&owner, kills, ACTION_KILL, (__s32)kill_task(task), moment, 0);
}

sonde_inline void judge_file(__u64 file, __u32 moment, bool reads)
{
	struct subject s = { .file = file, .place = guard_take_place(), .reads = reads };
	__u32 denies = rule_that_fits(&s, ACTION_DENY, moment), kills = rule_that_fits(&s, ACTION_KILL, moment);

	guard_leave_place(s.place);
	respond(denies, kills, moment);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(exec__tp_btf, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	judge_file((__u64)BPF_CORE_READ(bprm, file), GUARD_AT_EXEC, false);
	return 0;
}

/* The kernel calls it for a script and again for its interpreter. */
SEC("lsm/bprm_check_security")
SONDE_WHEN("decides begin")
int BPF_PROG(block__lsm, struct linux_binprm *bprm, int ret)
{
	struct subject s = { .file = (__u64)BPF_CORE_READ(bprm, file) };
	struct sonde_owner owner;
	__u32 rule;

	if (ret)
		return ret;
	s.place = guard_take_place();
	rule = rule_that_fits(&s, ACTION_BLOCK, GUARD_BEFORE_EXEC);
	guard_leave_place(s.place);
	if (rule == NO_RULE || sonde_owner_called(&owner) < 0 || owner.filtered)
		return 0;
	tell(&owner, rule, ACTION_BLOCK, 0, GUARD_BEFORE_EXEC, 0);
	return -1; /* EPERM */
}

/* ---- a file is opened ---- */

/* Of what was opened, which is what module file tells (probes/file): all that is written to or made, but for devices that keep nothing, and of what is read that which rules name,
 * which it watches. */
__attribute__((noinline)) int guard_opened(long fd)
{
	struct file *file = sonde_file_of(fd);
	struct inode *inode;
	__u32 mode;

	if (!file)
		return 0;
	mode = BPF_CORE_READ(file, f_mode);
	inode = BPF_CORE_READ(file, f_inode);
	if (mode & FMODE_PATH || !inode)
		return 0;
	if (!(mode & (FMODE_WRITE | FMODE_CREATE)))
		judge_file((__u64)file, GUARD_AT_OPEN, true);
	else if ((BPF_CORE_READ(inode, i_mode) & SONDE_S_IFMT) != SONDE_S_IFCHR ||
		 !sonde_is_sink(BPF_CORE_READ(inode, i_rdev)))
		judge_file((__u64)file, GUARD_AT_OPEN, false);
	return 0;
}

#define OPENS_ON(call)                                                                                                 \
	SEC("tracepoint/syscalls/sys_exit_" #call)                                                                     \
	SONDE_WHEN("decides open")                                                                                     \
	int call##__tracepoint(struct trace_event_raw_sys_exit *ctx)                                                   \
	{                                                                                                              \
		return guard_opened(sonde_returned(ctx));                                                              \
	}
OPENS_ON(openat)
OPENS_ON(open)
OPENS_ON(creat)
OPENS_ON(openat2)
OPENS_ON(open_by_handle_at)

/* ---- a socket is connected ---- */

#define LOOPBACK4 bpf_htonl(0x7f000001)

sonde_inline void map_address4(struct guard_end *end, __u32 address)
{
	__u32 *words = (__u32 *)end->address;

	words[0] = words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = address;
}

sonde_inline bool end_of(struct guard_end *end, struct sock *sk)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	end->port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	end->protocol = BPF_CORE_READ(sk, sk_protocol);
	if (family == AF_INET)
		map_address4(end, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	else if (family == AF_INET6 && bpf_core_field_exists(sk->__sk_common.skc_v6_daddr))
		BPF_CORE_READ_INTO(&end->address, sk, __sk_common.skc_v6_daddr);
	else
		return false;
	return true;
}

/* What module net tells as a connect that was made, or is under way. */
SEC("tracepoint/syscalls/sys_exit_connect")
SONDE_WHEN("decides connected")
int connected__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);
	struct guard_end end = {};
	struct subject s = { .end = &end };
	struct sock *sk;

	if (ret && ret != -EINPROGRESS)
		return 0;
	sk = sonde_socket_of(sonde_file_of((__s32)sonde_argument(0)));
	if (!sk || !end_of(&end, sk))
		return 0;
	respond(rule_that_fits(&s, ACTION_DENY, GUARD_AT_CONNECT), rule_that_fits(&s, ACTION_KILL, GUARD_AT_CONNECT),
		GUARD_AT_CONNECT);
	return 0;
}

/* ---- connecting ---- */

/* A mark of the process, if it is really its own. */
sonde_inline struct guard_mark *mark_of(struct task_struct *task)
{
	__u32 pid = task->tgid;
	struct guard_mark *mark = bpf_map_lookup_elem(&guard_marks, &pid);

	return mark && mark->began == BPF_CORE_READ(task, group_leader, start_boottime) ? mark : NULL;
}

/* The connects of a marked process that no record tells of yet. */
sonde_inline void tell_refused(struct guard_mark *mark, struct task_struct *task)
{
	struct sonde_owner owner;

	sonde_owner_known(&owner, task, NULL);
	tell(&owner, mark->rule, ACTION_DENY, 0, 0, (__u32)__sync_lock_test_and_set(&mark->refused, 0));
}

sonde_inline int may_send(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct guard_mark *mark = mark_of(task);
	struct guard_control *control;
	__u64 now, told;
	__u32 zero = 0;

	if (!mark)
		return ALLOW;
	/* The agent may descend from who is denied. */
	control = bpf_map_lookup_elem(&guard_control, &zero);
	if (!control || is_protected(task, control))
		return ALLOW;
	__sync_fetch_and_add(&mark->refused, 1);
	now = bpf_ktime_get_boot_ns();
	told = mark->told;
	if (now - told < TELL_NS || __sync_val_compare_and_swap(&mark->told, told, now) != told)
		return REFUSE;
	tell_refused(mark, task);
	return REFUSE;
}

/* Who tries without end shall not fill the ring. */
sonde_inline void tell_blocked(const struct sonde_owner *owner, __u32 rule)
{
	struct sonde_counts *counts;

	if (sonde_rate_allows(&guard_blocks, bpf_ktime_get_boot_ns(), BLOCKS_TOLD)) {
		tell(owner, rule, ACTION_BLOCK, 0, GUARD_BEFORE_CONNECT, 0);
		return;
	}
	counts = sonde_counts_of(guard_note_type.id);
	if (!counts)
		return;
	__sync_fetch_and_add(&counts->produced, 1);
	__sync_fetch_and_add(&counts->dropped[SONDE_DROP_RATE], 1);
}

sonde_inline int may_connect(const struct guard_end *end)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct subject s = { .end = end };
	struct guard_control *control;
	struct sonde_owner owner;
	__u32 rule, zero = 0;

	if (may_send() == REFUSE)
		return REFUSE;
	rule = rule_that_fits(&s, ACTION_BLOCK, GUARD_BEFORE_CONNECT);
	control = bpf_map_lookup_elem(&guard_control, &zero);
	if (rule == NO_RULE || !control || is_protected(task, control))
		return ALLOW;
	sonde_owner_known(&owner, task, NULL);
	if (owner.filtered)
		return ALLOW;
	tell_blocked(&owner, rule);
	return REFUSE;
}

/* Who connects to no address connects to its own, or to loopback. Source: net/ipv4/route.c ip_route_output_key_hash_rcu(). */
SEC("cgroup/connect4")
SONDE_WHEN("decides connect")
int connect4__cgroup(struct bpf_sock_addr *ctx)
{
	__u32 address = ctx->user_ip4;
	struct guard_end end = { .port = bpf_ntohs((__u16)ctx->user_port), .protocol = ctx->protocol };
	struct bpf_sock *sk = ctx->sk;

	if (!address && sk)
		address = sk->src_ip4;
	map_address4(&end, address ? address : LOOPBACK4);
	return may_connect(&end);
}

/* Source: net/ipv6/tcp_ipv6.c tcp_v6_connect(). */
SEC("cgroup/connect6")
SONDE_WHEN("decides connect")
int connect6__cgroup(struct bpf_sock_addr *ctx)
{
	__u32 words[4] = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] };
	struct guard_end end = { .port = bpf_ntohs((__u16)ctx->user_port), .protocol = ctx->protocol };
	struct bpf_sock *sk = ctx->sk;

	if (!words[0] && !words[1] && !words[2] && !words[3]) {
		words[3] = bpf_htonl(1);
		if (sk && sk->src_ip6[2] == bpf_htonl(0xffff))
			words[2] = bpf_htonl(0xffff), words[3] = LOOPBACK4;
	}
	__builtin_memcpy(end.address, words, sizeof words);
	return may_connect(&end);
}

SEC("cgroup/sendmsg4")
SONDE_WHEN("response deny")
int send4__cgroup(void *ctx)
{
	return may_send();
}

SEC("cgroup/sendmsg6")
SONDE_WHEN("response deny")
int send6__cgroup(void *ctx)
{
	return may_send();
}

/* A child has its parent's mark before it runs. */
SEC("tp_btf/task_newtask")
SONDE_WHEN("response deny")
int BPF_PROG(inherit__tp_btf, struct task_struct *child, __u64 clone_flags)
{
	struct guard_mark *mark;

	if (clone_flags & CLONE_THREAD)
		return 0;
	mark = mark_of(bpf_get_current_task_btf());
	if (mark)
		mark_task(child, mark->rule);
	return 0;
}

SEC("tp_btf/sched_process_exit")
SONDE_WHEN("response deny")
int BPF_PROG(exit__tp_btf, struct task_struct *task)
{
	__u32 pid = task->tgid;
	struct guard_mark *mark;

	if (task->signal->live.counter)
		return 0;
	mark = bpf_map_lookup_elem(&guard_marks, &pid);
	if (!mark)
		return 0;
	if (mark->refused)
		tell_refused(mark, task);
	bpf_map_delete_elem(&guard_marks, &pid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

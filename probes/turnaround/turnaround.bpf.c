// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long answers take, by the turns that the payload of a connection takes, as sonde replay does it with packets: what the client
 * sends is a request until the server sends; the first that the server sends then is its answer. Whatever both say, encrypted or not.
 *
 *	server	data arrives (the request's last so far) ── socket wait ──► read ── processing ──► first byte is sent
 *	client	a byte is sent (the request's last so far) ── turnaround ──► data arrives ── socket wait ──► read
 *
 * All hooks but the arrival's run under the lock of the socket by the task that uses it; the arrival's runs under it too, in whichever task
 * was interrupted. So the state, which lies with the socket, needs no other lock, and what an arrival has to say waits for the task
 * that reads. Sums are kept here, by service and window: an answer costs no record and no wake-up. A window's sums are read when the next
 * one is some time old, so that no program still adds to them.
 *
 * The kernel skips a program that already runs on the same CPU, and arrivals nest. One that was missed is found by the read: the
 * socket has received more than was seen.
 */
#include "probes/tcp/ends.bpf.h"
#include "turnaround.h"

#define NS_PER_SECOND 1000000000ull

SONDE_SETTING(__u64, slow, 1000000000ull, 0, 0, "ns", "an answer that took as long is a tcp.slow");
SONDE_SETTING(__u32, slow_rate, 100, 0, 100000, "", "the most tcp.slow in a second");

/* What an arrival touches lies in one cache line: the two ends of a connection are often served by two CPUs. */
struct turn {
	__u64 received; /* payload that had arrived as it was looked at last */
	__u64 request;  /* monotonic clock: the last byte of the request so far */
	__u64 seen;     /* server: when it was read; client: when the answer came that was not read yet; 0: neither */
	bool waiting;   /* a request has no answer yet */
	__u8 side;      /* enum tcp_side, as in the key */
	bool unmatched; /* by the filter of sockets: nothing is looked at any more */
	__u8 _pad;
	__u32 pid;                /* whom the key names */
	__u64 execs;              /* of that task: it is another program's after an exec */
	__u64 ran_ns, delayed_ns; /* server: of the thread that read, as it did */
	struct turnaround_key key;
	__u32 tid; /* server: which thread read */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct turn);
} turnaround_turns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TURNAROUND_SERVICES);
	__type(key, struct turnaround_key);
	__type(value, struct turnaround_sums);
} turnaround_services SEC(".maps");

/* All zeros, to begin sums with: no stack holds as much. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct turnaround_sums);
} turnaround_blank SEC(".maps");

__u32 turnaround_window SEC(".data") = 0; /* set by the module */
struct sonde_rate slow_said = {};

/* ---- whose ---- */

sonde_inline __u8 side_of(struct tcp_sock *tp)
{
	__u64 sequence = sequence_sent(tp->bytes_acked, tp->snd_una, tp->snd_nxt, tp->write_seq,
				       tp->inet_conn.icsk_inet.sk.__sk_common.skc_state);

	return (__u8)side_by_sequence(sequence, tp->bytes_sent - tp->bytes_retrans);
}

sonde_inline __u64 received_of(struct tcp_sock *tp)
{
	return tp->bytes_received - !!(tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags & SOCK_DONE);
}

/* When what arrives now was taken in: the kernel has looked at the (monotonic) clock for it. Source: net/ipv4/tcp_input.c tcp_rcv_established(),
 * tcp_rcv_state_process(). */
sonde_inline __u64 arrival_of(struct tcp_sock *tp)
{
	return tp->tcp_clock_cache;
}

/* The kernel's clock and ours may differ by some nanoseconds. */
sonde_inline __u64 since(__u64 from, __u64 to)
{
	return (__s64)(to - from) > 0 ? to - from : 0;
}

sonde_inline void fill_service(struct turnaround_key *key, struct tcp_sock *tp)
{
	struct sock_common *c = &tp->inet_conn.icsk_inet.sk.__sk_common;
	bool server = key->side == TCP_SIDE_SERVER;
	__u32 words[4] = { 0, 0, bpf_htonl(0xffff), server ? c->skc_rcv_saddr : c->skc_daddr };

	key->port = bpf_ntohs(server ? tp->inet_conn.icsk_inet.inet_sport : c->skc_dport);
	if (c->skc_family == AF_INET6 && bpf_core_field_exists(c->skc_v6_daddr)) {
		for (int i = 0; i < 4; i++)
			words[i] = server ? c->skc_v6_rcv_saddr.in6_u.u6_addr32[i] : c->skc_v6_daddr.in6_u.u6_addr32[i];
	}
	__builtin_memcpy(&key->ip, words, sizeof words);
}

/* The state of a connection, where it has one already. */
sonde_inline struct turn *turn_of(struct sock *sk)
{
	return bpf_sk_storage_get(&turnaround_turns, sk, NULL, 0);
}

/* The same; begun where this end is `side`. */
sonde_inline struct turn *turn_begin(struct sock *sk, struct tcp_sock *tp, __u8 side)
{
	struct turn *t;

	if (side_of(tp) != side)
		return NULL;
	t = bpf_sk_storage_get(&turnaround_turns, sk, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t) {
		sonde_failed(-12);
		return NULL;
	}
	if (!tcp_socket_matches(tp)) {
		t->unmatched = true;
		return NULL;
	}
	t->side = t->key.side = side;
	fill_service(&t->key, tp);
	return t;
}

/* A socket that was disconnected and connected anew counts from 0 again. False: it is not meant any more. */
sonde_inline bool renew(struct turn *t, struct tcp_sock *tp)
{
	__u8 side = side_of(tp);

	t->received = 0;
	t->waiting = false;
	t->seen = 0;
	if (side == TCP_SIDE_UNKNOWN)
		return true;
	t->side = t->key.side = side;
	fill_service(&t->key, tp);
	t->unmatched = !tcp_socket_matches(tp);
	return !t->unmatched;
}

/* The task that reads or sends is whose service it is. */
sonde_inline void take_owner(struct turn *t)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct sonde_owner owner = {};

	if (t->pid == (__u32)task->tgid && t->execs == task->self_exec_id)
		return;
	sonde_owner_called(&owner);
	t->pid = owner.pid;
	t->execs = task->self_exec_id;
	t->key.proc = owner.proc;
	t->key.cgroup = owner.cgroup;
}

/* ---- sums ---- */

/* `here`: the task that runs is the connection's. Else whether the filters leave it out is not known: where there are any, it is not what they
 * ask for. */
sonde_inline void fill_owner(struct turnaround_sums *sums, bool here)
{
	struct sonde_owner owner = {};

	if (!here) {
		sums->filtered = sonde_filters_set();
		return;
	}
	sonde_owner_called(&owner);
	sums->parent = owner.parent;
	sums->flags = owner.flags;
	sums->filtered = owner.filtered;
	__builtin_memcpy(sums->comm, owner.comm, sizeof sums->comm);
	sums->pid = owner.pid;
}

sonde_inline struct turnaround_sums *begin_sums(struct turnaround_key *key, bool here)
{
	struct turnaround_key rest = { .window = key->window };
	struct turnaround_sums *blank, *sums;
	__u32 zero = 0;

	blank = bpf_map_lookup_elem(&turnaround_blank, &zero);
	if (!blank)
		return NULL;
	bpf_map_update_elem(&turnaround_services, key, blank, BPF_NOEXIST);
	sums = bpf_map_lookup_elem(&turnaround_services, key);
	if (!sums)
		return bpf_map_lookup_elem(&turnaround_services, &rest);
	fill_owner(sums, here);
	return sums;
}

sonde_inline struct turnaround_sums *sums_of(struct turn *t, bool here)
{
	struct turnaround_sums *sums;

	t->key.window = turnaround_window & 1;
	sums = bpf_map_lookup_elem(&turnaround_services, &t->key);
	if (!sums)
		return begin_sums(&t->key, here);
	if (here && !sums->pid)
		fill_owner(sums, true);
	return sums;
}

sonde_inline void add(struct turn *t, __u64 ns, __u64 wait, bool here)
{
	struct turnaround_sums *sums = sums_of(t, here);
	__u32 bucket = turnaround_bucket(ns);

	if (!sums) {
		sonde_lost(tcp_turnaround, SONDE_DROP_MAP_FULL);
		return;
	}
	if (bucket < TURNAROUND_BUCKETS)
		__sync_fetch_and_add(&sums->buckets[bucket], 1);
	__sync_fetch_and_add(&sums->sum_ns, ns);
	if (wait)
		__sync_fetch_and_add(&sums->socket_wait_ns, wait);
	for (int i = 0; i < 4; i++) {
		__u64 max = sums->max_ns;

		if (ns <= max || __sync_val_compare_and_swap(&sums->max_ns, max, ns) == max)
			break;
	}
}

/* ---- the slow ---- */

/* What the running task has run since the kernel added it up last; 0 where it cannot be known. */
sonde_inline __u64 not_added_up(struct task_struct *task)
{
	__u32 zero = 0;
	struct sonde_settings *s = bpf_map_lookup_elem(&sonde_settings, &zero);
	__u64 ns = s && s->sched_offset ? bpf_ktime_get_boot_ns() + s->sched_offset - task->se.exec_start : 0;

	return ns < NS_PER_SECOND ? ns : 0;
}

/* Between read and answer, where one thread did both. The kernel's sum as of the read may lack up to a tick. */
sonde_inline void split(struct tcp_slow *e, const struct turn *t, __u64 now)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 whole = since(t->seen, now), ran, delayed;

	e->on_cpu_ns = e->runnable_ns = e->off_cpu_ns = 0;
	if (t->side != TCP_SIDE_SERVER || !t->seen || t->tid != (__u32)task->pid)
		return;
	delayed = task->sched_info.run_delay - t->delayed_ns;
	ran = task->se.sum_exec_runtime + not_added_up(task) - t->ran_ns;
	delayed = delayed < whole ? delayed : whole;
	ran = ran < whole - delayed ? ran : whole - delayed;
	e->on_cpu_ns = ran;
	e->runnable_ns = delayed;
	e->off_cpu_ns = whole - delayed - ran;
}

/* Here, by the task that sends the answer or reads it. */
sonde_inline void say_slow(struct sock *sk, const struct turn *t, __u64 ns, __u64 wait, __u64 now)
{
	struct sonde_owner owner = {};
	struct tcp_sock *tp;
	struct tcp_slow *e;

	if (ns < slow || !slow)
		return;
	if (!sonde_rate_allows(&slow_said, now, slow_rate)) {
		sonde_owner_called(&owner);
		if (!owner.filtered)
			sonde_lost(tcp_slow, SONDE_DROP_RATE);
		return;
	}
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return;
	e = sonde_reserve(tcp_slow, sizeof *e);
	if (!e)
		return;
	fill_ends(e, tp);
	e->side = t->side;
	e->turnaround_ns = ns;
	e->socket_wait_ns = wait;
	split(e, t, now);
	sonde_submit(tcp_slow, e, sizeof *e);
}

/* ---- turns ---- */

sonde_inline void arrived(struct turn *t, __u64 received, __u64 now)
{
	t->received = received;
	if (t->side == TCP_SIDE_SERVER) {
		t->request = now;
		t->seen = 0;
		t->waiting = true;
	} else if (t->waiting) {
		t->waiting = false;
		t->seen = now;
	}
}

/* The client's answer that arrived: it was read now, or (`wait` 0) never. */
sonde_inline void settle(struct turn *t, __u64 wait, bool here)
{
	__u64 ns = since(t->request, t->seen);

	t->seen = 0;
	add(t, ns, wait, here);
}

sonde_inline int data_arrives(struct sock *sk)
{
	struct tcp_sock *tp;
	struct turn *t;
	__u64 received;

	if (sk->sk_protocol != IPPROTO_TCP || sk->__sk_common.skc_state == TCP_LISTEN)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	t = turn_of(sk);
	if (!t)
		t = turn_begin(sk, tp, TCP_SIDE_SERVER);
	if (!t || t->unmatched)
		return 0;
	received = received_of(tp);
	if (received < t->received && !renew(t, tp))
		return 0;
	if (received != t->received) /* else a FIN, or word of what was seen */
		arrived(t, received, arrival_of(tp));
	return 0;
}

SEC("tp_btf/sk_data_ready")
int BPF_PROG(arrive__tp_btf, struct sock *sk)
{
	return data_arrives(sk);
}

/* Before Linux 6.3. */
SEC("fentry/tcp_data_ready")
int BPF_PROG(arrive__fentry, struct sock *sk)
{
	return data_arrives(sk);
}

sonde_inline void request_read(struct turn *t, __u64 now)
{
	struct task_struct *task = bpf_get_current_task_btf();

	take_owner(t);
	t->seen = now;
	t->tid = (__u32)task->pid;
	t->ran_ns = task->se.sum_exec_runtime;
	t->delayed_ns = task->sched_info.run_delay;
}

sonde_inline void answer_read(struct sock *sk, struct turn *t, __u64 now)
{
	__u64 wait = since(t->seen, now);

	say_slow(sk, t, since(t->request, t->seen), wait, now);
	settle(t, wait, true);
}

/* Whether the arrival of what is read was seen already: mostly. */
sonde_inline bool is_known(const struct turn *t)
{
	return t->side == TCP_SIDE_SERVER ? t->waiting && !t->seen : t->seen != 0;
}

/* Makes good an arrival that was not seen. Returns the state where there is something to do. */
sonde_inline struct turn *catch_up(struct sock *sk, struct turn *t, __u64 now)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u64 received;

	if (!tp)
		return NULL;
	if (!t)
		t = turn_begin(sk, tp, TCP_SIDE_SERVER);
	if (!t || t->unmatched)
		return NULL;
	received = received_of(tp);
	if (received == t->received)
		return NULL;
	if (received < t->received && !renew(t, tp))
		return NULL;
	arrived(t, received, now);
	return is_known(t) ? t : NULL;
}

/* Called for each segment that was copied to a reader. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(read__tp_btf, struct sock *sk)
{
	struct turn *t = turn_of(sk);
	__u64 now;

	if (t && t->unmatched)
		return 0;
	now = bpf_ktime_get_ns();
	if (!t || !is_known(t)) {
		t = catch_up(sk, t, now);
		if (!t)
			return 0;
	}
	if (t->side == TCP_SIDE_SERVER)
		request_read(t, now);
	else
		answer_read(sk, t, now);
	return 0;
}

sonde_inline void answer(struct sock *sk, struct turn *t, __u64 now)
{
	__u64 ns = since(t->request, now), wait = t->seen ? since(t->request, t->seen) : 0;

	t->waiting = false;
	if (!t->seen)
		take_owner(t);
	say_slow(sk, t, ns, wait, now);
	add(t, ns, wait, true);
}

/* An answer that is there and was not read is counted now. */
sonde_inline int request_sent(struct sock *sk, struct turn *t)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u64 received;

	if (!tp)
		return 0;
	if (!t)
		t = turn_begin(sk, tp, TCP_SIDE_CLIENT);
	if (!t || t->unmatched)
		return 0;
	take_owner(t);
	if (t->seen)
		settle(t, 0, true);
	received = received_of(tp);
	if (received < t->received && !renew(t, tp))
		return 0;
	t->received = received;
	t->request = bpf_ktime_get_ns();
	t->waiting = true;
	return 0;
}

sonde_inline int sends(struct sock *sk)
{
	struct turn *t = turn_of(sk);

	if (!t || t->side != TCP_SIDE_SERVER)
		return request_sent(sk, t);
	if (t->waiting)
		answer(sk, t, bpf_ktime_get_ns());
	return 0;
}

/* Linux 6.16: for each segment that is begun or filled up, before it is. */
SEC("tp_btf/tcp_sendmsg_locked")
int BPF_PROG(send__tp_btf, struct sock *sk)
{
	return sends(sk);
}

/* Not sock_send_length, which comes when the answer may be there already. */
SEC("fentry/tcp_sendmsg_locked")
int BPF_PROG(send__fentry, struct sock *sk)
{
	return sends(sk);
}

/* ---- the end ---- */

sonde_inline int reset(struct sock *sk, __u8 side)
{
	struct turn *t = turn_of(sk);
	struct turnaround_sums *sums;

	if (!t || !t->waiting || t->side != side)
		return 0;
	t->waiting = false;
	sums = sums_of(t, false);
	if (sums)
		__sync_fetch_and_add(&sums->errors, 1);
	else
		sonde_lost(tcp_turnaround, SONDE_DROP_MAP_FULL);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(reset_comes__tp_btf, struct sock *sk)
{
	return reset(sk, TCP_SIDE_CLIENT);
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(reset_goes__tp_btf, struct sock *sk)
{
	return reset(sk, TCP_SIDE_SERVER);
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(destroy__tp_btf, struct sock *sk)
{
	struct turn *t = turn_of(sk);

	if (t && t->side == TCP_SIDE_CLIENT && t->seen)
		settle(t, 0, false);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

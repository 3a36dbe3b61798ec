// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long answers take, by the turns that the payload of a connection takes, as sonde replay does it with packets: what the client
 * sends is a request until the server sends; the first that the server sends then is its answer. Whatever both say, encrypted or not.
 *
 *	server	data arrives (the request's last so far) ── socket wait ──► read ── processing ──► first byte is sent
 *	client	a byte is sent (the request's last so far) ── turnaround ──► data arrives ── socket wait ──► read
 *
 * All hooks run under the lock of the socket: the arrival's in whichever task was interrupted, the others by the task that uses it. What the
 * two write lies in cache lines of their own, since they often run on two CPUs, and to fetch a line from the other one costs as much as
 * all the rest. So the task that reads takes the time of the arrival from what the kernel's own path has just brought it: the socket's
 * clock is that of the last segment that came, if nothing but data came since the task looked last (arrival_of()). Only where that cannot be
 * said does it ask for what the arrival's hook wrote.
 *
 * A connection with many answers in a window has one in some sixteen measured, which stands for those before it: of these only the number is known,
 * from what the socket has received whenever its task sends, and that none was slow (passes()). So a slow one stands for itself alone.
 *
 * Sums are kept here, by service and window: an answer costs no record and no wake-up. A window's sums are read when the next
 * one is some time old, so that no program still adds to them.
 */
#include "probes/tcp/ends.bpf.h"
#include "turnaround.h"

#define NS_PER_SECOND 1000000000ull

SONDE_SETTING(__u64, slow, 1000000000ull, 0, 0, "ns", "an answer that took as long is a tcp.slow");
SONDE_SETTING(
	__u32, whole, 512, 0, 1000000, "",
	"how many answers of one connection in a window are measured each, and eight times as many of one service; of "
	"more, one in some sixteen is, and stands for those before it; 0: all are");
SONDE_SETTING(__u32, slow_rate, 100, 0, 100000, "", "the most tcp.slow in a second");

/* Of the task that reads and sends. The kernel puts eight bytes of its own before it in its first cache line. */
struct turn {
	__u64 received; /* payload that had arrived as it looked last, before turns passed */
	__u64 request; /* monotonic clock: the last byte of the request so far; while turns pass, in ticks: the last send */
	__u64 seen; /* server: when the request was read; 0: it was not. Client, while turns pass: whether it has sent */
	union {
		struct {
			__u32 segs, data_segs; /* that had arrived as it looked last: all, and those with payload */
		};
		__u32 end; /* while turns pass: payload_end() as it looked last */
	};
	bool waiting;             /* a request has no answer yet */
	__u8 side;                /* enum tcp_side, as in the key */
	bool unmatched;           /* by the filter of sockets: nothing is looked at any more */
	__u8 to_pass;             /* so many turns are not measured, only counted */
	__u32 pid;                /* whom the key names */
	__u64 execs;              /* of that task: it is another program's after an exec */
	__u32 window, slot;       /* where this window's sums of the key are, if it is that window */
	__u64 ran_ns, delayed_ns; /* server: of the thread that read, as it did */
	struct turnaround_key key;
	__u32 tid;   /* server: which thread read */
	__u32 turns; /* in that window, measured */
	__u64 ns;    /* of the one measured last that was not slow */
	/* Of the owner, what the key has not. */
	__u64 parent;
	char comm[16];
	__u16 flags, filtered;
	__u8 were_to_pass; /* to_pass as it was set */
	__u16 carried;     /* turns that passed before, and that none stands for yet */
};

/* Of a service, TURNAROUND_WHOLE times as many answers as of one connection are measured each; of each connection, one in TURNAROUND_FIRST of
 * those, whatever its service has. */
#define TURNAROUND_WHOLE 8
#define TURNAROUND_FIRST 16

/* Of the arrivals: monotonic clock; 0: there was none. */
struct arrivals {
	__u64 received; /* payload */
	__u64 first;    /* after this end had sent something */
	__u64 last;
	__u32 sent; /* the sequence number as of the first */
	bool pass;  /* nobody will ask */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct turn);
} turnaround_turns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct arrivals);
} turnaround_arrivals SEC(".maps");

/* Where the sums of a service are. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TURNAROUND_SERVICES);
	__type(key, struct turnaround_key);
	__type(value, __u32);
} turnaround_services SEC(".maps");

/* The first two are what found no room, of the windows by turns. What nobody uses is all zeros. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TURNAROUND_SLOTS);
	__type(key, __u32);
	__type(value, struct turnaround_sums);
} turnaround_sums SEC(".maps");

/* Those of the others that nobody uses: filled by the module. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, TURNAROUND_SERVICES);
	__type(value, __u32);
} turnaround_free SEC(".maps");

__u32 turnaround_window SEC(".data") = TURNAROUND_FIRST_WINDOW; /* counted by the module */
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

/* The same, as far as it tells whether anything has come: it lies where the kernel's own sending has just looked. */
sonde_inline __u32 payload_end(struct tcp_sock *tp)
{
	return tp->rcv_nxt - !!(tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags & SOCK_DONE);
}

/* The kernel's clock and ours may differ by some nanoseconds. */
sonde_inline __u64 since(__u64 from, __u64 to)
{
	return (__s64)(to - from) > 0 ? to - from : 0;
}

/* The state of a connection, where it has one already. */
sonde_inline struct turn *turn_of(struct sock *sk)
{
	return bpf_sk_storage_get(&turnaround_turns, sk, NULL, 0);
}

/* As it looks now. */
sonde_inline void look(struct turn *t, struct tcp_sock *tp, __u64 received)
{
	t->received = received;
	t->segs = tp->segs_in;
	t->data_segs = tp->data_segs_in;
}

/* By itself, and from both ends: what is chosen by `side` shall be the addresses, not where in the socket they lie, which is relocated. */
static __noinline int set_service(struct turn *t, struct tcp_sock *tp, __u8 side)
{
	struct sonde_filter_tuple ends = {};

	fill_ends(&ends, tp);
	t->side = t->key.side = side;
	t->window = 0;
	t->key.ip = ends.raddr;
	t->key.port = ends.rport;
	if (side == TCP_SIDE_SERVER) {
		t->key.ip = ends.laddr;
		t->key.port = ends.lport;
	}
	return 0;
}

/* The state of a connection that has none yet, where this end is `side`. */
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
	if (!bpf_sk_storage_get(&turnaround_arrivals, sk, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE))
		sonde_failed(-12);
	set_service(t, tp, side);
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
	set_service(t, tp, side);
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
	t->window = 0;
	t->execs = task->self_exec_id;
	t->key.proc = owner.proc;
	t->key.cgroup = owner.cgroup;
	t->parent = owner.parent;
	t->flags = owner.flags;
	t->filtered = owner.filtered;
	__builtin_memcpy(t->comm, owner.comm, sizeof t->comm);
}

/* ---- sums ---- */

sonde_inline void fill_owner(struct turnaround_sums *sums, const struct turn *t)
{
	sums->parent = t->parent;
	sums->flags = t->flags;
	sums->filtered = t->filtered;
	__builtin_memcpy(sums->comm, t->comm, sizeof sums->comm);
	sums->pid = t->pid;
}

/* Room for a service of which nobody has counted anything in this window yet. Returns where it is. */
sonde_inline __u32 begin_sums(struct turnaround_key *key)
{
	__u32 rest = key->window, slot, *found;
	struct turnaround_sums *sums;

	if (bpf_map_pop_elem(&turnaround_free, &slot))
		return rest;
	sums = bpf_map_lookup_elem(&turnaround_sums, &slot);
	if (!sums)
		return rest;
	/* Of whom is not known: where there are filters, it is not what they ask for. */
	sums->filtered = sonde_filters_set();
	if (!bpf_map_update_elem(&turnaround_services, key, &slot, BPF_NOEXIST))
		return slot;
	/* Another CPU was quicker, or the window before fills the table. */
	__builtin_memset(sums, 0, offsetof(struct turnaround_sums, buckets));
	bpf_map_push_elem(&turnaround_free, &slot, BPF_ANY);
	found = bpf_map_lookup_elem(&turnaround_services, key);
	return found ? *found : rest;
}

/* By itself: what happens once a window shall not lie in the way of all the rest. */
static __noinline int find_sums(struct turn *t, __u32 window)
{
	__u32 *slot;

	t->key.window = window & 1;
	slot = bpf_map_lookup_elem(&turnaround_services, &t->key);
	t->slot = slot ? *slot : begin_sums(&t->key);
	t->window = window;
	t->turns = 0;
	return 0;
}

sonde_inline struct turnaround_sums *sums_of(struct turn *t)
{
	__u32 window = turnaround_window;
	struct turnaround_sums *sums;

	if (t->window != window)
		find_sums(t, window);
	sums = bpf_map_lookup_elem(&turnaround_sums, &t->slot);
	if (sums && !sums->pid && t->pid && t->slot >= TURNAROUND_RESTS)
		fill_owner(sums, t);
	return sums;
}

/* `count` answers that took `ns` each, as one of them was measured to; `slow_one`: that one is slow. Returns how many of the service were measured in this
 * window and were not. */
sonde_inline __u32 add_many(struct turn *t, __u64 ns, __u64 wait, __u32 count, bool slow_one)
{
	struct turnaround_sums *sums = sums_of(t);
	__u32 bucket = turnaround_bucket(ns);

	if (!sums) {
		sonde_lost(tcp_turnaround, SONDE_DROP_MAP_FULL);
		return 0;
	}
	if (bucket < TURNAROUND_BUCKETS)
		__sync_fetch_and_add(&sums->buckets[bucket], count);
	__sync_fetch_and_add(&sums->sum_ns, ns * count);
	if (wait)
		__sync_fetch_and_add(&sums->socket_wait_ns, wait * count);
	for (int i = 0; i < 4; i++) {
		__u64 max = sums->max_ns;

		if (ns <= max || __sync_val_compare_and_swap(&sums->max_ns, max, ns) == max)
			break;
	}
	return slow_one ? sums->measured : ++sums->measured;
}

/* ---- turns that are not measured ---- */

/* The next arrival is asked for again. What has come until now is none. */
sonde_inline void note_arrivals(struct sock *sk, struct tcp_sock *tp)
{
	struct arrivals *a = bpf_sk_storage_get(&turnaround_arrivals, sk, NULL, 0);

	if (!a)
		return;
	a->received = received_of(tp);
	a->first = a->last = 0;
	a->pass = false;
}

/* By chance how many: what a program does in turns shall not be measured at the same one of them always. */
static __noinline int begin_to_pass(struct sock *sk, struct turn *t)
{
	struct arrivals *a = bpf_sk_storage_get(&turnaround_arrivals, sk, NULL, 0);
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (!a || !tp)
		return 0;
	a->pass = true;
	t->to_pass = t->were_to_pass = 1 + (bpf_get_prandom_u32() & 31);
	t->end = payload_end(tp);
	t->request = bpf_jiffies64();
	t->seen = 0;
	return 0;
}

sonde_inline void end_to_pass(struct sock *sk, struct turn *t, struct tcp_sock *tp)
{
	t->were_to_pass -= t->to_pass;
	t->to_pass = 0;
	/* One more with payload than all: when the next arrives the arrival's hook must say. */
	t->segs = tp->segs_in;
	t->data_segs = tp->data_segs_in - 1;
	note_arrivals(sk, tp);
}

/* How long it is since then, by the clock of the kernel's ticks. */
sonde_inline __u64 ns_since(__u32 ticks)
{
	return (__u64)((__u32)bpf_jiffies64() - ticks) * sonde_tick_ns;
}

/* Turns of which only the number is known. */
sonde_inline __u32 passed_of(const struct turn *t)
{
	return t->carried + t->were_to_pass - t->to_pass;
}

/* How many turns may wait for one that stands for them, where one after the other that is measured is slow. */
#define CARRIED_MOST 1024

/* With those that went before it, none of which was slow. What a connection says first is measured in any case. */
sonde_inline void add(struct sock *sk, struct turn *t, __u64 ns, __u64 wait)
{
	__u32 passed = passed_of(t), measured;
	bool alone = slow && ns + sonde_tick_ns >= slow && passed < CARRIED_MOST;

	measured = add_many(t, ns, wait, alone ? 1 : 1 + passed, alone);
	t->carried = alone ? passed : 0;
	if (!alone || !t->ns)
		t->ns = ns;
	t->were_to_pass = t->to_pass = 0;
	t->turns++;
	if (!whole || (slow && slow <= 16ull * sonde_tick_ns))
		return;
	if (t->turns > whole || (t->turns > whole / TURNAROUND_FIRST && measured / TURNAROUND_WHOLE > whole))
		begin_to_pass(sk, t);
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

/* ---- arrivals ---- */

/* By the socket's own clock, which the kernel has just set. Source: net/ipv4/tcp_input.c tcp_rcv_established(), tcp_rcv_state_process(). */
sonde_inline void arrived(struct arrivals *a, struct tcp_sock *tp)
{
	__u64 received = received_of(tp);

	if (received == a->received)
		return; /* a FIN, or word of what was seen */
	a->received = received;
	a->last = tp->tcp_clock_cache;
	if (a->first && a->sent == tp->snd_nxt)
		return;
	a->sent = tp->snd_nxt;
	a->first = a->last;
}

sonde_inline int data_arrives(struct sock *sk)
{
	struct arrivals *a;
	struct tcp_sock *tp;

	if (sk->sk_protocol != IPPROTO_TCP || sk->__sk_common.skc_state == TCP_LISTEN)
		return 0;
	a = bpf_sk_storage_get(&turnaround_arrivals, sk, NULL, 0);
	if (a && a->pass)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	if (!a) {
		if (turn_of(sk) || !turn_begin(sk, tp, TCP_SIDE_SERVER))
			return 0;
		a = bpf_sk_storage_get(&turnaround_arrivals, sk, NULL, 0);
		if (!a)
			return 0;
	}
	arrived(a, tp);
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

/* When the data arrived that is new since the task looked last: the first of it (`client`: the answer began), or the last (the request was
 * whole). The socket's clock says so as long as it was not set since by an acknowledgement, and not by the timer that acknowledges
 * what nobody reads: 40 ms later at the earliest. */
sonde_inline __u64 arrival_of(struct sock *sk, struct turn *t, struct tcp_sock *tp, bool client)
{
	__u32 segs = tp->segs_in - t->segs, data = tp->data_segs_in - t->data_segs;
	__u32 age = (__u32)bpf_jiffies64() - tp->inet_conn.icsk_ack.lrcvtime;
	struct arrivals *a;

	if (age <= 1 && segs == data && (client ? data == 1 : data != 0))
		return tp->tcp_clock_cache;
	a = bpf_sk_storage_get(&turnaround_arrivals, sk, NULL, 0);
	if (!a || !a->last)
		return tp->tcp_clock_cache; /* it was missed */
	return client && a->first >= t->request ? a->first : a->last;
}

/* ---- turns ---- */

/* Whether a server's request has grown since the task looked last. */
sonde_inline bool request_grew(struct sock *sk, struct turn *t, struct tcp_sock *tp)
{
	__u64 received = received_of(tp);

	if (received == t->received)
		return false;
	if (received < t->received && (!renew(t, tp) || t->side != TCP_SIDE_SERVER))
		return false;
	t->request = arrival_of(sk, t, tp, false);
	t->seen = 0;
	t->waiting = true;
	look(t, tp, received);
	return true;
}

sonde_inline void request_read(struct turn *t)
{
	struct task_struct *task = bpf_get_current_task_btf();

	take_owner(t);
	t->seen = bpf_ktime_get_ns();
	t->tid = (__u32)task->pid;
	t->ran_ns = task->se.sum_exec_runtime;
	t->delayed_ns = task->sched_info.run_delay;
}

/* Whether the answer that a client waits for is there. */
sonde_inline bool is_answered(struct turn *t, struct tcp_sock *tp)
{
	return t->waiting && received_of(tp) > t->received;
}

sonde_inline void answer_read(struct sock *sk, struct turn *t, struct tcp_sock *tp)
{
	__u64 came = arrival_of(sk, t, tp, true), now = bpf_ktime_get_ns();
	__u64 ns = since(t->request, came), wait = since(came, now);

	t->waiting = false;
	look(t, tp, received_of(tp));
	say_slow(sk, t, ns, wait, now);
	add(sk, t, ns, wait);
}

/* An answer that is there and was not read. */
sonde_inline void answer_unread(struct sock *sk, struct turn *t, struct tcp_sock *tp)
{
	__u64 came = arrival_of(sk, t, tp, true);

	t->waiting = false;
	look(t, tp, received_of(tp));
	add(sk, t, since(t->request, came), 0);
}

/* A client's turn that was not to be measured: if it took long it is, as from the tick in which its request was sent. */
sonde_inline bool slow_passed(struct sock *sk, struct turn *t)
{
	__u64 ns = ns_since((__u32)t->request);
	struct tcp_sock *tp;

	if (!slow || ns < slow)
		return false;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || payload_end(tp) == t->end)
		return false;
	end_to_pass(sk, t, tp);
	t->request = bpf_ktime_get_ns() - ns;
	return true;
}

/* Called for each segment that was copied to a reader. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(read__tp_btf, struct sock *sk)
{
	struct turn *t = turn_of(sk);
	struct tcp_sock *tp;

	if (t && (t->unmatched || (t->side == TCP_SIDE_CLIENT ? !t->waiting : t->to_pass)))
		return 0;
	if (t && t->to_pass && !slow_passed(sk, t))
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	if (!t)
		t = turn_begin(sk, tp, TCP_SIDE_SERVER);
	if (!t)
		return 0;
	if (t->side != TCP_SIDE_SERVER) {
		if (is_answered(t, tp))
			answer_read(sk, t, tp);
		return 0;
	}
	if (request_grew(sk, t, tp))
		request_read(t);
	return 0;
}

/* With the first of an answer. */
sonde_inline void answer(struct sock *sk, struct turn *t)
{
	__u64 now = bpf_ktime_get_ns(), wait = t->seen ? since(t->request, t->seen) : 0;

	t->waiting = false;
	if (!t->seen)
		take_owner(t);
	say_slow(sk, t, since(t->request, now), wait, now);
	add(sk, t, since(t->request, now), wait);
}

/* An answer that is there and was not read is counted now. */
sonde_inline void request_sent(struct sock *sk, struct turn *t, struct tcp_sock *tp)
{
	__u64 received = received_of(tp);

	take_owner(t);
	if (is_answered(t, tp))
		answer_unread(sk, t, tp);
	if (received < t->received && !renew(t, tp))
		return;
	look(t, tp, received);
	t->request = bpf_ktime_get_ns();
	t->waiting = true;
}

/* A server's: as from the tick in which the last of the request came. */
sonde_inline bool slow_answered(struct sock *sk, struct turn *t, struct tcp_sock *tp)
{
	__u64 ns = ns_since(tp->inet_conn.icsk_ack.lrcvtime);

	if (ns < slow)
		return false;
	t->request = bpf_ktime_get_ns() - ns;
	t->seen = 0;
	t->waiting = true;
	t->received = received_of(tp);
	end_to_pass(sk, t, tp);
	return true;
}

/* The last turn that was to pass has. */
sonde_inline bool measure_next(struct sock *sk, struct turn *t, struct tcp_sock *tp)
{
	__u64 received = received_of(tp);

	note_arrivals(sk, tp);
	if (received < t->received)
		return true; /* another connection's */
	look(t, tp, received);
	return t->side == TCP_SIDE_CLIENT;
}

/* As the task sends, in turns that are not measured: whether this is all that there is to do. What has come since it sent last was a client's answer, or
 * a server's request. Between two sends lies all of a server's turn. */
sonde_inline bool passes(struct sock *sk, struct turn *t, struct tcp_sock *tp)
{
	bool server = t->side == TCP_SIDE_SERVER, done;
	__u32 end = payload_end(tp);

	done = end != t->end && (server || t->seen);
	if (server && done && slow && ns_since((__u32)t->request) >= slow && slow_answered(sk, t, tp))
		return false;
	t->request = bpf_jiffies64();
	t->end = end;
	if (!server) {
		t->seen = true;
		t->waiting = true;
	}
	if (!done || --t->to_pass)
		return true;
	return !measure_next(sk, t, tp);
}

sonde_inline int sends(struct sock *sk)
{
	struct turn *t = turn_of(sk);
	struct tcp_sock *tp;

	if (t && t->unmatched)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	if (!t)
		t = turn_begin(sk, tp, TCP_SIDE_CLIENT);
	if (!t || (t->to_pass && passes(sk, t, tp)))
		return 0;
	if (t->side != TCP_SIDE_SERVER) {
		request_sent(sk, t, tp);
		return 0;
	}
	request_grew(sk, t, tp);
	if (t->waiting)
		answer(sk, t);
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

/* `side`: which of the two the local end is, if this is how a request ends unanswered. */
sonde_inline int reset(struct sock *sk, __u8 side)
{
	struct turn *t = turn_of(sk);
	struct turnaround_sums *sums;
	struct tcp_sock *tp;
	bool news;

	if (!sk || !t || t->unmatched || t->side != side)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	news = t->to_pass ? payload_end(tp) != t->end : received_of(tp) > t->received;
	if (side == TCP_SIDE_SERVER ? !t->waiting && !news : !t->waiting || news)
		return 0;
	t->waiting = false;
	if (t->to_pass)
		t->end = payload_end(tp);
	else if (side == TCP_SIDE_SERVER)
		look(t, tp, received_of(tp));
	sums = sums_of(t);
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
	struct turnaround_sums *sums;
	struct tcp_sock *tp;
	__u32 passed;

	if (!t || t->unmatched)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	if (!t->to_pass && t->side == TCP_SIDE_CLIENT && is_answered(t, tp))
		answer_unread(sk, t, tp);
	passed = passed_of(t);
	if (t->to_pass && t->side == TCP_SIDE_CLIENT && t->seen && payload_end(tp) != t->end)
		passed++;
	if (!passed)
		return 0;
	/* Its own that was measured last may be why its turns began to pass: that is not by chance. */
	sums = sums_of(t);
	if (sums && sums->measured)
		__sync_fetch_and_add(&sums->passed, passed);
	else
		add_many(t, t->ns, 0, passed, false);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Off-CPU time without a clock and without a look at who leaves the CPU. The kernel keeps for every thread how long it ran, how long it
 * waited for a CPU, and since when it has been runnable. So, when a thread is switched in,
 *
 *	runnable since - time run - time waited for a CPU  =  time blocked so far, plus a constant
 *
 * which is all that is needed to sample by blocked time: with each thread lies the sum at which its next sample is due. A switch costs one
 * look at the storage of the thread that comes in, and the sums are by construction those of /proc/PID/task/TID/schedstat. A sample
 * stands for `interval` ns, the first one is due after a random part of it, so that a wait of d ns is sampled with probability d / interval:
 * short waits as fairly as long ones.
 *
 * A due sample is made in two steps. When the thread is switched in, its kernel stack is still that of the wait, but the program's memory
 * is not mapped: the kernel's part goes into per-CPU room, and an interrupt is asked for on this very CPU (a forced wake-up of a ring that
 * nobody waits for raises one). It comes as soon as the switch is over and interrupts are allowed again, before the thread can go back to its program: then
 * the program's stack is just as it was during the wait, and is read. The weight of a sample lies with the thread until it is taken: should the
 * interrupt be lost, the thread's next sample has it.
 *
 * Threads that stay blocked are sampled by an iterator, which the companion runs at each window's end. Iterator and switch agree by
 * compare-and-swap on the due sum: no interval is given twice.
 */
#include "sonde/probe.bpf.h"
#include "offcpu.h"
#include "call.bpf.h"
#include "cause.bpf.h"

#define PAGE         4096u
#define BUDGET_SHIFT 28     /* 268 ms */
#define STATE_SLEEPS 0x0001 /* TASK_INTERRUPTIBLE */
#define MUTEX_OWNER  8      /* where glibc's mutex has it, behind the lock word and a counter */

/* What is kept with each thread. */
struct thread {
	__u64 due;  /* blocked sum at which a sample is due; 0: not known yet */
	__u64 step; /* ns that the sample due stands for */
	__u64 sum;  /* blocked sum when it was last switched in */
	__u64 left; /* voluntary switches until then */
	__u64 owed; /* ns of samples that are due and not taken */
	__u32 futex_holder;
	__u32 waker_tid;
	char waker_comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct thread);
} offcpu_threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct offcpu_control);
} offcpu_control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct offcpu_counts);
} offcpu_counts SEC(".maps");

/* The sample between its two steps. Used with interrupts off only, so that nothing comes in between. */
struct slot {
	__u64 task;   /* whose it is; 0: nobody's */
	__u64 budget; /* the 268 ms that `used` is about */
	__u32 used;
	__u32 blocks; /* enum offcpu_state */
	struct call call;
	__u64 frames[SONDE_STACK_KERNEL_MAX];
	__s64 frames_size;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slot);
} offcpu_slots SEC(".maps");

/* Rings that are only ever forced awake. The companion keeps them empty. Each has one interrupt that can be on its way at a time, so CPUs have
 * one of their own, as far as there are. */
struct kick_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 14);
} offcpu_kick0 SEC(".maps"), offcpu_kick1 SEC(".maps"), offcpu_kick2 SEC(".maps"), offcpu_kick3 SEC(".maps"),
	offcpu_kick4 SEC(".maps"), offcpu_kick5 SEC(".maps"), offcpu_kick6 SEC(".maps"), offcpu_kick7 SEC(".maps");

sonde_inline struct offcpu_control *control(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&offcpu_control, &zero);
}

sonde_inline struct offcpu_counts *counts_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&offcpu_counts, &zero);
}

/* ---- blocked time ---- */

/* Time blocked so far, of a thread that is being switched in. */
sonde_inline __u64 blocked_sum(struct task_struct *task)
{
	return task->sched_info.last_queued - task->sched_info.run_delay - task->se.sum_exec_runtime;
}

/* A point within the next interval, each as likely as any other. */
sonde_inline __u64 random_part(__u64 interval)
{
	return 1 + ((interval >> 10) * bpf_get_prandom_u32() >> 22);
}

sonde_inline void thread_begins(struct thread *t, __u64 sum, __u64 interval)
{
	t->sum = sum;
	t->step = interval;
	t->due = sum + random_part(interval);
}

/* Moves the due sum behind `sum`. Returns the ns that were due, 0 when another was faster. A changed interval begins at a random point of
 * itself, as the first one does: else what a thread's last interval leaves over would be missing in its sum. */
sonde_inline __u64 take_due(struct thread *t, __u64 due, __u64 sum, __u64 interval)
{
	__u64 next = due + (interval == t->step ? interval : random_part(interval)), value = t->step, more;

	if (!interval)
		return 0;
	if ((__s64)(sum - next) >= 0) {
		more = (sum - next) / interval + 1;
		next += more * interval;
		value += more * interval;
	}
	if (__sync_val_compare_and_swap(&t->due, due, next) != due)
		return 0;
	t->step = interval;
	return value;
}

/* ---- first step: the thread is switched in ---- */

sonde_inline bool within_budget(struct slot *slot, const struct offcpu_control *c, struct offcpu_counts *counts)
{
	__u64 now = bpf_ktime_get_ns() >> BUDGET_SHIFT;

	if (slot->budget != now) {
		slot->budget = now;
		slot->used = 0;
	}
	if (slot->used >= c->most) {
		counts->held++;
		return false;
	}
	slot->used++;
	counts->due++;
	return true;
}

/* Not by a map of maps: for each that is put into one the kernel waits until no program runs any more, 12 ms of the start. */
sonde_inline void *kick_ring_here(void)
{
	switch (bpf_get_smp_processor_id() % OFFCPU_KICKS) {
	case 0:
		return &offcpu_kick0;
	case 1:
		return &offcpu_kick1;
	case 2:
		return &offcpu_kick2;
	case 3:
		return &offcpu_kick3;
	case 4:
		return &offcpu_kick4;
	case 5:
		return &offcpu_kick5;
	case 6:
		return &offcpu_kick6;
	default:
		return &offcpu_kick7;
	}
}

/* An interrupt on this CPU as soon as it takes one. */
sonde_inline void kick(void)
{
	void *nothing = bpf_ringbuf_reserve(kick_ring_here(), 8, 0);

	if (nothing)
		bpf_ringbuf_discard(nothing, BPF_RB_FORCE_WAKEUP);
	else
		sonde_failed(-28);
}

static __attribute__((noinline)) int sample_due(struct task_struct *next, struct thread *t, __u64 sum)
{
	struct offcpu_counts *counts = counts_here();
	struct offcpu_control *c = control();
	__u64 due = t->due, value;
	struct slot *slot;
	__u32 zero = 0;

	slot = bpf_map_lookup_elem(&offcpu_slots, &zero);
	if (!c || !slot || !counts || !c->interval)
		return 0;
	if (!due) {
		thread_begins(t, sum, c->interval);
		return 0;
	}
	if (!within_budget(slot, c, counts)) /* its weight goes into the thread's next sample */
		return 0;
	value = take_due(t, due, sum, c->interval);
	if (!value)
		return 0;
	__sync_fetch_and_add(&t->owed, value);
	slot->blocks = BPF_CORE_READ_BITFIELD(next, sched_contributes_to_load) ? OFFCPU_BLOCKED : OFFCPU_SLEEPING;
	slot->call = (struct call){ .number = -1 };
	if (sonde_is_program(next))
		read_call((struct pt_regs *)bpf_task_pt_regs(next), &slot->call);
	slot->frames_size = bpf_get_task_stack(next, slot->frames, sizeof slot->frames, 0);
	slot->task = (__u64)next;
	kick();
	return 0;
}

/* The thread that leaves the CPU to wait for a mutex: who holds it is read now, while its memory is there. By the time it is woken the
 * holder has let go. */
sonde_inline void leaves(struct task_struct *task)
{
	struct pt_regs *regs;
	struct thread *t;
	struct call call;

	if (!(task->__state & STATE_SLEEPS))
		return;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	if (!may_be_call(regs, CALL_FUTEX) || !sonde_is_program(task))
		return;
	read_call(regs, &call);
	if (!waits_for_mutex(&call))
		return;
	t = bpf_task_storage_get(&offcpu_threads, task, NULL, 0);
	if (t && bpf_probe_read_user(&t->futex_holder, sizeof t->futex_holder, (void *)call.arguments[0] + MUTEX_OWNER))
		t->futex_holder = 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(wait__tp_btf, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct thread *t;
	__u64 sum;

	leaves(prev);
	/* Now and then a thread comes in without having been queued; its sum is whole again with the next switch. */
	if (!next->pid || !next->sched_info.last_queued)
		return 0;
	t = bpf_task_storage_get(&offcpu_threads, next, NULL, 0);
	if (!t)
		return 0;
	sum = blocked_sum(next);
	if (next->nvcsw == t->left && t->due) {
		/* It was preempted. Time that a hypervisor or an interrupt took from it is no wait of its own. */
		if (sum != t->sum)
			__sync_fetch_and_add(&t->due, sum - t->sum);
		t->sum = sum;
		return 0;
	}
	t->left = next->nvcsw;
	t->sum = sum;
	if (t->due && (__s64)(sum - t->due) < 0)
		return 0;
	return sample_due(next, t, sum);
}

/* Storage is made here, and never in a switch, where the run queue is locked and memory must not be asked for. */
SEC("tp_btf/task_newtask")
int BPF_PROG(fork__tp_btf, struct task_struct *child, __u64 clone_flags)
{
	if (!bpf_task_storage_get(&offcpu_threads, child, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE))
		sonde_failed(-12);
	return 0;
}

/* ---- second step: the interrupt, on top of the thread ---- */

/* A sample's record at its largest. In the ring it is as long as its slice needs, in steps of size classes. */
struct record {
	struct offcpu_sample sample;
	struct sonde_stack stack;
	__u64 frames[SONDE_STACK_KERNEL_MAX];
	char slice[SONDE_STACK_SLICE_MAX + PAGE];
};

#define HEAD_BYTES __builtin_offsetof(struct record, slice)

/* Everything but the program's stack; value and owner are there already. */
static __attribute__((noinline)) int fill_sample(struct record *r, struct task_struct *task, struct thread *t,
						 const struct slot *slot)
{
	struct offcpu_cause *cause = &r->sample._cause;
	__s64 size = slot->frames_size;

	fill_cause(&r->sample, task, &slot->call, slot->blocks);
	if (waits_for_mutex(&slot->call))
		cause->futex_holder = t->futex_holder;
	cause->waker_tid = t->waker_tid;
	__builtin_memcpy(cause->waker_comm, t->waker_comm, sizeof cause->waker_comm);
	r->stack.n_kernel = size > 0 && size <= (__s64)sizeof slot->frames ? (__u16)(size / sizeof(__u64)) : 0;
	r->stack.flags = r->stack.n_kernel == SONDE_STACK_KERNEL_MAX ? SONDE_STACK_KERNEL_CUT : 0;
	r->stack.n_slice = 0;
	bpf_probe_read_kernel(r->frames, sizeof r->frames, slot->frames);
	return 0;
}

sonde_inline void submit(struct record *r)
{
	__u64 wake = bpf_ringbuf_query(&sonde_bulk, BPF_RB_AVAIL_DATA) > sonde_wake_bulk ? BPF_RB_FORCE_WAKEUP
											 : BPF_RB_NO_WAKEUP;

	r->sample.event.size = sizeof r->sample + SONDE_STACK_BYTES(r->stack.n_kernel, r->stack.n_slice);
	bpf_ringbuf_submit(r, wake);
}

/* The frames end where the slice begins. */
sonde_inline void *slice_of(struct record *r)
{
	__u32 at = HEAD_BYTES - (SONDE_STACK_KERNEL_MAX - (r->stack.n_kernel & 127)) * sizeof(__u64);

	barrier_var(at); /* the verifier shall see it added, and not as two steps of which one goes below */
	return (void *)r + at;
}

/* The program's registers and its stack, in a record with room for `room` (a constant) and a page of it. */
sonde_inline void take_program(struct record *r, const __u32 room, struct pt_regs *regs,
			       const struct sonde_extent *extent)
{
	bool cut = extent->cut;

	r->stack.flags |= SONDE_STACK_USER;
	sonde_take_registers(&r->stack, SONDE_PT_REGS(regs));
	r->stack.n_slice = sonde_copy_slice(slice_of(r), room, extent->sp, extent->wanted, &cut);
	if (cut)
		r->stack.flags |= SONDE_STACK_CUT;
}

/* One size class. Returns false when the ring is full. */
#define TAKE(room)                                                                                                     \
	({                                                                                                             \
		struct record *r = bpf_ringbuf_reserve(&sonde_bulk, HEAD_BYTES + (room) + PAGE, 0);                    \
		if (r) {                                                                                               \
			sonde_fill_header(&r->sample.event, offcpu_sample_type.id, &owner);                            \
			r->sample.value = value;                                                                       \
			fill_sample(r, task, t, slot);                                                                 \
			if (regs)                                                                                      \
				take_program(r, room, regs, &extent);                                                  \
			submit(r);                                                                                     \
		}                                                                                                      \
		r != NULL;                                                                                             \
	})

sonde_inline bool same_call(const struct call *a, const struct call *b)
{
	return a->ip == b->ip && a->sp == b->sp && a->number == b->number;
}

sonde_inline void take_sample(struct task_struct *task, struct thread *t, struct slot *slot, __u64 value)
{
	struct sonde_counts *ledger = sonde_counts_of(offcpu_sample_type.id);
	struct offcpu_counts *counts = counts_here();
	struct offcpu_control *c = control();
	struct sonde_extent extent = {};
	struct pt_regs *regs = NULL;
	struct sonde_owner owner;
	bool taken;

	if (!ledger || !counts || !c)
		return;
	__sync_fetch_and_add(&ledger->produced, 1);
	sonde_owner_of(&owner, task);
	if (owner.filtered) {
		__sync_fetch_and_add(&ledger->filtered, 1);
		return;
	}
	counts->taken++;
	if (slot->call.sp) {
		struct call now;

		counts->programs++;
		regs = (struct pt_regs *)bpf_task_pt_regs(task);
		read_call(regs, &now);
		if (same_call(&now, &slot->call)) {
			sonde_measure_stack(task, now.sp, c->slice_bytes, &extent);
			counts->whole++;
		} else {
			regs = NULL;
			counts->moved++;
		}
	}
	if (extent.wanted <= 4096)
		taken = TAKE(4096);
	else if (extent.wanted <= 16384)
		taken = TAKE(16384);
	else if (extent.wanted <= 32768)
		taken = TAKE(32768);
	else
		taken = TAKE(SONDE_STACK_SLICE_MAX);
	if (!taken)
		__sync_fetch_and_add(&ledger->dropped[SONDE_DROP_RING_FULL], 1);
}

sonde_inline int interrupted(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct thread *t;
	struct slot *slot;
	__u32 zero = 0;
	__u64 value;

	slot = bpf_map_lookup_elem(&offcpu_slots, &zero);
	if (!slot || slot->task != (__u64)task)
		return 0;
	slot->task = 0;
	t = bpf_task_storage_get(&offcpu_threads, task, NULL, 0);
	value = t ? __sync_lock_test_and_set(&t->owed, 0) : 0;
	if (value)
		take_sample(task, t, slot, value);
	return 0;
}

SEC("tp_btf/irq_work_entry")
int BPF_PROG(stack__tp_btf, int vector)
{
	return interrupted();
}

/* On arm64 all interrupts of one CPU for another come by one tracepoint. */
SEC("tp_btf/ipi_entry")
int BPF_PROG(stack__ipi, const char *reason)
{
	return interrupted();
}

/* A thread that ends while samples of it are put off, or on their way: its sum is made whole, with no stack. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(exit__tp_btf, struct task_struct *task)
{
	const __u32 bytes = sizeof(struct offcpu_sample) + sizeof(struct sonde_stack);
	struct thread *t = bpf_task_storage_get(&offcpu_threads, task, NULL, 0);
	struct offcpu_control *c = control();
	struct sonde_owner owner;
	struct sonde_stack *stack;
	struct offcpu_sample *s;
	__u64 value;

	if (!t || !t->due || !c)
		return 0;
	value = __sync_lock_test_and_set(&t->owed, 0);
	if ((__s64)(t->sum - t->due) >= 0)
		value += take_due(t, t->due, t->sum, c->interval);
	if (!value)
		return 0;
	sonde_owner_current(&owner);
	s = sonde_reserve_with(offcpu_sample, bytes, &owner, 0);
	if (!s)
		return 0;
	__builtin_memset(&s->_cause, 0, sizeof s->_cause);
	s->_cause.syscall = -1;
	s->value = value;
	stack = (void *)(s + 1);
	stack->n_kernel = stack->flags = stack->n_slice = 0;
	sonde_submit(offcpu_sample, s, bytes);
	return 0;
}

/* ---- who wakes, where that is asked for ---- */

SONDE_WHEN("waker")
SEC("tp_btf/sched_waking")
int BPF_PROG(waker__tp_btf, struct task_struct *woken)
{
	struct thread *t = bpf_task_storage_get(&offcpu_threads, woken, NULL, 0);
	struct task_struct *task = bpf_get_current_task_btf();

	if (!t)
		return 0;
	t->waker_tid = task->pid;
	sonde_copy_comm(t->waker_comm, task);
	return 0;
}

/* ---- threads that stay blocked ---- */

/* What the iterator builds its record in: copies from another program's memory may take their time, and a ring must not be held up. One
 * iteration runs at a time. */
struct workplace {
	struct slot slot;
	struct record record;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct workplace);
} offcpu_workplace SEC(".maps");

struct vma_sight {
	__u64 end; /* 0: memory that is not the program's own, or that it serves itself */
};

#define VMA_USERFAULT 0x200 /* VM_UFFD_MISSING */

static long see_vma(struct task_struct *task, struct vm_area_struct *vma, struct vma_sight *sight)
{
	if (!vma->vm_file && !(vma->vm_flags & VMA_USERFAULT))
		sight->end = vma->vm_end;
	return 0;
}

/* From the thread's own anonymous memory only: pages of a file, or of a program that answers its own faults, may never come. */
sonde_inline void copy_slice(struct record *r, struct task_struct *task, __u64 sp, __u32 most)
{
	struct vma_sight sight = {};
	__u32 done = 0;

	bpf_find_vma(task, sp, see_vma, &sight, 0);
	for (__u32 i = 0; i <= SONDE_STACK_SLICE_MAX / PAGE; i++) {
		__u32 n = PAGE - ((sp + done) & (PAGE - 1));

		if (sp + done >= sight.end || done >= most || done > SONDE_STACK_SLICE_MAX - PAGE)
			break;
		barrier_var(n);
		if (n > PAGE || bpf_copy_from_user_task(slice_of(r) + done, n, (void *)(sp + done), task, 0))
			break;
		done += n;
		barrier_var(done);
	}
	r->stack.n_slice = done;
	if (done >= most)
		r->stack.flags |= SONDE_STACK_CUT;
}

/* The scheduler's clock now; 0 when it is not known. */
sonde_inline __u64 sched_now(void)
{
	__u32 zero = 0;
	struct sonde_settings *s = bpf_map_lookup_elem(&sonde_settings, &zero);

	return s && s->sched_offset ? bpf_ktime_get_boot_ns() + s->sched_offset : 0;
}

sonde_inline bool is_blocked(struct task_struct *task)
{
	return !task->on_cpu && !task->sched_info.last_queued;
}

/* Taken in as if it had begun to wait now, if it waits. */
sonde_inline void take_in(struct task_struct *task, struct thread *t, __u64 now, __u64 interval)
{
	__u64 sum = now - task->sched_info.run_delay - task->se.sum_exec_runtime, queued = task->sched_info.last_queued;

	if (queued)
		sum -= now - queued;
	t->left = task->nvcsw - is_blocked(task);
	thread_begins(t, sum, interval);
}

sonde_inline void write_waiting(struct workplace *w, struct task_struct *task, struct thread *t, __u64 value,
				__u64 arrival, __u32 most, bool sleepable)
{
	struct sonde_counts *ledger = sonde_counts_of(offcpu_sample_type.id);
	struct sonde_owner owner;
	__u64 size;

	if (!ledger)
		return;
	__sync_fetch_and_add(&ledger->produced, 1);
	sonde_owner_of(&owner, task);
	if (owner.filtered) {
		__sync_fetch_and_add(&ledger->filtered, 1);
		return;
	}
	sonde_fill_header(&w->record.sample.event, offcpu_sample_type.id, &owner);
	w->record.sample.value = value;
	fill_sample(&w->record, task, t, &w->slot);
	if (w->slot.call.sp) {
		struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);

		w->record.stack.flags |= SONDE_STACK_USER;
		sonde_take_registers(&w->record.stack, SONDE_PT_REGS(regs));
		if (sleepable)
			copy_slice(&w->record, task, w->slot.call.sp, most);
		if (task->sched_info.last_arrival != arrival) { /* it was woken, and runs on its stack */
			w->record.stack.flags &= ~SONDE_STACK_USER;
			w->record.stack.n_slice = 0;
		}
	}
	size = sizeof w->record.sample + SONDE_STACK_BYTES(w->record.stack.n_kernel, w->record.stack.n_slice);
	w->record.sample.event.size = size;
	barrier_var(size); /* older verifiers compare this number, not one like it */
	if (size > sizeof w->record || bpf_ringbuf_output(&sonde_bulk, &w->record, size, BPF_RB_NO_WAKEUP) < 0)
		__sync_fetch_and_add(&ledger->dropped[SONDE_DROP_RING_FULL], 1);
}

/* Returns whether a sample was made. */
sonde_inline bool waits_on(struct task_struct *task, struct thread *t, const struct offcpu_control *c, __u64 now,
			   bool sleepable)
{
	__u64 arrival = task->sched_info.last_arrival, due = t->due, sum, value;
	struct workplace *w;
	__u32 zero = 0;

	sum = now - task->sched_info.run_delay - task->se.sum_exec_runtime;
	if (!is_blocked(task) || task->nvcsw == t->left || !due || (__s64)(sum - due) < 0)
		return false;
	w = bpf_map_lookup_elem(&offcpu_workplace, &zero);
	if (!w)
		return false;
	w->slot.blocks = BPF_CORE_READ_BITFIELD(task, sched_contributes_to_load) ? OFFCPU_BLOCKED : OFFCPU_SLEEPING;
	w->slot.call = (struct call){ .number = -1 };
	if (sonde_is_program(task))
		read_call((struct pt_regs *)bpf_task_pt_regs(task), &w->slot.call);
	w->slot.frames_size = bpf_get_task_stack(task, w->slot.frames, sizeof w->slot.frames, 0);
	if (!is_blocked(task) || task->sched_info.last_arrival != arrival)
		return false;
	value = take_due(t, due, sum, c->interval);
	if (!value)
		return false;
	write_waiting(w, task, t, value + __sync_lock_test_and_set(&t->owed, 0), arrival, c->slice_bytes, sleepable);
	return true;
}

sonde_inline int each_thread(struct bpf_iter__task *ctx, bool sleepable)
{
	struct offcpu_control *c = control();
	struct task_struct *task = ctx->task;
	__u64 now = sched_now();
	struct thread *t;
	char one = 1;

	if (!task || !c || !c->interval)
		return 0;
	t = bpf_task_storage_get(&offcpu_threads, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t || !now) /* without the clock, from its next switch on */
		return 0;
	if (!t->due)
		take_in(task, t, now, c->interval);
	else if (!c->begins && waits_on(task, t, c, now, sleepable))
		bpf_seq_write(ctx->meta->seq, &one, 1); /* by which the reader knows how many there were */
	return 0;
}

SEC("iter.s/task")
int waiting__iter_s(struct bpf_iter__task *ctx)
{
	return each_thread(ctx, true);
}

/* Before 5.18, without the programs' stacks. */
SEC("iter/task")
int waiting__iter(struct bpf_iter__task *ctx)
{
	return each_thread(ctx, false);
}

char LICENSE[] SEC("license") = "GPL";

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A whole module in one file: who sends which signal to whom. It is built against the installed headers, and needs
 * nothing else of sonde:
 *
 *	clang -g -O2 -target bpf -I PREFIX/include -c signals.bpf.c -o signals.bpf.o
 *	install -D -m 644 signals.bpf.o /usr/lib/sonde/modules/signals.bpf.o
 *
 * The file's name is the module's name: its options are modules.signals.*.
 */
#include "sonde/probe.bpf.h"

/* The event is declared once. A member's name is its key, its C type is its type; the tags say what C cannot. */
struct signal_sent {
	struct sonde_event event; /* always first: the common keys, here of the sender */
	__u64 target_proc SONDE_AS("id") SONDE_DOC("execution that the signal goes to");
	__u32 target_pid SONDE_DOC("process that the signal goes to, in the initial pid namespace");
	__u32 signal SONDE_DOC("number of the signal");
	char target_comm[16] SONDE_DOC("name of the process that the signal goes to");
	__s32 code SONDE_DOC("si_code: above 0 the kernel sent it, and pid is who happened to run") SONDE_OPTIONAL;
	__u32 _pad; /* a name with _ in front is no key */
};
SONDE_EVENT(signal_sent, "signal.sent", 1, bulk, "A signal was sent to a process.");

/* An option: modules.signals.least, in the configuration, --set, --help and the docs; a constant to the verifier. */
SONDE_SETTING(__u32, least, 1, 1, 64, "", "signals with a smaller number are left out");

/* A kernel type of which sonde/vmlinux.h may not have all that is needed: the members used, found by name where the program is loaded. What is
 * behind three underscores is left out then; so it never clashes with what a later sonde/vmlinux.h has. */
struct kernel_siginfo___signals {
	int si_code;
} __attribute__((preserve_access_index));

/* Addresses 0 and 1 stand for a process and the kernel. Source: include/linux/sched/signal.h SEND_SIG_PRIV. */
sonde_inline __s32 code_of(struct kernel_siginfo___signals *info)
{
	const __s32 si_kernel = 0x80;

	if ((__u64)info > 1)
		return BPF_CORE_READ(info, si_code);
	return info ? si_kernel : 0;
}

/* MEASURE__HOOK: further programs sent__fentry, sent__kprobe ... would be tried where the kernel refuses this one. */
SEC("tp_btf/signal_generate")
int BPF_PROG(sent__tp_btf, int sig, struct kernel_siginfo___signals *info, struct task_struct *task)
{
	struct signal_sent *e;

	if ((__u32)sig < least)
		return 0;
	e = sonde_reserve(signal_sent, sizeof *e);
	if (!e)
		return 0; /* filtered, or lost: counted already */
	e->target_proc = sonde_proc_of(task);
	e->target_pid = task->tgid;
	e->signal = (__u32)sig;
	sonde_copy_comm(e->target_comm, task);
	e->code = code_of(info);
	e->_pad = 0;
	sonde_submit(signal_sent, e, sizeof *e);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Where threads wait: samples of blocked time, with what they waited for, summed by thread, stack and cause. */
#ifndef SONDE_OFFCPU_H
#define SONDE_OFFCPU_H

#include "sonde/event.h"
#include "sonde/stack.h"

#define OFFCPU_KICKS     8   /* rings by which CPUs interrupt themselves */
#define OFFCPU_PATH_ROOM 512 /* bytes of a path's components in a sample */

enum offcpu_state { OFFCPU_SLEEPING, OFFCPU_BLOCKED };

/* What a file descriptor stands for. */
enum offcpu_kind { OFFCPU_NO_FILE, OFFCPU_FILE, OFFCPU_PIPE, OFFCPU_SOCKET, OFFCPU_ANONYMOUS };

/* What a thread waited for, as the kernel side finds it. */
struct offcpu_cause {
	__s32 syscall; /* number, -1: in none */
	__u8 state;    /* enum offcpu_state */
	__u8 kind;     /* enum offcpu_kind */
	__u16 lport, rport;
	__u16 path_size; /* bytes of the sample's path */
	__u32 futex_holder;
	__u64 futex;
	struct sonde_ip laddr, raddr;
	__u64 ino, dev;
	__u32 waker_tid, _pad;
	char waker_comm[16];
};

/* One sample as it is in the ring. A struct sonde_stack lies behind it. */
struct offcpu_sample {
	struct sonde_event event;
	__u64 value; /* ns of blocked time that it stands for */
	struct offcpu_cause _cause;
	char _path[OFFCPU_PATH_ROOM]; /* NUL-terminated components, leaf first */
};

/* One row: what one thread waited at one place for one cause, within one window. */
struct profile_offcpu {
	struct sonde_event event;
	struct sonde_text stack SONDE_AS("list")
		SONDE_DOC("frame texts, leaf first: kernel frames, whose library is [k], then user frames")
			SONDE_OTEL("code.stacktrace");
	__u32 code SONDE_AS("names=usual|nameless|anonymous")
		SONDE_DOC("memory that a frame of the program lies in, where it is no file's and no JIT names it: "
			  "anonymous; nameless: a file's that is in no folder (memfd)") SONDE_OPTIONAL;
	__u64 stack_id SONDE_AS("id") SONDE_DOC("names the stack, the same on every host with the same binaries");
	__u64 value SONDE_DOC("time waited, in whole sampling intervals: right on average, and in sum");
	char unit[8] SONDE_DOC("what value counts: ns");
	__u64 window_ns SONDE_DOC("how long the window was that ends at ts");
	__u64 waits SONDE_DOC("samples that make up value");
	__u32 state SONDE_AS("names=sleeping|blocked") SONDE_DOC("blocked: uninterruptible, mostly on a device");
	__u32 futex_holder SONDE_DOC("thread that held the mutex as the wait began, by its own pid namespace")
		SONDE_OPTIONAL;
	char syscall[32] SONDE_DOC("system call that waits") SONDE_OPTIONAL;
	char wait[64] SONDE_DOC("kernel function that waits: the first below the scheduler's own")
		SONDE_OPTIONAL SONDE_OTEL("code.function.name");
	__u64 futex SONDE_AS("id") SONDE_DOC("address of the futex, in the process") SONDE_OPTIONAL;
	struct sonde_ip laddr SONDE_DOC("local address of the socket")
		SONDE_OPTIONAL SONDE_OTEL("network.local.address");
	struct sonde_ip raddr SONDE_DOC("its peer's address") SONDE_OPTIONAL SONDE_OTEL("network.peer.address");
	__u16 lport SONDE_DOC("local port") SONDE_OPTIONAL SONDE_OTEL("network.local.port");
	__u16 rport SONDE_DOC("its peer's port") SONDE_OPTIONAL SONDE_OTEL("network.peer.port");
	bool stack_truncated SONDE_DOC("the stack was deeper than what could be taken") SONDE_OPTIONAL;
	__u8 _pad1[3];
	char file[160] SONDE_DOC("what the call's file descriptor is: a path, pipe:[inode], socket:[inode]")
		SONDE_OPTIONAL SONDE_OTEL("file.path") SONDE_ECS("file.path");
	__u64 dev SONDE_DOC("block device of the file, as stat(2) numbers it") SONDE_OPTIONAL;
	__u32 waker_tid SONDE_DOC("thread that ended the wait; 0 is an interrupt on an idle CPU") SONDE_OPTIONAL;
	__u32 _pad2;
	char waker_comm[16] SONDE_DOC("name of that thread") SONDE_OPTIONAL;
};

SONDE_INTERNAL_EVENT(offcpu_sample, "offcpu.sample", bulk, "One sample of blocked time.");
SONDE_EVENT(profile_offcpu, "profile.offcpu", 1, bulk, "Time that a thread waited at one place, over one window.");

/* Set by the companion, read by the kernel side when a sample is due. */
struct offcpu_control {
	__u64 interval;    /* ns of blocked time for each sample */
	__u64 base;        /* ns: the interval asked for, which `interval` is never below */
	__u32 slice_bytes; /* of the program's stack, at most */
	__u32 most;        /* samples for each CPU and 268 ms */
	__u32 begins;      /* 1: the iterator takes threads in, and samples none */
	__u32 _pad;
};

/* Per CPU, summed by the companion. */
struct offcpu_counts {
	__u64 due;      /* samples due and allowed */
	__u64 held;     /* put off, since the CPU had its share */
	__u64 taken;    /* made, with or without a program's stack */
	__u64 whole;    /* of these, with the program's stack */
	__u64 moved;    /* the program ran on before its stack could be read */
	__u64 programs; /* of the taken, those of threads that have a program */
};

#ifndef __bpf__
_Static_assert(sizeof(struct offcpu_cause) == 96, "hashed and compared as bytes: no gaps");
_Static_assert(sizeof(struct offcpu_sample) == 64 + 8 + 96 + OFFCPU_PATH_ROOM, "written by the kernel side");
_Static_assert(sizeof(struct offcpu_control) == 32 && sizeof(struct offcpu_counts) == 48, "shared");
#endif

#endif

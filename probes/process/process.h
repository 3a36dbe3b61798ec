/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What processes do to each other: trace, write into memory, take files, kill. */
#ifndef SONDE_PROCESS_H
#define SONDE_PROCESS_H

#include "sonde/event.h"
#include "sonde/security.h"

/* Names of requests, in the order of `request_name` below. */
enum process_request {
	PROCESS_REQUEST_NONE,
	PROCESS_REQUEST_TRACEME,
	PROCESS_REQUEST_ATTACH,
	PROCESS_REQUEST_SEIZE,
	PROCESS_REQUEST_DETACH,
	PROCESS_REQUEST_KILL,
	PROCESS_REQUEST_POKETEXT,
	PROCESS_REQUEST_POKEDATA,
	PROCESS_REQUEST_POKEUSER,
	PROCESS_REQUEST_SETREGS,
	PROCESS_REQUEST_SETFPREGS,
	PROCESS_REQUEST_SETREGSET,
	PROCESS_REQUEST_SETSIGINFO,
	PROCESS_REQUEST_SET_SYSCALL_INFO,
};

struct process_ptrace {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	SONDE_TARGET;
	__u64 address SONDE_DOC("where in the target it pokes") SONDE_OPTIONAL;
	__u32 request_name SONDE_AS("names=none|traceme|attach|seize|detach|kill|poketext|pokedata|pokeuser|setregs|"
				    "setfpregs|setregset|setsiginfo|set_syscall_info") SONDE_DOC("what was asked for");
	__u32 request SONDE_DOC("the same as a number: PTRACE_* of sys/ptrace.h");
	__u32 target_tid SONDE_DOC("the thread, in the initial pid namespace; of traceme the one that asks")
		SONDE_OPTIONAL;
	__u32 _pad;
};

struct process_memory_write {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	SONDE_TARGET;
	__u64 parts SONDE_DOC("pieces of the target's memory that were given to be written");
};

struct process_fd_get {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	SONDE_TARGET;
	__u32 target_fd SONDE_DOC("descriptor, as the target has it");
	__u32 fd SONDE_DOC("descriptor that the caller got") SONDE_OPTIONAL;
	__u64 ino SONDE_DOC("inode number of the file") SONDE_OPTIONAL;
	__u64 dev SONDE_DOC("device of the file, as stat(2) numbers it") SONDE_OPTIONAL;
	struct sonde_text path SONDE_AS("path") SONDE_DOC("path of the file; of what has no folder its name")
		SONDE_OPTIONAL;
	__u16 family SONDE_DOC("of a socket: its address family, AF_*") SONDE_OPTIONAL;
	__u16 lport SONDE_DOC("of a socket: local port") SONDE_OPTIONAL;
	struct sonde_ip laddr SONDE_DOC("of a socket: local address") SONDE_OPTIONAL;
	struct sonde_ip raddr SONDE_DOC("of a socket: remote address") SONDE_OPTIONAL;
	__u16 rport SONDE_DOC("of a socket: remote port") SONDE_OPTIONAL;
	__u8 _pad[6];
};

struct process_signal {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_TARGET;
	__u32 signal SONDE_DOC("number of the signal");
	__u32 target_tid SONDE_DOC("the thread that it was sent to, where it was not the whole process") SONDE_OPTIONAL;
	__u32 code SONDE_AS("names=kill|queue|tkill") SONDE_DOC("how it was sent");
	__u32 result SONDE_AS("names=delivered|ignored|pending|overflow|lost_info") SONDE_DOC(
		"delivered: to the target's queue; ignored: it does not want it; pending: it had one already");
};

SONDE_EVENT(process_ptrace, "process.ptrace", 1, priority,
	    "A process traces another, or changes what it traces; what only reads or goes on is no event.");
SONDE_EVENT(process_memory_write, "process.memory_write", 1, priority,
	    "A process wrote into the memory of another with process_vm_writev(2).");
SONDE_EVENT(process_fd_get, "process.fd_get", 1, priority, "A process took a file of another with pidfd_getfd(2).");
SONDE_EVENT(process_signal, "process.signal", 1, priority,
	    "A process sent another a signal that ends or stops, as the kernel accepted it.");

#ifndef __bpf__
_Static_assert(sizeof(struct process_ptrace) == 64 + 24 + 16 + 32 + 8 + 16, "no holes");
_Static_assert(sizeof(struct process_fd_get) == 64 + 24 + 16 + 32 + 8 + 16 + 4 + 4 + 32 + 8, "no holes");
#endif

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Events of security as modules declare them, with the keys that rules are served by. Read by test_alerts, never loaded. */
#ifndef TEST_SECURITY_EVENTS_H
#define TEST_SECURITY_EVENTS_H

#include "sonde/security.h"

struct file_open {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	struct sonde_text path SONDE_AS("path") SONDE_OPTIONAL;
	struct sonde_text path_given SONDE_OPTIONAL;
	__u64 ino, dev;
	__u32 flags, mode;
	__s32 fd;
	bool created SONDE_OPTIONAL;
	__u8 _pad[3];
};

struct file_rename {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	struct sonde_text path SONDE_AS("path") SONDE_OPTIONAL;
	struct sonde_text new_path SONDE_AS("path") SONDE_OPTIONAL;
};

struct file_symlink {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	struct sonde_text path SONDE_AS("path") SONDE_OPTIONAL;
	struct sonde_text target;
};

struct process_ptrace {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	__u32 request SONDE_AS("names=traceme|peek|attach|seize");
	__u32 target_pid;
};

struct net_dup {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	struct sonde_ip laddr, raddr;
	__u16 lport, rport;
	__s32 fd;
	__u32 family SONDE_AS("names=unspec|unix|inet"), protocol;
};

struct cred_change {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	__u32 call SONDE_AS("names=none|setuid|capset"), _pad;
};

struct uring_op {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	__u32 op SONDE_AS("names=nop|openat|connect"), _pad;
	struct sonde_text path SONDE_AS("path") SONDE_OPTIONAL;
};

struct net_connect {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	struct sonde_ip laddr SONDE_OPTIONAL, raddr SONDE_OPTIONAL, addr_given SONDE_OPTIONAL;
	__u32 lport SONDE_OPTIONAL, rport SONDE_OPTIONAL, port_given SONDE_OPTIONAL;
	__u32 _pad;
};

SONDE_SECURITY_EVENT(cred_change, "cred.change", 1, priority, "Rights changed.");
SONDE_SECURITY_EVENT(uring_op, "uring.op", 1, bulk, "An operation of io_uring began.");
SONDE_SECURITY_EVENT(net_connect, "net.connect", 1, bulk, "A socket was connected, or was not.");
SONDE_SECURITY_EVENT(file_open, "file.open", 1, bulk, "A file was opened.");
SONDE_SECURITY_EVENT(file_rename, "file.rename", 1, bulk, "A file was renamed.");
SONDE_SECURITY_EVENT(file_symlink, "file.symlink", 1, bulk, "A symbolic link was made.");
SONDE_SECURITY_EVENT(process_ptrace, "process.ptrace", 1, priority, "A process was traced.");
SONDE_SECURITY_EVENT(net_dup, "net.dup", 1, priority, "A socket became a standard stream.");

#endif

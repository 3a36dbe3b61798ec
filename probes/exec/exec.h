/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The life of processes: programs that begin, processes that fork, processes that end. */
#ifndef SONDE_EXEC_H
#define SONDE_EXEC_H

#include "sonde/security.h"

struct process_exec {
	struct sonde_event event;
	struct sonde_text exe SONDE_AS("path") SONDE_DOC(
		"path of the program file, symlinks and mounts resolved, as the process's mount namespace has it")
		SONDE_OTEL("process.executable.path") SONDE_ECS("process.executable");
	struct sonde_text args SONDE_AS("list") SONDE_DOC("argument vector, the program's own name first")
		SONDE_OTEL("process.command_args") SONDE_ECS("process.args");
	struct sonde_text cwd SONDE_AS("path") SONDE_DOC("working directory") SONDE_OTEL("process.working_directory")
		SONDE_ECS("process.working_directory");
	__u32 uid SONDE_DOC("real user id, in the initial user namespace") SONDE_OTEL("process.real_user.id")
		SONDE_ECS("process.real_user.id");
	__u32 euid SONDE_DOC("effective user id") SONDE_OTEL("process.user.id") SONDE_ECS("process.user.id");
	__u32 gid SONDE_DOC("real group id") SONDE_ECS("process.real_group.id");
	__u32 egid SONDE_DOC("effective group id") SONDE_ECS("process.group.id");
	__u64 caps SONDE_AS("caps") SONDE_DOC("effective capabilities")
		SONDE_ECS("process.thread.capabilities.effective");
	char tty[16] SONDE_DOC("controlling terminal") SONDE_OPTIONAL;
	__u64 ino SONDE_DOC("inode number of the program file") SONDE_OTEL("file.inode") SONDE_ECS("file.inode");
	__u64 dev SONDE_DOC("device of the program file, as stat(2) numbers it");
	__u32 ns_pid SONDE_DOC("the process's pid in its own pid namespace") SONDE_OTEL("process.vpid")
		SONDE_ECS("process.vpid");
	__u32 pid_ns SONDE_DOC("inode number of its pid namespace");
	__u32 mnt_ns SONDE_DOC("inode number of its mount namespace");
	__u32 net_ns SONDE_DOC("inode number of its network namespace");
	__u32 user_ns SONDE_DOC("inode number of its user namespace");
	__u32 uts_ns SONDE_DOC("inode number of its UTS namespace");
	__u32 ipc_ns SONDE_DOC("inode number of its IPC namespace");
	__u32 cgroup_ns SONDE_DOC("inode number of its cgroup namespace");
	__u64 args_bytes SONDE_DOC("length of the whole argument vector, where it was cut") SONDE_OPTIONAL;
};

struct process_fork {
	struct sonde_event event;
	__u64 child_proc SONDE_AS("id") SONDE_DOC("execution that the child begins with");
	__u32 child_pid SONDE_DOC("pid of the child, in the initial pid namespace");
	__u32 _pad;
	__u64 flags SONDE_DOC("clone flags: CLONE_* of sched.h");
};

struct process_exit {
	struct sonde_event event;
	__u32 exit_code SONDE_DOC("what it passed to exit, 0 to 255; 0 where a signal ended it")
		SONDE_OTEL("process.exit.code") SONDE_ECS("process.exit_code");
	__u32 signal SONDE_DOC("signal that ended it") SONDE_OPTIONAL;
	__u64 run_ns SONDE_DOC("life of the process, from its fork") SONDE_ECS("event.duration");
	__u64 cpu_ns SONDE_DOC("CPU time of all its threads, over all programs that it ran");
	__u64 peak_rss_bytes SONDE_DOC("largest resident set, as getrusage(2) has it");
	bool core_dumped SONDE_DOC("a core was written") SONDE_OPTIONAL;
	__u8 _pad[7];
};

SONDE_SECURITY_EVENT(process_exec, "process.exec", 1, priority, "A process began a program.");
SONDE_EVENT(process_fork, "process.fork", 1, priority, "A process was made; threads are not.");
SONDE_EVENT(process_exit, "process.exit", 1, priority, "A process ended, with its last thread.");

#endif

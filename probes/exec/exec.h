/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The life of processes: programs that begin, processes that fork, processes that end. */
#ifndef SONDE_EXEC_H
#define SONDE_EXEC_H

#include "sonde/security.h"

/* What a descriptor is, as process.exec names it. */
enum exec_stream {
	EXEC_STREAM_NONE, /* not open */
	EXEC_STREAM_FILE,
	EXEC_STREAM_FOLDER,
	EXEC_STREAM_SOCKET,
	EXEC_STREAM_PIPE,
	EXEC_STREAM_TTY,
	EXEC_STREAM_NULL,
	EXEC_STREAM_DEVICE,
	EXEC_STREAM_OTHER,
};
#define EXEC_STREAM_NAMES SONDE_AS("names=closed|file|folder|socket|pipe|tty|null|device|other") SONDE_OPTIONAL

#define EXEC_RECORD_MOST (64u << 10) /* bytes of a process.exec with all its parts */

#define EXEC_LOGINUID_NONE 0xffffffffu

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
	struct sonde_text script SONDE_DOC("path of the script that `exe` interprets, as the kernel copied it from the "
					   "call: symlinks not resolved") SONDE_OPTIONAL;
	struct sonde_text env SONDE_AS("list")
		SONDE_DOC("variables of the environment that modules.exec.environment names, as NAME=value")
			SONDE_OPTIONAL SONDE_ECS("process.env_vars");
	__u64 env_bytes SONDE_DOC("length of the whole environment, where not all of it was looked at") SONDE_OPTIONAL;
	__u32 pgid SONDE_DOC("process group, in the initial pid namespace") SONDE_OTEL("process.group_leader.pid")
		SONDE_ECS("process.group_leader.pid");
	__u32 sid SONDE_DOC("session, in the initial pid namespace") SONDE_OTEL("process.session_leader.pid")
		SONDE_ECS("process.session_leader.pid");
	__u32 loginuid SONDE_DOC("user that logged in, whatever was changed since; 4294967295: nobody did, as "
				 "/proc/PID/loginuid has it");
	__u8 stdin EXEC_STREAM_NAMES SONDE_DOC("what descriptor 0 is as the program begins; absent: closed");
	__u8 stdout EXEC_STREAM_NAMES SONDE_DOC("what descriptor 1 is");
	__u8 stderr EXEC_STREAM_NAMES SONDE_DOC("what descriptor 2 is");
	bool memfd SONDE_DOC("the program file never was in a folder: memfd_create(2)") SONDE_OPTIONAL;
	bool deleted SONDE_DOC("the program file is in no folder any more") SONDE_OPTIONAL;
	bool upper SONDE_DOC("the program file lies in the writable layer of an overlay: it did not come with the "
			     "container's image") SONDE_OPTIONAL;
	bool writable SONDE_DOC("the real user, if not root, may write the program file by its mode, or everybody may")
		SONDE_OPTIONAL;
	bool setuid SONDE_DOC("the program file has the set-user-id bit") SONDE_OPTIONAL;
	bool setgid SONDE_DOC("the program file has the set-group-id bit") SONDE_OPTIONAL;
	bool gained SONDE_DOC("the program file gave the process rights: another user, another group, capabilities")
		SONDE_OPTIONAL;
	__u8 _pad[2];
	/* For the module's own code: which version of the file, and where the program's stack begins, which is another with each execution. */
	__u64 _changed; /* ns since the epoch, of the file system's clock */
	__u64 _file_bytes;
	__u64 _start_stack;
};

struct process_exec_failed {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	struct sonde_text path_given SONDE_DOC("the path as the program gave it; it can have been changed meanwhile");
	__s32 fd SONDE_DOC("folder or file of execveat(2); -100, which is AT_FDCWD: none");
	__u32 flags SONDE_DOC("flags of execveat(2): AT_* of fcntl.h");
	__u32 _pad;
};

struct process_image {
	struct sonde_event event;
	struct sonde_text path SONDE_AS("path") SONDE_DOC(
		"path of the program file, as `exe` of the process.exec that was the first to run this version of it")
		SONDE_OTEL("process.executable.path") SONDE_ECS("process.executable");
	struct sonde_text sha256 SONDE_AS("hex") SONDE_DOC("SHA-256 of its content")
		SONDE_OPTIONAL SONDE_ECS("process.hash.sha256");
	__u64 ino SONDE_DOC("inode number of the program file") SONDE_OTEL("file.inode") SONDE_ECS("file.inode");
	__u64 dev SONDE_DOC("device of the program file, as stat(2) numbers it");
	__u64 file_bytes SONDE_DOC("its size") SONDE_OTEL("file.size") SONDE_ECS("file.size");
	bool too_large SONDE_DOC("it is larger than modules.exec.hash_most, and was not read") SONDE_OPTIONAL;
	__u8 _pad[7];
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
SONDE_SECURITY_EVENT(process_exec_failed, "process.exec_failed", 1, bulk,
		     "A process asked for a program and did not get it. Only where modules.exec.failed is on.");
SONDE_EVENT(process_image, "process.image", 1, priority,
	    "A program file was run, in this version for the first time. Only where modules.exec.hash is on.");
SONDE_EVENT(process_fork, "process.fork", 1, priority, "A process was made; threads are not.");
SONDE_EVENT(process_exit, "process.exit", 1, priority, "A process ended, with its last thread.");

#endif

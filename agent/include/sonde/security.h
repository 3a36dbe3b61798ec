/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What all security events have in common: who did it with which rights as they are at that moment, and how it ended.
 *
 *	struct file_chmod {
 *		struct sonde_event event;
 *		SONDE_CREDENTIALS;
 *		SONDE_RESULT;
 *		...
 *	};
 *	SONDE_SECURITY_EVENT(file_chmod, "file.chmod", 1, bulk, "The mode of a file was changed.");
 */
#ifndef SONDE_SECURITY_H
#define SONDE_SECURITY_H

#include "sonde/event.h"

/* 24 bytes, aligned to 8. Filled by sonde_fill_credentials(). */
#define SONDE_CREDENTIALS                                                                                              \
	__u32 uid SONDE_DOC("real user id, in the initial user namespace") SONDE_OTEL("process.real_user.id")          \
		SONDE_ECS("process.real_user.id");                                                                     \
	__u32 euid SONDE_DOC("effective user id") SONDE_OTEL("process.user.id") SONDE_ECS("process.user.id");          \
	__u32 gid SONDE_DOC("real group id") SONDE_ECS("process.real_group.id");                                       \
	__u32 egid SONDE_DOC("effective group id") SONDE_ECS("process.group.id");                                      \
	__u64 cap_eff SONDE_DOC("effective capabilities: bit n is capability n, as CapEff in /proc/PID/status has it")

/* 16 bytes, aligned to 8. A call of io_uring or of 32 bits has the name of the call that it stands for. */
#define SONDE_RESULT                                                                                                   \
	__s64 ret SONDE_DOC("what the system call returned, where that says more than that it was done")               \
		SONDE_OPTIONAL;                                                                                        \
	__s32 error SONDE_AS("errno") SONDE_DOC("why it failed") SONDE_OPTIONAL;                                       \
	__u32 _pad_result

/* An event that a rule can be about. The agent adds `lineage`, the names of its process's ancestors. */
#ifdef __bpf__
#define SONDE_SECURITY_EVENT(record, name, version, ring, doc)                                                         \
	SONDE_TYPE(record, name, ring, doc, SONDE_TAG("version=" #version) SONDE_TAG("security"))
#else
#define SONDE_SECURITY_EVENT(record, name, version, ring, doc) SONDE_EVENT(record, name, version, ring, doc)
#endif

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What threads may do, and when that changes. */
#ifndef SONDE_CRED_H
#define SONDE_CRED_H

#include "sonde/event.h"
#include "sonde/security.h"

/* In the order of the names of `call` below. */
enum cred_call {
	CRED_CALL_NONE,
	CRED_CALL_CLONE,
	CRED_CALL_EXECVE,
	CRED_CALL_SETUID,
	CRED_CALL_SETGID,
	CRED_CALL_SETREUID,
	CRED_CALL_SETREGID,
	CRED_CALL_SETRESUID,
	CRED_CALL_SETRESGID,
	CRED_CALL_SETFSUID,
	CRED_CALL_SETFSGID,
	CRED_CALL_SETGROUPS,
	CRED_CALL_CAPSET,
	CRED_CALL_PRCTL,
	CRED_CALL_KEYCTL,
	CRED_CALL_ADD_KEY,
	CRED_CALL_REQUEST_KEY,
	CRED_CALL_UNSHARE,
	CRED_CALL_SETNS,
};

#define CRED_CHANGED_ROOM 176 /* all items of `changed` */

struct cred_change {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	__u32 call SONDE_AS(
		"names=none|clone|execve|setuid|setgid|setreuid|setregid|setresuid|setresgid|setfsuid|setfsgid|"
		"setgroups|capset|prctl|keyctl|add_key|request_key|unshare|setns")
		SONDE_DOC("system call that did it, or failed to; none: it was found changed, and no call of these had "
			  "done it");
	bool jump SONDE_DOC("no system call can have given it these rights, from those that it had: the kernel was "
			    "made to, by an exploit or by a module") SONDE_OPTIONAL;
	bool no_new_privs SONDE_DOC("exec gives it no more rights") SONDE_OPTIONAL;
	__u8 _pad[2];
	struct sonde_text changed SONDE_AS("list")
		SONDE_DOC("keys whose values are others now; old_KEY has what was, and is absent where that was 0")
			SONDE_OPTIONAL;
	__u32 option SONDE_DOC("of prctl and keyctl: what was asked for") SONDE_OPTIONAL;
	__u32 suid SONDE_DOC("saved user id, in the initial user namespace") SONDE_ECS("process.saved_user.id");
	__u32 fsuid SONDE_DOC("user id for files");
	__u32 sgid SONDE_DOC("saved group id") SONDE_ECS("process.saved_group.id");
	__u32 fsgid SONDE_DOC("group id for files");
	__u32 groups SONDE_DOC("supplementary groups: how many") SONDE_OPTIONAL;
	__u32 securebits SONDE_DOC("SECBIT_* of linux/securebits.h") SONDE_OPTIONAL;
	__u32 user_ns SONDE_DOC("inode number of its user namespace");
	__u64 cap_prm SONDE_DOC("permitted capabilities, as bits") SONDE_OPTIONAL;
	__u64 cap_inh SONDE_DOC("inheritable capabilities, as bits") SONDE_OPTIONAL;
	__u64 cap_bnd SONDE_DOC("bounding set, as bits") SONDE_OPTIONAL;
	__u64 cap_amb SONDE_DOC("ambient capabilities, as bits") SONDE_OPTIONAL;
	__u32 old_uid SONDE_DOC("uid before") SONDE_OPTIONAL;
	__u32 old_euid SONDE_DOC("euid before") SONDE_OPTIONAL;
	__u32 old_suid SONDE_DOC("suid before") SONDE_OPTIONAL;
	__u32 old_fsuid SONDE_DOC("fsuid before") SONDE_OPTIONAL;
	__u32 old_gid SONDE_DOC("gid before") SONDE_OPTIONAL;
	__u32 old_egid SONDE_DOC("egid before") SONDE_OPTIONAL;
	__u32 old_sgid SONDE_DOC("sgid before") SONDE_OPTIONAL;
	__u32 old_fsgid SONDE_DOC("fsgid before") SONDE_OPTIONAL;
	__u32 old_groups SONDE_DOC("groups before") SONDE_OPTIONAL;
	__u32 old_securebits SONDE_DOC("securebits before") SONDE_OPTIONAL;
	__u32 old_user_ns SONDE_DOC("user_ns before") SONDE_OPTIONAL;
	__u32 session_keyring SONDE_DOC("serial number of its session keyring, where that is another now")
		SONDE_OPTIONAL;
	__u64 old_cap_eff SONDE_DOC("cap_eff before") SONDE_OPTIONAL;
	__u64 old_cap_prm SONDE_DOC("cap_prm before") SONDE_OPTIONAL;
	__u64 old_cap_inh SONDE_DOC("cap_inh before") SONDE_OPTIONAL;
	__u64 old_cap_bnd SONDE_DOC("cap_bnd before") SONDE_OPTIONAL;
	__u64 old_cap_amb SONDE_DOC("cap_amb before") SONDE_OPTIONAL;
};

SONDE_EVENT(cred_change, "cred.change", 1, priority,
	    "The rights of a thread changed, or were to and the kernel refused.");

#ifndef __bpf__
_Static_assert(sizeof(struct cred_change) == 64 + 24 + 16 + 12 + 4 * 7 + 4 + 8 * 4 + 4 * 12 + 8 * 5 + 4, "no holes");
#endif

#endif

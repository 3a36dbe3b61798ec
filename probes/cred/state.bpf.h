/* SPDX-License-Identifier: GPL-2.0-only */
/* The rights of a thread as they were seen last, and what of it a system call can have done. */
#ifndef SONDE_CRED_STATE_BPF_H
#define SONDE_CRED_STATE_BPF_H

#include "sonde/syscall.bpf.h"
#include "cred.h"

#define GROUPS_READ 32 /* supplementary groups that are compared one by one; of more their number */

#define CAP_SETGID  6
#define CAP_SETUID  7
#define CAP_SETPCAP 8

#define S_ISUID 04000
#define S_ISGID 02000

/* SECBIT_NOROOT, NO_SETUID_FIXUP and their locks: without CAP_SETPCAP nobody changes them. */
#define SECUREBITS_GUARDED 0x0fu

/* In the kernel's order: one copy takes them. */
struct caps {
	__u64 inh, prm, eff, bnd, amb;
};

struct state {
	__u32 uid, euid, suid, fsuid;
	__u32 gid, egid, sgid, fsgid;
	struct caps caps;
	__u32 securebits;
	__u32 user_ns, user_level;
	__u32 groups, groups_hash;
	__u32 no_new_privs;
	__u32 session;
	__u32 _pad;
};

#define MAP_EXTENTS 5 /* that lie in the namespace itself. Source: include/linux/user_namespace.h */

struct map_extent {
	__u32 first, lower_first, count;
};

sonde_inline void read_caps(struct caps *to, const struct cred *cred)
{
	const __u32 inh = bpf_core_field_offset(struct cred, cap_inheritable),
		    prm = bpf_core_field_offset(struct cred, cap_permitted),
		    eff = bpf_core_field_offset(struct cred, cap_effective),
		    bnd = bpf_core_field_offset(struct cred, cap_bset),
		    amb = bpf_core_field_offset(struct cred, cap_ambient);

	if (prm == inh + 8 && eff == inh + 16 && bnd == inh + 24 && amb == inh + 32) {
		bpf_probe_read_kernel(to, sizeof *to, (void *)cred + inh);
		return;
	}
	to->inh = sonde_capabilities((void *)cred + inh);
	to->prm = sonde_capabilities((void *)cred + prm);
	to->eff = sonde_capabilities((void *)cred + eff);
	to->bnd = sonde_capabilities((void *)cred + bnd);
	to->amb = sonde_capabilities((void *)cred + amb);
}

static __attribute__((noinline)) void read_groups(struct state *to, struct group_info *info)
{
	__u32 gids[GROUPS_READ] = {}, hash = 0, n = (__u32)BPF_CORE_READ(info, ngroups);

	to->groups = n;
	if (n > GROUPS_READ)
		n = GROUPS_READ;
	bpf_probe_read_kernel(gids, n * sizeof gids[0], (void *)info + bpf_core_field_offset(struct group_info, gid));
	for (int i = 0; i < GROUPS_READ; i++)
		hash = (hash ^ gids[i]) * 0x9e3779b1u;
	to->groups_hash = hash;
}

/* `cred` is one that the verifier knows. */
sonde_inline void read_state(struct state *to, const struct cred *cred, struct task_struct *task)
{
	struct user_namespace *ns = cred->user_ns;

	to->uid = cred->uid.val;
	to->euid = cred->euid.val;
	to->suid = cred->suid.val;
	to->fsuid = cred->fsuid.val;
	to->gid = cred->gid.val;
	to->egid = cred->egid.val;
	to->sgid = cred->sgid.val;
	to->fsgid = cred->fsgid.val;
	to->securebits = cred->securebits;
	read_caps(&to->caps, cred);
	to->user_ns = BPF_CORE_READ(ns, ns.inum);
	to->user_level = (__u32)BPF_CORE_READ(ns, level);
	read_groups(to, cred->group_info);
	to->no_new_privs = task->atomic_flags & 1; /* PFA_NO_NEW_PRIVS */
	to->session = cred->session_keyring ? (__u32)BPF_CORE_READ(cred, session_keyring, serial) : 0;
	to->_pad = 0;
}

sonde_inline bool is_same(const struct state *a, const struct state *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;
	__u64 differ = 0;

	for (unsigned i = 0; i < sizeof *a / sizeof *x; i++)
		differ |= x[i] ^ y[i];
	return !differ;
}

/* ---- what a system call can do ---- */

sonde_inline bool has_cap(const struct state *s, int cap)
{
	return s->caps.prm >> cap & 1;
}

/* Whether an id of the initial namespace is one in this namespace. What has more than five ranges is not looked up. */
sonde_inline bool is_mapped(const struct uid_gid_map *map, __u32 id)
{
	__u32 n = BPF_CORE_READ(map, nr_extents);

	if (n > MAP_EXTENTS)
		return true;
	for (__u32 i = 0; i < MAP_EXTENTS; i++) {
		struct map_extent x = {};

		bpf_probe_read_kernel(&x, sizeof x,
				      (void *)map + bpf_core_field_offset(struct uid_gid_map, extent) + i * sizeof x);
		if (i < n && id - x.lower_first < x.count)
			return true;
	}
	return false;
}

sonde_inline bool was_held(__u32 id, __u32 a, __u32 b, __u32 c, __u32 d)
{
	return id == a || id == b || id == c || id == d;
}

/* An id is one that the thread had, or that its privilege lets it take, where its namespace knows it. */
sonde_inline bool may_take(__u32 id, bool held, bool privileged, const struct uid_gid_map *map)
{
	return held || (privileged && is_mapped(map, id));
}

sonde_inline bool ids_possible(const struct state *o, const struct state *n, const struct user_namespace *ns)
{
	bool users = has_cap(o, CAP_SETUID), groups = has_cap(o, CAP_SETGID);
	const struct uid_gid_map *u = (void *)ns + bpf_core_field_offset(struct user_namespace, uid_map),
				 *g = (void *)ns + bpf_core_field_offset(struct user_namespace, gid_map);
#define USER(id)  may_take(n->id, was_held(n->id, o->uid, o->euid, o->suid, o->fsuid), users, u)
#define GROUP(id) may_take(n->id, was_held(n->id, o->gid, o->egid, o->sgid, o->fsgid), groups, g)

	if (!USER(uid) || !USER(euid) || !USER(suid) || !USER(fsuid))
		return false;
	if (!GROUP(gid) || !GROUP(egid) || !GROUP(sgid) || !GROUP(fsgid))
		return false;
	return groups || (o->groups == n->groups && o->groups_hash == n->groups_hash);
#undef USER
#undef GROUP
}

sonde_inline bool caps_possible(const struct state *o, const struct state *n)
{
	__u64 inh = o->caps.inh | (has_cap(o, CAP_SETPCAP) ? o->caps.bnd : o->caps.prm);

	if (n->caps.prm & ~o->caps.prm || n->caps.eff & ~o->caps.prm || n->caps.bnd & ~o->caps.bnd)
		return false;
	if (n->caps.inh & ~inh || n->caps.amb & ~(o->caps.amb | o->caps.prm))
		return false;
	return has_cap(o, CAP_SETPCAP) || !((o->securebits ^ n->securebits) & SECUREBITS_GUARDED);
}

/* Whether system calls other than exec can have led from `o` to `n`. A new user namespace, always one further down, gives all
 * capabilities in it, and no ids. Source: security/commoncap.c, kernel/sys.c, kernel/user_namespace.c. */
sonde_inline bool is_possible(const struct state *o, const struct state *n, const struct user_namespace *ns)
{
	if (n->user_ns != o->user_ns) {
		if (n->user_level <= o->user_level)
			return false;
	} else if (!caps_possible(o, n)) {
		return false;
	}
	if (o->no_new_privs && !n->no_new_privs)
		return false;
	return ids_possible(o, n, ns);
}

/* Exec gives ids only where the file's mode says so, and capabilities by the file's own, or by root's right to all of them. */
sonde_inline bool exec_jumps(const struct state *o, const struct state *n, __u32 mode)
{
	if (n->uid != o->uid || n->gid != o->gid || n->user_ns != o->user_ns || n->caps.bnd & ~o->caps.bnd)
		return true;
	if (n->euid != o->euid && !(mode & S_ISUID))
		return true;
	return n->egid != o->egid && !(mode & S_ISGID);
}

/* ---- the event ---- */

#define CHANGED(member, key)                                                                                           \
	do {                                                                                                           \
		if (o->member != n->member && at <= sizeof *e + CRED_CHANGED_ROOM - sizeof key) {                      \
			__builtin_memcpy((void *)e + at, key, sizeof key);                                             \
			at += sizeof key;                                                                              \
			barrier_var(at);                                                                               \
		}                                                                                                      \
	} while (0)

/* Returns the bytes used. */
sonde_inline __u32 put_changed(struct cred_change *e, const struct state *o, const struct state *n)
{
	__u32 at = sizeof *e;

	CHANGED(uid, "uid");
	CHANGED(euid, "euid");
	CHANGED(suid, "suid");
	CHANGED(fsuid, "fsuid");
	CHANGED(gid, "gid");
	CHANGED(egid, "egid");
	CHANGED(sgid, "sgid");
	CHANGED(fsgid, "fsgid");
	CHANGED(groups_hash, "groups");
	CHANGED(caps.eff, "cap_eff");
	CHANGED(caps.prm, "cap_prm");
	CHANGED(caps.inh, "cap_inh");
	CHANGED(caps.bnd, "cap_bnd");
	CHANGED(caps.amb, "cap_amb");
	CHANGED(securebits, "securebits");
	CHANGED(user_ns, "user_ns");
	CHANGED(no_new_privs, "no_new_privs");
	CHANGED(session, "session_keyring");
	e->changed.offset = sizeof *e;
	e->changed.length = (__u16)(at - sizeof *e);
	return at;
}

sonde_inline void put_new(struct cred_change *e, const struct state *n)
{
	e->uid = n->uid;
	e->euid = n->euid;
	e->gid = n->gid;
	e->egid = n->egid;
	e->cap_eff = n->caps.eff;
	e->suid = n->suid;
	e->fsuid = n->fsuid;
	e->sgid = n->sgid;
	e->fsgid = n->fsgid;
	e->groups = n->groups;
	e->securebits = n->securebits;
	e->user_ns = n->user_ns;
	e->no_new_privs = n->no_new_privs;
	e->cap_prm = n->caps.prm;
	e->cap_inh = n->caps.inh;
	e->cap_bnd = n->caps.bnd;
	e->cap_amb = n->caps.amb;
}

/* Only what is another now: 0 is absent. */
#define OLD(was, now) ((was) != (now) ? (was) : 0)

sonde_inline void put_old(struct cred_change *e, const struct state *o, const struct state *n)
{
	e->old_uid = OLD(o->uid, n->uid);
	e->old_euid = OLD(o->euid, n->euid);
	e->old_suid = OLD(o->suid, n->suid);
	e->old_fsuid = OLD(o->fsuid, n->fsuid);
	e->old_gid = OLD(o->gid, n->gid);
	e->old_egid = OLD(o->egid, n->egid);
	e->old_sgid = OLD(o->sgid, n->sgid);
	e->old_fsgid = OLD(o->fsgid, n->fsgid);
	e->old_groups = OLD(o->groups, n->groups);
	e->old_securebits = OLD(o->securebits, n->securebits);
	e->old_user_ns = OLD(o->user_ns, n->user_ns);
	e->session_keyring = OLD(n->session, o->session);
	e->old_cap_eff = OLD(o->caps.eff, n->caps.eff);
	e->old_cap_prm = OLD(o->caps.prm, n->caps.prm);
	e->old_cap_inh = OLD(o->caps.inh, n->caps.inh);
	e->old_cap_bnd = OLD(o->caps.bnd, n->caps.bnd);
	e->old_cap_amb = OLD(o->caps.amb, n->caps.amb);
}

#endif

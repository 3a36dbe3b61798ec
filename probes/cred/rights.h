/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The rights of a thread, and which can follow from which. Used by the kernel side, and by tests; whoever includes it says before what struct uid_gid_map is,
 * and whether an id is in one: bool is_mapped(const struct uid_gid_map *map, __u32 id).
 */
#ifndef SONDE_CRED_RIGHTS_H
#define SONDE_CRED_RIGHTS_H

#define rights_inline static __attribute__((always_inline, unused)) inline

#define CAP_SETGID  6
#define CAP_SETUID  7
#define CAP_SETPCAP 8

#define S_ISUID 04000
#define S_ISGID 02000

/* SECBIT_NOROOT, NO_SETUID_FIXUP and their locks: without CAP_SETPCAP nobody changes them. */
#define SECUREBITS_GUARDED 0x0fu

/* In the kernel's order: one copy takes them. */
struct cred_caps {
	__u64 inh, prm, eff, bnd, amb;
};

struct cred_state {
	__u32 uid, euid, suid, fsuid;
	__u32 gid, egid, sgid, fsgid;
	struct cred_caps caps;
	__u32 securebits;
	__u32 user_ns, user_level;
	__u32 groups, groups_hash;
	__u32 no_new_privs;
	__u32 session;
	__u32 _pad;
};

rights_inline bool is_same(const struct cred_state *a, const struct cred_state *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;
	__u64 differ = 0;

	for (unsigned i = 0; i < sizeof *a / sizeof *x; i++)
		differ |= x[i] ^ y[i];
	return !differ;
}

/* ---- what a system call can do ---- */

rights_inline bool has_cap(const struct cred_state *s, int cap)
{
	return s->caps.prm >> cap & 1;
}

rights_inline bool was_held(__u32 id, __u32 a, __u32 b, __u32 c, __u32 d)
{
	return id == a || id == b || id == c || id == d;
}

/* An id is one that the thread had, or that its privilege lets it take, where its namespace knows it. */
rights_inline bool may_take(__u32 id, bool held, bool privileged, const struct uid_gid_map *map)
{
	return held || (privileged && is_mapped(map, id));
}

rights_inline bool ids_possible(const struct cred_state *o, const struct cred_state *n, const struct uid_gid_map *users,
				const struct uid_gid_map *groups)
{
	bool any_user = has_cap(o, CAP_SETUID), any_group = has_cap(o, CAP_SETGID);

#define USER(id)  may_take(n->id, was_held(n->id, o->uid, o->euid, o->suid, o->fsuid), any_user, users)
#define GROUP(id) may_take(n->id, was_held(n->id, o->gid, o->egid, o->sgid, o->fsgid), any_group, groups)

	if (!USER(uid) || !USER(euid) || !USER(suid) || !USER(fsuid))
		return false;
	if (!GROUP(gid) || !GROUP(egid) || !GROUP(sgid) || !GROUP(fsgid))
		return false;
	return any_group || (o->groups == n->groups && o->groups_hash == n->groups_hash);
#undef USER
#undef GROUP
}

rights_inline bool caps_possible(const struct cred_state *o, const struct cred_state *n)
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
rights_inline bool is_possible(const struct cred_state *o, const struct cred_state *n, const struct uid_gid_map *users,
			       const struct uid_gid_map *groups)
{
	if (n->user_ns != o->user_ns) {
		if (n->user_level <= o->user_level)
			return false;
	} else if (!caps_possible(o, n)) {
		return false;
	}
	if (o->no_new_privs && !n->no_new_privs)
		return false;
	return ids_possible(o, n, users, groups);
}

/* Exec gives ids only where the file's mode says so, and capabilities by the file's own, or by root's right to all of them. */
rights_inline bool exec_jumps(const struct cred_state *o, const struct cred_state *n, __u32 mode)
{
	if (n->uid != o->uid || n->gid != o->gid || n->user_ns != o->user_ns || n->caps.bnd & ~o->caps.bnd)
		return true;
	if (n->euid != o->euid && !(mode & S_ISUID))
		return true;
	return n->egid != o->egid && !(mode & S_ISGID);
}

#endif

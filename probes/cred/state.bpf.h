/* SPDX-License-Identifier: GPL-2.0-only */
/* The rights of a thread out of the kernel, and into an event. */
#ifndef SONDE_CRED_STATE_BPF_H
#define SONDE_CRED_STATE_BPF_H

#include "sonde/syscall.bpf.h"
#include "cred.h"

#define GROUPS_READ 32 /* supplementary groups that are compared one by one; of more their number */

#define MAP_EXTENTS 5 /* that lie in the namespace itself. Source: include/linux/user_namespace.h */

/* Whether an id of the initial namespace is one in this namespace. What has more than five ranges is not looked up. A function that the verifier
 * checks by itself: it is asked eight times. */
__attribute__((noinline)) int is_mapped_at(__u64 address, __u32 id)
{
	const struct uid_gid_map *map = (void *)address;
	__u32 n = BPF_CORE_READ(map, nr_extents);

	if (n > MAP_EXTENTS)
		return 1;
	for (__u32 i = 0; i < MAP_EXTENTS; i++) {
		struct uid_gid_extent x = {};

		bpf_probe_read_kernel(&x, sizeof x,
				      (void *)map + bpf_core_field_offset(struct uid_gid_map, extent) + i * sizeof x);
		if (i < n && id - x.lower_first < x.count)
			return 1;
	}
	return 0;
}

sonde_inline bool is_mapped(const struct uid_gid_map *map, __u32 id)
{
	return is_mapped_at((__u64)map, id);
}

#include "rights.h"

sonde_inline void read_caps(struct cred_caps *to, const struct cred *cred)
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

/* The hash is another where the number is: of places that nothing is in, and of group 0, it takes the same. */
static __attribute__((noinline)) void read_groups(struct cred_state *to, struct group_info *info)
{
	const void *from = (void *)info + bpf_core_field_offset(struct group_info, gid);
	__u32 gids[GROUPS_READ] = {}, n = (__u32)BPF_CORE_READ(info, ngroups), hash = n;

	to->groups = n;
	/* The bound as a mask: Linux 6.1 forgets that of a comparison. */
	if (n < GROUPS_READ)
		bpf_probe_read_kernel(gids, (n & (GROUPS_READ - 1)) * sizeof gids[0], from);
	else
		bpf_probe_read_kernel(gids, sizeof gids, from);
	for (int i = 0; i < GROUPS_READ; i++)
		hash = (hash ^ gids[i]) * 0x9e3779b1u;
	to->groups_hash = hash;
}

/* `cred` is one that the verifier knows. */
sonde_inline void read_state(struct cred_state *to, const struct cred *cred, struct task_struct *task)
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

/* ---- the event ---- */

/* Where the next name goes is read back from the record: of a number that it has seen, the verifier would follow each value by itself. */
#define CHANGED(member, key)                                                                                           \
	do {                                                                                                           \
		__u32 _at = *(volatile __u16 *)&e->changed.length;                                                     \
		if (o->member != n->member && _at <= CRED_CHANGED_ROOM - sizeof key) {                                 \
			__builtin_memcpy((void *)(e + 1) + _at, key, sizeof key);                                      \
			*(volatile __u16 *)&e->changed.length = (__u16)(_at + sizeof key);                             \
		}                                                                                                      \
	} while (0)

sonde_inline void put_changed(struct cred_change *e, const struct cred_state *o, const struct cred_state *n)
{
	e->changed.offset = sizeof *e;
	e->changed.length = 0;
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
}

sonde_inline void put_new(struct cred_change *e, const struct cred_state *n)
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

sonde_inline void put_old(struct cred_change *e, const struct cred_state *o, const struct cred_state *n)
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

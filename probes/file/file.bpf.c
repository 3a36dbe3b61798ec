// SPDX-License-Identifier: GPL-2.0-only
/*
 * What processes do to files, each told at the exit of its system call, where its result is known.
 *
 * An open has its file in the descriptor that it returned. A call that removes, renames or links names leaves nothing behind by which its exit
 * could find them; but on the way every file system sets the time of change (ctime) of the file and of the folders whose entries change, in this
 * very thread and while the old name is still there. So the tracepoints of the ctime take the names down (`struct scene`), out of the
 * kernel's own directory entries, and the exit of the call sends what they found:
 *
 *	removed, renamed	the entry whose file and whose folder have both been touched; the exit looks whether it is really gone, or moved
 *	made			at the exit: the entry whose file and folder have both been touched
 *	mode, owner, ...	the file that was touched
 *
 * Stacked file systems (overlayfs) touch their lower inodes first and their own last: the last file system's count. Before Linux 6.13, which has
 * no such tracepoints, the functions of the kernel's file layer say the same (fentry).
 */
#include "sonde/probe.bpf.h"
#include "sonde/inode.bpf.h"
#include "sonde/syscall.bpf.h"
#include "file.h"
#include "calls.h"

#define O_ACCMODE    00000003
#define O_CREAT      00000100
#define O_TRUNC      00001000
#define FMODE_WRITE  0x2 /* include/linux/fs.h */
#define FMODE_PATH   0x4000
#define FMODE_CREATE 0x100000 /* FMODE_CREATED */
#define AT_REMOVEDIR 0x200
#define EPERM        1
#define EACCES       13
#define TS_COMPAT    2 /* arch/x86/include/asm/thread_info.h: the system call is one of 32 bits */

#define CAP_SYS_ADMIN 21
#define CAP_SETFCAP   31

/* ---- scenes: what is known of a call before its exit ---- */

#define TOUCHED_MAX    8
#define ENTRIES_MAX    4
#define ALIASES_MAX    8 /* names of a file that are looked at */
#define SCENES         128
#define SCENE_TRIES    8
#define SCENE_ROOM     20480
#define SCENE_STALE_NS 60000000000ull
/* Bytes of a text and its NUL: eight more than the kernel takes, so that what fills them was cut. */
#define GIVEN_MAX 4104 /* PATH_MAX */
#define XATTR_MAX 264  /* XATTR_NAME_MAX */

/* A directory entry as it was when it was found. */
struct entry {
	__u64 dentry, inode, parent; /* addresses; parent: the folder's inode */
	__u64 hash;                  /* and length of its name */
	__u64 ino, dev, sb;
	__u16 offset, length; /* its path, in `bytes`; 0: not known */
	__u32 was_name;       /* it was one still */
};

/* One thread's call. Texts lie one behind the other, and go into the event as they lie. */
struct scene {
	__u64 owner; /* the thread that has it, as bpf_get_current_pid_tgid(); 0: free */
	__u64 time;
	__u64 call; /* number of the system call */
	__u64 last; /* inode that was touched last */
	__u32 used; /* offset behind the last text */
	__u32 n_touched;
	__u64 truncated;            /* a path did not fit */
	__u64 touched[TOUCHED_MAX]; /* inodes, in a ring: the last ones */
	struct entry entries[ENTRIES_MAX];
	char bytes[SCENE_ROOM - 48 - 8 * TOUCHED_MAX - ENTRIES_MAX * sizeof(struct entry)];
};

#define SCENE_BYTES __builtin_offsetof(struct scene, bytes)
_Static_assert(sizeof(struct scene) == SCENE_ROOM, "the walker's room");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SCENES);
	__type(key, __u32);
	__type(value, struct scene);
} file_scenes SEC(".maps");

sonde_inline void scene_clear(struct scene *s)
{
	s->used = SCENE_BYTES;
	s->n_touched = 0;
	s->last = 0;
	s->truncated = 0;
	__builtin_memset(s->entries, 0, sizeof s->entries);
}

sonde_inline __u32 scene_place(__u64 owner, __u32 i)
{
	return (__u32)((owner * 0x9e3779b97f4a7c15ull) >> 40) + i & (SCENES - 1);
}

/* The scene that this thread has, or NULL. */
sonde_inline struct scene *scene_mine(void)
{
	__u64 owner = bpf_get_current_pid_tgid();

	for (__u32 i = 0; i < SCENE_TRIES; i++) {
		__u32 place = scene_place(owner, i);
		struct scene *s = bpf_map_lookup_elem(&file_scenes, &place);

		if (s && s->owner == owner)
			return s;
	}
	return NULL;
}

/* A scene for this thread, empty. What a thread left behind that never came to its exit is taken after a minute. */
sonde_inline struct scene *scene_begin(long call)
{
	__u64 owner = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns();

	for (__u32 i = 0; i < SCENE_TRIES; i++) {
		__u32 place = scene_place(owner, i);
		struct scene *s = bpf_map_lookup_elem(&file_scenes, &place);
		__u64 had;

		if (!s)
			continue;
		had = s->owner;
		if (had && had != owner && now - s->time < SCENE_STALE_NS)
			continue;
		if (__sync_val_compare_and_swap(&s->owner, had, owner) != had)
			continue;
		s->time = now;
		s->call = call;
		scene_clear(s);
		return s;
	}
	return NULL;
}

sonde_inline void scene_end(struct scene *s)
{
	if (s)
		__sync_lock_test_and_set(&s->owner, 0);
}

SONDE_PATH_WALKER(walk, SCENE_ROOM, 128);

/* A path as a text of the scene: its length, 0 where there is no room for it. Of one that is too deep the end is kept. */
sonde_inline __u32 scene_path(struct scene *s, __u64 dentry, __u64 mount)
{
	__u32 at = s->used;
	int end = walk((void *)s, at, dentry, mount);

	if (end < 0) {
		end = end == -1 ? 0 : -end;
		s->truncated = 1;
	}
	if (end <= (int)at || end > SCENE_ROOM)
		return 0;
	s->used = (__u32)end;
	return (__u32)end - at;
}

/* ---- mounts: by which one a directory entry is seen ---- */

#define DEPTH_MAX  128
#define MOUNTS_MAX 64 /* of one file system */

__attribute__((noinline)) int is_below(__u64 address, __u64 top)
{
	struct dentry *d = (void *)address, *parent;

	for (int i = 0; i < DEPTH_MAX; i++) {
		if ((__u64)d == top)
			return 1;
		parent = BPF_CORE_READ(d, d_parent);
		if (parent == d)
			return 0;
		d = parent;
	}
	return 0;
}

sonde_inline bool mount_shows(struct vfsmount *mount, struct dentry *dentry, struct super_block *sb)
{
	struct dentry *top;

	if (!mount || BPF_CORE_READ(mount, mnt_sb) != sb)
		return false;
	top = BPF_CORE_READ(mount, mnt_root);
	return top == BPF_CORE_READ(sb, s_root) || is_below((__u64)dentry, (__u64)top);
}

/* Of the mounts of a file system, the first one of namespace `ns` that shows the entry. Linux 6.18 has them in a list of its own, kernels before in
 * another. Each function ends at once where the other is meant: some kernels check also those that nobody calls. */
__attribute__((noinline)) __u64 mount_among(__u64 first, __u64 dentry, __u64 sb, __u64 ns)
{
	struct mount *m = (void *)first;

	if (!bpf_core_field_exists(struct mount, mnt_next_for_sb))
		return 0;
	for (int i = 0; i < MOUNTS_MAX && m; i++, m = BPF_CORE_READ(m, mnt_next_for_sb)) {
		struct vfsmount *shown = (void *)m + bpf_core_field_offset(struct mount, mnt);

		if ((__u64)BPF_CORE_READ(m, mnt_ns) == ns && mount_shows(shown, (void *)dentry, (void *)sb))
			return (__u64)shown;
	}
	return 0;
}

__attribute__((noinline)) __u64 mount_listed(__u64 dentry, __u64 sb, __u64 ns)
{
	struct list_head *head, *at;

	if (bpf_core_field_exists(struct mount, mnt_next_for_sb))
		return 0;
	head = (void *)sb + bpf_core_field_offset(struct super_block___listed, s_mounts);
	at = BPF_CORE_READ(head, next);
	for (int i = 0; i < MOUNTS_MAX && at && at != head; i++, at = BPF_CORE_READ(at, next)) {
		struct mount *m = (void *)at - bpf_core_field_offset(struct mount___listed, mnt_instance);
		struct vfsmount *shown = (void *)m + bpf_core_field_offset(struct mount, mnt);

		if ((__u64)BPF_CORE_READ(m, mnt_ns) == ns && mount_shows(shown, (void *)dentry, (void *)sb))
			return (__u64)shown;
	}
	return 0;
}

/* A mount of the thread's namespace through which `dentry` is seen: that of the folder whose descriptor the call was given (`hint`), of the working
 * directory, of the root, else the first one of the file system. 0: none. */
__attribute__((noinline)) __u64 mount_of(__u64 address, __u64 hint)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct dentry *dentry = (void *)address;
	struct super_block *sb = BPF_CORE_READ(dentry, d_sb);
	__u64 ns = (__u64)BPF_CORE_READ(task, nsproxy, mnt_ns);
	struct vfsmount *near;

	if (mount_shows((void *)hint, dentry, sb))
		return hint;
	near = BPF_CORE_READ(task, fs, pwd.mnt);
	if (mount_shows(near, dentry, sb))
		return (__u64)near;
	near = BPF_CORE_READ(task, fs, root.mnt);
	if (mount_shows(near, dentry, sb))
		return (__u64)near;
	if (bpf_core_field_exists(struct mount, mnt_next_for_sb))
		return mount_among((__u64)BPF_CORE_READ(sb, s_mounts), address, (__u64)sb, ns);
	return mount_listed(address, (__u64)sb, ns);
}

/* ---- the system call that the thread is in ---- */

sonde_inline struct pt_regs *saved_registers(void)
{
	return (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
}

#if defined(__TARGET_ARCH_arm64)
sonde_inline long call_number(void)
{
	return saved_registers()->syscallno;
}

sonde_inline __u64 argument_of(struct pt_regs *regs, int n)
{
	return n == 0 ? regs->orig_x0 : n == 1 ? regs->user_regs.regs[1] : regs->user_regs.regs[2];
}
#else
/* -1 in one of 32 bits, whose exit nobody sees. */
sonde_inline long call_number(void)
{
	if (bpf_get_current_task_btf()->thread_info.status & TS_COMPAT)
		return -1;
	return (long)saved_registers()->orig_ax;
}

sonde_inline __u64 argument_of(struct pt_regs *regs, int n)
{
	return n == 0 ? regs->di : n == 1 ? regs->si : regs->dx;
}
#endif

/* The mount of the folder that argument `n` is a descriptor of; 0: of none. */
sonde_inline __u64 mount_given(int n)
{
	struct file *file;

	if (n == CALL_NO_FOLDER)
		return 0;
	file = sonde_file_of((int)argument_of(saved_registers(), n));
	return file ? (__u64)BPF_CORE_READ(file, f_path.mnt) : 0;
}

/* ---- entries ---- */

sonde_inline struct dentry *alias_from(struct hlist_node *node)
{
	return node ? (void *)node - bpf_core_field_offset(struct dentry, d_u.d_alias) : NULL;
}

sonde_inline struct hlist_node *next_alias(struct dentry *d)
{
	return BPF_CORE_READ(d, d_u.d_alias.next);
}

sonde_inline __u64 hash_of(struct dentry *d)
{
	__u64 hash = 0;

	bpf_probe_read_kernel(&hash, sizeof hash, (void *)d + bpf_core_field_offset(struct dentry, d_name));
	return hash;
}

/* A name that was removed stays with a file that is open. */
sonde_inline bool is_name(struct dentry *d)
{
	return BPF_CORE_READ(d, d_hash.pprev);
}

sonde_inline bool was_touched(const struct scene *s, __u64 inode)
{
	for (__u32 i = 0; i < TOUCHED_MAX; i++)
		if (i < s->n_touched && s->touched[i] == inode)
			return true;
	return false;
}

/* The name that file `child` got last of those in folders that were touched: the first on its list. 0: none. */
__attribute__((noinline)) __u64 last_name(struct scene *s, __u64 child)
{
	struct inode *inode = (void *)child;
	struct dentry *d;

	if (!s)
		return 0;
	d = alias_from(BPF_CORE_READ(inode, i_dentry.first));
	for (int i = 0; i < ALIASES_MAX && d; i++, d = alias_from(next_alias(d))) {
		__u64 above = (__u64)BPF_CORE_READ(d, d_parent, d_inode);

		if (above != child && was_touched(s, above))
			return (__u64)d;
	}
	return 0;
}

/* The name of a file that is used most: as the call itself uses the one that it was given. */
__attribute__((noinline)) __u64 name_of(__u64 address)
{
	struct inode *inode = (void *)address;
	struct dentry *d = alias_from(BPF_CORE_READ(inode, i_dentry.first)), *most = d;
	int most_count = 0;

	for (int i = 0; i < ALIASES_MAX && d; i++, d = alias_from(next_alias(d))) {
		int count = is_name(d) ? BPF_CORE_READ(d, d_lockref.count) : 0;

		if (count > most_count) {
			most_count = count;
			most = d;
		}
	}
	return (__u64)most;
}

sonde_inline void fill_entry(struct entry *n, struct inode *inode, struct dentry *d)
{
	n->dentry = (__u64)d;
	n->inode = (__u64)inode;
	n->parent = (__u64)BPF_CORE_READ(d, d_parent, d_inode);
	n->hash = hash_of(d);
	n->was_name = is_name(d);
	n->sb = (__u64)BPF_CORE_READ(d, d_sb);
	n->ino = inode ? BPF_CORE_READ(inode, i_ino) : 0;
	n->dev = inode ? sonde_device_number(BPF_CORE_READ(inode, i_sb, s_dev)) : 0;
}

/* Takes an entry down, with its path. */
__attribute__((noinline)) int take_entry(struct scene *s, __u64 inode, __u64 dentry, __u64 hint)
{
	struct entry *n;
	__u64 mount;
	__u32 i;

	if (!s)
		return 0;
	if (s->entries[0].dentry && s->entries[0].sb != (__u64)BPF_CORE_READ((struct dentry *)dentry, d_sb)) {
		s->used = SCENE_BYTES;
		__builtin_memset(s->entries, 0, sizeof s->entries);
	}
	for (i = 0; i < ENTRIES_MAX && s->entries[i].dentry; i++)
		if (s->entries[i].dentry == dentry)
			return 0;
	barrier_var(i);
	if (i >= ENTRIES_MAX)
		return 0;
	n = &s->entries[i];
	fill_entry(n, (void *)inode, (void *)dentry);
	mount = mount_of(dentry, hint);
	n->offset = (__u16)s->used;
	n->length = mount ? (__u16)scene_path(s, dentry, mount) : 0;
	return 0;
}

/* ---- touched: the tracepoints of the ctime ---- */

/* The names of `child` that somebody uses (as the call does with the one that it was given) in the folder `parent`, or where that is 0 in any folder
 * that was touched. Of several, the exit tells which one it was. */
__attribute__((noinline)) int take_names_of(struct scene *s, __u64 child, __u64 parent, __u64 hint)
{
	struct inode *inode = (void *)child;
	struct dentry *d;

	if (!s)
		return 0;
	d = alias_from(BPF_CORE_READ(inode, i_dentry.first));
	for (int i = 0; i < ALIASES_MAX && d; i++, d = alias_from(next_alias(d))) {
		__u64 above = (__u64)BPF_CORE_READ(d, d_parent, d_inode);

		if (above == child || BPF_CORE_READ(d, d_lockref.count) <= 0)
			continue;
		if (parent ? above == parent : was_touched(s, above))
			take_entry(s, child, (__u64)d, hint);
	}
	return 0;
}

/* The inode as an entry of what was touched before, and as the folder of that. */
sonde_inline void take_names(struct scene *s, __u64 inode, __u64 hint)
{
	take_names_of(s, inode, 0, hint);
	for (__u32 i = 0; i < TOUCHED_MAX; i++) {
		if (i >= s->n_touched)
			break;
		take_names_of(s, s->touched[i], inode, hint);
	}
}

sonde_inline void take_file(struct scene *s, struct inode *inode, __u64 hint)
{
	__u64 name = name_of((__u64)inode);

	if (name && !(s->entries[0].dentry && s->entries[0].sb == (__u64)BPF_CORE_READ(inode, i_sb)))
		take_entry(s, (__u64)inode, name, hint);
}

__attribute__((noinline)) int touch(__u64 address, __u64 number)
{
	struct inode *inode = (void *)address;
	int call = call_of((long)number), kind = CALL_KIND(call);
	struct scene *s = scene_mine();
	bool again;
	__u64 hint;

	if (!s || s->call != number)
		s = scene_begin((long)number);
	if (!s)
		return 0;
	s->last = address;
	again = was_touched(s, address);
	if (again && s->entries[0].sb == (__u64)BPF_CORE_READ(inode, i_sb))
		return 0;
	hint = mount_given(CALL_FOLDER(call));
	if (kind == CALL_REMOVE || kind == CALL_RENAME)
		take_names(s, address, hint);
	else if (kind == CALL_ATTRIBUTE ||
		 (kind == CALL_LINK && (BPF_CORE_READ(inode, i_mode) & SONDE_S_IFMT) != SONDE_S_IFDIR))
		take_file(s, inode, hint);
	if (!again)
		s->touched[s->n_touched++ & (TOUCHED_MAX - 1)] = address;
	return 0;
}

/* The inode is the first argument; as a number, which a function can be given. */
sonde_inline int touched(void *arguments)
{
	long number = call_number();
	__u64 inode = 0;

	if (!is_file_call(number))
		return 0;
	bpf_probe_read_kernel(&inode, sizeof inode, arguments);
	return touch(inode, (__u64)number);
}

/* What the exits of system calls tell of what was noted on their way: all of it, or nothing. */
#define CHANGES                                                                                                        \
	"file.mkdir file.mknod file.symlink file.link file.rename file.unlink file.chmod file.chown file.truncate "    \
	"file.setxattr file.removexattr"

SEC("raw_tp/inode_set_ctime_to_ts")
SONDE_FOR(CHANGES)
int touched_set__raw_tp(void *ctx)
{
	return touched(ctx);
}

/* The other two go on to that one, which is checked and loaded once. All have the inode first. */
SONDE_ONWARD(touched_set__raw_tp);

SEC("raw_tp/ctime_ns_xchg")
SONDE_FOR(CHANGES)
int touched_new__raw_tp(void *ctx)
{
	if (is_file_call(call_number()))
		SONDE_GOES_ON(ctx, touched_set__raw_tp);
	return 0;
}

SEC("raw_tp/ctime_xchg_skip")
SONDE_FOR(CHANGES)
int touched_same__raw_tp(void *ctx)
{
	if (is_file_call(call_number()))
		SONDE_GOES_ON(ctx, touched_set__raw_tp);
	return 0;
}

/* ---- before Linux 6.13: functions of the kernel's file layer, which are given the entries ---- */

/* Overlayfs calls the same again for its layers: the first call is the program's own. */
__attribute__((noinline)) int note(__u64 number, __u64 dentry, __u64 other)
{
	struct dentry *d = (void *)dentry, *o = (void *)other;
	struct scene *s = scene_mine();
	int call = call_of((long)number);

	if (s && s->call == number && s->entries[0].dentry)
		return 0;
	s = scene_begin((long)number);
	if (!s)
		return 0;
	take_entry(s, (__u64)BPF_CORE_READ(d, d_inode), dentry, mount_given(CALL_FOLDER(call)));
	if (other)
		take_entry(s, (__u64)BPF_CORE_READ(o, d_inode), other, mount_given(CALL_NEW_FOLDER(call)));
	return 0;
}

sonde_inline __u64 passed(void *arguments, int n)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof value, arguments + 8 * n);
	return value;
}

/* For calls of one kind; `n` and `other` are the places of the entries among the arguments, `other` -1: there is one entry. */
sonde_inline int noted(void *arguments, enum call_kind kind, int n, int other)
{
	long number = call_number();

	if (!is_file_call(number) || CALL_KIND(call_of(number)) != (int)kind)
		return 0;
	return note((__u64)number, passed(arguments, n), other < 0 ? 0 : passed(arguments, other));
}

#define BEFORE_6_13(function, kind, n, other)                                                                          \
	SEC("fentry/" #function)                                                                                       \
	SONDE_FOR(CHANGES)                                                                                             \
	SONDE_COVERED_BY("touched_set__raw_tp")                                                                        \
	int function##__fentry(void *arguments)                                                                        \
	{                                                                                                              \
		return noted(arguments, kind, n, other);                                                               \
	}
BEFORE_6_13(vfs_mkdir, CALL_CREATE, 2, -1)
BEFORE_6_13(vfs_mknod, CALL_CREATE, 2, -1)
BEFORE_6_13(vfs_symlink, CALL_CREATE, 2, -1)
BEFORE_6_13(vfs_link, CALL_LINK, 0, 3)
BEFORE_6_13(vfs_unlink, CALL_REMOVE, 2, -1)
BEFORE_6_13(vfs_rmdir, CALL_REMOVE, 2, -1)
BEFORE_6_13(notify_change, CALL_ATTRIBUTE, 1, -1)
BEFORE_6_13(vfs_setxattr, CALL_ATTRIBUTE, 1, -1)
BEFORE_6_13(vfs_removexattr, CALL_ATTRIBUTE, 1, -1)
/* Linux 6.2, for access control lists. */
BEFORE_6_13(vfs_set_acl, CALL_ATTRIBUTE, 1, -1)
BEFORE_6_13(vfs_remove_acl, CALL_ATTRIBUTE, 1, -1)

SEC("fentry/vfs_rename")
SONDE_FOR(CHANGES)
SONDE_COVERED_BY("touched_set__raw_tp")
int vfs_rename__fentry(void *arguments)
{
	long number = call_number();
	struct renamedata *renamed = (void *)passed(arguments, 0);

	if (!is_file_call(number) || CALL_KIND(call_of(number)) != CALL_RENAME)
		return 0;
	return note((__u64)number, (__u64)BPF_CORE_READ(renamed, old_dentry),
		    (__u64)BPF_CORE_READ(renamed, new_dentry));
}

/* ---- exits ---- */

/* What a call was, for its event. */
struct change {
	__u64 given, new_given; /* addresses of paths in the program's memory; 0: none */
	__u64 text;             /* and of a text */
	__s64 ret;
	__s64 numbers[2];
	__s32 fd; /* of the file; -1: it was named by a path */
	__u32 type;
	__u32 priority; /* the ring of it */
	__u32 kind;
};

/* What the event says of it: texts by their offset in the scene. */
struct result {
	__u64 ino, dev;
	struct sonde_text path, given, texts[2];
	__u32 unverified;
	__u32 _pad;
	__u64 replaced;
};

/* All events but file.open as they lie in the ring. */
struct file_change {
	FILE_HEAD;
	struct sonde_text texts[2];
	__s64 numbers[2];
};
#define SAME_LAYOUT(type) _Static_assert(sizeof(struct type) == sizeof(struct file_change), #type)
SAME_LAYOUT(file_mkdir);
SAME_LAYOUT(file_mknod);
SAME_LAYOUT(file_symlink);
SAME_LAYOUT(file_link);
SAME_LAYOUT(file_rename);
SAME_LAYOUT(file_unlink);
SAME_LAYOUT(file_chmod);
SAME_LAYOUT(file_chown);
SAME_LAYOUT(file_truncate);
SAME_LAYOUT(file_setxattr);
SAME_LAYOUT(file_removexattr);

sonde_inline bool is_there(const struct entry *n)
{
	struct dentry *d = (void *)n->dentry;

	return (__u64)BPF_CORE_READ(d, d_inode) == n->inode && is_name(d);
}

sonde_inline bool has_moved(const struct entry *n)
{
	struct dentry *d = (void *)n->dentry;

	return (__u64)BPF_CORE_READ(d, d_parent, d_inode) != n->parent || hash_of(d) != n->hash;
}

/* Whether the entry had the name that `d` has now. */
sonde_inline bool was_at(const struct entry *n, struct dentry *d)
{
	return (__u64)BPF_CORE_READ(d, d_parent, d_inode) == n->parent && hash_of(d) == n->hash;
}

sonde_inline void tell_entry(struct result *r, const struct entry *n)
{
	r->path.offset = n->offset;
	r->path.length = n->length;
	r->ino = n->ino;
	r->dev = n->dev;
}

sonde_inline void tell_path(struct scene *s, struct sonde_text *text, __u64 dentry, __u64 mount)
{
	text->offset = (__u16)s->used;
	text->length = mount ? (__u16)scene_path(s, dentry, mount) : 0;
}

/* The entry that bears another name now, and the one that had this name. */
sonde_inline void tell_rename(struct scene *s, struct result *r, __u64 hint)
{
	struct entry *from = NULL;
	struct dentry *d;

	for (int i = 0; i < ENTRIES_MAX && !from; i++)
		if (s->entries[i].inode && is_there(&s->entries[i]) && has_moved(&s->entries[i]))
			from = &s->entries[i];
	if (!from)
		return;
	d = (void *)from->dentry;
	tell_entry(r, from);
	tell_path(s, &r->texts[0], from->dentry, mount_of(from->dentry, hint));
	for (int i = 0; i < ENTRIES_MAX; i++)
		if (s->entries[i].dentry && s->entries[i].inode != from->inode && was_at(&s->entries[i], d))
			r->replaced = s->entries[i].ino;
}

/* The entry that was a name before and is none now. Overlayfs has dropped its entry by the time that it touches the file: that is it, if there is but
 * one such, as names that were removed long ago look the same while their file is open. */
sonde_inline void tell_removed(struct scene *s, struct result *r)
{
	struct entry *dropped = NULL;
	int n_dropped = 0;

	for (int i = 0; i < ENTRIES_MAX; i++) {
		struct entry *n = &s->entries[i];

		if (!n->dentry || is_there(n))
			continue;
		if (n->was_name) {
			tell_entry(r, n);
			return;
		}
		dropped = n;
		n_dropped++;
	}
	if (n_dropped == 1)
		tell_entry(r, dropped);
}

/* The name that a file got last stands first among its names. Source: fs/dcache.c __d_instantiate(). */
sonde_inline void tell_link(struct scene *s, struct result *r, __u64 hint)
{
	struct entry *n = &s->entries[0];
	struct inode *last = (void *)s->last;
	__u64 name;

	if (!n->dentry)
		return;
	if (!last) { /* before Linux 6.13 both names are known from the first */
		tell_entry(r, n);
		r->texts[0].offset = s->entries[1].offset;
		r->texts[0].length = s->entries[1].length;
		return;
	}
	if ((__u64)BPF_CORE_READ(last, i_sb) !=
	    n->sb) /* overlayfs touches its folder only: what is known is the file below */
		return;
	name = last_name(s, n->inode);
	if (!name || name == n->dentry)
		return;
	tell_entry(r, n);
	tell_path(s, &r->texts[0], name, mount_of(name, hint));
}

/* The name was known before the file. */
sonde_inline void tell_noted(struct scene *s, struct result *r)
{
	struct entry *n = &s->entries[0];
	struct dentry *d = (void *)n->dentry;
	struct inode *inode = BPF_CORE_READ(d, d_inode);

	if (!inode || !is_name(d) || has_moved(n))
		return;
	r->path.offset = n->offset;
	r->path.length = n->length;
	r->ino = BPF_CORE_READ(inode, i_ino);
	r->dev = sonde_device_number(BPF_CORE_READ(inode, i_sb, s_dev));
	n->inode = (__u64)inode;
}

sonde_inline void tell_made(struct scene *s, struct result *r, __u64 hint)
{
	if (!s->n_touched && s->entries[0].dentry) {
		tell_noted(s, r);
		return;
	}
	for (__u32 i = 1; i <= TOUCHED_MAX; i++) {
		struct inode *inode;
		__u64 name;

		if (i > s->n_touched)
			return;
		inode = (void *)s->touched[(s->n_touched - i) & (TOUCHED_MAX - 1)];
		name = last_name(s, (__u64)inode);
		if (!name)
			continue;
		tell_path(s, &r->path, name, mount_of(name, hint));
		r->ino = BPF_CORE_READ(inode, i_ino);
		r->dev = sonde_device_number(BPF_CORE_READ(inode, i_sb, s_dev));
		s->entries[0].inode = (__u64)inode;
		return;
	}
}

__attribute__((noinline)) int tell_file(struct scene *s, struct result *r, int fd)
{
	struct file *file = sonde_file_of(fd);
	struct inode *inode;

	if (!s || !r || !file)
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	r->ino = BPF_CORE_READ(inode, i_ino);
	r->dev = sonde_device_number(BPF_CORE_READ(inode, i_sb, s_dev));
	tell_path(s, &r->path, (__u64)BPF_CORE_READ(file, f_path.dentry), (__u64)BPF_CORE_READ(file, f_path.mnt));
	return 0;
}

/* What was done, by what the scene and the kernel's entries say now. */
__attribute__((noinline)) int tell_done(struct scene *s, struct result *r, int kind)
{
	__u64 hint;
	int call;

	if (!s || !r)
		return 0;
	call = call_of((long)s->call);
	hint = mount_given(CALL_NEW_FOLDER(call) != CALL_NO_FOLDER ? CALL_NEW_FOLDER(call) : CALL_FOLDER(call));
	if (kind == CALL_RENAME)
		tell_rename(s, r, hint);
	else if (kind == CALL_LINK)
		tell_link(s, r, hint);
	else if (kind == CALL_CREATE)
		tell_made(s, r, hint);
	else if (kind == CALL_REMOVE)
		tell_removed(s, r);
	else if (s->entries[0].dentry)
		tell_entry(r, &s->entries[0]);
	return 0;
}

/* A text of the program's memory. */
__attribute__((noinline)) int tell_given(struct scene *s, struct sonde_text *text, __u64 address, int is_name)
{
	const __u32 most = is_name ? XATTR_MAX : GIVEN_MAX;
	__u32 at;
	long n;

	if (!s || !text || !address)
		return 0;
	at = s->used;
	if (at > SCENE_ROOM - GIVEN_MAX) {
		s->truncated = 1;
		return 0;
	}
	barrier_var(at);
	n = bpf_probe_read_user_str((void *)s + at, most, (void *)address);
	if (n <= 1)
		return 0;
	if (n == (long)most)
		s->truncated = 1;
	text->offset = (__u16)at;
	text->length = (__u16)(n - 1);
	s->used = at + (__u32)n;
	return 0;
}

/* What a symbolic link holds, out of its inode. */
__attribute__((noinline)) int tell_target(struct scene *s, struct sonde_text *text)
{
	struct inode *inode;
	char *link;
	__u32 at;
	long n;

	if (!s || !text)
		return 0;
	inode = (void *)s->entries[0].inode;
	if (!inode)
		return 0;
	link = BPF_CORE_READ(inode, i_link);
	at = s->used;
	if (!link)
		return 0;
	if (at > SCENE_ROOM - GIVEN_MAX) {
		s->truncated = 1;
		return 0;
	}
	barrier_var(at);
	n = bpf_probe_read_kernel_str((void *)s + at, GIVEN_MAX, link);
	if (n <= 1)
		return 0;
	text->offset = (__u16)at;
	text->length = (__u16)(n - 1);
	s->used = at + (__u32)n;
	return 0;
}

sonde_inline struct sonde_text in_record(struct sonde_text text, __u32 head)
{
	text.offset = text.length ? text.offset - SCENE_BYTES + head : 0;
	return text;
}

sonde_inline void fill_head(struct file_change *e, const struct result *r, __s64 ret, const __u32 head)
{
	sonde_fill_credentials(e);
	sonde_fill_result(e, ret);
	e->path = in_record(r->path, head);
	e->path_given = in_record(r->given, head);
	e->ino = r->ino;
	e->dev = r->dev;
	e->path_unverified = r->unverified;
	__builtin_memset(e->_pad_path, 0, sizeof e->_pad_path);
}

/* Size classes of the texts: as much of the ring as they need, about. */
#define CLASS_1   128
#define CLASS_2   512
#define CLASS_3   4096
#define CLASS_ALL (SCENE_ROOM - SCENE_BYTES)

/* Room for a record with the texts of the scene, which are copied into it. */
#define RECORD_OF(ring, type, head, scene, owner)                                                                      \
	({                                                                                                             \
		__u64 _stack = sonde_take_stack((ring), (owner));                                                      \
		__u32 _n = (scene)->used - SCENE_BYTES;                                                                \
		void *_e = NULL;                                                                                       \
		if (_n <= CLASS_1)                                                                                     \
			_e = record_in((ring), (type), (head), CLASS_1, _n, (scene), (owner), _stack);                 \
		else if (_n <= CLASS_2)                                                                                \
			_e = record_in((ring), (type), (head), CLASS_2, _n, (scene), (owner), _stack);                 \
		else if (_n <= CLASS_3)                                                                                \
			_e = record_in((ring), (type), (head), CLASS_3, _n, (scene), (owner), _stack);                 \
		else if (_n <= CLASS_ALL)                                                                              \
			_e = record_in((ring), (type), (head), CLASS_ALL, _n, (scene), (owner), _stack);               \
		_e;                                                                                                    \
	})
sonde_inline void *record_in(void *ring, __u32 type, const __u32 head, const __u32 room, __u32 n, struct scene *s,
			     const struct sonde_owner *owner, __u64 stack)
{
	void *e = sonde_begin_with(ring, type, head + room, owner, stack);

	if (e && n)
		bpf_probe_read_kernel(e + head, n, s->bytes);
	if (e && s->truncated)
		((struct sonde_event *)e)->flags |= SONDE_FLAG_TRUNCATED;
	return e;
}

sonde_inline int send_change(void *ring, struct scene *s, const struct change *c, const struct result *r)
{
	struct sonde_owner owner;
	struct file_change *e;

	sonde_owner_current(&owner);
	e = RECORD_OF(ring, c->type, sizeof *e, s, &owner);
	if (!e)
		return 0;
	fill_head(e, r, c->ret, sizeof *e);
	e->texts[0] = in_record(r->texts[0], sizeof *e);
	e->texts[1] = in_record(r->texts[1], sizeof *e);
	e->numbers[0] = c->numbers[0];
	e->numbers[1] = c->numbers[1];
	sonde_end(ring, &e->event, sizeof *e + s->used - SCENE_BYTES);
	return 0;
}

__attribute__((noinline)) int send_priority(struct scene *s, struct change *c, struct result *r)
{
	return s && c && r ? send_change(&sonde_priority, s, c, r) : 0;
}

__attribute__((noinline)) int send_bulk(struct scene *s, struct change *c, struct result *r)
{
	return s && c && r ? send_change(&sonde_bulk, s, c, r) : 0;
}

/* The texts that the program gave, where the kernel has none. */
sonde_inline void tell_rest(struct scene *s, struct change *c, struct result *r)
{
	if (c->type == file_symlink_type.id) {
		if (r->path.length)
			tell_target(s, &r->texts[0]);
		if (!r->texts[0].length)
			tell_given(s, &r->texts[1], c->text, 0);
	} else if (c->text) {
		tell_given(s, &r->texts[0], c->text, 1);
	}
	if (!r->path.length) {
		r->unverified = c->ret >= 0;
		tell_given(s, &r->given, c->given, 0);
	}
	if (c->new_given && !r->texts[0].length) {
		r->unverified = c->ret >= 0;
		tell_given(s, &r->texts[1], c->new_given, 0);
	}
}

/* Attributes of users are nobody's concern. Their names can be raced: of a thread that may set others, all are told. */
sonde_inline bool is_told(__u64 name)
{
	const struct cred *cred = bpf_get_current_task_btf()->cred;
	__u64 caps = sonde_capabilities((void *)cred + bpf_core_field_offset(struct cred, cap_effective));
	char begin[8] = {};

	if (caps & (1ull << CAP_SYS_ADMIN | 1ull << CAP_SETFCAP))
		return true;
	bpf_probe_read_user(begin, 5, (void *)name);
	return begin[0] != 'u' || begin[1] != 's' || begin[2] != 'e' || begin[3] != 'r' || begin[4] != '.';
}

/* The end of a call: its event, out of what was found on its way. */
__attribute__((noinline)) int finish(struct change *c)
{
	struct scene *s = scene_mine();
	struct result r = {};

	if (!c)
		return 0;
	if ((c->type == file_setxattr_type.id || c->type == file_removexattr_type.id) && !is_told(c->text)) {
		scene_end(s);
		return 0;
	}
	if (!s)
		s = scene_begin(0);
	if (!s) {
		sonde_count_lost(c->type, SONDE_DROP_MAP_FULL);
		return 0;
	}
	if (c->fd >= 0)
		tell_file(s, &r, c->fd);
	else if (c->ret >= 0 && c->kind)
		tell_done(s, &r, (int)c->kind);
	if (c->ret < 0 && c->fd < 0)
		scene_clear(s);
	tell_rest(s, c, &r);
	if (c->type == file_rename_type.id)
		c->numbers[1] = (__s64)r.replaced;
	if (c->priority)
		send_priority(s, c, &r);
	else
		send_bulk(s, c, &r);
	scene_end(s);
	return 0;
}

#define A sonde_argument

/* What the exit of a call tells: `fd`, its first argument, where that is a descriptor of the file. */
#define AT_EXIT(call, record, ...)                                                                                     \
	sonde_inline int at_##call(struct trace_event_raw_sys_exit *ctx, const enum call_kind kind)                    \
	{                                                                                                              \
		const __s32 fd = kind == CALL_OTHER ? (__s32)A(0) : -1;                                                \
		struct change change = { .type = record##_type.id,                                                     \
					 .priority = record##_ring() == (void *)&sonde_priority,                       \
					 .kind = kind,                                                                 \
					 .ret = ctx->ret,                                                              \
					 .fd = fd,                                                                     \
					 __VA_ARGS__ };                                                                \
                                                                                                                       \
		return finish(&change);                                                                                \
	}
AT_EXIT(mkdir, file_mkdir, .given = A(0), .numbers = { (__u16)A(1) })
AT_EXIT(mkdirat, file_mkdir, .given = A(1), .numbers = { (__u16)A(2) })
AT_EXIT(mknod, file_mknod, .given = A(0), .numbers = { (__u16)A(1), (__u32)A(2) })
AT_EXIT(mknodat, file_mknod, .given = A(1), .numbers = { (__u16)A(2), (__u32)A(3) })
AT_EXIT(symlink, file_symlink, .text = A(0), .given = A(1))
AT_EXIT(symlinkat, file_symlink, .text = A(0), .given = A(2))
AT_EXIT(link, file_link, .given = A(0), .new_given = A(1))
AT_EXIT(linkat, file_link, .given = A(1), .new_given = A(3), .numbers = { (__u32)A(4) })
AT_EXIT(rename, file_rename, .given = A(0), .new_given = A(1))
AT_EXIT(renameat, file_rename, .given = A(1), .new_given = A(3))
AT_EXIT(renameat2, file_rename, .given = A(1), .new_given = A(3), .numbers = { (__u32)A(4) })
AT_EXIT(unlink, file_unlink, .given = A(0))
AT_EXIT(rmdir, file_unlink, .given = A(0), .numbers = { AT_REMOVEDIR })
AT_EXIT(unlinkat, file_unlink, .given = A(1), .numbers = { (__u32)A(2) })
AT_EXIT(chmod, file_chmod, .given = A(0), .numbers = { (__u16)A(1), fd })
AT_EXIT(fchmodat, file_chmod, .given = A(1), .numbers = { (__u16)A(2), fd })
AT_EXIT(fchmodat2, file_chmod, .given = A(1), .numbers = { (__u16)A(2), fd })
AT_EXIT(fchmod, file_chmod, .numbers = { (__u16)A(1), fd })
AT_EXIT(chown, file_chown, .given = A(0), .numbers = { (__s32)A(1), (__s32)A(2) })
AT_EXIT(lchown, file_chown, .given = A(0), .numbers = { (__s32)A(1), (__s32)A(2) })
AT_EXIT(fchownat, file_chown, .given = A(1), .numbers = { (__s32)A(2), (__s32)A(3) })
AT_EXIT(fchown, file_chown, .numbers = { (__s32)A(1), (__s32)A(2) })
AT_EXIT(truncate, file_truncate, .given = A(0), .numbers = { (__s64)A(1), fd })
AT_EXIT(ftruncate, file_truncate, .numbers = { (__s64)A(1), fd })
AT_EXIT(setxattr, file_setxattr, .given = A(0), .text = A(1), .numbers = { (__u32)A(4), fd })
AT_EXIT(lsetxattr, file_setxattr, .given = A(0), .text = A(1), .numbers = { (__u32)A(4), fd })
AT_EXIT(setxattrat, file_setxattr, .given = A(1), .text = A(3), .numbers = { 0, fd }) /* its flags are in memory */
AT_EXIT(fsetxattr, file_setxattr, .text = A(1), .numbers = { (__u32)A(4), fd })
AT_EXIT(removexattr, file_removexattr, .given = A(0), .text = A(1), .numbers = { 0, fd })
AT_EXIT(lremovexattr, file_removexattr, .given = A(0), .text = A(1), .numbers = { 0, fd })
AT_EXIT(removexattrat, file_removexattr, .given = A(1), .text = A(3), .numbers = { 0, fd })
AT_EXIT(fremovexattr, file_removexattr, .text = A(1), .numbers = { 0, fd })

/* All exits are one program, of mkdirat, which the others go on to: it is checked and loaded once, and not for
 * each of them. */
SONDE_ONWARD(mkdirat__tracepoint);

SEC("tracepoint/syscalls/sys_exit_mkdirat")
SONDE_FOR(CHANGES)
SONDE_KEPT
int mkdirat__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	switch (sonde_called(ctx)) {
#define CALL_CASE(name, number, kind, folder, new_folder)                                                              \
	case number:                                                                                                   \
		return at_##name(ctx, CALL_##kind);
		FILE_CALLS(CALL_CASE)
#undef CALL_CASE
	default:
		return 0;
	}
}

#define GOES_ON(call, number, kind, folder, new_folder)                                                                \
	SEC("tracepoint/syscalls/sys_exit_" #call)                                                                     \
	SONDE_FOR(CHANGES)                                                                                             \
	int call##__tracepoint(struct trace_event_raw_sys_exit *ctx)                                                   \
	{                                                                                                              \
		SONDE_GOES_ON(ctx, mkdirat__tracepoint);                                                               \
		return 0;                                                                                              \
	}
OTHER_FILE_CALLS(GOES_ON)

/* ---- opens ---- */

#define OPEN_NO      0
#define OPEN_WRITES  1
#define OPEN_WATCHED 2

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4 * FILE_WATCHES_MAX);
	__type(key, struct file_watched);
	__type(value, __u32);
} file_watches SEC(".maps");

/* Set by the module's user space while it runs. */
volatile struct file_watch_bits file_bits __attribute__((section(".data"))) = {};

/* Members of what an address points to, loaded where the kernel has that (6.2), at a tenth of the cost of copies. */
#define MEMBER(record, address, member)                                                                                \
	(SONDE_CAN_CAST(record) ? SONDE_CAST(record, address)->member                                                  \
				: BPF_CORE_READ((struct record *)(address), member))

sonde_inline bool is_watched(struct inode *inode, __u32 how)
{
	struct file_watched key = { .ino = BPF_CORE_READ(inode, i_ino),
				    .dev = sonde_device_number(BPF_CORE_READ(inode, i_sb, s_dev)) };
	__u32 *found = bpf_map_lookup_elem(&file_watches, &key);

	return found && *found & how;
}

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * FILE_WATCHES_MAX);
	__type(key, __u64);
	__type(value, __u32);
} file_named SEC(".maps");

/* A place in a mount namespace, on its way up to the root. */
struct place {
	struct dentry *dentry;
	struct mount *own;
	struct sonde_mount mount;
	__u64 hash;
};

static __noinline long name_step(__u32 i, struct place *p)
{
	__u64 component[FILE_NAMED_BYTES / 8] = {};
	struct sonde_dentry d;

	if (p->dentry == p->mount.top) {
		if (p->mount.above == p->own)
			return 1;
		p->own = p->mount.above;
		p->dentry = p->mount.point;
		sonde_read_mount(&p->mount, p->own);
		return 0;
	}
	sonde_read_dentry(&d, p->dentry);
	if (p->dentry == d.parent || bpf_probe_read_kernel_str(component, sizeof component, d.name) < 1)
		return 1;
	p->hash = file_named_hash(p->hash, component);
	p->dentry = d.parent;
	return 0;
}

/* Whether a path is watched: a function that the verifier checks by itself. */
__attribute__((noinline)) int is_named(__u64 dentry, __u64 own, __u32 how)
{
	struct place p = { .dentry = (struct dentry *)dentry, .own = (struct mount *)own, .hash = FILE_NAMED_SEED };
	__u32 *found;

	sonde_read_mount(&p.mount, p.own);
	if (SONDE_HAS_LOOP)
		bpf_loop(2 * FILE_NAMED_COMPONENTS, name_step, &p, 0);
	else
		for (__u32 i = 0; i < 2 * FILE_NAMED_COMPONENTS && !name_step(i, &p); i++)
			;
	if (p.dentry != p.mount.top || p.mount.above != p.own)
		return 0;
	found = bpf_map_lookup_elem(&file_named, &p.hash);
	return found && *found & how;
}

/* The first eight bytes of a name are loaded as a struct of the kernel's that has two numbers there. */
sonde_inline bool may_be_named(struct dentry *d)
{
	struct qstr *name = (void *)MEMBER(dentry, d, d_name.name);
	__u32 bit = file_name_bit(MEMBER(qstr, name, hash), MEMBER(qstr, name, len), MEMBER(dentry, d, d_name.len));

	return file_bits.names[bit / 64 % FILE_WATCH_WORDS] & 1ull << bit % 64;
}

/* A function takes no pointer as a number, but a copy of one. */
sonde_inline __u64 number_of(void *pointer)
{
	void *on_stack = pointer;
	__u64 number = 0;

	bpf_probe_read_kernel(&number, sizeof number, &on_stack);
	return number;
}

/* Whether the path of a file, or one above it, is one for which `how` asks. A file that lies deeper than can be looked is one that is opened for writing,
 * and none that is watched. */
static __noinline int is_below_named(struct file *file, __u32 how)
{
	struct dentry *d = MEMBER(file, file, f_path.dentry), *top;
	void *vfsmount = MEMBER(file, file, f_path.mnt);
	struct mount *own = vfsmount - bpf_core_field_offset(struct mount, mnt), *above;

	top = MEMBER(mount, own, mnt.mnt_root);
	for (int i = 0; i < 32; i++) {
		if (d == top) {
			above = MEMBER(mount, own, mnt_parent);
			if (above == own)
				return 0;
			d = MEMBER(mount, own, mnt_mountpoint);
			own = above;
			top = MEMBER(mount, own, mnt.mnt_root);
			continue;
		}
		if (may_be_named(d) && is_named(number_of(d), number_of(own), how))
			return 1;
		how &= FILE_WATCH_FOLDER | FILE_OPENS_FOLDER;
		d = MEMBER(dentry, d, d_parent);
	}
	return how & FILE_OPENS_FOLDER;
}

/* In a mount namespace of its own, where the watched paths are of other files. */
sonde_inline bool is_elsewhere(void)
{
	return SONDE_READS(task_struct, bpf_get_current_task_btf())->nsproxy->mnt_ns->ns.inum != file_bits.mnt_ns;
}

sonde_inline bool reads_watched(struct file *file, struct inode *inode)
{
	__u64 ino = MEMBER(inode, inode, i_ino);
	struct dentry *d, *above;

	if (file_bits.files[FILE_WATCH_WORD(ino)] & FILE_WATCH_BIT(ino) && is_watched(inode, FILE_WATCH_FILE))
		return true;
	if (!file_bits.n_folders)
		return false;
	d = MEMBER(file, file, f_path.dentry);
	for (int i = 0; i < 64; i++) {
		struct inode *folder = MEMBER(dentry, d, d_inode);

		if (folder) {
			ino = MEMBER(inode, folder, i_ino);
			if (file_bits.folders[FILE_WATCH_WORD(ino)] & FILE_WATCH_BIT(ino) &&
			    is_watched(folder, FILE_WATCH_FOLDER))
				return true;
		}
		above = MEMBER(dentry, d, d_parent);
		if (above == d)
			break;
		d = above;
	}
	return false;
}

sonde_inline bool is_sink(struct inode *inode)
{
	return (MEMBER(inode, inode, i_mode) & SONDE_S_IFMT) == SONDE_S_IFCHR &&
	       sonde_is_sink(MEMBER(inode, inode, i_rdev));
}

/* Address of the file behind a descriptor of this thread; as sonde_file_of(), by loads. */
sonde_inline struct file *opened_file(long fd)
{
	struct fdtable *table = bpf_get_current_task_btf()->files->fdt;
	struct file *file = NULL;

	if (fd < 0 || (__u64)fd >= table->max_fds)
		return NULL;
	bpf_probe_read_kernel(&file, sizeof file, (void *)table->fd + fd * sizeof file);
	return file;
}

/* Whether an open that succeeded is told: OPEN_*. */
__attribute__((noinline)) int look_at(long fd)
{
	__u32 mode, how = FILE_WATCH_FILE | FILE_WATCH_FOLDER;
	struct file *file = opened_file(fd);
	int why = OPEN_WATCHED;
	struct inode *inode;

	if (!file)
		return OPEN_NO;
	mode = MEMBER(file, file, f_mode);
	inode = MEMBER(file, file, f_inode);
	if (mode & FMODE_PATH || !inode)
		return OPEN_NO;
	if (mode & (FMODE_WRITE | FMODE_CREATE)) {
		if (is_sink(inode))
			return OPEN_NO;
		if (!file_bits.opens_named)
			return OPEN_WRITES;
		why = OPEN_WRITES;
		how = FILE_OPENS_FILE | FILE_OPENS_FOLDER;
	} else if (reads_watched(file, inode))
		return OPEN_WATCHED;
	else if (!is_elsewhere())
		return OPEN_NO;
	return is_below_named(file, how) ? why : OPEN_NO;
}

sonde_inline void fill_open(struct file_open *e, struct file *file)
{
	__u32 mode = file ? BPF_CORE_READ(file, f_mode) : 0;

	e->mode = file ? BPF_CORE_READ(file, f_inode, i_mode) : 0;
	e->created = mode & FMODE_CREATE;
}

__attribute__((noinline)) int send_open(struct scene *s, struct result *r, long ret, __u32 flags, int why)
{
	struct file *file = ret < 0 ? NULL : opened_file(ret);
	struct sonde_owner owner;
	struct file_open *e;

	if (!s || !r)
		return 0;
	sonde_owner_current(&owner);
	e = RECORD_OF(&sonde_bulk, file_open_type.id, sizeof *e, s, &owner);
	if (!e)
		return 0;
	fill_head((void *)e, r, ret, sizeof *e);
	e->ret = 0;
	e->flags = flags;
	e->fd = ret < 0 ? -1 : (__s32)ret;
	fill_open(e, file);
	e->watched = why == OPEN_WATCHED;
	__builtin_memset(e->_pad, 0, sizeof e->_pad);
	sonde_submit(file_open, e, sizeof *e + s->used - SCENE_BYTES);
	return 0;
}

__attribute__((noinline)) int tell_open(long ret, __u32 flags, __u64 given, int why)
{
	struct scene *s = scene_begin(0);
	struct result r = {};

	if (!s) {
		sonde_lost(file_open, SONDE_DROP_MAP_FULL);
		return 0;
	}
	if (ret >= 0)
		tell_file(s, &r, (int)ret);
	if (!r.path.length) {
		r.unverified = ret >= 0;
		tell_given(s, &r.given, given, 0);
	}
	send_open(s, &r, ret, flags, why);
	scene_end(s);
	return 0;
}

sonde_inline bool tells_refusal(long error, __u32 flags)
{
	return flags & (O_ACCMODE | O_CREAT | O_TRUNC) || error == -EACCES || error == -EPERM;
}

sonde_inline int opened(long ret, __u32 flags, __u64 given)
{
	int why = OPEN_NO;

	if (ret >= 0)
		why = look_at(ret);
	else if (tells_refusal(ret, flags))
		why = OPEN_WRITES;
	return why == OPEN_NO ? 0 : tell_open(ret, flags, given, why);
}

#if defined(__TARGET_ARCH_arm64)
#define NR_OPENAT            56
#define NR_OPEN_BY_HANDLE_AT 265
#else
#define NR_OPEN              2
#define NR_CREAT             85
#define NR_OPENAT            257
#define NR_OPEN_BY_HANDLE_AT 304
#endif
#define NR_OPENAT2 437

/* Its flags are in memory: of an open file, those that the file keeps. */
sonde_inline int opened2(struct trace_event_raw_sys_exit *ctx)
{
	__u64 flags = 0;

	if (ctx->ret < 0) {
		bpf_probe_read_user(&flags, sizeof flags, (void *)A(2));
	} else {
		struct file *file = opened_file(ctx->ret);

		flags = file ? BPF_CORE_READ(file, f_flags) : 0;
	}
	return opened(ctx->ret, (__u32)flags, A(1));
}

SEC("tracepoint/syscalls/sys_exit_openat")
SONDE_FOR("file.open")
SONDE_KEPT
int openat__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	switch (sonde_called(ctx)) {
	case NR_OPENAT:
		return opened(ctx->ret, (__u32)A(2), A(1));
#if defined(NR_OPEN)
	case NR_OPEN:
		return opened(ctx->ret, (__u32)A(1), A(0));
	case NR_CREAT:
		return opened(ctx->ret, O_CREAT | O_TRUNC | 1, A(0));
#endif
	case NR_OPENAT2:
		return opened2(ctx);
	case NR_OPEN_BY_HANDLE_AT:
		return opened(ctx->ret, (__u32)A(2), 0);
	default:
		return 0;
	}
}

SONDE_ONWARD(openat__tracepoint);

#define OPENS_ON(call)                                                                                                 \
	SEC("tracepoint/syscalls/sys_exit_" #call)                                                                     \
	SONDE_FOR("file.open")                                                                                         \
	int call##__tracepoint(struct trace_event_raw_sys_exit *ctx)                                                   \
	{                                                                                                              \
		SONDE_GOES_ON(ctx, openat__tracepoint);                                                                \
		return 0;                                                                                              \
	}
OPENS_ON(open)
OPENS_ON(creat)
OPENS_ON(openat2)
OPENS_ON(open_by_handle_at)

char LICENSE[] SEC("license") = "GPL";

/* SPDX-License-Identifier: GPL-2.0-only */
/* Whether a rule holds for a program that begins, a file that was opened, or a socket that is connected. */
#ifndef SONDE_GUARD_PREDICATE_BPF_H
#define SONDE_GUARD_PREDICATE_BPF_H

#include "sonde/probe.bpf.h"
#include "sonde/inode.bpf.h"
#include <bpf/bpf_endian.h>
#include "guard.h"

#define FMODE_WRITE  0x2 /* include/linux/fs.h */
#define FMODE_PATH   0x4000
#define FMODE_CREATE 0x100000 /* FMODE_CREATED */
#define O_ACCMODE    3
#define O_WRONLY     1
#define O_RDWR       2

#define NO_RULE         0xffffffffu
#define WALK_BYTES      4608 /* PATH_MAX, and room for one more component, which the walk wants to have left */
#define WALK_COMPONENTS 128

/* Two halves: one in force, one that is made anew. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * GUARD_RULES_MAX);
	__type(key, __u32);
	__type(value, struct guard_rule);
} guard_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guard_control);
} guard_control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct guard_name);
	__type(value, __u8);
} guard_names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct guard_path);
	__type(value, __u8);
} guard_paths SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct guard_network);
	__type(value, __u8);
} guard_networks SEC(".maps");

/* The far end of a connect. */
struct guard_end {
	__u8 address[16];
	__u32 port, protocol;
};

/* The path of a file, leaf first, while rules are tried on it. */
struct guard_walk {
	struct guard_path key;
	__u32 used; /* bytes; 0: not walked yet */
	__u32 cut;  /* there was more */
	__u32 busy; /* of a place: it is somebody's */
	char bytes[WALK_BYTES];
};

#define WALK_PLACES 64
#define WALK_TRIES  8
#define NO_PLACE    0xffffffffu

/* Places for that. Programs of tracepoints may be preempted, so a place is taken and given back, and is no CPU's own. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WALK_PLACES);
	__type(key, __u32);
	__type(value, struct guard_walk);
} guard_places SEC(".maps");

/* Where no place is free, memory of the task's own, ten times as dear: what others do cannot keep a rule from being tried. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct guard_walk);
} guard_walks SEC(".maps");

SONDE_PATH_WALKER(guard_walk_path, WALK_BYTES, WALK_COMPONENTS);

/* A place, or NO_PLACE. */
sonde_inline __u32 guard_take_place(void)
{
	__u32 first = bpf_get_smp_processor_id();

	for (__u32 i = 0; i < WALK_TRIES; i++) {
		__u32 place = (first + i) % WALK_PLACES;
		struct guard_walk *walk = bpf_map_lookup_elem(&guard_places, &place);

		if (!walk || __sync_val_compare_and_swap(&walk->busy, 0, 1))
			continue;
		walk->used = 0;
		return place;
	}
	return NO_PLACE;
}

sonde_inline void guard_leave_place(__u32 place)
{
	struct guard_walk *walk = bpf_map_lookup_elem(&guard_places, &place);

	if (walk)
		__sync_lock_test_and_set(&walk->busy, 0);
	else
		bpf_task_storage_delete(&guard_walks, bpf_get_current_task_btf());
}

sonde_inline struct guard_walk *walk_of(struct file *file, __u32 place)
{
	struct guard_walk *walk = bpf_map_lookup_elem(&guard_places, &place);
	int end;

	if (!walk)
		walk = bpf_task_storage_get(&guard_walks, bpf_get_current_task_btf(), NULL,
					    BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!walk) {
		sonde_failed(-12);
		return NULL;
	}
	if (walk->used)
		return walk;
	end = guard_walk_path((void *)walk->bytes, 0, (__u64)BPF_CORE_READ(file, f_path.dentry),
			      (__u64)BPF_CORE_READ(file, f_path.mnt));
	walk->cut = end < 0;
	walk->used = end < 0 ? WALK_BYTES : end;
	return walk;
}

/* Whether `length` bytes of the path, from `from` on, are in the set. */
sonde_inline bool has_path(struct guard_walk *walk, __u32 set, __u32 from, __u32 length)
{
	__builtin_memset(walk->key.text, 0, sizeof walk->key.text);
	walk->key.set = set;
	barrier_var(length); /* the verifier shall see the bound where it matters */
	if (!length || length > GUARD_PATH_MAX || from > WALK_BYTES - GUARD_PATH_MAX)
		return false;
	if (bpf_probe_read_kernel(walk->key.text, length, walk->bytes + from))
		return false;
	return bpf_map_lookup_elem(&guard_paths, &walk->key) != NULL;
}

/* Whether the folder of the path is in the set: what is left without the leaf. The root is no value that a set has. */
sonde_inline bool has_folder(struct guard_walk *walk, __u32 set, __u32 used)
{
	long leaf = bpf_probe_read_kernel_str(walk->key.text, sizeof walk->key.text, walk->bytes);

	if (leaf <= 0 || leaf >= used)
		return false;
	return has_path(walk, set, leaf, used - leaf);
}

/* Whether the path of the file passes a test; -1: it could not be looked at. This and the next are functions that the verifier checks once and by
 * themselves; a file comes as a number. */
__attribute__((noinline)) int guard_path_holds(__u64 file, __u32 place, __u32 field, __u32 set, __u32 length)
{
	struct guard_walk *walk = walk_of((struct file *)file, place);
	__u32 used, before;

	if (!walk)
		return -1;
	used = walk->used;
	if (walk->cut)
		return 0; /* longer than any path that a rule can name, and its root is not known */
	if (field == GUARD_PATH)
		return has_path(walk, set, 0, used);
	if (field == GUARD_FOLDER)
		return has_folder(walk, set, used);
	before = used - length - 1; /* huge where the folder is not shorter than the path */
	barrier_var(before);
	if (before >= WALK_BYTES - GUARD_PATH_MAX || walk->bytes[before])
		return 0;
	return has_path(walk, set, before + 1, length);
}

/* The letter that fd.typechar has: where sockets and pipes are no files. */
sonde_inline char kind_of(struct file *file)
{
	switch (BPF_CORE_READ(file, f_inode, i_mode) & SONDE_S_IFMT) {
	case SONDE_S_IFDIR:
		return 'd';
	case SONDE_S_IFIFO:
		return 'p';
	case SONDE_S_IFSOCK:
		return 'u';
	default:
		return 'f';
	}
}

/* How the file was opened. */
sonde_inline bool open_holds(struct file *file, __u32 field)
{
	__u32 access = BPF_CORE_READ(file, f_flags) & O_ACCMODE;

	if (field == GUARD_CREATES)
		return BPF_CORE_READ(file, f_mode) & FMODE_CREATE;
	return access == O_RDWR || access == (field == GUARD_WRITES ? O_WRONLY : 0);
}

sonde_inline bool is_four(const struct guard_end *end)
{
	const __u64 *high = (const __u64 *)end->address;
	const __u32 *words = (const __u32 *)end->address;

	return !high[0] && words[2] == bpf_htonl(0xffff);
}

sonde_inline bool network_holds(const struct guard_end *end, __u32 set)
{
	struct guard_network key = { .bits = 32 + 128, .set = set };

	__builtin_memcpy(key.address, end->address, sizeof key.address);
	return bpf_map_lookup_elem(&guard_networks, &key) != NULL;
}

/* A process is called what its first thread is. `end`: of a connect, else NULL. */
sonde_inline bool name_holds(struct file *file, const struct guard_end *end, const struct guard_test *test)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct guard_name key = { .set = test->set };

	if (test->field == GUARD_UID)
		*(__u32 *)key.text = task->cred->euid.val;
	else if (test->field == GUARD_NAME)
		sonde_copy_comm(key.text, task->group_leader);
	else if (!end)
		key.text[0] = kind_of(file);
	else if (test->field == GUARD_KIND)
		key.text[0] = is_four(end) ? '4' : '6';
	else
		*(__u32 *)key.text = test->field == GUARD_PORT ? end->port : end->protocol;
	return bpf_map_lookup_elem(&guard_names, &key) != NULL;
}

sonde_inline bool end_holds(const struct guard_end *end, const struct guard_test *test)
{
	return test->field == GUARD_ADDRESS ? network_holds(end, test->set) : name_holds(NULL, end, test);
}

sonde_inline int test_holds(__u64 file, __u32 place, const struct guard_test *test)
{
	switch (test->field) {
	case GUARD_NAME:
	case GUARD_UID:
	case GUARD_KIND:
		return name_holds((struct file *)file, NULL, test);
	case GUARD_PATH:
	case GUARD_PATH_BELOW:
	case GUARD_FOLDER:
		return guard_path_holds(file, place, test->field, test->set, test->length);
	default:
		return open_holds((struct file *)file, test->field);
	}
}

/* Whether the rule at this place of the table holds for the file, or where there is an `end` for that. What could not be looked at makes it not hold: user space has
 * the last word. */
sonde_inline int rule_holds(__u32 number, __u64 file, __u32 place, const struct guard_end *end)
{
	struct guard_rule *rule = bpf_map_lookup_elem(&guard_rules, &number);
	bool clause = false;

	if (!rule)
		return 0;
	for (__u32 i = 0; i < GUARD_TESTS_MAX; i++) {
		const struct guard_test *test = &rule->tests[i];

		if (i >= rule->n_tests)
			break;
		if (!clause) {
			int holds = end ? end_holds(end, test) : test_holds(file, place, test);

			if (holds < 0)
				return 0;
			clause = holds != (test->flags & GUARD_NEGATED);
		}
		if (test->flags & GUARD_ENDS) {
			if (!clause)
				return 0;
			clause = false;
		}
	}
	return 1;
}

/* For the file that the running task begins as a program, or has opened. */
__attribute__((noinline)) int guard_rule_holds(__u64 file, __u32 place, __u32 number)
{
	return rule_holds(number, file, place, NULL);
}

/* For what it connects to. Not the same function, as programs of cgroups may not look at what tasks keep. */
__attribute__((noinline)) int guard_end_holds(const struct guard_end *end, __u32 number)
{
	struct guard_end copy;

	if (!end)
		return 0;
	copy = *end;
	return rule_holds(number, 0, NO_PLACE, &copy);
}

#endif

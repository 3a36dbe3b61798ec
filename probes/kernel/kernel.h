/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What reaches into the kernel: modules, another kernel, BPF, perf events and probes, keys. */
#ifndef SONDE_KERNEL_H
#define SONDE_KERNEL_H

#include "sonde/security.h"

#define GIVEN " as the program gave it; it can have been changed meanwhile"

/* The event `id`, `name` and `tag` of a program, as the kernel has them. */
#define KERNEL_PROGRAM_TYPES                                                                                           \
	"names=unspec|socket_filter|kprobe|sched_cls|sched_act|tracepoint|xdp|perf_event|cgroup_skb|cgroup_sock|"      \
	"lwt_in|lwt_out|lwt_xmit|sock_ops|sk_skb|cgroup_device|sk_msg|raw_tracepoint|cgroup_sock_addr|lwt_seg6local|"  \
	"lirc_mode2|sk_reuseport|flow_dissector|cgroup_sysctl|raw_tracepoint_writable|cgroup_sockopt|tracing|"         \
	"struct_ops|ext|lsm|sk_lookup|syscall|netfilter|other"
#define KERNEL_MAP_TYPES                                                                                               \
	"names=unspec|hash|array|prog_array|perf_event_array|percpu_hash|percpu_array|stack_trace|cgroup_array|"       \
	"lru_hash|lru_percpu_hash|lpm_trie|array_of_maps|hash_of_maps|devmap|sockmap|cpumap|xskmap|sockhash|"          \
	"cgroup_storage|reuseport_sockarray|percpu_cgroup_storage|queue|stack|sk_storage|devmap_hash|struct_ops|"      \
	"ringbuf|inode_storage|task_storage|bloom_filter|user_ringbuf|cgrp_storage|arena|other"

/* Newer than these lists. */
#define KERNEL_PROGRAM_OTHER 33u
#define KERNEL_MAP_OTHER     34u

struct module_load {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	struct sonde_text path SONDE_AS("path") SONDE_DOC("file that it was read from; absent: from memory")
		SONDE_OPTIONAL SONDE_OTEL("file.path") SONDE_ECS("file.path");
	__u32 flags SONDE_DOC("MODULE_INIT_* of finit_module") SONDE_OPTIONAL;
	__u64 ino SONDE_DOC("inode number of the file") SONDE_OPTIONAL SONDE_ECS("file.inode");
	__u64 dev SONDE_DOC("device of the file, as stat(2) numbers it") SONDE_OPTIONAL;
	__u64 taints SONDE_DOC("bits by which it taints the kernel, numbered as in /proc/sys/kernel/tainted")
		SONDE_OPTIONAL;
	char name[56] SONDE_DOC("its name; absent where the call failed") SONDE_OPTIONAL;
};

struct module_unload {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	char name[56] SONDE_DOC("the module's name; absent where the call failed") SONDE_OPTIONAL;
	char name_given[56] SONDE_DOC("of a call that failed: the name" GIVEN) SONDE_OPTIONAL;
	__u64 flags SONDE_DOC("O_NONBLOCK, O_TRUNC (force) of delete_module") SONDE_OPTIONAL;
};

enum kernel_kexec_call { KERNEL_KEXEC_LOAD, KERNEL_KEXEC_FILE_LOAD };

struct kernel_kexec {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	struct sonde_text path SONDE_AS("path") SONDE_DOC("file of the kernel; absent: from memory")
		SONDE_OPTIONAL SONDE_OTEL("file.path") SONDE_ECS("file.path");
	__u32 op SONDE_AS("names=kexec_load|kexec_file_load") SONDE_DOC("the system call");
	__u64 flags SONDE_DOC("KEXEC_* of the call") SONDE_OPTIONAL;
	__u64 segments SONDE_DOC("kexec_load: how many; 0 with success: what was loaded is gone") SONDE_OPTIONAL;
	__u64 ino SONDE_DOC("inode number of the file") SONDE_OPTIONAL SONDE_ECS("file.inode");
	__u64 dev SONDE_DOC("device of the file, as stat(2) numbers it") SONDE_OPTIONAL;
};

struct bpf_load {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	__u32 prog_type SONDE_AS(KERNEL_PROGRAM_TYPES) SONDE_DOC("the program's type; absent where the call failed")
		SONDE_OPTIONAL;
	__u32 attach_type SONDE_DOC("BPF_* of enum bpf_attach_type that it expects") SONDE_OPTIONAL;
	__u32 id SONDE_DOC("the program's number, as bpftool prog has it") SONDE_OPTIONAL;
	__u32 insns SONDE_DOC("how many instructions it has, as verified") SONDE_OPTIONAL;
	char name[16] SONDE_DOC("its name") SONDE_OPTIONAL;
	__u64 tag SONDE_AS("id") SONDE_DOC("hash of its instructions, as bpftool prog has it") SONDE_OPTIONAL;
	char name_given[16] SONDE_DOC("of a call that failed: the name" GIVEN) SONDE_OPTIONAL;
};

struct bpf_map_create {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	__u32 map_type SONDE_AS(KERNEL_MAP_TYPES) SONDE_DOC("the map's type; absent where the call failed")
		SONDE_OPTIONAL;
	__u32 id SONDE_DOC("the map's number, as bpftool map has it") SONDE_OPTIONAL;
	__u32 key_bytes SONDE_DOC("size of a key") SONDE_OPTIONAL;
	__u32 value_bytes SONDE_DOC("size of a value") SONDE_OPTIONAL;
	__u32 max_entries SONDE_DOC("how many it can hold; of a ring, its bytes") SONDE_OPTIONAL;
	__u32 flags SONDE_DOC("BPF_F_*") SONDE_OPTIONAL;
	char name[16] SONDE_DOC("its name") SONDE_OPTIONAL;
	char name_given[16] SONDE_DOC("of a call that failed: the name" GIVEN) SONDE_OPTIONAL;
};

enum kernel_attach_op {
	KERNEL_PROG_ATTACH,
	KERNEL_PROG_DETACH,
	KERNEL_RAW_TRACEPOINT_OPEN,
	KERNEL_LINK_CREATE,
	KERNEL_LINK_UPDATE,
	KERNEL_LINK_DETACH,
	KERNEL_NO_ATTACH,
};

struct bpf_attach {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	__u32 op SONDE_AS("names=prog_attach|prog_detach|raw_tracepoint_open|link_create|link_update|link_detach")
		SONDE_DOC("command of bpf(2)");
	__u32 prog_type SONDE_AS(KERNEL_PROGRAM_TYPES) SONDE_DOC("the program's type, where a link was made")
		SONDE_OPTIONAL;
	__u32 attach_type SONDE_DOC("BPF_* of enum bpf_attach_type that the program expects") SONDE_OPTIONAL;
	__u32 id SONDE_DOC("the program's number, where a link was made") SONDE_OPTIONAL;
	__u32 link_id SONDE_DOC("the link's number; of link_update and link_detach by the descriptor" GIVEN)
		SONDE_OPTIONAL;
	__u32 attach_type_given SONDE_DOC("prog_attach, prog_detach: the attach type" GIVEN) SONDE_OPTIONAL;
	char name[16] SONDE_DOC("the program's name, where a link was made") SONDE_OPTIONAL;
	__u64 tag SONDE_AS("id") SONDE_DOC("hash of the program's instructions") SONDE_OPTIONAL;
};

struct perf_open {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	struct sonde_text path SONDE_AS("path") SONDE_DOC("pmu uprobe: the file that is probed")
		SONDE_OPTIONAL SONDE_OTEL("file.path") SONDE_ECS("file.path");
	__u32 perf_type SONDE_DOC("PERF_TYPE_*, or the number of a pmu") SONDE_OPTIONAL;
	char pmu[24] SONDE_DOC("what counts, by the kernel's name: cpu, cpu_clock, tracepoint, kprobe, uprobe; absent "
			       "where the call failed") SONDE_OPTIONAL;
	__u64 config SONDE_DOC("attr.config, as the kernel has it: of a tracepoint, its number") SONDE_OPTIONAL;
	__u64 offset SONDE_DOC("pmu uprobe: of the probe in the file") SONDE_OPTIONAL;
	char symbol[64] SONDE_DOC("pmu kprobe: the function that is probed") SONDE_OPTIONAL;
	__s32 target_pid SONDE_DOC(
		"whom it watches: 0 the caller, -1 all; else a thread, in the caller's pid namespace");
	__s32 cpu SONDE_DOC("on which CPU; -1: any");
	__u64 flags SONDE_DOC("PERF_FLAG_*; 4: target_pid is the descriptor of a cgroup") SONDE_OPTIONAL;
};

#define KERNEL_KEYCTL_OPS 33 /* beyond those of keyctl(2) */
enum { KERNEL_ADD_KEY = KERNEL_KEYCTL_OPS, KERNEL_REQUEST_KEY, KERNEL_KEY_OTHER };

struct keys_ctl {
	struct sonde_event event;
	SONDE_CREDENTIALS;
	SONDE_RESULT;
	__u32 op SONDE_AS("names=get_keyring_id|join_session_keyring|update|revoke|chown|setperm|describe|clear|link|"
			  "unlink|search|read|instantiate|negate|set_reqkey_keyring|set_timeout|assume_authority|"
			  "get_security|session_to_parent|reject|instantiate_iov|invalidate|get_persistent|dh_compute|"
			  "pkey_query|pkey_encrypt|pkey_decrypt|pkey_sign|pkey_verify|restrict_keyring|move|"
			  "capabilities|watch_key|add_key|request_key|other")
		SONDE_DOC("operation of keyctl(2), or the system call add_key or request_key");
	__s32 key SONDE_DOC("the key it is about: its number, or what stands for one (-3: the session's keyring)")
		SONDE_OPTIONAL;
	__u32 op_nr SONDE_DOC("other: number of the operation, which keyctl(2) does not have") SONDE_OPTIONAL;
	__u32 _pad;
	char type_given[32] SONDE_DOC("add_key, request_key: the key's type" GIVEN) SONDE_OPTIONAL;
	char description_given[96] SONDE_DOC("add_key, request_key: what the key is called" GIVEN) SONDE_OPTIONAL;
};

SONDE_SECURITY_EVENT(module_load, "module.load", 1, priority,
		     "A kernel module was taken in, just before its first instruction; or could not be.");
SONDE_SECURITY_EVENT(module_unload, "module.unload", 1, priority, "A kernel module was removed, or could not be.");
SONDE_SECURITY_EVENT(kernel_kexec, "kernel.kexec", 1, priority,
		     "Another kernel was loaded to be started, or could not be.");
SONDE_SECURITY_EVENT(bpf_load, "bpf.load", 1, priority, "A BPF program was loaded, or could not be.");
SONDE_SECURITY_EVENT(bpf_map_create, "bpf.map", 1, priority, "A BPF map was made, or could not be.");
SONDE_SECURITY_EVENT(bpf_attach, "bpf.attach", 1, priority,
		     "A BPF program was attached or detached by bpf(2), or could not be.");
SONDE_SECURITY_EVENT(perf_open, "perf.open", 1, priority, "A perf event was opened, of probes too, or could not be.");
SONDE_SECURITY_EVENT(keys_ctl, "keys.ctl", 1, priority, "A key of the kernel's was used, or could not be.");

/* The agent, in its own pid namespace, whose bpf(2) and perf_event_open(2) are left out. */
struct kernel_agent {
	__u64 device, inode; /* of the pid namespace, as the kernel numbers them */
	__u32 pid;           /* 0: not known */
	__u32 _pad;
};

#endif

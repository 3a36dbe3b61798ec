/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's types, as far as the probes use them, kept by hand: each member named here is found in the running
 * kernel's BTF when the object is loaded (CO-RE), so neither the order nor the gaps matter, and building needs no BTF.
 * Add a member when a probe reads it; never a type that no probe uses.
 */
#ifndef SONDE_VMLINUX_H
#define SONDE_VMLINUX_H

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef _Bool bool;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __s32 s32;
typedef __u64 u64;
typedef __s64 s64;
typedef int pid_t;
typedef unsigned int uid_t;

#define true 1
#define false 0
#define NULL ((void *)0)

/* From the kernel's user interface (include/uapi/linux/bpf.h): only what is used. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_QUEUE = 22,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
	BPF_F_NO_PREALLOC = 1,
	BPF_F_CLONE = 1 << 9,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
	BPF_SK_STORAGE_GET_F_CREATE = 1,
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
	BPF_RB_AVAIL_DATA = 0,
	BPF_F_SKIP_FIELD_MASK = 0xff,
	BPF_F_USER_STACK = 1 << 8,
};

struct bpf_pidns_info {
	__u32 pid, tgid;
};

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#endif

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	uid_t val;
} kuid_t;

typedef struct {
	uid_t val;
} kgid_t;

struct list_head {
	struct list_head *next, *prev;
};

struct hlist_node {
	struct hlist_node *next, **pprev;
};

struct hlist_head {
	struct hlist_node *first;
};

struct xa_node {
	unsigned char shift;
	void *slots[64];
};

struct xarray {
	void *xa_head;
};

struct idr {
	struct xarray idr_rt;
};

struct rb_node {
	struct rb_node *rb_right, *rb_left;
};

struct rb_root {
	struct rb_node *rb_node;
};

struct ns_common {
	unsigned int inum;
};

struct uid_gid_extent {
	__u32 first, lower_first, count;
};

struct uid_gid_map {
	__u32 nr_extents;
	struct uid_gid_extent extent[5];
};

struct user_namespace {
	struct ns_common ns;
	struct uid_gid_map uid_map, gid_map;
	int level;
};

struct pid_namespace {
	struct ns_common ns;
	unsigned int level;
	struct idr idr;
};

struct time_namespace {
	struct ns_common ns;
};

struct mnt_namespace {
	struct ns_common ns;
	struct rb_root mounts;
};

struct uts_namespace {
	struct ns_common ns;
};

struct ipc_namespace {
	struct ns_common ns;
};

struct cgroup_namespace {
	struct ns_common ns;
};

struct netns_ipv4 {
	__u8 sysctl_tcp_syncookies;
};

struct net {
	struct ns_common ns;
	struct netns_ipv4 ipv4;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	possible_net_t nd_net;
};

struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
	struct cgroup_namespace *cgroup_ns;
	struct pid_namespace *pid_ns_for_children;
	struct time_namespace *time_ns, *time_ns_for_children;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
	struct hlist_head tasks[4];
};

struct qstr {
	unsigned int hash, len;
	const unsigned char *name;
};

struct anon_vma;

struct vm_area_struct {
	unsigned long vm_start, vm_end;
	unsigned long vm_flags;
	struct file *vm_file;
	struct anon_vma *anon_vma;
};

struct file_system_type {
	const char *name;
};

struct hlist_bl_node {
	struct hlist_bl_node *next, **pprev;
};

struct lockref {
	int count;
};

struct super_block {
	unsigned int s_dev;
	unsigned long s_magic;
	struct dentry *s_root;
	struct mount *s_mounts; /* Linux 6.18: a list by mnt_next_for_sb */
	struct file_system_type *s_type;
};

/* Before that: one of struct list_head. */
struct super_block___listed {
	struct list_head s_mounts;
};

struct timespec64 {
	long long tv_sec;
	long tv_nsec;
};

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_rdev;
	unsigned short i_mode;
	unsigned int i_nlink;
	kuid_t i_uid;
	kgid_t i_gid;
	long long i_size;
	long long i_ctime_sec; /* Linux 6.11 */
	__u32 i_ctime_nsec;
	struct hlist_head i_dentry;
	char *i_link;
	void *i_private;
};

/* Linux 6.6 to 6.10, and before. */
struct inode___6_6 {
	struct timespec64 __i_ctime;
};

struct inode___5 {
	struct timespec64 i_ctime;
};

/* Not in the kernel's own BTF where overlayfs is a module. */
struct ovl_inode {
	struct inode vfs_inode;
	struct dentry *__upperdentry;
};

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
	struct lockref d_lockref;
	union {
		struct hlist_node d_alias;
	} d_u;
};

struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
	int mnt_flags;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
	struct mount *mnt_next_for_sb;
	struct rb_node mnt_node;
	struct list_head mnt_list;
	const char *mnt_devname;
	int mnt_id;
	__u64 mnt_id_unique;
};

/* Before Linux 6.8. */
struct mnt_namespace___list {
	struct list_head list;
};

struct mount___listed {
	struct list_head mnt_instance;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	unsigned int f_mode, f_flags;
	void *private_data;
};

struct fs_struct {
	struct path root;
	struct path pwd;
};

struct linux_binprm {
	struct file *file, *executable;
	int argc, envc;
	unsigned int secureexec : 1;
	unsigned int per_clear;
	const char *filename, *interp;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct mm_struct {
	unsigned long arg_start, arg_end;
	unsigned long env_start, env_end;
	unsigned long start_stack;
	struct file *exe_file;
};

#if defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31];
	__u64 sp, pc, pstate;
};

struct pt_regs {
	struct user_pt_regs user_regs;
	__u64 orig_x0;
	__s32 syscallno;
};

struct thread_cpu_context {
	unsigned long tp_value;
};

struct thread_struct {
	struct thread_cpu_context uw;
};

#else
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};

struct thread_struct {
	unsigned long fsbase;
};
#endif

struct kernfs_node {
	__u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	int level;
	struct cgroup_root *root;
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

typedef struct {
	__u64 val;
} kernel_cap_t;

struct group_info {
	int ngroups;
	kgid_t gid[32];
};

struct key {
	int serial;
};

struct cred {
	kuid_t uid, suid, euid, fsuid;
	kgid_t gid, sgid, egid, fsgid;
	kernel_cap_t cap_inheritable, cap_permitted, cap_effective, cap_bset, cap_ambient;
	struct user_namespace *user_ns;
	struct group_info *group_info;
	unsigned int securebits;
	struct key *session_keyring;
};

struct kernel_siginfo {
	int si_code;
};

struct tty_struct {
	char name[64];
};

typedef struct seqcount {
	unsigned int sequence;
} seqcount_t;

struct seqcount_spinlock {
	seqcount_t seqcount;
};
typedef struct seqcount_spinlock seqcount_spinlock_t;

typedef struct {
	seqcount_spinlock_t seqcount;
} seqlock_t;

struct signal_struct {
	atomic_t live;
	int nr_threads;
	struct list_head thread_head;
	seqlock_t stats_lock;
	int group_exit_code;
	unsigned int flags;
	struct pid *pids[4]; /* of the process, the thread group, the process group, the session */
	struct tty_struct *tty;
	unsigned long maxrss;
	unsigned long long sum_sched_runtime;
};

struct sched_entity {
	__u64 exec_start;
	__u64 sum_exec_runtime, prev_sum_exec_runtime;
	__u64 nr_migrations;
};

struct sched_info {
	unsigned long long run_delay, last_arrival, last_queued;
};

struct thread_info {
	unsigned int status;
	unsigned long flags;
};

/* Linux 6.2, with bpf_rdonly_cast(). */
struct mnt_idmap {
};

struct renamedata {
	struct dentry *old_dentry, *new_dentry;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int pid, tgid;
	int exit_code;
	int on_cpu;
	unsigned int __state;
	unsigned int sched_contributes_to_load : 1;
	unsigned int in_execve : 1;
	unsigned long nvcsw, nivcsw;
	char comm[16];
	__u64 start_boottime;
	__u64 self_exec_id;
	struct task_struct *real_parent, *group_leader;
	const struct cred *real_cred, *cred;
	kuid_t loginuid;
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct css_set *cgroups;
	struct pid *thread_pid;
	struct list_head thread_node;
	struct sched_entity se;
	struct sched_info sched_info;
	struct thread_struct thread;
	unsigned int personality;
	unsigned long atomic_flags;
	struct hlist_node pid_links[4];
};

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr, skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr;
	unsigned long skc_flags;
};

struct sk_buff_head {
	struct sk_buff *prev;
	__u32 qlen;
};

/* Linux 6.18. */
struct numa_drop_counters {
	atomic_t drops0, drops1;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol, sk_type;
	int sk_err;
	__u8 sk_kern_sock : 1;
	__u8 sk_shutdown;
	__u32 sk_ack_backlog, sk_max_ack_backlog;
	atomic_t sk_drops;
	struct numa_drop_counters *sk_drop_counters;
	struct sk_buff_head sk_error_queue;
	struct socket *sk_socket;
	struct sock_cgroup_data sk_cgrp_data;
	struct pid *sk_peer_pid;
	const struct cred *sk_peer_cred;
};

struct socket {
	struct sock *sk;
};

struct sockaddr_un {
	unsigned short sun_family;
	char sun_path[108];
};

struct unix_address {
	int len; /* of name */
	struct sockaddr_un name[1];
};

struct unix_sock {
	struct sock sk;
	struct unix_address *addr;
	struct path path;
	struct sock *peer;
};

struct packet_sock {
	struct sock sk;
	int ifindex;
	__be16 num;
};

struct netlink_sock {
	struct sock sk;
	__u32 portid;
};

struct sockaddr_vm {
	unsigned int svm_port, svm_cid;
};

struct vsock_sock {
	struct sock sk;
	struct sockaddr_vm local_addr, remote_addr;
};

struct msghdr {
	void *msg_name;
};

struct inet_sock {
	struct sock sk;
	__be16 inet_sport;
};

struct request_sock_queue {
	atomic_t qlen;
};

struct tcp_congestion_ops {
	char name[16];
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	struct request_sock_queue icsk_accept_queue;
	const struct tcp_congestion_ops *icsk_ca_ops;
	struct {
		__u32 lrcvtime;
	} icsk_ack;
};

struct minmax_sample {
	__u32 t, v;
};

struct minmax {
	struct minmax_sample s[3];
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 snd_una, snd_nxt, write_seq;
	__u32 srtt_us, mdev_us;
	__u32 total_retrans;
	__u32 reord_seen;
	__u32 snd_cwnd;
	__u32 segs_out, segs_in, data_segs_in;
	__u32 chrono_start, chrono_stat[3];
	__u8 chrono_type : 2;
	__u64 bytes_sent, bytes_retrans, bytes_acked, bytes_received;
	__u32 rcv_nxt;
	__u64 tcp_clock_cache;
	struct minmax rtt_min;
};

struct trace_event_raw_sched_process_exit {
	bool group_dead;
};

struct trace_event_raw_sys_exit {
	long id;
	long ret;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	char cb[48];
	unsigned int len;
	int skb_iif;
	__be16 protocol;
	__u16 transport_header, network_header;
	unsigned int tail;
	unsigned char *head, *data;
};

/* What `cb` is in a socket's queue of errors. */
struct sock_extended_err {
	__u8 ee_origin;
};

struct sock_exterr_skb {
	struct sock_extended_err ee;
};

/* Linux 5.17; numbers differ from kernel to kernel. */
enum skb_drop_reason { SKB_NOT_DROPPED_YET, SKB_CONSUMED };

/* What a tracepoint gives, as far as it differs from kernel to kernel. */
struct trace_event_raw_kfree_skb {
	void *rx_sk;
	enum skb_drop_reason reason;
};

/* Numbers of helpers, which tell how old a kernel is. */
enum bpf_func_id { BPF_FUNC_dynptr_from_mem, BPF_FUNC_loop };

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct sock *sk;
};

struct bpf_map {
	enum bpf_map_type map_type;
	__u32 key_size, value_size, max_entries, map_flags;
	__u32 id;
	char name[16];
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key, *value;
};

/* A request of io_uring; what its operation needs lies in `cmd`, as one of the structs below. Linux 6.0. */
struct io_cqe {
	__u64 user_data;
	int res;
	int fd;
};

struct io_cmd_data {
	struct file *file;
};

struct io_kiocb {
	struct file *file;
	struct io_cmd_data cmd;
	__u8 opcode;
	unsigned int flags; /* its lower half, since 6.10 */
	struct io_cqe cqe;
};

struct filename {
	const char *name; /* the kernel's copy */
};

struct open_how {
	__u64 flags, mode;
};

struct io_open {
	int dfd;
	__u32 file_slot;
	struct filename *filename;
	struct open_how how;
};

struct io_rename {
	int old_dfd, new_dfd;
	struct filename *oldpath, *newpath;
	int flags;
};

struct io_unlink {
	int dfd, flags;
	struct filename *filename;
};

struct io_mkdir {
	int dfd;
	unsigned short mode;
	struct filename *filename;
};

struct io_link {
	int old_dfd, new_dfd;
	struct filename *oldpath, *newpath;
	int flags;
};

struct io_socket {
	int domain, type, protocol;
};

struct io_accept {
	int flags;
	__u32 file_slot;
};

struct io_listen {
	int backlog;
};

struct xattr_name {
	char name[256];
};

struct kernel_xattr_ctx {
	struct xattr_name *kname;
	unsigned int flags;
};

struct io_xattr {
	struct kernel_xattr_ctx ctx;
	struct filename *filename;
};

struct io_uring_cmd {
	__u32 cmd_op;
};

/* Numbers of these are part of the user interface. */
enum bpf_prog_type { BPF_PROG_TYPE_UNSPEC };
enum bpf_attach_type { BPF_CGROUP_INET_INGRESS };
enum bpf_link_type { BPF_LINK_TYPE_UNSPEC };

struct bpf_prog_aux {
	__u32 id;
	char name[16];
};

struct bpf_prog {
	enum bpf_prog_type type;
	enum bpf_attach_type expected_attach_type;
	__u32 len;
	__u8 tag[8];
	struct bpf_prog_aux *aux;
};

struct bpf_link {
	__u32 id;
	enum bpf_link_type type;
	struct bpf_prog *prog;
};

struct module {
	char name[56];
	unsigned long taints;
};

struct pmu {
	const char *name;
};

struct perf_event_attr {
	__u32 type;
	__u64 config;
};

struct trace_event_call {
	void *data;
};

struct perf_event {
	struct pmu *pmu;
	struct perf_event_attr attr;
	struct trace_event_call *tp_event;
	__u32 orig_type;
};

/* What probes are made of: an event, its list of probes, and what each kind of probe has around it. */
struct trace_probe_event {
	struct trace_event_call call;
	struct list_head probes;
};

struct trace_probe {
	struct list_head list;
};

struct trace_uprobe {
	struct path path;
	unsigned long offset;
	struct trace_probe tp;
};

struct trace_kprobe {
	const char *symbol;
	struct trace_probe tp;
};

/* Numbers differ from kernel to kernel: take them by bpf_core_enum_value(). */
enum sk_rst_reason {
	SK_RST_REASON_NO_SOCKET = 1,
	SK_RST_REASON_TCP_INVALID_ACK_SEQUENCE,
	SK_RST_REASON_TCP_RFC7323_PAWS,
	SK_RST_REASON_TCP_TOO_OLD_ACK,
	SK_RST_REASON_TCP_ACK_UNSENT_DATA,
	SK_RST_REASON_TCP_FLAGS,
	SK_RST_REASON_TCP_OLD_ACK,
	SK_RST_REASON_TCP_ABORT_ON_DATA,
	SK_RST_REASON_TCP_TIMEWAIT_SOCKET,
	SK_RST_REASON_INVALID_SYN,
	SK_RST_REASON_TCP_ABORT_ON_CLOSE,
	SK_RST_REASON_TCP_ABORT_ON_LINGER,
	SK_RST_REASON_TCP_ABORT_ON_MEMORY,
	SK_RST_REASON_TCP_STATE,
	SK_RST_REASON_TCP_KEEPALIVE_TIMEOUT,
	SK_RST_REASON_TCP_DISCONNECT_WITH_DATA,
};

/* Not the kernel's: the agent adds it to the types that it looks programs' relocations up in, with the kernel's numbers of these records. Without
 * it, or without bpf_rdonly_cast() in the kernel, none of them exists. A module may have a flavour with others: enum sonde_type_id___mine. */
enum sonde_type_id {
	SONDE_TYPE_task_struct,
	SONDE_TYPE_linux_binprm,
	SONDE_TYPE_vm_area_struct,
	SONDE_TYPE_file,
	SONDE_TYPE_inode,
	SONDE_TYPE_dentry,
	SONDE_TYPE_qstr,
	SONDE_TYPE_mount,
};

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

/* What a perf event's program is given: part of the kernel's user interface, and its members are to be read whole. */
#if defined(__TARGET_ARCH_arm64)
struct perf_event_registers {
	__u64 regs[31];
	__u64 sp, pc, pstate;
};
#else
struct perf_event_registers {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};
#endif

struct bpf_perf_event_data {
	struct perf_event_registers regs;
	__u64 sample_period, addr;
};

/* What a program on packets is given: also part of the user interface, and accesses are by these offsets. */
struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 mark;
	__u32 priority;
	__u32 src_ip4;
	__u32 src_ip6[4];
	__u32 src_port;
	__be16 dst_port;
	__u16 : 16;
	__u32 dst_ip4;
	__u32 dst_ip6[4];
	__u32 state;
	__s32 rx_queue_mapping;
};

/* What a program on connects and sends of a cgroup is given. */
struct bpf_sock_addr {
	__u32 user_family;
	__u32 user_ip4;
	__u32 user_ip6[4];
	__u32 user_port;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 msg_src_ip4;
	__u32 msg_src_ip6[4];
	struct bpf_sock *sk __attribute__((aligned(8)));
};

struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
	__u32 tc_index;
	__u32 cb[5];
	__u32 hash;
	__u32 tc_classid;
	__u32 data;
	__u32 data_end;
	__u32 napi_id;
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 data_meta;
	__u64 flow_keys;
	__u64 tstamp;
	__u32 wire_len;
	__u32 gso_segs;
	union {
		struct bpf_sock *sk;
		__u64 : 64;
	} __attribute__((aligned(8)));
};

#endif

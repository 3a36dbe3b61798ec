// SPDX-License-Identifier: GPL-2.0-only
/*
 * What reaches into the kernel, each on the exit of its system call; modules also as the kernel takes them in, before their first
 * instruction could do anything against it. What a call made is told from the object behind the descriptor that it returned.
 */
#include "path.bpf.h"
#include <bpf/bpf_endian.h>
#include "kernel.h"

#if defined(__TARGET_ARCH_arm64)
#define SYS_INIT_MODULE  105
#define SYS_FINIT_MODULE 273
#else
#define SYS_INIT_MODULE  175
#define SYS_FINIT_MODULE 313
#endif

/* Of bpf(2). Source: include/uapi/linux/bpf.h. */
enum {
	BPF_MAP_CREATE = 0,
	BPF_PROG_LOAD = 5,
	BPF_PROG_ATTACH = 8,
	BPF_PROG_DETACH = 9,
	BPF_RAW_TRACEPOINT_OPEN = 17,
	BPF_LINK_CREATE = 28,
	BPF_LINK_UPDATE = 29,
	BPF_LINK_DETACH = 34,
};

/* Where names and the attach type lie in union bpf_attr. */
#define ATTR_MAP_NAME    28
#define ATTR_PROG_NAME   48
#define ATTR_ATTACH_TYPE 8

struct kernel_agent kernel_agent SEC(".data") = {};

/* The agent loads its programs, opens its events: it says so itself, in agent.start. */
sonde_inline bool is_agent(void)
{
	struct bpf_pidns_info own = {};

	return kernel_agent.pid &&
	       bpf_get_ns_current_pid_tgid(kernel_agent.device, kernel_agent.inode, &own, sizeof own) == 0 &&
	       own.tgid == kernel_agent.pid;
}

sonde_inline long system_call(void)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());

#if defined(__TARGET_ARCH_arm64)
	return BPF_CORE_READ(regs, syscallno);
#else
	return (long)BPF_CORE_READ(regs, orig_ax);
#endif
}

/* ---- texts ---- */

/* Of the program's memory. `to`: of the event, cleared; what does not fit is cut. */
#define fill_given(e, member, from) fill_given_text(&(e)->event, (e)->member, sizeof(e)->member, (from))
sonde_inline void fill_given_text(struct sonde_event *e, char *to, const __u32 bytes, const void *from)
{
	char last = 0;

	if (bpf_probe_read_user_str(to, bytes, from) != bytes)
		return;
	bpf_probe_read_user(&last, sizeof last, from + bytes - 1);
	if (last)
		e->flags |= SONDE_FLAG_TRUNCATED;
}

/* Likewise of the kernel's. */
#define fill_kernel_text(e, member, from) fill_text(&(e)->event, (e)->member, sizeof(e)->member, (from))
sonde_inline void fill_text(struct sonde_event *e, char *to, const __u32 bytes, const char *from)
{
	char last = 0;

	if (bpf_probe_read_kernel_str(to, bytes, from) != bytes)
		return;
	bpf_probe_read_kernel(&last, sizeof last, from + bytes - 1);
	if (last)
		e->flags |= SONDE_FLAG_TRUNCATED;
}

/* ---- modules ---- */

sonde_inline int say_load(const __u32 room, struct module *mod, struct file *file, const struct place *place, long ret)
{
	__u32 used = sizeof(struct module_load);
	struct module_load *e = reserve_called(module_load, room);

	if (!e)
		return 0;
	sonde_fill_credentials(e);
	sonde_fill_result(e, ret);
	__builtin_memset(e->name, 0, sizeof e->name);
	e->taints = 0;
	if (mod) {
		BPF_CORE_READ_STR_INTO(&e->name, mod, name);
		e->taints = BPF_CORE_READ(mod, taints);
	}
	e->flags = file ? (__u32)sonde_argument(2) : 0;
	fill_inode(e, file);
	fill_place(e, room, &used, &e->path, place);
	sonde_submit(module_load, e, used);
	return 0;
}

sonde_inline int load_of(struct module *mod, struct file *file, long ret)
{
	struct place place = place_of(file);

	return in_room_of(&place, say_load, mod, file, &place, ret);
}

SEC("tp_btf/module_load")
SONDE_FOR("module.load")
int BPF_PROG(load__tp_btf, struct module *mod)
{
	return load_of(mod, system_call() == SYS_FINIT_MODULE ? sonde_file_of((__s32)sonde_argument(0)) : NULL, 0);
}

SEC("tracepoint/syscalls/sys_exit_finit_module")
SONDE_FOR("module.load")
int finit_module__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);

	return ret < 0 ? load_of(NULL, sonde_file_of((__s32)sonde_argument(0)), ret) : 0;
}

SEC("tracepoint/syscalls/sys_exit_init_module")
SONDE_FOR("module.load")
int init_module__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);

	return ret < 0 ? load_of(NULL, NULL, ret) : 0;
}

sonde_inline int say_unload(struct module *mod, long ret)
{
	struct module_unload *e = reserve_called(module_unload, sizeof *e);

	if (!e)
		return 0;
	sonde_fill_credentials(e);
	sonde_fill_result(e, ret);
	__builtin_memset(e->name, 0, sizeof e->name);
	__builtin_memset(e->name_given, 0, sizeof e->name_given);
	e->flags = 0;
	if (mod) {
		BPF_CORE_READ_STR_INTO(&e->name, mod, name);
	} else {
		e->flags = (__u32)sonde_argument(1);
		fill_given(e, name_given, (void *)sonde_argument(0));
	}
	sonde_submit(module_unload, e, sizeof *e);
	return 0;
}

/* Also the end of a module whose first function failed: that is told by the exit of the call that loaded it. */
SEC("tp_btf/module_free")
SONDE_FOR("module.unload")
int BPF_PROG(unload__tp_btf, struct module *mod)
{
	long call = system_call();

	return call == SYS_INIT_MODULE || call == SYS_FINIT_MODULE ? 0 : say_unload(mod, 0);
}

SEC("tracepoint/syscalls/sys_exit_delete_module")
SONDE_FOR("module.unload")
int delete_module__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);

	return ret < 0 ? say_unload(NULL, ret) : 0;
}

/* ---- another kernel ---- */

sonde_inline int say_kexec(const __u32 room, enum kernel_kexec_call call, struct file *file, const struct place *place,
			   long ret)
{
	__u32 used = sizeof(struct kernel_kexec);
	struct kernel_kexec *e = reserve_called(kernel_kexec, room);

	if (!e)
		return 0;
	sonde_fill_credentials(e);
	sonde_fill_result(e, ret);
	e->op = call;
	e->segments = call == KERNEL_KEXEC_LOAD ? sonde_argument(1) : 0;
	e->flags = call == KERNEL_KEXEC_LOAD ? sonde_argument(3) : sonde_argument(4);
	fill_inode(e, file);
	fill_place(e, room, &used, &e->path, place);
	sonde_submit(kernel_kexec, e, used);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_kexec_load")
SONDE_FOR("kernel.kexec")
int kexec_load__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);
	const struct place none = {};

	return say_kexec(RECORD_BARE, KERNEL_KEXEC_LOAD, NULL, &none, ret);
}

SEC("tracepoint/syscalls/sys_exit_kexec_file_load")
SONDE_FOR("kernel.kexec")
int kexec_file_load__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);
	struct file *file = sonde_file_of((__s32)sonde_argument(0));
	struct place place = place_of(file);

	return in_room_of(&place, say_kexec, KERNEL_KEXEC_FILE_LOAD, file, &place, ret);
}

/* ---- BPF ---- */

/* The object behind the descriptor that a call returned, where it is what the kernel calls `name`. */
#define object_of(ret, name)                                                                                           \
	({                                                                                                             \
		struct file *_made = sonde_file_of(ret);                                                               \
		sonde_is_anonymous(_made, name) ? BPF_CORE_READ(_made, private_data) : NULL;                           \
	})

/* The name that lies at `at` in the attributes, where these are as long. */
#define fill_name_given(e, at)                                                                                         \
	({                                                                                                             \
		if ((__u32)sonde_argument(2) >= (at) + sizeof(e)->name_given)                                          \
			fill_given(e, name_given, (void *)sonde_argument(1) + (at));                                   \
	})

sonde_inline __u32 at_most(__u32 value, __u32 most)
{
	return value < most ? value : most;
}

/* Its bytes as the number that is written with the same digits. */
sonde_inline __u64 tag_of(struct bpf_prog *prog)
{
	__be64 tag = 0;

	BPF_CORE_READ_INTO(&tag, prog, tag);
	return bpf_be64_to_cpu(tag);
}

/* Of an event about a program. */
#define fill_program(e, prog)                                                                                          \
	({                                                                                                             \
		(e)->prog_type = at_most(BPF_CORE_READ((prog), type), KERNEL_PROGRAM_OTHER);                           \
		(e)->attach_type = BPF_CORE_READ((prog), expected_attach_type);                                        \
		(e)->id = BPF_CORE_READ((prog), aux, id);                                                              \
		BPF_CORE_READ_STR_INTO(&(e)->name, (prog), aux, name);                                                 \
		(e)->tag = tag_of(prog);                                                                               \
	})

sonde_inline int loads(long ret)
{
	struct bpf_prog *prog = object_of(ret, "bpf-prog");
	struct bpf_load *e = reserve_called(bpf_load, sizeof *e);

	if (!e)
		return 0;
	__builtin_memset(&e->prog_type, 0, sizeof *e - __builtin_offsetof(struct bpf_load, prog_type));
	sonde_fill_credentials(e);
	sonde_fill_result(e, ret);
	if (prog) {
		fill_program(e, prog);
		e->insns = BPF_CORE_READ(prog, len);
	} else {
		fill_name_given(e, ATTR_PROG_NAME);
	}
	sonde_submit(bpf_load, e, sizeof *e);
	return 0;
}

sonde_inline int makes_map(long ret)
{
	struct bpf_map *map = object_of(ret, "bpf-map");
	struct bpf_map_create *e = reserve_called(bpf_map_create, sizeof *e);

	if (!e)
		return 0;
	__builtin_memset(&e->map_type, 0, sizeof *e - __builtin_offsetof(struct bpf_map_create, map_type));
	sonde_fill_credentials(e);
	sonde_fill_result(e, ret);
	if (map) {
		e->map_type = at_most(BPF_CORE_READ(map, map_type), KERNEL_MAP_OTHER);
		e->id = BPF_CORE_READ(map, id);
		e->key_bytes = BPF_CORE_READ(map, key_size);
		e->value_bytes = BPF_CORE_READ(map, value_size);
		e->max_entries = BPF_CORE_READ(map, max_entries);
		e->flags = BPF_CORE_READ(map, map_flags);
		BPF_CORE_READ_STR_INTO(&e->name, map, name);
	} else {
		fill_name_given(e, ATTR_MAP_NAME);
	}
	sonde_submit(bpf_map_create, e, sizeof *e);
	return 0;
}

/* The link that a command made or changed: link_update and link_detach name it first in their attributes, as a descriptor. */
sonde_inline struct bpf_link *link_of(enum kernel_attach_op op, long ret)
{
	__s32 fd = -1;

	switch (op) {
	case KERNEL_RAW_TRACEPOINT_OPEN:
	case KERNEL_LINK_CREATE:
		return object_of(ret, "bpf_link");
	case KERNEL_LINK_UPDATE:
	case KERNEL_LINK_DETACH:
		bpf_probe_read_user(&fd, sizeof fd, (void *)sonde_argument(1));
		return object_of(fd, "bpf_link");
	default:
		return NULL;
	}
}

sonde_inline int attaches(enum kernel_attach_op op, long ret)
{
	struct bpf_link *link = link_of(op, ret);
	struct bpf_attach *e = reserve_called(bpf_attach, sizeof *e);
	struct bpf_prog *prog;

	if (!e)
		return 0;
	__builtin_memset(&e->op, 0, sizeof *e - __builtin_offsetof(struct bpf_attach, op));
	sonde_fill_credentials(e);
	sonde_fill_result(e, ret);
	e->op = op;
	if (op == KERNEL_PROG_ATTACH || op == KERNEL_PROG_DETACH)
		bpf_probe_read_user(&e->attach_type_given, sizeof e->attach_type_given,
				    (void *)sonde_argument(1) + ATTR_ATTACH_TYPE);
	prog = link ? BPF_CORE_READ(link, prog) : NULL;
	if (link)
		e->link_id = BPF_CORE_READ(link, id);
	if (prog)
		fill_program(e, prog);
	sonde_submit(bpf_attach, e, sizeof *e);
	return 0;
}

sonde_inline enum kernel_attach_op attach_op(__u32 command)
{
	switch (command) {
	case BPF_PROG_ATTACH:
		return KERNEL_PROG_ATTACH;
	case BPF_PROG_DETACH:
		return KERNEL_PROG_DETACH;
	case BPF_RAW_TRACEPOINT_OPEN:
		return KERNEL_RAW_TRACEPOINT_OPEN;
	case BPF_LINK_CREATE:
		return KERNEL_LINK_CREATE;
	case BPF_LINK_UPDATE:
		return KERNEL_LINK_UPDATE;
	case BPF_LINK_DETACH:
		return KERNEL_LINK_DETACH;
	default:
		return KERNEL_NO_ATTACH;
	}
}

SEC("tracepoint/syscalls/sys_exit_bpf")
SONDE_FOR("bpf.load bpf.map bpf.attach")
int bpf__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);
	__u32 command = (__u32)sonde_argument(0);
	enum kernel_attach_op op = attach_op(command);

	if ((op == KERNEL_NO_ATTACH && command != BPF_MAP_CREATE && command != BPF_PROG_LOAD) || is_agent())
		return 0;
	if (op != KERNEL_NO_ATTACH)
		return attaches(op, ret);
	return command == BPF_MAP_CREATE ? makes_map(ret) : loads(ret);
}

/* ---- perf events ---- */

/* The probe that an event of pmu kprobe or uprobe was made with: the first of its list. Source: kernel/trace/trace_probe.h. */
sonde_inline void *probe_of(struct perf_event *event)
{
	struct trace_event_call *call = BPF_CORE_READ(event, tp_event);
	struct trace_probe_event *probes = (void *)call - bpf_core_field_offset(struct trace_probe_event, call);
	struct list_head *first;

	if (!call)
		return NULL;
	first = BPF_CORE_READ(probes, probes.next);
	return (void *)first - bpf_core_field_offset(struct trace_probe, list);
}

#define NAMED(text, name) is_named((text), (name), sizeof(name))
sonde_inline bool is_named(const char *text, const char *name, const __u32 bytes)
{
	for (__u32 i = 0; i < bytes; i++)
		if (text[i] != name[i])
			return false;
	return true;
}

/* The probe around `probe`, where the event is of that pmu and the kernel has such probes. */
sonde_inline struct trace_uprobe *uprobe_of(const char *pmu, void *probe)
{
	if (!probe || !bpf_core_field_exists(struct trace_uprobe, tp) || !NAMED(pmu, "uprobe"))
		return NULL;
	return probe - bpf_core_field_offset(struct trace_uprobe, tp);
}

sonde_inline struct trace_kprobe *kprobe_of(const char *pmu, void *probe)
{
	if (!probe || !bpf_core_field_exists(struct trace_kprobe, tp) || !NAMED(pmu, "kprobe"))
		return NULL;
	return probe - bpf_core_field_offset(struct trace_kprobe, tp);
}

struct perf_source {
	char pmu[24];
	struct perf_event *event;
	struct trace_uprobe *uprobe;
	struct trace_kprobe *kprobe;
	struct place place;
};

sonde_inline void find_source(struct perf_source *s, long ret)
{
	struct perf_event *event = object_of(ret, "[perf_event]");
	void *probe;

	s->event = event;
	if (!event)
		return;
	bpf_probe_read_kernel_str(s->pmu, sizeof s->pmu, BPF_CORE_READ(event, pmu, name));
	if (!bpf_core_field_exists(struct trace_probe_event, probes))
		return;
	probe = probe_of(event);
	s->uprobe = uprobe_of(s->pmu, probe);
	s->kprobe = kprobe_of(s->pmu, probe);
	if (s->uprobe)
		s->place = place_at((void *)s->uprobe + bpf_core_field_offset(struct trace_uprobe, path));
}

sonde_inline int say_perf(const __u32 room, const struct perf_source *s, long ret)
{
	struct trace_kprobe *kprobe = s->kprobe;
	struct trace_uprobe *uprobe = s->uprobe;
	struct perf_event *event = s->event;
	__u32 used = sizeof(struct perf_open);
	struct perf_open *e = reserve_called(perf_open, room);

	if (!e)
		return 0;
	__builtin_memset(&e->path, 0, sizeof *e - __builtin_offsetof(struct perf_open, path));
	sonde_fill_credentials(e);
	sonde_fill_result(e, ret);
	e->target_pid = (__s32)sonde_argument(1);
	e->cpu = (__s32)sonde_argument(2);
	e->flags = sonde_argument(4);
	__builtin_memcpy(e->pmu, s->pmu, sizeof e->pmu);
	if (event) {
		/* The kernel puts another type in place of some (software clocks), and keeps the first. */
		e->perf_type = bpf_core_field_exists(event->orig_type) ? BPF_CORE_READ(event, orig_type)
								       : BPF_CORE_READ(event, attr.type);
		e->config = BPF_CORE_READ(event, attr.config);
	}
	if (uprobe)
		e->offset = BPF_CORE_READ(uprobe, offset);
	if (kprobe)
		fill_kernel_text(e, symbol, BPF_CORE_READ(kprobe, symbol));
	fill_place(e, room, &used, &e->path, &s->place);
	sonde_submit(perf_open, e, used);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_perf_event_open")
SONDE_FOR("perf.open")
int perf_event_open__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);
	struct perf_source source = {};

	if (is_agent())
		return 0;
	find_source(&source, ret);
	return in_room_of(&source.place, say_perf, &source, ret);
}

/* ---- keys ---- */

sonde_inline int say_key(__u32 op, __s32 key, const void *type, const void *description, long ret)
{
	struct keys_ctl *e = reserve_called(keys_ctl, sizeof *e);

	if (!e)
		return 0;
	__builtin_memset(&e->op, 0, sizeof *e - __builtin_offsetof(struct keys_ctl, op));
	sonde_fill_credentials(e);
	sonde_fill_result(e, ret);
	e->op = at_most(op, KERNEL_KEY_OTHER);
	e->op_nr = op >= KERNEL_KEY_OTHER ? op - KERNEL_KEY_OTHER : 0;
	e->key = key;
	if (type)
		fill_given(e, type_given, type);
	if (description)
		fill_given(e, description_given, description);
	sonde_submit(keys_ctl, e, sizeof *e);
	return 0;
}

/* What the call is about is its first argument, but for those that take no key, or that make one. */
#define KEYCTL_JOIN_SESSION_KEYRING 1
#define KEYCTL_SET_REQKEY_KEYRING   14
#define KEYCTL_SESSION_TO_PARENT    18
#define KEYCTL_GET_PERSISTENT       22
#define KEYCTL_DH_COMPUTE           23
#define KEYCTL_CAPABILITIES         31

sonde_inline bool keyctl_has_key(__u32 op)
{
	return op != KEYCTL_JOIN_SESSION_KEYRING && op != KEYCTL_SET_REQKEY_KEYRING && op != KEYCTL_SESSION_TO_PARENT &&
	       op != KEYCTL_GET_PERSISTENT && op != KEYCTL_DH_COMPUTE && op != KEYCTL_CAPABILITIES;
}

SEC("tracepoint/syscalls/sys_exit_keyctl")
SONDE_FOR("keys.ctl")
int keyctl__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);
	__u32 op = (__u32)sonde_argument(0);

	/* Numbers beyond must not become the calls that are named behind them. */
	if (op >= KERNEL_KEYCTL_OPS)
		op = op <= ~0u - KERNEL_KEY_OTHER ? op + KERNEL_KEY_OTHER : ~0u;
	return say_key(op, keyctl_has_key(op) ? (__s32)sonde_argument(1) : 0, NULL, NULL, ret);
}

/* The key is what the call returned. */
SEC("tracepoint/syscalls/sys_exit_add_key")
SONDE_FOR("keys.ctl")
int add_key__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);

	return say_key(KERNEL_ADD_KEY, ret > 0 ? (__s32)ret : 0, (void *)sonde_argument(0), (void *)sonde_argument(1),
		       ret);
}

SEC("tracepoint/syscalls/sys_exit_request_key")
SONDE_FOR("keys.ctl")
int request_key__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);

	return say_key(KERNEL_REQUEST_KEY, ret > 0 ? (__s32)ret : 0, (void *)sonde_argument(0),
		       (void *)sonde_argument(1), ret);
}

char LICENSE[] SEC("license") = "GPL";

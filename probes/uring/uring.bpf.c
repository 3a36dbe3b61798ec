// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is done through io_uring. A request is told as the kernel has taken it in and before it does anything, with the kernel's own copies of
 * names and numbers: whoever then hides its result (IOSQE_CQE_SKIP_SUCCESS, a queue of results that overflows) has been told of. Its result is told
 * when it is posted, with the file that a name has led to, or the socket's addresses.
 */
#include "probes/net/socket.bpf.h"
#include "uring.h"

#define PENDING_MAX 8192
#define STALE_NS    1000000000ull

/* Source: include/uapi/linux/io_uring.h. */
enum {
	OP_ACCEPT = 13,
	OP_CONNECT = 16,
	OP_OPENAT = 18,
	OP_OPENAT2 = 28,
	OP_RENAMEAT = 35,
	OP_UNLINKAT = 36,
	OP_MKDIRAT = 37,
	OP_SYMLINKAT = 38,
	OP_LINKAT = 39,
	OP_MSG_RING = 40,
	OP_FSETXATTR = 41,
	OP_SETXATTR = 42,
	OP_SOCKET = 45,
	OP_URING_CMD = 46,
	OP_FIXED_FD_INSTALL = 54,
	OP_FTRUNCATE = 55,
	OP_BIND = 56,
	OP_LISTEN = 57,
};

#define OP(n) (1ull << (n))
#define OPS_TOLD                                                                                                       \
	(OP(OP_ACCEPT) | OP(OP_CONNECT) | OP(OP_OPENAT) | OP(OP_OPENAT2) | OP(OP_RENAMEAT) | OP(OP_UNLINKAT) |         \
	 OP(OP_MKDIRAT) | OP(OP_SYMLINKAT) | OP(OP_LINKAT) | OP(OP_MSG_RING) | OP(OP_FSETXATTR) | OP(OP_SETXATTR) |    \
	 OP(OP_SOCKET) | OP(OP_URING_CMD) | OP(OP_FIXED_FD_INSTALL) | OP(OP_FTRUNCATE) | OP(OP_BIND) | OP(OP_LISTEN))
#define OPS_ON_FD                                                                                                      \
	(OP(OP_ACCEPT) | OP(OP_CONNECT) | OP(OP_MSG_RING) | OP(OP_FSETXATTR) | OP(OP_URING_CMD) |                      \
	 OP(OP_FIXED_FD_INSTALL) | OP(OP_FTRUNCATE) | OP(OP_BIND) | OP(OP_LISTEN))
#define OPS_ON_SOCKET (OP(OP_ACCEPT) | OP(OP_CONNECT) | OP(OP_BIND) | OP(OP_LISTEN))

#define AT_FDCWD (-100)

#define REQ_CQE_SKIP                                                                                                   \
	(1u << 6) /* IOSQE_CQE_SKIP_SUCCESS: the first bits of a request's flags are those that it came with */

#define NAME_SHORT 128u
#define NAME_LONG  4096u
/* Paths of folders lie in the first RECORD_SMALL or RECORD_LARGE bytes, names behind them. */
#define OP_SMALL (RECORD_SMALL + 2 * NAME_SHORT)
#define OP_LARGE (RECORD_LARGE + 2 * NAME_LONG)
_Static_assert(sizeof(struct uring_op) <= RECORD_FIXED && sizeof(struct uring_done) + ABSTRACT_ROOM <= RECORD_FIXED,
	       "what stands before the paths");

/* A request that is under way: whose it is, and since when. */
struct pending {
	struct sonde_owner owner;
	__u64 id, begin, cap_eff;
	__u32 uid, euid, gid, egid;
	__u32 op, _pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, PENDING_MAX);
	__type(key, __u64);
	__type(value, struct pending);
} uring_pending SEC(".maps");

__u64 uring_swept SEC(".data") = 0;

/* ---- what is asked for ---- */

/* What an operation is given, as numbers and kernel addresses. */
struct asked {
	const char *name, *new_name;
	__s32 dfd, new_dfd;
	__u64 flags, mode;
	__u32 family, sock_type, protocol, cmd_op;
	__s32 backlog, fd;
	struct place dir, new_dir;
};

sonde_inline void ask_link(struct asked *a, const struct io_link *link, bool symbolic)
{
	a->name = BPF_CORE_READ(link, oldpath, name);
	a->new_name = BPF_CORE_READ(link, newpath, name);
	a->new_dfd = BPF_CORE_READ(link, new_dfd);
	a->dfd = symbolic ? -1 : BPF_CORE_READ(link, old_dfd);
	a->flags = symbolic ? 0 : (__u32)BPF_CORE_READ(link, flags);
}

sonde_inline void ask_rename(struct asked *a, const struct io_rename *rename)
{
	a->name = BPF_CORE_READ(rename, oldpath, name);
	a->new_name = BPF_CORE_READ(rename, newpath, name);
	a->dfd = BPF_CORE_READ(rename, old_dfd);
	a->new_dfd = BPF_CORE_READ(rename, new_dfd);
	a->flags = (__u32)BPF_CORE_READ(rename, flags);
}

sonde_inline void ask_open(struct asked *a, const struct io_open *open)
{
	a->name = BPF_CORE_READ(open, filename, name);
	a->dfd = BPF_CORE_READ(open, dfd);
	a->flags = BPF_CORE_READ(open, how.flags);
	a->mode = BPF_CORE_READ(open, how.mode);
}

sonde_inline void ask_unlink(struct asked *a, const struct io_unlink *unlink)
{
	a->name = BPF_CORE_READ(unlink, filename, name);
	a->dfd = BPF_CORE_READ(unlink, dfd);
	a->flags = (__u32)BPF_CORE_READ(unlink, flags);
}

sonde_inline void ask_mkdir(struct asked *a, const struct io_mkdir *mkdir)
{
	a->name = BPF_CORE_READ(mkdir, filename, name);
	a->dfd = BPF_CORE_READ(mkdir, dfd);
	a->mode = BPF_CORE_READ(mkdir, mode);
}

sonde_inline void ask_xattr(struct asked *a, const struct io_xattr *xattr, bool named)
{
	a->new_name = (const char *)BPF_CORE_READ(xattr, ctx.kname);
	a->flags = BPF_CORE_READ(xattr, ctx.flags);
	if (named) {
		a->name = BPF_CORE_READ(xattr, filename, name);
		a->dfd = AT_FDCWD;
	}
}

sonde_inline void ask_socket(struct asked *a, const struct io_socket *socket)
{
	__u32 type = (__u32)BPF_CORE_READ(socket, type);

	a->family = family_named((__u32)BPF_CORE_READ(socket, domain));
	a->sock_type = type_named(type & 0xf);
	a->flags = type & ~0xfu;
	a->protocol = (__u32)BPF_CORE_READ(socket, protocol);
}

/* Structs that the kernel does not have read as nothing. */
sonde_inline void ask(struct asked *a, __u32 op, const void *cmd)
{
	if ((op == OP_OPENAT || op == OP_OPENAT2) && bpf_core_field_exists(struct io_open, filename))
		ask_open(a, cmd);
	else if (op == OP_RENAMEAT && bpf_core_field_exists(struct io_rename, oldpath))
		ask_rename(a, cmd);
	else if (op == OP_UNLINKAT && bpf_core_field_exists(struct io_unlink, filename))
		ask_unlink(a, cmd);
	else if (op == OP_MKDIRAT && bpf_core_field_exists(struct io_mkdir, filename))
		ask_mkdir(a, cmd);
	else if ((op == OP_SYMLINKAT || op == OP_LINKAT) && bpf_core_field_exists(struct io_link, oldpath))
		ask_link(a, cmd, op == OP_SYMLINKAT);
	else if ((op == OP_SETXATTR || op == OP_FSETXATTR) && bpf_core_field_exists(struct io_xattr, filename))
		ask_xattr(a, cmd, op == OP_SETXATTR);
	else if (op == OP_SOCKET && bpf_core_field_exists(struct io_socket, domain))
		ask_socket(a, cmd);
	else if (op == OP_ACCEPT && bpf_core_field_exists(struct io_accept, flags))
		a->flags = (__u32)BPF_CORE_READ((struct io_accept *)cmd, flags);
	else if (op == OP_LISTEN && bpf_core_field_exists(struct io_listen, backlog))
		a->backlog = BPF_CORE_READ((struct io_listen *)cmd, backlog);
	else if (op == OP_URING_CMD && bpf_core_field_exists(struct io_uring_cmd, cmd_op))
		a->cmd_op = BPF_CORE_READ((struct io_uring_cmd *)cmd, cmd_op);
}

/* ---- uring.op ---- */

sonde_inline bool is_relative(const char *name)
{
	char first = '/';

	if (name)
		bpf_probe_read_kernel(&first, sizeof first, name);
	return first != '/';
}

/* Where a name begins that is not absolute. */
sonde_inline struct place folder_of(const char *name, __s32 dfd)
{
	struct fs_struct *fs;
	struct place none = {};

	if (!is_relative(name))
		return none;
	if (dfd != AT_FDCWD)
		return place_of(sonde_file_of(dfd));
	fs = BPF_CORE_READ(bpf_get_current_task_btf(), fs);
	return place_at((void *)fs + bpf_core_field_offset(struct fs_struct, pwd));
}

/* A function of its own, as what it reads into shall not lie on its callers' stacks. */
static __noinline bool is_short(const char *name)
{
	char text[NAME_SHORT];

	return !name || bpf_probe_read_kernel_str(text, sizeof text, name) < (long)sizeof text;
}

sonde_inline void fill_name(void *e, __u32 *at, struct sonde_text *text, const char *name, const __u32 most)
{
	long n = name ? bpf_probe_read_kernel_str(e + *at, most, name) : 0;

	text->offset = (__u16)*at;
	text->length = 0;
	if (n < 1 || n > most)
		return;
	text->length = (__u16)(n - 1);
	*at += (__u32)n;
}

struct told_of {
	struct sonde_owner owner;
	__u64 id, stack;
};

sonde_inline int say_op(const __u32 paths, const __u32 names, __u32 op, const struct asked *a, const struct told_of *of)
{
	__u32 at = sizeof(struct uring_op);
	struct uring_op *e = sonde_reserve_with(uring_op, paths + 2 * names, &of->owner, of->stack);

	if (!e)
		return 0;
	sonde_fill_credentials(e);
	e->id = of->id;
	e->op = op;
	e->fd = a->fd;
	e->flags = a->flags;
	e->mode = a->mode;
	e->family = a->family;
	e->sock_type = a->sock_type;
	e->protocol = a->protocol;
	e->cmd_op = a->cmd_op;
	e->backlog = a->backlog;
	e->_pad = 0;
	fill_place(e, paths, &at, &e->dir, &a->dir);
	if (paths == RECORD_LARGE) {
		fill_place(e, paths, &at, &e->new_dir, &a->new_dir);
	} else {
		e->new_dir.offset = (__u16)at;
		e->new_dir.length = 0;
	}
	if (at > paths) /* never: the walker keeps within */
		at = paths;
	fill_name(e, &at, &e->name, a->name, names);
	barrier_var(at);
	if (at > paths + names)
		at = paths + names;
	fill_name(e, &at, &e->new_name, a->new_name, names);
	sonde_submit(uring_op, e, at);
	return 0;
}

sonde_inline bool fits_small(const struct asked *a)
{
	return !a->new_dir.dentry && is_short(a->name) && is_short(a->new_name) &&
	       (!a->dir.dentry || (__u32)path_bytes(a->dir.dentry, a->dir.mnt) <= PATH_SHORT);
}

static long drop_stale(void *map, const __u64 *key, const struct pending *p, const __u64 *now)
{
	__u64 req = *key;

	if (p->begin + STALE_NS < *now && bpf_map_delete_elem(&uring_pending, &req) == 0)
		sonde_lost(uring_done, SONDE_DROP_MAP_FULL);
	return 0;
}

/* Results that nobody is told of leave their requests in the table: they shall not keep it full. Returns whether there may be room now. */
sonde_inline bool sweep(__u64 now)
{
	__u64 swept = uring_swept;

	if (now < swept + STALE_NS || __sync_val_compare_and_swap(&uring_swept, swept, now) != swept)
		return false;
	return bpf_for_each_map_elem(&uring_pending, drop_stale, &now, 0) >= 0;
}

static __noinline int keep_pending(__u64 req, __u32 op, const struct told_of *of)
{
	struct pending p = { .owner = of->owner, .id = of->id, .op = op, .begin = bpf_ktime_get_boot_ns() };

	if (of->owner.filtered) {
		bpf_map_delete_elem(&uring_pending, &req);
		sonde_left_out(uring_done);
		return 0;
	}
	sonde_fill_credentials(&p);
	if (bpf_map_update_elem(&uring_pending, &req, &p, BPF_ANY) == 0 ||
	    (sweep(p.begin) && bpf_map_update_elem(&uring_pending, &req, &p, BPF_ANY) == 0))
		return 0;
	bpf_map_delete_elem(&uring_pending, &req);
	sonde_lost(uring_done, SONDE_DROP_MAP_FULL);
	return 0;
}

static __noinline int begin(struct told_of *of, __u32 op)
{
	struct sonde_owner owner = {};

	sonde_owner_called(&owner);
	of->owner = owner;
	of->stack = sonde_take_stack(&sonde_bulk, &owner);
	of->id = (bpf_ktime_get_boot_ns() << 20 ^ (__u64)owner.tid << 8 ^ op) | 1;
	return 0;
}

/* Also a thread of the kernel's that takes requests (IORING_SETUP_SQPOLL) is one of the process. */
sonde_inline int submits(struct io_kiocb *req)
{
	const void *cmd = (void *)req + bpf_core_field_offset(struct io_kiocb, cmd);
	__u64 key = (__u64)req;
	__u32 op = BPF_CORE_READ(req, opcode);
	struct told_of of = {};
	struct asked a = { .dfd = -1, .new_dfd = -1 };

	if (op >= 64 || !(OPS_TOLD >> op & 1) || !bpf_core_field_exists(struct io_kiocb, cmd))
		return 0;
	begin(&of, op);
	ask(&a, op, cmd);
	if (OPS_ON_FD >> op & 1)
		a.fd = BPF_CORE_READ(req, cqe.fd);
	a.dir = folder_of(op == OP_SYMLINKAT ? a.new_name : a.name, op == OP_SYMLINKAT ? a.new_dfd : a.dfd);
	if ((op == OP_RENAMEAT || op == OP_LINKAT) && a.dfd != a.new_dfd)
		a.new_dir = folder_of(a.new_name, a.new_dfd);
	/* Memory of requests is used again: what waits for no result must leave none behind that another's end would be taken for. */
	if (BPF_CORE_READ(req, flags) & REQ_CQE_SKIP)
		bpf_map_delete_elem(&uring_pending, &key);
	else
		keep_pending(key, op, &of);
	return fits_small(&a) ? say_op(RECORD_SMALL, NAME_SHORT, op, &a, &of)
			      : say_op(RECORD_LARGE, NAME_LONG, op, &a, &of);
}

/* Linux 6.4. */
SEC("tp_btf/io_uring_submit_req")
SONDE_FOR("uring.op uring.done")
int BPF_PROG(submit__tp_btf, struct io_kiocb *req)
{
	return submits(req);
}

/* Before that, from 6.0 on. */
SEC("raw_tp/io_uring_submit_sqe")
SONDE_FOR("uring.op uring.done")
int BPF_PROG(submit__raw_tp, struct io_kiocb *req)
{
	return submits(req);
}

/* ---- uring.done ---- */

/* The file that an operation has made, where it has a descriptor and the task that runs is of the process. */
sonde_inline struct file *file_made(const struct pending *p, __s32 result)
{
	if (result < 0 || (__u32)(bpf_get_current_pid_tgid() >> 32) != p->owner.pid)
		return NULL;
	return sonde_file_of(result);
}

struct ending {
	struct told told;
	struct file *opened;
	__s32 fd, result;
};

/* Of what went into the table of fixed files (file_slot) there is no descriptor. */
sonde_inline bool has_slot(__u32 op, const void *cmd)
{
	if (op == OP_ACCEPT && bpf_core_field_exists(struct io_accept, file_slot))
		return BPF_CORE_READ((struct io_accept *)cmd, file_slot);
	if (op != OP_ACCEPT && bpf_core_field_exists(struct io_open, file_slot))
		return BPF_CORE_READ((struct io_open *)cmd, file_slot);
	return false;
}

sonde_inline void find_ending(struct ending *end, struct io_kiocb *req, const struct pending *p)
{
	const void *cmd = (void *)req + bpf_core_field_offset(struct io_kiocb, cmd);
	__u32 op = p->op;

	end->fd = -1;
	if (op == OP_OPENAT || op == OP_OPENAT2) {
		end->opened = has_slot(op, cmd) ? NULL : file_made(p, end->result);
		end->told.place = place_of(end->opened);
		end->fd = end->opened ? end->result : -1;
	} else if (op == OP_ACCEPT && end->result >= 0 && !has_slot(op, cmd)) {
		tell(&end->told, sonde_socket_of(file_made(p, end->result)), false);
		end->fd = end->result;
	} else if (op < 64 && OPS_ON_SOCKET >> op & 1) {
		tell(&end->told, sonde_socket_of(BPF_CORE_READ(req, file)), op == OP_CONNECT);
	}
}

sonde_inline int say_done(const __u32 room, const struct ending *end, const struct pending *p)
{
	__u32 used = sizeof(struct uring_done);
	struct uring_done *e = sonde_reserve_with(uring_done, room, &p->owner, 0);
	struct file *opened = end->opened;

	if (!e)
		return 0;
	e->uid = p->uid;
	e->euid = p->euid;
	e->gid = p->gid;
	e->egid = p->egid;
	e->cap_eff = p->cap_eff;
	sonde_fill_result(e, end->result);
	used = fill_socket((void *)e, sizeof *e, room, &end->told);
	if (opened)
		fill_place(e, room, &used, &e->path, &end->told.place);
	fill_inode(e, opened);
	e->fd = end->fd;
	e->id = p->id;
	e->op = p->op;
	e->_pad = 0;
	e->latency_ns = e->event.time - p->begin;
	sonde_submit(uring_done, e, used);
	return 0;
}

/* What a request that has more than one result posts beside the last one has no request here. */
SEC("tp_btf/io_uring_complete")
SONDE_FOR("uring.op uring.done")
int BPF_PROG(done__tp_btf, void *ctx_, struct io_kiocb *req)
{
	struct io_kiocb *request = (struct io_kiocb *)(__u64)req;
	__u64 key = (__u64)req;
	struct pending *known = key ? bpf_map_lookup_elem(&uring_pending, &key) : NULL, p;
	struct ending end = {};

	if (!known)
		return 0;
	p = *known;
	bpf_map_delete_elem(&uring_pending, &key);
	if (BPF_CORE_READ(request, opcode) !=
	    p.op) /* its own end was posted nowhere, and this is another request by now */
		return 0;
	end.result = BPF_CORE_READ(request, cqe.res);
	find_ending(&end, request, &p);
	return in_room_of(&end.told.place, say_done, &end, &p);
}

/* ---- uring.create ---- */

SEC("tp_btf/io_uring_create")
SONDE_FOR("uring.create")
int BPF_PROG(create__tp_btf, int fd, void *ring, __u32 sq_entries, __u32 cq_entries, __u32 flags)
{
	struct uring_create *e = reserve_called(uring_create, sizeof *e);

	if (!e)
		return 0;
	sonde_fill_credentials(e);
	e->fd = fd;
	e->sq_entries = sq_entries;
	e->cq_entries = cq_entries;
	e->flags = flags;
	sonde_submit(uring_create, e, sizeof *e);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sockets as security sees them: on the exit of each system call that makes, names or moves one. Addresses come from the socket once the
 * call has returned, never from the sockaddr that the program passed, which another of its threads may rewrite.
 */
/* Nine programs have the walk: each component is checked in each of them as the agent starts. */
#define PATH_DEPTH 64
#include "socket.bpf.h"
#include "net.h"

#define EINTR       4
#define EAGAIN      11
#define EINPROGRESS 115
#define ERESTARTSYS 512 /* and up to 516: the call goes on after a signal */

#define F_DUPFD         0
#define F_DUPFD_CLOEXEC 1030
#define SOCK_TYPE_MASK  0xf

_Static_assert(sizeof(struct net_bind) + ABSTRACT_ROOM <= RECORD_FIXED, "what stands before the paths");

/* ---- net.socket ---- */

sonde_inline bool socket_matters(__u32 family, __u32 type, __u32 protocol)
{
	switch (family) {
	case AF_PACKET:
	case AF_VSOCK:
	case AF_ALG:
	case AF_KEY:
	case AF_XDP:
		return true;
	case AF_NETLINK:
		return netlink_matters(protocol);
	default:
		return type == SOCK_RAW;
	}
}

/* The kernel makes a packet socket of the way that was older than AF_PACKET. Source: net/socket.c __sock_create(). */
sonde_inline __u32 family_made(__u32 family, __u32 type)
{
	return family == AF_INET && type == SOCK_PACKET ? AF_PACKET : family;
}

/* The three are numbers, and in registers: what the kernel was given. */
SEC("tracepoint/syscalls/sys_exit_socket")
SONDE_FOR("net.socket")
int socket__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);
	__u32 type = (__u32)sonde_argument(1) & SOCK_TYPE_MASK, protocol = (__u32)sonde_argument(2),
	      family = family_made((__u32)sonde_argument(0), type);
	struct net_socket *e;

	if (!socket_matters(family, type, protocol))
		return 0;
	e = reserve_called(net_socket, sizeof *e);
	if (!e)
		return 0;
	sonde_fill_credentials(e);
	sonde_fill_result(e, ret);
	e->family = family_named(family);
	e->sock_type = type_named(type);
	e->protocol = family == AF_PACKET ? bpf_ntohs((__u16)protocol) : protocol;
	e->fd = ret < 0 ? -1 : (__s32)ret;
	sonde_submit(net_socket, e, sizeof *e);
	return 0;
}

/* ---- what all others have ---- */

/* Room for an event of `record` about the socket `t`, filled but for what is its own; NULL: there is none. */
#define socket_event(record, room, t, descriptor, ret, ret_used)                                                       \
	({                                                                                                             \
		struct record *_e = reserve_called(record, room);                                                      \
		if (_e) {                                                                                              \
			sonde_fill_credentials(_e);                                                                    \
			sonde_fill_result(_e, ret);                                                                    \
			*(ret_used) = fill_socket((void *)_e, sizeof *_e, room, t);                                    \
			_e->fd = (descriptor);                                                                         \
		}                                                                                                      \
		_e;                                                                                                    \
	})

/* The address that a call which failed was given, from the program's memory. */
struct given {
	__u16 family;
	__be16 port;
	__be32 address4;
};

#define SUN_PATH_MOST 108u

/* `bytes`: of the whole address. An abstract name need not have a NUL behind it. */
sonde_inline void read_given_path(char *to, const void *address, __u32 bytes)
{
	__u32 most = bytes - 2;

	if (most - 1 >= SUN_PATH_MOST)
		return;
	barrier_var(most);
	if (most > SUN_PATH_MOST)
		return;
	bpf_probe_read_user_str(to, most + 1, address + 2);
	if (!to[0] && bpf_probe_read_user_str(to + 1, most, address + 3) > 1)
		to[0] = '@';
}

sonde_inline void read_given(__u32 *port, struct sonde_ip *ip, char *path, const void *address, __u32 bytes)
{
	struct given given = {};

	if (bpf_probe_read_user(&given, 8, address) < 0)
		bpf_probe_read_user(&given.family, sizeof given.family, address);
	if (given.family == AF_UNIX) {
		read_given_path(path, address, bytes);
	} else if (given.family == AF_INET) {
		*port = bpf_ntohs(given.port);
		fill_address4(ip, given.address4);
	} else if (given.family == AF_INET6) {
		*port = bpf_ntohs(given.port);
		bpf_probe_read_user(ip, sizeof *ip, address + 8);
	}
}

/* Of an event that has NET_GIVEN. `wanted`: the socket has no address. */
#define fill_given(e, wanted)                                                                                          \
	({                                                                                                             \
		(e)->port_given = 0;                                                                                   \
		(e)->_pad = 0;                                                                                         \
		__builtin_memset(&(e)->addr_given, 0, sizeof(e)->addr_given);                                          \
		__builtin_memset((e)->path_given, 0, sizeof(e)->path_given);                                           \
		if (wanted)                                                                                            \
			read_given(&(e)->port_given, &(e)->addr_given, (e)->path_given, (void *)sonde_argument(1),     \
				   (__u32)sonde_argument(2));                                                          \
	})

/* ---- net.bind, net.connect, net.listen ---- */

/* Whoever looks up a host name binds a netlink socket: only what would be a net.socket too. A call that was done on a descriptor that is no
 * socket any more was made to hide it, and is told with what the program gave. */
sonde_inline bool is_told(struct sock *sk, long ret)
{
	if (!sk)
		return ret == 0 || ret == -EINPROGRESS;
	return family_of(sk) != AF_NETLINK || netlink_matters(BPF_CORE_READ(sk, sk_protocol));
}

/* The socket that the call's first argument is, if it is told. `peer`: as tell() has it. */
sonde_inline bool find_told(struct told *t, long ret, bool peer)
{
	struct sock *sk = sonde_socket_of(sonde_file_of((__s32)sonde_argument(0)));

	if (!is_told(sk, ret))
		return false;
	tell(t, sk, peer);
	return true;
}

sonde_inline int say_bind(const __u32 room, const struct told *t, long ret)
{
	__u32 used = 0;
	struct net_bind *e = socket_event(net_bind, room, t, (__s32)sonde_argument(0), ret, &used);

	if (!e)
		return 0;
	fill_given(e, ret < 0 || !t->sk);
	sonde_submit(net_bind, e, used);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_bind")
SONDE_FOR("net.bind")
int bind__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);
	struct told t;

	return find_told(&t, ret, false) ? in_room_of(&t.place, say_bind, &t, ret) : 0;
}

sonde_inline int say_connect(const __u32 room, const struct told *t, long ret)
{
	__u32 used = 0;
	struct net_connect *e = socket_event(net_connect, room, t, (__s32)sonde_argument(0), ret, &used);

	if (!e)
		return 0;
	fill_given(e, (ret < 0 && ret != -EINPROGRESS) || !t->sk);
	sonde_submit(net_connect, e, used);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_connect")
SONDE_FOR("net.connect")
int connect__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);
	struct told t;

	return find_told(&t, ret, true) ? in_room_of(&t.place, say_connect, &t, ret) : 0;
}

sonde_inline int say_listen(const __u32 room, const struct told *t, long ret)
{
	__u32 used = 0;
	struct net_listen *e = socket_event(net_listen, room, t, (__s32)sonde_argument(0), ret, &used);

	if (!e)
		return 0;
	e->backlog = (__s32)sonde_argument(1);
	e->_pad = 0;
	sonde_submit(net_listen, e, used);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_listen")
SONDE_FOR("net.listen")
int listen__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);
	struct told t;

	return find_told(&t, ret, false) ? in_room_of(&t.place, say_listen, &t, ret) : 0;
}

/* ---- net.accept ---- */

sonde_inline int say_accept(const __u32 room, const struct told *t, __s32 fd, long ret)
{
	__u32 used = 0;
	struct net_accept *e = socket_event(net_accept, room, t, fd, ret, &used);

	if (!e)
		return 0;
	sonde_submit(net_accept, e, used);
	return 0;
}

/* Nothing was there to be taken, or the call begins again. */
sonde_inline bool accept_waits(long ret)
{
	return ret == -EAGAIN || ret == -EINTR || ret <= -ERESTARTSYS;
}

/* One that failed is about the socket that listens. */
sonde_inline int accepts(long ret)
{
	__s32 fd = ret < 0 ? (__s32)sonde_argument(0) : (__s32)ret;
	struct sock *sk;
	struct told t;

	if (accept_waits(ret))
		return 0;
	sk = sonde_socket_of(sonde_file_of(fd));
	if (!sk && ret < 0)
		return 0;
	tell(&t, sk, false);
	return in_room_of(&t.place, say_accept, &t, fd, ret);
}

SONDE_ONWARD(accept4__tracepoint);

SEC("tracepoint/syscalls/sys_exit_accept")
SONDE_FOR("net.accept")
int accept__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	SONDE_GOES_ON(ctx, accept4__tracepoint);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_accept4")
SONDE_FOR("net.accept")
SONDE_KEPT
int accept4__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	return accepts(sonde_returned(ctx));
}

/* ---- net.dup ---- */

sonde_inline int say_dup(const __u32 room, const struct told *t, long ret)
{
	__u32 used = 0;
	struct net_dup *e = socket_event(net_dup, room, t, (__s32)ret, ret, &used);

	if (!e)
		return 0;
	e->old_fd = (__s32)sonde_argument(0);
	e->_pad = 0;
	sonde_submit(net_dup, e, used);
	return 0;
}

/* A descriptor onto itself (dup2(0, 0)) changes nothing. */
sonde_inline int dups(long ret)
{
	struct sock *sk;
	struct told t;

	if ((__u64)ret > 2 || (__s32)sonde_argument(0) == (__s32)ret)
		return 0;
	sk = sonde_socket_of(sonde_file_of((__s32)ret));
	if (!sk)
		return 0;
	tell(&t, sk, true);
	return in_room_of(&t.place, say_dup, &t, ret);
}

SONDE_ONWARD(dup__tracepoint);

SEC("tracepoint/syscalls/sys_exit_dup")
SONDE_FOR("net.dup")
SONDE_KEPT
int dup__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	return dups(sonde_returned(ctx));
}

SEC("tracepoint/syscalls/sys_exit_dup2")
SONDE_FOR("net.dup")
int dup2__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	SONDE_GOES_ON(ctx, dup__tracepoint);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_dup3")
SONDE_FOR("net.dup")
int dup3__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	SONDE_GOES_ON(ctx, dup__tracepoint);
	return 0;
}

/* Programs call it for much else, and often: find(1) five times for each folder. */
SONDE_SETTING(bool, fcntl, false, 0, 1, "",
	      "whether net.dup is also of fcntl(F_DUPFD), which costs every call of fcntl about 60 ns");

SEC("tracepoint/syscalls/sys_exit_fcntl")
SONDE_FOR("net.dup")
SONDE_WHEN("fcntl")
int fcntl__tracepoint(struct trace_event_raw_sys_exit *ctx)
{
	long ret = sonde_returned(ctx);
	__u32 command;

	if ((__u64)ret > 2)
		return 0;
	command = (__u32)sonde_argument(1);
	return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? dups(ret) : 0;
}

char LICENSE[] SEC("license") = "GPL";

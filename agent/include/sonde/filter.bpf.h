/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The place of a filter expression in a program. One line declares it, as a function of the object:
 *
 *	SONDE_FILTER_MEMORY(tcp_filter);
 *	...
 *	struct sonde_filter_packet packet;
 *	__u32 length = sonde_filter_packet_of(&packet, &tuple);
 *
 *	if (!tcp_filter(&packet, length, length))
 *		return 0;
 *
 * As it is compiled the function says that everything matches. Before the object is opened, the agent writes the translated
 * expression over it (filter_place(), pipelines/filter/filter.h); the name of the function is the name of the place.
 *
 * How that can be: the function is compiled as SONDE_FILTER_ROOM instructions that do nothing. The filter goes to its beginning, and the
 * function's symbol gets the filter's length, so that libbpf takes nothing of what is left. Nothing moves, so no relocation,
 * line or type information has to change. The function is global: the verifier checks it once and by itself, by its
 * declaration, and of its result knows nothing at the places that call it. It is weak and its result comes out of
 * assembly, so that the compiler knows nothing of it either.
 *
 * A filter uses up to 80 bytes of stack and calls no function, but helpers.
 */
#ifndef SONDE_FILTER_BPF_H
#define SONDE_FILTER_BPF_H

#include "sonde/vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "sonde/filter.h"

#define SONDE_FILTER_TEXT_OF(n) #n
#define SONDE_FILTER_TEXT(n)    SONDE_FILTER_TEXT_OF(n)
#define SONDE_FILTER_BODY(...)                                                                                         \
	{                                                                                                              \
		int matches;                                                                                           \
                                                                                                                       \
		asm volatile(".rept " SONDE_FILTER_TEXT(SONDE_FILTER_ROOM) "\n\t%0 = 1\n\t.endr"                       \
			     : "=r"(matches)                                                                           \
			     : __VA_ARGS__);                                                                           \
		return matches;                                                                                        \
	}

/* Programs on packets (cgroup_skb, tc, socket filter): FILTER_SKB. `start`: where in the packet the filter's begins; 14 where an
 * expression over IP meets a packet that begins with an Ethernet header. */
#define SONDE_FILTER_SKB(name)                                                                                         \
	__weak __noinline int name(struct __sk_buff *skb, __u32 start) SONDE_FILTER_BODY("r"(skb), "r"(start))

/* A packet at a kernel address, of which `captured` bytes lie there and which is `length` bytes long: FILTER_KERNEL. */
#define SONDE_FILTER_KERNEL(name)                                                                                      \
	__weak __noinline int name(__u64 packet, __u32 captured, __u32 length)                                         \
		SONDE_FILTER_BODY("r"(packet), "r"(captured), "r"(length))

/* A packet in the program's own memory: FILTER_MEMORY. */
#define SONDE_FILTER_MEMORY(name)                                                                                      \
	__weak __noinline int name(const struct sonde_filter_packet *packet, __u32 captured, __u32 length)             \
		SONDE_FILTER_BODY("r"(packet), "r"(captured), "r"(length))

/* One line for a module that is about sockets: it then has the option modules.NAME.filter, and it and filter.socket are asked by
 * sonde_socket_matches(). */
#define SONDE_SOCKET_FILTER()                                                                                          \
	/* Set by the agent before load: whether they are held against anything. */                                    \
	const volatile __u32 sonde_socket_filtered __attribute__((section(".rodata"))) = 0;                            \
	SONDE_FILTER_MEMORY(sonde_socket_filter)                                                                       \
	static __always_inline bool sonde_socket_matches(const struct sonde_filter_tuple *tuple)                       \
	{                                                                                                              \
		struct sonde_filter_packet packet;                                                                     \
		__u32 length;                                                                                          \
                                                                                                                       \
		if (!sonde_socket_filtered)                                                                            \
			return true;                                                                                   \
		length = sonde_filter_packet_of(&packet, tuple);                                                       \
		return sonde_socket_filter(&packet, length, length) != 0;                                              \
	}                                                                                                              \
	_Static_assert(1, "")

/* Where the IP header of a packet lies that the kernel holds, for SONDE_FILTER_KERNEL. */
struct sonde_filter_span {
	__u64 packet;
	__u32 captured, length;
};

/* For an sk_buff that the verifier knows (tp_btf, fentry) and whose network header is set. Bytes outside of its linear part,
 * where headers hardly ever are, count as not captured. `data` may lie before the network header or behind it: `len`
 * counts from there. The two addresses are copied: loaded, they would be pointers to newer kernels, and a function cannot be
 * given a pointer as a number. */
static __always_inline void sonde_filter_span_of(struct sonde_filter_span *span, struct sk_buff *skb)
{
	__u64 head = (__u64)BPF_CORE_READ(skb, head), data = (__u64)BPF_CORE_READ(skb, data);
	__u32 network = skb->network_header, tail = skb->tail;

	span->packet = head + network;
	span->captured = tail > network ? tail - network : 0;
	span->length = skb->len + (__u32)(data - span->packet);
	if (span->captured > span->length)
		span->captured = span->length;
}

#endif

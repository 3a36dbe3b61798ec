/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filter expressions over packets and sockets, in the language of tcpdump: `tcp port 5432 and net 10.0.0.0/8`.
 *
 *   expression --libpcap--> classic BPF --filter_translate()--> eBPF --filter_place()--> a program in the kernel
 *                                └──filter_match()──> in user space
 *
 * libpcap compiles; what it gives is checked, translated and run here, by the same rules in the kernel and in user space: a
 * load outside of the packet and a division by 0 end the filter, and nothing matches. The result is libpcap's own: not 0
 * where the packet matches.
 *
 * Nothing here waits: names of hosts and networks are refused, because libpcap would ask DNS for them. Names of services
 * are read from /etc/services, names of protocols by libpcap from /etc/protocols.
 *
 * Threads: a filter does not change once it is made, and all functions work on their arguments alone.
 */
#ifndef SONDE_PIPELINES_FILTER_H
#define SONDE_PIPELINES_FILTER_H

#include <linux/bpf.h>
#include <linux/filter.h>

#include "base/base.h"
#include "sonde/filter.h"

/* Bytes of an expression. libpcap's optimizer takes time by the cube of the number of tests: 0.25 s for a kilobyte of ports, 8 s
 * for four. */
#define FILTER_TEXT_MAX    1024u
#define FILTER_PROGRAM_MAX 4096u /* instructions of classic BPF */

struct filter; /* opaque */

/* What a packet begins with. */
enum filter_link {
	FILTER_RAW,      /* IPv4 or IPv6 */
	FILTER_ETHERNET, /* an Ethernet header */
};

/* -EINVAL with the place, libpcap's reason and a way out in `fault`; -E2BIG for what is too long. An expression without a word
 * matches everything. */
int filter_compile(struct filter **ret, const char *expression, enum filter_link link, struct fault *fault);

/* From classic BPF that was made elsewhere. It may come from anybody: -EINVAL unless every instruction is one of the kernel's,
 * jumps lead forward and inside, and every way ends in a return. */
int filter_of_program(struct filter **ret, const struct sock_filter *program, size_t n, enum filter_link link,
		      struct fault *fault);
void filter_free(struct filter *filter);

/* Runs it over a packet of `length` bytes, of which `captured` are there. Returns what libpcap's bpf_filter() does. */
uint32_t filter_match(const struct filter *filter, const void *packet, uint32_t captured, uint32_t length);

/* --- sockets --- */

/* Whether a socket's addresses and ports alone answer the filter, for each of the IP protocols given (IPPROTO_TCP,
 * IPPROTO_UDP; the last is 0). -EOPNOTSUPP, and what it asks for instead in `fault`, when it also looks at lengths, flags,
 * other headers or payload. Only for FILTER_RAW. */
int filter_check_tuple(const struct filter *filter, const uint8_t *protocols, struct fault *fault);

/* The header that stands for a socket, and its length: see sonde/filter.h, which does the same inside a program. */
uint32_t filter_header_of_tuple(struct sonde_filter_packet *ret, const struct sonde_filter_tuple *tuple);

/* --- eBPF --- */

/* How the translated function comes by the packet: its arguments, in order. */
enum filter_access {
	FILTER_SKB,    /* struct __sk_buff *, u32 start: programs on packets; any byte of them, linear or not */
	FILTER_KERNEL, /* u64 address, u32 captured, u32 length: tracepoints; read by bpf_probe_read_kernel */
	FILTER_MEMORY, /* struct sonde_filter_packet *, u32 captured, u32 length: loaded directly */
};

/* Translates into at most `room` instructions: the body of a function that returns what filter_match() does. Returns how
 * many there are, or -E2BIG. Source: kernel, Documentation/bpf/standardization/instruction-set.rst. */
int filter_translate(const struct filter *filter, enum filter_access access, struct bpf_insn *ret, size_t room,
		     struct fault *fault);

/* Writes a translated filter over the function `name` of an object file in memory (sonde/filter.bpf.h tells how), which is
 * then opened with bpf_object__open_mem(). Can be done again with another filter. -ENOENT: there is no such function;
 * -ENOEXEC: no object file of eBPF; -E2BIG: the function has less room than `n`. */
int filter_place(void *image, size_t size, const char *name, const struct bpf_insn *insns, size_t n,
		 struct fault *fault);

#endif

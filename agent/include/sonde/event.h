/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How an event is declared: once, as the C struct that the BPF program fills. What C cannot say is said by BTF
 * declaration tags, and from the object's BTF the agent makes the decoder, the msgpack encoder, the schema and docs.
 *
 *	struct tcp_connect {
 *		struct sonde_event event;
 *		struct sonde_ip laddr SONDE_DOC("local address");
 *		__u16 lport SONDE_DOC("local port");
 *		__u64 latency_ns SONDE_DOC("SYN sent to established") SONDE_OPTIONAL;
 *	};
 *	SONDE_EVENT(tcp_connect, "tcp.connect", 1, bulk, "An outgoing connection was made, or failed.");
 *
 * A member's name is its key. Its C type gives the msgpack type: unsigned integers and enums uint, signed integers int,
 * bool bool, char[N] str (up to the first NUL), struct sonde_ip text, struct sonde_text per SONDE_AS. Members whose
 * name begins with `_` are not encoded. Variable parts (struct sonde_text) lie behind the struct, in the same record.
 */
#ifndef SONDE_EVENT_H
#define SONDE_EVENT_H

#ifndef __bpf__
#include <linux/types.h>
#include <stdbool.h>
#endif

#if defined(__clang__) && defined(__bpf__)
#define SONDE_TAG(text) __attribute__((btf_decl_tag("sonde:" text)))
#else
#define SONDE_TAG(text)
#endif

#define SONDE_DOC(text) SONDE_TAG("doc=" text)
/* Its names in OpenTelemetry's semantic conventions and in ECS. */
#define SONDE_OTEL(name) SONDE_TAG("otel=" name)
#define SONDE_ECS(name)  SONDE_TAG("ecs=" name)
/* The key is left out when the value is zero or empty. */
#define SONDE_OPTIONAL SONDE_TAG("optional")
/* How the value is written, where the C type does not say it:
 *   id      __u64 as 16 hex digits              time    __u64 of the boot clock as ns since the epoch
 *   msgpack sonde_text of the bytes of a msgpack map, table   the same, of an array of arrays
 *           taken as they are
 *   errno   number (either sign) as its name,   caps    __u64 of capability bits as an array of names
 *           absent when 0                       list    sonde_text of NUL-terminated items as an array
 *   path    sonde_text of NUL-terminated path   hex     sonde_text or char[N] of bytes as hex digits
 *           components, leaf first, as /a/b/leaf
 *   names=a|b|c  number as the n-th name        */
#define SONDE_AS(how) SONDE_TAG("as=" how)

/* What every ring record begins with; filled by sonde_begin(). The boot clock is CLOCK_BOOTTIME. */
struct sonde_event {
	__u32 size;         /* bytes used, this header included; what lies behind in the record is unused */
	__u16 type;         /* the agent's number of the type, for this run */
	__u16 flags;        /* SONDE_FLAG_* */
	__u64 time;         /* ns, boot clock */
	__u64 proc, parent; /* executions; 0: none */
	__u64 cgroup;       /* kernfs id of the task's cgroup */
	__u32 pid, tid;     /* tgid and pid in the initial pid namespace; pid 0 with SONDE_FLAG_NO_TASK: no task */
	char comm[16];
};

#define SONDE_FLAG_NO_TASK                                                                                             \
	1u /* nothing in the kernel says whose doing this was: no pid, tid, comm, proc, parent; a cgroup where there is one */
#define SONDE_FLAG_CGROUP_V1 2u /* `cgroup` is of the chosen v1 hierarchy */
#define SONDE_FLAG_TRUNCATED 4u /* a variable part did not fit: the key `truncated` is true */
#define SONDE_FLAG_STACK     8u /* the record's last eight bytes are the number of its stack */

/* A variable part: `length` bytes at `offset` from the record's begin. length 0: absent or empty. */
struct sonde_text {
	__u16 offset, length;
};

/* An address as 16 bytes; IPv4 as ::ffff:a.b.c.d, written "a.b.c.d". */
struct sonde_ip {
	__u8 bytes[16];
};

#ifdef __bpf__
/* A type as the loader finds it: `id` is set by the agent before load; `layout` brings the struct into BTF. `ring` is
 * priority or bulk: a flood on bulk never costs a priority event. */
#define SONDE_TYPE(record, name, ring, doc, more)                                                                      \
	const volatile struct {                                                                                        \
		__u32 id;                                                                                              \
		struct record layout[0];                                                                               \
	} record##_type __attribute__((section(".rodata"), used)) SONDE_TAG("event=" name) SONDE_TAG("ring=" #ring)    \
		more SONDE_DOC(doc) = {};                                                                              \
	static __attribute__((always_inline, unused)) inline void *record##_ring(void)                                 \
	{                                                                                                              \
		return &sonde_##ring;                                                                                  \
	}                                                                                                              \
	_Static_assert(1, "")
#define SONDE_EVENT(record, name, version, ring, doc)                                                                  \
	SONDE_TYPE(record, name, ring, doc, SONDE_TAG("version=" #version))
/* A type that only the module's own code sees: counted in the ledger, handed to sonde_module.record, never journaled as
 * it is. */
#define SONDE_INTERNAL_EVENT(record, name, ring, doc) SONDE_TYPE(record, name, ring, doc, SONDE_TAG("internal"))
/* A number, or a bool, that the configuration sets before load: modules.NAME.<variable>. Its initial value is the default. */
#define SONDE_SETTING(type, name, value, least, most, unit, doc)                                                       \
	const volatile type name __attribute__((section(".rodata"), used)) SONDE_TAG("setting")                        \
		SONDE_TAG("min=" #least) SONDE_TAG("max=" #most) SONDE_TAG("unit=" unit) SONDE_DOC(doc) = value
#else
#define SONDE_EVENT(record, name, version, ring, doc)                                                                  \
	_Static_assert(sizeof(struct record) >= sizeof(struct sonde_event), name)
#define SONDE_INTERNAL_EVENT(record, name, ring, doc)                                                                  \
	_Static_assert(sizeof(struct record) >= sizeof(struct sonde_event), name)
_Static_assert(sizeof(struct sonde_event) == 64, "the header is part of the module interface");
#endif

#endif

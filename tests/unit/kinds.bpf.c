/* SPDX-License-Identifier: GPL-2.0-only */
/* One member of each kind that can be declared. Read by test_schema, never loaded. */
#include "sonde/probe.bpf.h"
#include "sonde/security.h"

enum colour { RED, GREEN };
typedef const __u16 port_type;

struct kinds_all {
	struct sonde_event event;
	__u8 u8 SONDE_DOC("eight bits") SONDE_OTEL("a.b") SONDE_ECS("c.d");
	port_type u16;
	__u32 u32 SONDE_OPTIONAL;
	__u64 u64;
	__s8 s8;
	bool truth;
	__s16 s16;
	__s32 s32;
	__s64 s64;
	enum colour colour;
	char chars[12];
	struct sonde_ip ip;
	__u64 id SONDE_AS("id");
	__u64 time SONDE_AS("time");
	__u64 caps SONDE_AS("caps");
	__s32 error SONDE_AS("errno");
	__u32 names SONDE_AS("names=none|one|two") SONDE_OPTIONAL;
	struct sonde_text text;
	struct sonde_text list SONDE_AS("list");
	struct sonde_text path SONDE_AS("path");
	struct sonde_text hex SONDE_AS("hex");
	struct sonde_text msgpack SONDE_AS("msgpack");
	struct sonde_text table SONDE_AS("table");
	__u32 _hidden;
	__u64 last;
};
SONDE_EVENT(kinds_all, "kinds.all", 7, priority, "One of each kind.");

struct kinds_none {
	struct sonde_event event;
};
SONDE_SECURITY_EVENT(kinds_none, "kinds.none", 1, bulk, "Nothing of its own.");

struct kinds_hidden {
	struct sonde_event event;
};
SONDE_INTERNAL_EVENT(kinds_hidden, "kinds.hidden", bulk, "Seen by the companion alone.");

char LICENSE[] SEC("license") = "GPL";

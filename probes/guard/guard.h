/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the agent tells the kernel side of responses, and what that tells the agent. */
#ifndef SONDE_GUARD_H
#define SONDE_GUARD_H

#include "sonde/event.h"

#define GUARD_RULES_MAX 32u /* that the kernel decides */
#define GUARD_TESTS_MAX 16u /* of one rule */
#define GUARD_PATH_MAX  256u
#define GUARD_MARKS_MAX 65536u

/* As enum predicate_field (pipelines/rules/predicate.h). */
enum guard_field {
	GUARD_NAME,
	GUARD_PATH,
	GUARD_PATH_BELOW,
	GUARD_UID,
	GUARD_FOLDER,
	GUARD_KIND,
	GUARD_ADDRESS,
	GUARD_PORT,
	GUARD_PROTOCOL,
	GUARD_WRITES,
	GUARD_READS,
	GUARD_CREATES
};

/* As enum predicate_moment. */
enum guard_moment { GUARD_AT_EXEC, GUARD_BEFORE_EXEC, GUARD_AT_OPEN, GUARD_AT_CONNECT, GUARD_BEFORE_CONNECT };

/* Whether the value that `field` says is in the set. */
struct guard_test {
	__u32 set;
	__u16 length; /* of the one path of GUARD_PATH_BELOW, as it is in the set */
	__u8 field;
	__u8 flags; /* GUARD_NEGATED: whether it is not; GUARD_ENDS: last of its clause */
};
#define GUARD_NEGATED 1u
#define GUARD_ENDS    2u

/* All of its clauses must hold, one test of each. */
struct guard_rule {
	__u32 number;  /* the agent's */
	__u32 actions; /* 1 << enum response_action_kind */
	__u32 n_tests;
	__u16 moment; /* enum guard_moment */
	__u16 reads;  /* of opens: of those for reading, too */
	struct guard_test tests[GUARD_TESTS_MAX];
};

/* Which rules are in force: one half of the table, while the other is made anew. */
struct guard_control {
	__u32 first, n;  /* one word */
	__u32 kill_rate; /* in a minute */
	__u32 agent;     /* its pid */
};

/* A name, a user id, port or protocol as four bytes, or the letter of a kind of file or socket; zeros behind it. */
struct guard_name {
	__u32 set, _pad;
	char text[16];
};

/* A network; of IPv4 as mapped addresses. */
struct guard_network {
	__u32 bits; /* 32 of the set, and those of the address */
	__u32 set;
	__u8 address[16];
};

/* Components of a path, leaf first, a NUL behind each; zeros behind them. */
struct guard_path {
	__u32 set, _pad;
	char text[GUARD_PATH_MAX];
};

/* By pid: a process that may not connect, and its children. Its start tells it from one that has its number later. */
struct guard_mark {
	__u64 began; /* boot clock */
	__u32 rule;  /* the agent's number */
	__u32 _pad;
	__u64 refused; /* connects, that no record tells of yet */
	__u64 told;    /* boot clock: when one last did */
};

/* The kernel side did something, or should have and did not. */
struct guard_note {
	struct sonde_event event;
	__u32 rule;
	__u32 action; /* enum response_action_kind */
	__s32 error;
	__u32 count;  /* of refused connects: how many since the note before; else 0 */
	__u32 moment; /* enum guard_moment; of refused connects nothing */
	__u32 _pad;
};

SONDE_INTERNAL_EVENT(guard_note, "guard.note", priority, "A response was taken in the kernel.");

#ifndef __bpf__
_Static_assert(sizeof(struct guard_test) == 8 && sizeof(struct guard_rule) == 144 && sizeof(struct guard_mark) == 32,
	       "shared with the kernel side");
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a condition asks an event for, and what it gets. The language knows nothing of where values come from: a source
 * (a record of the stream, an event of a module, a line of a test) fills one struct of two functions.
 */
#ifndef SONDE_RULE_VALUE_H
#define SONDE_RULE_VALUE_H

#include "base/base.h"

/* Text that a transformer makes (tolower, b64) or that is made of numbers (evt.time) is cut at this many bytes. */
#define RULE_ROOM 4096u

enum rule_kind {
	RULE_ABSENT,
	RULE_TEXT, /* text or bytes; need not be UTF-8, may hold NUL */
	RULE_NUMBER,
	RULE_FRACTION,
	RULE_TRUTH,
	RULE_ADDRESS, /* 16 bytes; IPv4 as ::ffff:a.b.c.d */
	RULE_OTHER,   /* it is there, and equals nothing: a map, an empty list */
};

/* `text` stays the source's own. */
struct rule_value {
	enum rule_kind kind;
	bool list;       /* one of several, or an empty list */
	uint32_t count;  /* of a list: how many there are */
	uint32_t length; /* of text */
	union {
		const char *text;
		__int128 number;
		double fraction;
		bool truth;
		uint8_t address[16];
	};
	const void *cursor; /* the source's own: where it is */
	uint32_t left;      /* the source's own: how many are behind */
};

/* One step of a name: `proc.aname[2]` is proc, aname, 2. */
struct rule_step {
	const char *text;
	uint32_t length, at; /* `at`: where it stands in the expression */
	bool bracket;
};

struct rule_field;

/* What is asked for. `slot` counts from 0 in one program, so that a source may prepare an answer for each. */
struct rule_ref {
	uint32_t slot;
	const struct rule_field *field; /* NULL: the key of a record, by its steps */
	const char *name;               /* as a person writes it: "proc.aname[2]" */
	const char *argument;           /* "2", "flags"; NULL: none */
	int64_t index;                  /* the argument as a number, or -1 */
	uint32_t base, other;           /* slots that it is made of where the source has no answer; RULE_NO_REF: none */
	const struct rule_step *steps;
	uint32_t n_steps;
};

#define RULE_NO_REF UINT32_MAX

/* `get` finds the first value (false: there is none), `next` the one behind. Neither may allocate. */
struct rule_event {
	bool (*get)(struct rule_event *event, const struct rule_ref *ref, struct rule_value *ret);
	bool (*next)(struct rule_event *event, const struct rule_ref *ref, struct rule_value *value);
};

#endif

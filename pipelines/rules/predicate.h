/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rule as the kernel can decide it, while a program begins, a file is opened or a socket connected: a row of clauses, all of which must hold, each of which is a row of tests, one of which must.
 * It holds exactly where the rule fires on that event, or there is none: a rule that is only nearly a predicate would kill what it does not mean.
 */
#ifndef SONDE_RULE_PREDICATE_H
#define SONDE_RULE_PREDICATE_H

#include "rules/rules.h"

#define PREDICATE_TESTS_MAX  16u
#define PREDICATE_VALUES_MAX 1024u /* of one test */
#define PREDICATE_PATH_MAX   255u  /* bytes of a path that is compared */

enum predicate_field {
	PREDICATE_NAME,       /* proc.name is one of the values */
	PREDICATE_PATH,       /* the path of the file (proc.exepath, fd.name) is one of the values */
	PREDICATE_PATH_BELOW, /* it begins with the value, a folder */
	PREDICATE_UID,        /* user.uid is one of the values */
	PREDICATE_FOLDER,     /* fd.directory is one of the values */
	PREDICATE_KIND,       /* fd.typechar is one of the values, or fd.type is: predicate_kind() */
	PREDICATE_ADDRESS,    /* the remote address is in one of the networks that the values are */
	PREDICATE_PORT,       /* the remote port is one of the values */
	PREDICATE_PROTOCOL,   /* fd.l4proto is one of the values */
	PREDICATE_WRITES,     /* the file was opened for writing; without values, as the next two */
	PREDICATE_READS,      /* for reading */
	PREDICATE_CREATES,    /* and made by that */
};

/* When it is decided, and of which file or socket. Before a program is loaded, only its file is known for certain: not yet whose rights it gets, and how it is
 * called. An open, and what is AT_CONNECT, is one that succeeded, the latter of IPv4 or IPv6; what is BEFORE_CONNECT has not been tried. */
enum predicate_moment {
	PREDICATE_AT_EXEC,
	PREDICATE_BEFORE_EXEC,
	PREDICATE_AT_OPEN,
	PREDICATE_AT_CONNECT,
	PREDICATE_BEFORE_CONNECT,
};

struct literal;

struct predicate_test {
	enum predicate_field field;
	bool negated, ends; /* ends: it is the last one of its clause */
	const struct literal *values;
	uint32_t n_values;
};

struct predicate {
	struct predicate_test tests[PREDICATE_TESTS_MAX];
	uint32_t n; /* 0: it holds for all */
};

/* -EOPNOTSUPP: it has none, and why; -ENOENT: it cannot fire then. The literals are the rules'. */
int rules_predicate(const struct rules *rules, uint32_t rule, enum predicate_moment moment, struct predicate *ret,
		    struct fault *fault);

/* The letter of a value of PREDICATE_KIND: as fd.typechar has it. */
char predicate_kind(const struct literal *value);

#endif

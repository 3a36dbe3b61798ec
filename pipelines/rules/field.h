/* SPDX-License-Identifier: Apache-2.0 */
/* The fields of Falco's rules: one row each, which drives conditions, output, `sonde rules fields` and the documentation. */
#ifndef SONDE_RULE_FIELD_H
#define SONDE_RULE_FIELD_H

#include "rules/value.h"

enum rule_type {
	RULE_TYPE_TEXT,
	RULE_TYPE_BYTES,
	RULE_TYPE_NUMBER,
	RULE_TYPE_FRACTION,
	RULE_TYPE_TRUTH,
	RULE_TYPE_ADDRESS,
	RULE_TYPE_NETWORK, /* an address, compared with networks */
	RULE_TYPE_PORT,
	RULE_TYPE_ANY, /* what the event has: text or a number */
};

/* Of a field with several values, when a test holds. */
enum rule_many {
	RULE_ONE,
	RULE_ANY_OF, /* for one of them: ancestors, arrays */
	RULE_EITHER, /* for one of them, and `!=` for all: both ends of a connection */
	RULE_LIST,   /* `in` for all of them, `intersects` for one */
};

/* Where its value is to come from. */
enum rule_origin {
	RULE_FROM_EVENT,
	RULE_FROM_PROCESS,
	RULE_FROM_CONTAINER,
	RULE_FROM_RUNTIME,
	RULE_FROM_USERS,
	RULE_FROM_NOWHERE,
};

/* How it is made of another field where the source has no answer of its own. */
enum rule_derive {
	RULE_NOT_DERIVED,
	RULE_SAME,
	RULE_PAIR, /* of both `base` and `other` */
	RULE_SECONDS,
	RULE_NANOSECONDS, /* the part below a second */
	RULE_TIME,
	RULE_TIME_SECONDS,
	RULE_TIME_ISO,
	RULE_DATETIME,
	RULE_DATETIME_SECONDS,
	RULE_DIRECTORY,
	RULE_FILENAME,
	RULE_IS_TYPE,
	RULE_FAILED,
};

enum {
	RULE_TAKES_INDEX = 1 << 0,
	RULE_TAKES_NAME = 1 << 1,
	RULE_TAKES_DOT = 1 << 2, /* evt.arg.flags beside evt.arg[flags] */
	RULE_NEEDS_ARGUMENT = 1 << 3,
	RULE_CONDITION_ONLY = 1 << 4, /* without its argument no field for output: all ancestors */
	RULE_DEPRECATED = 1 << 5,
};

struct rule_field {
	const char *name;
	enum rule_type type;
	unsigned flags;
	enum rule_many many; /* without an argument */
	enum rule_origin origin;
	const char *key; /* of the stream, or what else serves it; NULL: nothing does */
	enum rule_derive derive;
	const char *base, *other;
	const char *doc;
};

/* All fields, sorted by name. */
extern const struct rule_field rule_fields[];
extern const size_t n_rule_fields;

const struct rule_field *rule_field_of(const char *name);
const char *rule_type_name(enum rule_type type);
const char *rule_origin_name(enum rule_origin origin);

/* The field that the steps name, and its argument (`ret_argument` NULL: none). -EINVAL: unknown, or its argument is wrong, with the
 * sentence and, in `ret_at`, which place of the expression it is about. */
int rule_field_find(const struct rule_step *steps, uint32_t n_steps, const struct rule_field **ret,
		    const struct rule_step **ret_argument, char *room, size_t size, uint32_t *ret_at,
		    struct fault *fault);

/* Which one of its values a test is about. */
static inline enum rule_many rule_field_many(const struct rule_field *field, bool argument)
{
	return argument && field->many == RULE_ANY_OF ? RULE_ONE : field->many;
}

#endif

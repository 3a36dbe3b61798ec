/* SPDX-License-Identifier: Apache-2.0 */
/* The values of evt.type, and sets of them: which events a rule can fire on at all. */
#ifndef SONDE_RULE_EVENT_TYPE_H
#define SONDE_RULE_EVENT_TYPE_H

#include "base/base.h"

#define EVENT_TYPES_MAX  576u
#define EVENT_TYPE_WORDS (EVENT_TYPES_MAX / 64)

struct event_types {
	uint64_t words[EVENT_TYPE_WORDS];
};

unsigned event_types_known(void);
const char *event_type_name(unsigned type);
bool event_type_is_call(unsigned type);
/* The type of this name, or -1. */
int event_type_of(const char *name, size_t length);
/* The nearest name, or NULL. */
const char *event_type_near(const char *name);
/* The number of the system call on this machine, or -1. */
int event_type_number(unsigned type);

void event_types_all(struct event_types *types);
unsigned event_types_count(const struct event_types *types);

static inline void event_types_add(struct event_types *types, unsigned type)
{
	types->words[type / 64] |= 1ull << (type % 64);
}

static inline bool event_types_have(const struct event_types *types, unsigned type)
{
	return types->words[type / 64] >> (type % 64) & 1;
}

#endif

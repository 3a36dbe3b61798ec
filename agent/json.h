/* SPDX-License-Identifier: Apache-2.0 */
/* The answers of the agent that runs (control.h), read back for the commands that show them to people. */
#ifndef SONDE_JSON_H
#define SONDE_JSON_H

#include "base/base.h"

/* JSON of our own agent, taken apart: only what report.c writes. Each finds the value of `key` at the top of the object `json` and
 * returns its begin, or NULL. */
struct json {
	const char *at; /* first byte of a value */
};
struct json json_key(struct json object, const char *key);
struct json json_first(struct json container); /* of an array's elements or an object's keys; .at NULL: none */
struct json json_next(struct json element);
struct json json_value_of(struct json key); /* the value behind an object's key */
uint64_t json_number(struct json value);
bool json_is_true(struct json value);
size_t json_text(struct json value, char *room, size_t size); /* unescaped, terminated */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The common keys stand first in every record (type, ts, seq, host, run), so a walk over a few pairs finds them all.
 * They are matched by name, not by place: a record of an older agent, or one that another tool wrote, still gets its
 * own values.
 *
 * Invariant: at most KEYS_MAX pairs are looked at, whatever the record claims.
 */
#include "sinks/envelope.h"

#include <errno.h>
#include <string.h>

#include "encode/record.h"

#define KEYS_MAX 16

enum found { FOUND_TYPE = 1, FOUND_HOST = 2, FOUND_RUN = 4, FOUND_SEQ = 8, FOUND_ALL = 15 };

static bool is_key(const struct value *key, const char *name, uint32_t length)
{
	return key->length == length && !memcmp(key->body, name, length);
}

static unsigned take_text(const struct value *v, struct envelope_text *ret, enum found found)
{
	if (v->kind != VALUE_STR)
		return 0;
	*ret = (struct envelope_text){ (const char *)v->body, v->length };
	return found;
}

static unsigned take_pair(const struct value *key, const struct value *v, struct envelope *e)
{
	if (key->kind != VALUE_STR)
		return 0;
	if (is_key(key, "type", 4))
		return take_text(v, &e->type, FOUND_TYPE);
	if (is_key(key, "host", 4))
		return take_text(v, &e->host, FOUND_HOST);
	if (is_key(key, "run", 3))
		return take_text(v, &e->run, FOUND_RUN);
	if (!is_key(key, "seq", 3) || v->kind != VALUE_UINT)
		return 0;
	e->seq = v->u;
	e->has_seq = true;
	return FOUND_SEQ;
}

int envelope_read(const void *map, size_t size, struct envelope *ret)
{
	const uint8_t *end = (const uint8_t *)map + size, *at;
	struct envelope e = { 0 };
	struct value root, key, v;
	unsigned found = 0;

	*ret = e;
	if (value_read(map, end, &root) < 0 || root.kind != VALUE_MAP)
		return -EBADMSG;
	at = root.body;
	for (uint32_t i = 0; i < root.count && i < KEYS_MAX && found != FOUND_ALL; i++) {
		if (value_read(at, end, &key) < 0 || !key.next || value_read(key.next, end, &v) < 0)
			break;
		found |= take_pair(&key, &v, &e);
		at = v.next ? v.next : value_skip(key.next, end);
		if (!at)
			break;
	}
	*ret = e;
	return found == FOUND_ALL ? 0 : -ENOENT;
}

struct envelope_text envelope_module(struct envelope_text type)
{
	const char *dot = type.at ? memchr(type.at, '.', type.length) : NULL;

	if (dot)
		type.length = (uint32_t)(dot - type.at);
	return type;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* One walk over the record's keys; a key of another kind of value than the schema's counts as damage. */
#include "flame/row.h"

#include "encode/record.h"

#include <errno.h>
#include <string.h>

enum { NUMBER, TEXT, TRUTH };

struct reading {
	struct flame_row *row;
	struct flame_text unit;
	bool has_stack, has_value, has_period;
};

static const struct key {
	const char *name;
	uint8_t kind;
	size_t offset;
} keys[] = {
	{ "ts", NUMBER, offsetof(struct flame_row, ts) },
	{ "host", TEXT, offsetof(struct flame_row, host) },
	{ "pid", NUMBER, offsetof(struct flame_row, pid) },
	{ "tid", NUMBER, offsetof(struct flame_row, tid) },
	{ "comm", TEXT, offsetof(struct flame_row, comm) },
	{ "proc", TEXT, offsetof(struct flame_row, proc) },
	{ "container", TEXT, offsetof(struct flame_row, container) },
	{ "cgroup", TEXT, offsetof(struct flame_row, cgroup) },
	{ "window_ns", NUMBER, offsetof(struct flame_row, window_ns) },
	{ "state", TEXT, offsetof(struct flame_row, state) },
	{ "syscall", TEXT, offsetof(struct flame_row, syscall) },
	{ "wait", TEXT, offsetof(struct flame_row, wait) },
	{ "file", TEXT, offsetof(struct flame_row, file) },
	{ "peer", TEXT, offsetof(struct flame_row, peer) },
	{ "stack_truncated", TRUTH, offsetof(struct flame_row, truncated) },
};

static bool is_named(const struct value *name, const char *text)
{
	return name->length == strlen(text) && memcmp(name->body, text, name->length) == 0;
}

/* The causes of other types may be numbers or lists under the same key: these are left out, not refused. */
static void take_common(struct flame_row *row, const struct value *name, const struct value *v)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		char *field = (char *)row + keys[i].offset;

		if (!is_named(name, keys[i].name))
			continue;
		if (keys[i].kind == NUMBER && v->kind == VALUE_UINT)
			*(uint64_t *)field = v->u;
		else if (keys[i].kind == TEXT && v->kind == VALUE_STR)
			*(struct flame_text *)field = (struct flame_text){ (const char *)v->body, v->length };
		else if (keys[i].kind == TRUTH && v->kind == VALUE_BOOL)
			*(bool *)field = v->truth;
		return;
	}
}

static int take(void *context, const struct value *name, const struct value *v, const uint8_t *next)
{
	struct reading *r = context;

	if (is_named(name, "stack")) {
		if (v->kind != VALUE_ARRAY)
			return -EBADMSG;
		r->has_stack = true;
		r->row->stack = v->body;
		r->row->stack_end = next;
		r->row->n_frames = v->count;
	} else if (is_named(name, "value") || is_named(name, "period_ns")) {
		bool period = name->length != strlen("value");

		if (v->kind != VALUE_UINT)
			return -EBADMSG;
		*(period ? &r->has_period : &r->has_value) = true;
		*(period ? &r->row->period_ns : &r->row->value) = v->u;
	} else if (is_named(name, "unit")) {
		if (v->kind != VALUE_STR)
			return -EBADMSG;
		r->unit = (struct flame_text){ (const char *)v->body, v->length };
	} else {
		take_common(r->row, name, v);
	}
	return 0;
}

static bool is_unit(const struct reading *r, const char *unit)
{
	return r->unit.length == strlen(unit) && memcmp(r->unit.text, unit, r->unit.length) == 0;
}

static int weigh(struct reading *r)
{
	struct flame_row *row = r->row;

	if (!r->has_stack)
		return -ENODATA;
	if (!r->has_value)
		row->value = 1;
	if (is_unit(r, "samples")) {
		row->measure = FLAME_CPU;
		if (!r->has_period || row->period_ns == 0)
			row->period_ns = FLAME_PERIOD_NS;
		if (__builtin_mul_overflow(row->value, row->period_ns, &row->ns) || row->ns > INT64_MAX)
			return -EBADMSG;
	} else if (is_unit(r, "ns")) {
		row->measure = FLAME_OFFCPU;
		row->ns = row->value;
	} else {
		row->measure = FLAME_EVENTS;
	}
	return row->value > INT64_MAX ? -EBADMSG : 0;
}

int flame_row_read(const void *map, size_t size, struct flame_row *ret)
{
	struct flame_row row = { 0 };
	struct reading reading = { .row = &row };
	int r = record_each(map, size, take, &reading);

	if (r == 0)
		r = weigh(&reading);
	if (r == 0)
		*ret = row;
	return r;
}

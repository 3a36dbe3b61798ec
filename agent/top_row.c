/* SPDX-License-Identifier: Apache-2.0 */
/* A record walked once, see top_row.h. */
#include "top_row.h"

#include <errno.h>
#include <string.h>

static const char *const key_names[TOP_KEYS] = {
	[TOP_K_TYPE] = "type",
	[TOP_K_TS] = "ts",
	[TOP_K_HOST] = "host",
	[TOP_K_PID] = "pid",
	[TOP_K_TID] = "tid",
	[TOP_K_COMM] = "comm",
	[TOP_K_PROC] = "proc",
	[TOP_K_CONTAINER] = "container",
	[TOP_K_CGROUP] = "cgroup",
	[TOP_K_STACK] = "stack",
	[TOP_K_STACK_ID] = "stack_id",
	[TOP_K_VALUE] = "value",
	[TOP_K_WINDOW] = "window_ns",
	[TOP_K_PERIOD] = "period_ns",
	[TOP_K_WAITS] = "waits",
	[TOP_K_STATE] = "state",
	[TOP_K_SYSCALL] = "syscall",
	[TOP_K_WAIT] = "wait",
	[TOP_K_PEER] = "peer",
	[TOP_K_FILE] = "file",
	[TOP_K_DEVICE] = "device",
	[TOP_K_FUTEX] = "futex",
	[TOP_K_RADDR] = "raddr",
	[TOP_K_RPORT] = "rport",
	[TOP_K_LPORT] = "lport",
	[TOP_K_LATENCY] = "latency_ns",
	[TOP_K_SRTT] = "srtt_ns",
	[TOP_K_RETRANSMITS] = "retransmits",
	[TOP_K_ERROR] = "error",
	[TOP_K_SENT] = "sent_bytes",
	[TOP_K_RECEIVED] = "received_bytes",
	[TOP_K_SIDE] = "side",
	[TOP_K_EXE] = "exe",
	[TOP_K_ARGS] = "args",
	[TOP_K_UID] = "uid",
	[TOP_K_RULE] = "rule",
	[TOP_K_PRIORITY] = "priority",
	[TOP_K_OUTPUT] = "output",
	[TOP_K_EVENT] = "event",
	[TOP_K_REASON] = "reason",
	[TOP_K_COUNT] = "count",
	[TOP_K_TYPES] = "types",
};

static void set_value(struct top_row *row, const struct value *name, const struct value *v)
{
	for (unsigned k = 0; k < TOP_KEYS; k++)
		if (row->values[k].kind == VALUE_NIL && strlen(key_names[k]) == name->length &&
		    memcmp(key_names[k], name->body, name->length) == 0) {
			row->values[k] = *v;
			return;
		}
}

int top_row_read(struct top_row *row, const uint8_t *map, size_t size)
{
	struct value record, name, v;
	const uint8_t *at;

	row->end = map + size;
	if (value_read(map, row->end, &record) < 0 || record.kind != VALUE_MAP)
		return -EBADMSG;
	at = record.body;
	for (uint32_t i = 0; i < record.count; i++) {
		if (value_read(at, row->end, &name) < 0 || name.kind != VALUE_STR ||
		    value_read(name.next, row->end, &v) < 0)
			return -EBADMSG;
		at = value_skip(name.next, row->end);
		if (!at)
			return -EBADMSG;
		set_value(row, &name, &v);
	}
	return 0;
}

struct top_piece top_row_text(const struct top_row *row, enum top_key key)
{
	const struct value *v = &row->values[key];

	return v->kind == VALUE_STR ? (struct top_piece){ (const char *)v->body, v->length }
				    : (struct top_piece){ "", 0 };
}

uint64_t top_row_number(const struct top_row *row, enum top_key key)
{
	return row->values[key].kind == VALUE_UINT ? row->values[key].u : 0;
}

bool top_row_has(const struct top_row *row, enum top_key key)
{
	return row->values[key].kind != VALUE_NIL;
}

struct top_piece top_piece(const char *text)
{
	return (struct top_piece){ text, strlen(text) };
}

void top_join_text(struct top_join *j, struct top_piece text)
{
	size_t room = sizeof j->bytes - j->size, size = strnlen(text.at, text.size);

	if (!room)
		return;
	size = MIN_OF(size, room - 1);
	memcpy(j->bytes + j->size, text.at, size);
	j->bytes[j->size + size] = '\0';
	j->size += size + 1;
}

void top_join_number(struct top_join *j, uint64_t number)
{
	char text[24];

	snprintf(text, sizeof text, "%llu", (unsigned long long)number);
	top_join_text(j, top_piece(text));
}

void top_join_execution(struct top_join *key, const struct top_row *row)
{
	struct top_piece proc = top_row_text(row, TOP_K_PROC);

	if (proc.size)
		top_join_text(key, proc);
	else
		top_join_number(key, top_row_number(row, TOP_K_PID));
}

void top_row_describe(struct top_entry *e, const struct top_row *row, bool thread)
{
	struct top_piece comm = top_row_text(row, TOP_K_COMM), container = top_row_text(row, TOP_K_CONTAINER);
	bool self = thread || top_row_number(row, TOP_K_PID) == top_row_number(row, TOP_K_TID);

	e->pid = (uint32_t)top_row_number(row, TOP_K_PID);
	e->tid = (uint32_t)top_row_number(row, TOP_K_TID);
	if (comm.size && (self || !e->names_self))
		top_entry_name(e, comm.at, comm.size);
	e->names_self = e->names_self || self;
	if (container.size && !e->text)
		top_entry_text(e, container.at, container.size);
}

struct top_entry *top_row_take(struct top_model *m, enum top_table_id id, const struct top_join *key)
{
	return top_table_take(&m->tables[id], key->bytes, key->size);
}

void top_row_add(struct top_model *m, enum top_table_id id, struct top_entry *e, const struct top_row *row,
		 unsigned value, uint64_t amount)
{
	if (e && amount)
		top_entry_add(&m->tables[id], e, row->slice, value, amount);
}

void top_row_add_total(struct top_model *m, const struct top_row *row, unsigned value, uint64_t amount)
{
	top_row_add(m, TOP_TOTALS, top_table_take(&m->tables[TOP_TOTALS], "", 0), row, value, amount);
}

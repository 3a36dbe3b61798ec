/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One record on its way into the model: the keys that somebody here asks for, by number, and the verbs that add its values
 * to the tables. Keys that are absent, or of another kind than expected, are empty texts and zeros. Inside the model only.
 */
#ifndef SONDE_TOP_ROW_H
#define SONDE_TOP_ROW_H

#include "encode/record.h"
#include "top_model.h"

enum top_key {
	TOP_K_TYPE,
	TOP_K_TS,
	TOP_K_HOST,
	TOP_K_PID,
	TOP_K_TID,
	TOP_K_COMM,
	TOP_K_PROC,
	TOP_K_CONTAINER,
	TOP_K_CGROUP,
	TOP_K_STACK,
	TOP_K_STACK_ID,
	TOP_K_VALUE,
	TOP_K_WINDOW,
	TOP_K_PERIOD,
	TOP_K_WAITS,
	TOP_K_STATE,
	TOP_K_SYSCALL,
	TOP_K_WAIT,
	TOP_K_PEER,
	TOP_K_FILE,
	TOP_K_DEVICE,
	TOP_K_FUTEX,
	TOP_K_RADDR,
	TOP_K_RPORT,
	TOP_K_LPORT,
	TOP_K_LATENCY,
	TOP_K_SRTT,
	TOP_K_RETRANSMITS,
	TOP_K_ERROR,
	TOP_K_SENT,
	TOP_K_RECEIVED,
	TOP_K_SIDE,
	TOP_K_EXE,
	TOP_K_ARGS,
	TOP_K_UID,
	TOP_K_RULE,
	TOP_K_PRIORITY,
	TOP_K_OUTPUT,
	TOP_K_EVENT,
	TOP_K_REASON,
	TOP_K_COUNT,
	TOP_K_TYPES,
	TOP_KEYS
};

struct top_row {
	const uint8_t *end;
	struct value values[TOP_KEYS]; /* VALUE_NIL: absent */
	uint64_t ts;
	unsigned slice;
};

/* A key in the making: texts with a NUL behind each. */
struct top_join {
	char bytes[TOP_TEXT_MAX];
	size_t size;
};

/* Walks the record once. 0 or -EBADMSG. */
int top_row_read(struct top_row *row, const uint8_t *map, size_t size);
struct top_piece top_row_text(const struct top_row *row, enum top_key key);
uint64_t top_row_number(const struct top_row *row, enum top_key key);
bool top_row_has(const struct top_row *row, enum top_key key);

/* A text that does not fit is cut; a NUL in it ends it. */
struct top_piece top_piece(const char *text);
void top_join_text(struct top_join *j, struct top_piece text);
void top_join_number(struct top_join *j, uint64_t number);
/* What names the execution: `proc`, or the pid without it. */
void top_join_execution(struct top_join *key, const struct top_row *row);

struct top_entry *top_row_take(struct top_model *m, enum top_table_id id, const struct top_join *key);
/* Nothing for an entry that could not be had. */
void top_row_add(struct top_model *m, enum top_table_id id, struct top_entry *e, const struct top_row *row,
		 unsigned value, uint64_t amount);
void top_row_add_total(struct top_model *m, const struct top_row *row, unsigned value, uint64_t amount);
/* Whose it is: pid, tid and name; a process is named by its main thread where that was seen. */
void top_row_describe(struct top_entry *e, const struct top_row *row, bool thread);

/* top_profile.c and top_events.c: one for each type. */
void top_take_cpu(struct top_model *m, const struct top_row *row);
void top_take_offcpu(struct top_model *m, const struct top_row *row);
void top_take_connect(struct top_model *m, const struct top_row *row);
void top_take_accept(struct top_model *m, const struct top_row *row);
void top_take_close(struct top_model *m, const struct top_row *row);
void top_take_exec(struct top_model *m, const struct top_row *row);
void top_take_alert(struct top_model *m, const struct top_row *row);
void top_take_loss(struct top_model *m, const struct top_row *row);
void top_take_ledger(struct top_model *m, const struct top_row *row);

#endif
